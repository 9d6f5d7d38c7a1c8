package image

import (
	"context"
	"fmt"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// forbidden is what an AMI's name may not hold, by RegisterImage's rule for
// Name.
var forbidden = regexp.MustCompile(`[^a-zA-Z0-9()\[\] ./\-'@_]`)

// CheckName says whether AWS takes an AMI's name.
func CheckName(name string) error {
	if bad := forbidden.FindString(name); bad != "" {
		return fmt.Errorf("ami_name %q has the character %q; AWS allows letters, digits, spaces and ( ) [ ] . / - ' @ _, and the template function clean_resource_name makes the rest dashes", name, bad)
	}
	if n := len(name); n < 3 || n > 128 {
		return fmt.Errorf("ami_name %q has %d characters; AWS allows 3 to 128", name, n)
	}
	return nil
}

// CleanName replaces what an AMI's name may not hold by dashes.
func CleanName(name string) string { return forbidden.ReplaceAllString(name, "-") }

// Named finds this account's image of a name, of which there is at most one in
// a region.
func Named(ctx context.Context, api Describer, name string) (image types.Image, found bool, err error) {
	out, err := api.DescribeImages(ctx, &ec2.DescribeImagesInput{
		Owners:          []string{"self"},
		Filters:         []types.Filter{{Name: aws.String("name"), Values: []string{name}}},
		IncludeDisabled: aws.Bool(true),
	})
	if err != nil {
		return types.Image{}, false, fmt.Errorf("look for an AMI named %q (ec2:DescribeImages): %w", name, err)
	}
	for _, image := range out.Images {
		if aws.ToString(image.Name) == name {
			return image, true, nil
		}
	}
	return types.Image{}, false, nil
}

// Unfinished says whether an image was begun by another run than this one, which
// has not finished it: it goes on, or it was killed.
func Unfinished(image types.Image, run cloud.Run) bool {
	tags := Tags(image)
	_, expires := tags[cloud.TagExpires]
	return expires && tags[cloud.TagRun] != "" && tags[cloud.TagRun] != run.ID
}
