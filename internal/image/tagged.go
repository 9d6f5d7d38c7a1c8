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
	filters := []types.Filter{{Name: aws.String("state"), Values: []string{string(types.ImageStateAvailable)}}}
	for _, key := range slices.Sorted(maps.Keys(t.Tags)) {
		filters = append(filters, types.Filter{Name: aws.String("tag:" + key), Values: []string{literal(t.Tags[key])}})
	}
	if t.Architecture != "" {
		filters = append(filters, types.Filter{Name: aws.String("architecture"), Values: []string{t.Architecture}})
	}
	var images []types.Image
	pages := ec2.NewDescribeImagesPaginator(api, &ec2.DescribeImagesInput{Owners: t.Owners, Filters: filters, IncludeDeprecated: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return types.Image{}, fmt.Errorf("look for AMIs by their tags (ec2:DescribeImages): %w", err)
		}
		images = append(images, page.Images...)
	}
	images = slices.DeleteFunc(images, func(i types.Image) bool { return Tags(i)[cloud.TagExpires] != "" })
	switch {
	case len(images) == 0:
		return types.Image{}, fmt.Errorf("no available AMI of %q has the tags %s; was it built and tagged in this region and account?", t.Owners, shownTags(t.Tags))
	case len(images) > 1 && !t.MostRecent:
		return types.Image{}, fmt.Errorf("%d AMIs have the tags %s: %s; narrow it with more tags or architecture, or set most_recent = true",
			len(images), shownTags(t.Tags), strings.Join(ids(images), ", "))
	}
	return youngest(images), nil
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

func ids(images []types.Image) []string {
	var all []string
	for _, i := range images {
		all = append(all, aws.ToString(i.ImageId))
	}
	slices.Sort(all)
	return all
}
