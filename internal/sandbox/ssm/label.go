package ssm

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

type labelParameterVersionInput struct {
	Name             string   `wire:",,required"`
	Labels           []string `wire:",,required"`
	ParameterVersion *int64
}

type labelParameterVersionOutput struct {
	InvalidLabels    []string
	ParameterVersion int64
}

// maxLabels is how many labels a version may have (LabelParameterVersion).
const maxLabels = 10

var labelForm = regexp.MustCompile(`^[a-zA-Z_.-][a-zA-Z0-9_.-]{0,99}$`)

// isLabel tells whether a text can be a label (LabelParameterVersion).
func isLabel(text string) bool {
	lower := strings.ToLower(text)
	return labelForm.MatchString(text) && !strings.HasPrefix(lower, "aws") && !strings.HasPrefix(lower, "ssm")
}

// labelParameterVersion puts labels on a version, which other versions of the
// parameter lose. Labels that cannot be are left out and told.
func (s *Service) labelParameterVersion(_ context.Context, c *api.Call, in *labelParameterVersionInput) (*labelParameterVersionOutput, error) {
	p, v, err := s.find(c.Region, in.Name)
	if err != nil {
		return nil, err
	}
	c.On(p.arn(c.Region))
	if p.Public {
		return nil, wire.Errorf("AccessDeniedException", "The parameter %s is public; only AWS can label it", p.Name)
	}
	if in.ParameterVersion != nil {
		v.Number = *in.ParameterVersion
	}
	at := slices.IndexFunc(p.Versions, func(one version) bool { return one.Number == v.Number })
	if at < 0 {
		return nil, wire.Errorf("ParameterVersionNotFound", "The parameter %s has no version %d", p.Name, v.Number)
	}
	out := &labelParameterVersionOutput{InvalidLabels: []string{}, ParameterVersion: v.Number}
	labels := slices.Clone(p.Versions[at].Labels)
	for _, label := range in.Labels {
		switch {
		case !isLabel(label):
			out.InvalidLabels = append(out.InvalidLabels, label)
		case !slices.Contains(labels, label):
			labels = append(labels, label)
		}
	}
	if len(labels) > maxLabels {
		return nil, wire.Errorf("ParameterVersionLabelLimitExceeded", "A version of a parameter can have at most %d labels.", maxLabels)
	}
	versions := slices.Clone(p.Versions)
	for i := range versions {
		versions[i].Labels = slices.DeleteFunc(slices.Clone(versions[i].Labels), func(l string) bool { return slices.Contains(labels, l) })
	}
	versions[at].Labels = labels
	p.Versions = versions
	return out, nil
}
