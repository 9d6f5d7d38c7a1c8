package ssm

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// maxDescribed is how many parameters DescribeParameters gives in a page.
const maxDescribed = 50

type stringFilter struct {
	Key    string `wire:",,required"`
	Option string
	Values []string
}

type describeParametersInput struct {
	ParameterFilters []stringFilter
	MaxResults       *int
	NextToken        string
}

type parameterMetadata struct {
	Name             string
	ARN              string
	Type             string
	KeyId            string
	LastModifiedDate time.Time
	LastModifiedUser string
	Description      string
	AllowedPattern   string
	Version          int64
	Tier             string
	DataType         string
}

type describeParametersOutput struct {
	Parameters []parameterMetadata
	NextToken  string
}

// describeParameters lists the account's own parameters, without their values.
func (s *Service) describeParameters(_ context.Context, c *api.Call, in *describeParametersInput) (*describeParametersOutput, error) {
	for _, filter := range in.ParameterFilters {
		if err := filter.check(); err != nil {
			return nil, err
		}
	}
	found, next, err := cutPage(s.named(c.Region, func(p *parameter) bool {
		return !p.Public && !slices.ContainsFunc(in.ParameterFilters, func(f stringFilter) bool { return !f.matches(p) })
	}), in.MaxResults, in.NextToken, maxDescribed, maxDescribed)
	if err != nil {
		return nil, err
	}
	out := &describeParametersOutput{NextToken: next}
	for _, p := range found {
		out.Parameters = append(out.Parameters, parameterMetadata{
			Name: p.Name, ARN: p.arn(c.Region), Type: p.Type, KeyId: p.KeyId, LastModifiedDate: p.latest().Modified,
			LastModifiedUser: p.User, Description: p.Description, AllowedPattern: p.AllowedPattern,
			Version: p.latest().Number, Tier: p.Tier, DataType: p.DataType,
		})
	}
	return out, nil
}

func (f stringFilter) check() error {
	switch f.Key {
	case "Name":
		if !slices.Contains([]string{"", "Equals", "BeginsWith", "Contains"}, f.Option) {
			return wire.Errorf("InvalidFilterOption", "The filter option %s is not one of Equals, BeginsWith, Contains", f.Option)
		}
	case "Type", "Tier", "DataType", "KeyId":
		if f.Option != "" && f.Option != "Equals" {
			return wire.Errorf("InvalidFilterOption", "The filter option %s is not Equals, which is all that %s takes", f.Option, f.Key)
		}
	default:
		return wire.Errorf("InvalidFilterKey", "The filter key %s is not known to the sandbox", f.Key)
	}
	if len(f.Values) == 0 {
		return wire.Errorf("InvalidFilterValue", "The filter %s has no values", f.Key)
	}
	return nil
}

func (f stringFilter) matches(p *parameter) bool {
	value := map[string]string{"Name": p.Name, "Type": p.Type, "Tier": p.Tier, "DataType": p.DataType, "KeyId": p.KeyId}[f.Key]
	return slices.ContainsFunc(f.Values, func(wanted string) bool {
		switch f.Option {
		case "BeginsWith":
			return strings.HasPrefix(value, wanted)
		case "Contains":
			return strings.Contains(value, wanted)
		}
		return value == wanted
	})
}
