package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// Parameters reads SSM parameters; satisfied by *ssm.Client.
type Parameters interface {
	GetParameter(context.Context, *ssm.GetParameterInput, ...func(*ssm.Options)) (*ssm.GetParameterOutput, error)
}

// ByID finds the image of the option source_ami.
func ByID(ctx context.Context, api Describer, id string) (types.Image, error) {
	image, err := Describe(ctx, api, id)
	if missing := (*NotFoundError)(nil); errors.As(err, &missing) {
		return types.Image{}, fmt.Errorf("source_ami: %w; correct the ID or the region, or have its owner share it", err)
	}
	return image, err
}

// ByParameter finds the image that an SSM parameter names, which is the value of
// an option.
func ByParameter(ctx context.Context, api Describer, parameters Parameters, option, name string) (types.Image, error) {
	out, err := parameters.GetParameter(ctx, &ssm.GetParameterInput{Name: &name})
	if missing := (*ssmtypes.ParameterNotFound)(nil); errors.As(err, &missing) {
		return types.Image{}, fmt.Errorf("%s %q does not exist in this region; correct it, or name the AMI in another way", option, name)
	}
	if err != nil {
		return types.Image{}, fmt.Errorf("read the SSM parameter %s (ssm:GetParameter): %w", name, err)
	}
	id := aws.ToString(out.Parameter.Value)
	image, err := Describe(ctx, api, id)
	if err != nil {
		return types.Image{}, fmt.Errorf("%s %q holds %q: %w", option, name, id, err)
	}
	return image, nil
}

// Find finds the one image that the filter means.
func (f Filter) Find(ctx context.Context, api Describer) (types.Image, error) {
	filters, err := f.request()
	if err != nil {
		return types.Image{}, err
	}
	out, err := api.DescribeImages(ctx, &ec2.DescribeImagesInput{
		Filters:           filters,
		Owners:            f.Owners,
		IncludeDeprecated: &f.IncludeDeprecated,
	})
	if err != nil {
		return types.Image{}, fmt.Errorf("source_ami_filter: look for AMIs (ec2:DescribeImages): %w", err)
	}
	images := slices.DeleteFunc(out.Images, func(i types.Image) bool { return i.State != types.ImageStateAvailable })
	switch {
	case len(images) == 0:
		return types.Image{}, fmt.Errorf("source_ami_filter: no available AMI of %q matches %v in this region; widen the filters, or correct the owners", f.Owners, f.Filters)
	case len(images) > 1 && !f.MostRecent:
		return types.Image{}, fmt.Errorf("source_ami_filter: %d AMIs match %v, such as %s and %s; narrow the filters, or set most_recent = true",
			len(images), f.Filters, aws.ToString(images[0].ImageId), aws.ToString(images[1].ImageId))
	}
	return Youngest(images), nil
}

// Youngest is the image that was created last.
func Youngest(images []types.Image) types.Image { return slices.MaxFunc(images, younger) }

// younger compares images by when they were created, and by their ids where that
// is the same moment. Creation dates are ISO 8601 in UTC, so that they compare
// as strings.
func younger(a, b types.Image) int {
	return cmp.Or(
		cmp.Compare(aws.ToString(a.CreationDate), aws.ToString(b.CreationDate)),
		cmp.Compare(aws.ToString(a.ImageId), aws.ToString(b.ImageId)),
	)
}
