package ssm

import (
	"context"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// Types and tiers that rules depend on.
const (
	secureString = "SecureString"
	standard     = "Standard"
	advanced     = "Advanced"
	intelligent  = "Intelligent-Tiering"

	imageData   = "aws:ec2:image"
	defaultKey  = "alias/aws/ssm"
	maxName     = 1011
	maxLevels   = 15
	maxStandard = 4096 // bytes of a value
	maxAdvanced = 8192
)

// The names that parameters, and values that images, may have
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-su-create.html).
var (
	nameForm  = regexp.MustCompile(`^[a-zA-Z0-9_.\-/]+$`)
	imageForm = regexp.MustCompile(`^ami-([0-9a-f]{8}|[0-9a-f]{17})$`)
)

type putParameterInput struct {
	Name           string `wire:",,required"`
	Value          string `wire:",,required"`
	Type           string
	Description    *string
	KeyId          string
	Overwrite      bool
	AllowedPattern *string
	Tier           string
	DataType       string
}

type putParameterOutput struct {
	Version int64
	Tier    string
}

func (s *Service) putParameter(_ context.Context, c *api.Call, in *putParameterInput) (*putParameterOutput, error) {
	in.Name, _ = splitSelector(in.Name)
	parameters := s.pages.In(c.Region).Parameters
	before := parameters[in.Name]
	after := in.over(before)
	c.On(after.arn(c.Region))
	if err := in.check(before, after); err != nil {
		return nil, err
	}
	after.noteKey(c, map[string]string{standard: "kms:Encrypt", advanced: "kms:GenerateDataKey"}[after.Tier])
	after.User = "arn:aws:iam::" + c.Account + ":user/" + c.Principal
	after.add(in.Value, c.Now)
	parameters[in.Name] = after
	return &putParameterOutput{after.latest().Number, after.Tier}, nil
}

// over gives the parameter that there was, or a new one, with what the request
// changes, but for the value.
func (in *putParameterInput) over(before *parameter) *parameter {
	after := &parameter{Name: in.Name, Type: in.Type, DataType: "text", Tier: standard}
	if before != nil {
		*after = *before
	}
	if in.DataType != "" {
		after.DataType = in.DataType
	}
	if in.Tier != "" {
		after.Tier = in.Tier
	}
	if after.Tier == intelligent {
		after.Tier = standard
		if len(in.Value) > maxStandard {
			after.Tier = advanced
		}
	}
	if in.Description != nil {
		after.Description = *in.Description
	}
	if in.AllowedPattern != nil {
		after.AllowedPattern = *in.AllowedPattern
	}
	if in.KeyId != "" {
		after.KeyId = in.KeyId
	} else if after.Type == secureString && after.KeyId == "" {
		after.KeyId = defaultKey
	}
	return after
}

func (in *putParameterInput) check(before, after *parameter) error {
	switch {
	case before != nil && !in.Overwrite:
		return wire.Errorf("ParameterAlreadyExists", "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.")
	case before == nil && in.Type == "":
		return invalid("A parameter type is required when you create a parameter.")
	case after.Type != "String" && after.Type != "StringList" && after.Type != secureString:
		return wire.Errorf("UnsupportedParameterType", "The parameter type %s is not supported", after.Type)
	case before != nil && in.Type != "" && in.Type != before.Type:
		return wire.Errorf("HierarchyTypeMismatchException", "The type of %s can't be changed from %s to %s", in.Name, before.Type, in.Type)
	case after.Tier != standard && after.Tier != advanced:
		return invalid("The tier %s is not one of Standard, Advanced, Intelligent-Tiering", after.Tier)
	case before != nil && before.Tier == advanced && after.Tier == standard:
		return invalid("An advanced parameter can't be made a standard one")
	case in.KeyId != "" && after.Type != secureString:
		return invalid("KeyId is for parameters of the type SecureString only")
	}
	if err := checkName(in.Name); err != nil {
		return err
	}
	return in.checkValue(after)
}

func checkName(name string) error {
	plain := strings.ToLower(strings.TrimPrefix(name, "/"))
	switch {
	case strings.HasPrefix(plain, "aws"), strings.HasPrefix(plain, "ssm"):
		return wire.Errorf("AccessDeniedException", "No access to reserved parameter name: %s.", name)
	case !nameForm.MatchString(name), len(name) > maxName:
		return invalid("Parameter name: only a mix of letters, numbers and the following 4 symbols .-_/ allowed: %s", name)
	case strings.Contains(name, "/") && !strings.HasPrefix(name, "/"):
		return invalid("Parameter name must be a fully qualified name: it must begin with a slash: %s", name)
	case strings.Count(name, "/") > maxLevels:
		return wire.Errorf("HierarchyLevelLimitExceededException", "A parameter name may have at most %d levels", maxLevels)
	}
	return nil
}

func (in *putParameterInput) checkValue(after *parameter) error {
	most := maxStandard
	if after.Tier == advanced {
		most = maxAdvanced
	}
	switch {
	case in.Value == "" || !utf8.ValidString(in.Value):
		return invalid("The value must not be empty")
	case len(in.Value) > most:
		return invalid("%s tier parameters support a maximum parameter value of %d characters.", after.Tier, most)
	case after.DataType != "text" && after.DataType != imageData:
		return invalid("The data type %s is not one of text, aws:ec2:image", after.DataType)
	case after.DataType == imageData && !imageForm.MatchString(in.Value):
		return invalid("The value of a parameter of the data type aws:ec2:image must be the id of an AMI")
	case after.AllowedPattern == "":
		return nil
	}
	pattern, err := regexp.Compile(after.AllowedPattern)
	if err != nil {
		return wire.Errorf("InvalidAllowedPatternException", "The allowed pattern is not a regular expression: %v", err)
	}
	if !pattern.MatchString(in.Value) {
		return wire.Errorf("ParameterPatternMismatchException", "The value does not match the allowed pattern %s", after.AllowedPattern)
	}
	return nil
}

type deleteParameterInput struct {
	Name string `wire:",,required"`
}

type deleteParameterOutput struct{}

func (s *Service) deleteParameter(_ context.Context, c *api.Call, in *deleteParameterInput) (*deleteParameterOutput, error) {
	p, _, err := s.find(c.Region, in.Name)
	if err != nil {
		return nil, err
	}
	c.On(p.arn(c.Region))
	if p.Public {
		return nil, wire.Errorf("AccessDeniedException", "No access to reserved parameter name: %s.", p.Name)
	}
	delete(s.pages.In(c.Region).Parameters, p.Name)
	return &deleteParameterOutput{}, nil
}
