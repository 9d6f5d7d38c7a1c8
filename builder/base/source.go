package base

//go:generate go tool packer-sdc struct-markdown

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/image"
)

// Source names the AMI that is baked on. At most one of its options is given;
// without any, it is the newest Amazon Linux 2023 of the wanted architecture.
type Source struct {
	// The ID of the AMI to bake on.
	SourceAmi string `mapstructure:"source_ami" required:"false"`
	// Finds the AMI to bake on. See
	// [Source AMI Filter](#source-ami-filter).
	SourceAmiFilter image.Filter `mapstructure:"source_ami_filter" required:"false"`
	// The SSM parameter that holds the ID of the AMI to bake on. Default
	// `/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-<architecture>`,
	// which AWS moves to each new release.
	SourceSsmParameter string `mapstructure:"source_ssm_parameter" required:"false"`
}

// Architectures are those that EC2 has Linux instances of, by EC2's names.
var Architectures = []string{"x86_64", "arm64"}

// checkArchitecture checks the option of that name.
func checkArchitecture(architecture string) []error {
	if slices.Contains(Architectures, architecture) {
		return nil
	}
	return []error{fmt.Errorf("architecture is %q; it must be one of %s", architecture, strings.Join(Architectures, ", "))}
}

var amiID = regexp.MustCompile(`^ami-([0-9a-f]{8}|[0-9a-f]{17})$`)

// given are the options that are set, and with more those that the caller adds.
func (s Source) given(more map[string]bool) []string {
	var given []string
	for option, is := range map[string]bool{
		"source_ami":           s.SourceAmi != "",
		"source_ami_filter":    !s.SourceAmiFilter.Empty(),
		"source_ssm_parameter": s.SourceSsmParameter != "",
	} {
		if is {
			given = append(given, option)
		}
	}
	for option, is := range more {
		if is {
			given = append(given, option)
		}
	}
	slices.Sort(given)
	return given
}

// Prepare checks the options, without a call to AWS, and fills in the default
// for the architecture.
func (s *Source) Prepare(architecture string) []error {
	return append(checkArchitecture(architecture), s.prepare(architecture, nil)...)
}

func (s *Source) prepare(architecture string, more map[string]bool) []error {
	var errs []error
	if given := s.given(more); len(given) > 1 {
		errs = append(errs, fmt.Errorf("%s are given together; a build has one base, so keep one of them", strings.Join(given, " and ")))
	}
	if s.SourceAmi != "" && !amiID.MatchString(s.SourceAmi) {
		errs = append(errs, fmt.Errorf("source_ami is %q, which is not the ID of an AMI; it looks like ami-0123456789abcdef0", s.SourceAmi))
	}
	errs = append(errs, s.SourceAmiFilter.Prepare()...)
	if s.SourceSsmParameter == "" {
		s.SourceSsmParameter = image.AmazonLinux{Distribution: "al2023", Kernel: "default", Architecture: architecture}.Parameter()
	}
	return errs
}

// Find finds the AMI and checks that it is for the architecture, and that its
// root is on EBS.
func (s Source) Find(ctx context.Context, api image.Describer, parameters image.Parameters, architecture string) (types.Image, error) {
	found, err := s.find(ctx, api, parameters)
	if err != nil {
		return types.Image{}, err
	}
	return found, check(found, architecture)
}

func (s Source) find(ctx context.Context, api image.Describer, parameters image.Parameters) (types.Image, error) {
	switch {
	case s.SourceAmi != "":
		return image.ByID(ctx, api, s.SourceAmi)
	case !s.SourceAmiFilter.Empty():
		return s.SourceAmiFilter.Find(ctx, api)
	default:
		return image.ByParameter(ctx, api, parameters, "source_ssm_parameter", s.SourceSsmParameter)
	}
}
