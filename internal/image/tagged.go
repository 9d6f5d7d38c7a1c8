package image

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// Tagged says by which tags one image is to be found.
type Tagged struct {
	Tags         map[string]string
	Owners       []string // account ids, or "self"
	Architecture string   // any if it is ""
	// MostRecent takes the youngest of several; otherwise several are an error.
	MostRecent bool
}

// Find finds the one available image that has all of the tags. What a run has
// not finished yet, or never will, is none.
func (t Tagged) Find(ctx context.Context, api Describer) (types.Image, error) {
	all, err := t.All(ctx, api)
	if err != nil {
		return types.Image{}, err
	}
	var images []types.Image
	var others []string // with the tags too, but of no use
	for _, i := range all {
		if err := Finished(i); err != nil {
			others = append(others, err.Error())
		} else {
			images = append(images, i)
		}
	}
	switch {
	case len(images) == 0 && len(others) > 0:
		return types.Image{}, fmt.Errorf("no AMI with the tags %s can be handed on: %s", shownTags(t.Tags), strings.Join(others, "; "))
	case len(images) == 0:
		return types.Image{}, fmt.Errorf("no AMI of %s has the tags %s; was it built and tagged in this region and account?", t.of(), shownTags(t.Tags))
	case len(images) > 1 && !t.MostRecent:
		return types.Image{}, fmt.Errorf("%d AMIs have the tags %s: %s; narrow it with more tags or architecture, or set most_recent = true",
			len(images), shownTags(t.Tags), shownImages(images))
	}
	return Youngest(images), nil
}

// All finds all images that have all of the tags, whatever state they are in.
func (t Tagged) All(ctx context.Context, api Describer) (images []types.Image, err error) {
	var filters []types.Filter
	for _, key := range slices.Sorted(maps.Keys(t.Tags)) {
		filters = append(filters, types.Filter{Name: aws.String("tag:" + key), Values: []string{literal(t.Tags[key])}})
	}
	if t.Architecture != "" {
		filters = append(filters, types.Filter{Name: aws.String("architecture"), Values: []string{t.Architecture}})
	}
	pages := ec2.NewDescribeImagesPaginator(api, &ec2.DescribeImagesInput{
		Owners: t.Owners, Filters: filters, IncludeDeprecated: aws.Bool(true), IncludeDisabled: aws.Bool(true),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("look for AMIs by their tags (ec2:DescribeImages): %w", err)
		}
		images = append(images, page.Images...)
	}
	return images, nil
}

// of says whose images are looked at, and of which kind.
func (t Tagged) of() string {
	of := strings.Join(t.Owners, " or ")
	if t.Architecture != "" {
		of += " for " + t.Architecture
	}
	return of
}

// Finished gives an error for an image that is not available, or that a run has
// not finished yet, or never will.
func Finished(i types.Image) error {
	tags := Tags(i)
	switch {
	case i.State != types.ImageStateAvailable:
		return fmt.Errorf("AMI %s (%s) is %s, not available", aws.ToString(i.ImageId), aws.ToString(i.Name), i.State)
	case tags[cloud.TagExpires] != "":
		return fmt.Errorf("AMI %s (%s) is not finished: the build that makes it, run %s, has not ended, or was killed",
			aws.ToString(i.ImageId), aws.ToString(i.Name), tags[cloud.TagRun])
	}
	return nil
}

// literal keeps the wildcards of EC2's filters from being any.
func literal(value string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`).Replace(value)
}

func shownTags(tags map[string]string) string {
	var shown []string
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		shown = append(shown, fmt.Sprintf("%s=%s", key, tags[key]))
	}
	return strings.Join(shown, ", ")
}

// shownImages lists images, the youngest first.
func shownImages(images []types.Image) string {
	slices.SortFunc(images, func(a, b types.Image) int { return -younger(a, b) })
	var shown []string
	for _, i := range images {
		shown = append(shown, fmt.Sprintf("%s (%s, created %s)", aws.ToString(i.ImageId), aws.ToString(i.Name), aws.ToString(i.CreationDate)))
	}
	return strings.Join(shown, ", ")
}
