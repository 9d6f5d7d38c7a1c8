package ssm

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/paging"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// parameterOutput is a parameter with a value.
type parameterOutput struct {
	Name             string
	Type             string
	Value            string
	Version          int64
	Selector         string
	LastModifiedDate time.Time
	ARN              string
	DataType         string
}

// output shows a version. The value of a SecureString is shown only to whom
// asks for decryption, and needs the permission for it.
func (p *parameter) output(c *api.Call, v version, decrypt bool) parameterOutput {
	value := v.Value
	if p.Type == secureString {
		if decrypt {
			p.noteKey(c, "kms:Decrypt")
		} else {
			sum := sha256.Sum256([]byte(value))
			value = base64.StdEncoding.EncodeToString(sum[:])
		}
	}
	return parameterOutput{
		Name: p.Name, Type: p.Type, Value: value, Version: v.Number,
		LastModifiedDate: v.Modified, ARN: p.arn(c.Region), DataType: p.DataType,
	}
}

// noteKey notes what the caller must be permitted on the key of a SecureString.
// Of AWS's own key of Systems Manager it is nothing: its key policy permits
// everybody in the account to use it
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/secure-string-parameter-kms-encryption.html).
func (p *parameter) noteKey(c *api.Call, action string) {
	if p.Type != secureString || p.KeyId == defaultKey {
		return
	}
	arn := p.KeyId
	if !strings.HasPrefix(arn, "arn:") {
		arn = "arn:aws:kms:" + c.Region + ":" + c.Account + ":key/" + p.KeyId
	}
	if before, _, alias := strings.Cut(p.KeyId, "alias/"); alias {
		// IAM knows keys, and not which key an alias stands for.
		arn = cmp.Or(before, "arn:aws:kms:"+c.Region+":"+c.Account+":") + "key/*"
	}
	c.Needs(action, arn)
}

type getParameterInput struct {
	Name           string `wire:",,required"`
	WithDecryption bool
}

type getParameterOutput struct{ Parameter parameterOutput }

func (s *Service) getParameter(_ context.Context, c *api.Call, in *getParameterInput) (*getParameterOutput, error) {
	p, v, err := s.find(c.Region, in.Name)
	if err != nil {
		return nil, err
	}
	c.On(p.arn(c.Region))
	out := p.output(c, v, in.WithDecryption)
	if _, selector := splitSelector(in.Name); selector != "" {
		out.Selector = ":" + selector
	}
	return &getParameterOutput{out}, nil
}

// maxNames is how many parameters GetParameters takes, and how many
// GetParametersByPath gives in a page.
const maxNames = 10

type getParametersInput struct {
	Names          []string `wire:",,required"`
	WithDecryption bool
}

type getParametersOutput struct {
	Parameters        []parameterOutput
	InvalidParameters []string
}

func (s *Service) getParameters(_ context.Context, c *api.Call, in *getParametersInput) (*getParametersOutput, error) {
	if len(in.Names) < 1 || len(in.Names) > maxNames {
		return nil, invalid("names must have from 1 to %d members, not %d", maxNames, len(in.Names))
	}
	out := &getParametersOutput{}
	for i, name := range in.Names {
		if slices.Contains(in.Names[:i], name) {
			return nil, invalid("names must not contain %s twice", name)
		}
		p, v, err := s.find(c.Region, name)
		if err != nil {
			out.InvalidParameters = append(out.InvalidParameters, name)
			continue
		}
		c.On(p.arn(c.Region))
		out.Parameters = append(out.Parameters, p.output(c, v, in.WithDecryption))
	}
	return out, nil
}

type getParametersByPathInput struct {
	Path           string `wire:",,required"`
	Recursive      bool
	WithDecryption bool
	MaxResults     *int
	NextToken      string
}

type getParametersByPathOutput struct {
	Parameters []parameterOutput
	NextToken  string
}

func (s *Service) getParametersByPath(_ context.Context, c *api.Call, in *getParametersByPathInput) (*getParametersByPathOutput, error) {
	if !strings.HasPrefix(in.Path, "/") {
		return nil, invalid("The parameter path must begin with a slash: %s", in.Path)
	}
	c.On(c.ARN("parameter" + cmp.Or(strings.TrimSuffix(in.Path, "/"), "/")))
	below := strings.TrimSuffix(in.Path, "/") + "/"
	found, next, err := cutPage(s.named(c.Region, func(p *parameter) bool {
		rest, ok := strings.CutPrefix(p.Name, below)
		return ok && (in.Recursive || !strings.Contains(rest, "/"))
	}), in.MaxResults, in.NextToken, maxNames, maxNames)
	if err != nil {
		return nil, err
	}
	out := &getParametersByPathOutput{NextToken: next}
	for _, p := range found {
		out.Parameters = append(out.Parameters, p.output(c, p.latest(), in.WithDecryption))
	}
	return out, nil
}

// cutPage cuts a page from parameters that are in the order of their names.
func cutPage(all []*parameter, asked *int, token string, length, most int) (page []*parameter, next string, err error) {
	if asked != nil {
		if length = *asked; length < 1 || length > most {
			return nil, "", invalid("maxResults must be from 1 to %d, not %d", most, length)
		}
	}
	page, next, ok := paging.Cut(all, token, length, func(p *parameter) string { return p.Name })
	if !ok {
		return nil, "", wire.Errorf("InvalidNextToken", "The token is none of this service's")
	}
	return page, next, nil
}

func invalid(format string, args ...any) error {
	return wire.Errorf("ValidationException", format, args...)
}
