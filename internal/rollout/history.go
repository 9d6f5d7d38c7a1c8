package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Current is the id of the image that the group runs: that of its saved launch
// template version. It is an error while a refresh goes on, when the group runs
// two.
func (r Rollout) Current(ctx context.Context) (string, error) {
	now, err := r.saved(ctx)
	if err != nil {
		return "", fmt.Errorf("find what group %q runs: %w", r.Group, err)
	}
	return imageOf(now), nil
}

// Previous is the id of the image that the group ran before the one that it
// runs now, from the history of its launch template. A version that a rollout
// made says which one it replaced; so a rollout that failed in between is no
// part of the history. Behind a version that somebody else made comes the one
// before it. Of a group with several launch templates it is the history of the
// first.
func (r Rollout) Previous(ctx context.Context) (string, error) {
	now, err := r.saved(ctx)
	if err == nil {
		var versions map[int64]ec2types.LaunchTemplateVersion
		if versions, err = r.history(ctx, aws.ToString(now.LaunchTemplateId)); err == nil {
			if image, ok := previous(now, versions); ok {
				return image, nil
			}
			err = fmt.Errorf("behind version %d of launch template %s there is none with another image than %s; name the image by ami_id or commit",
				aws.ToInt64(now.VersionNumber), aws.ToString(now.LaunchTemplateName), imageOf(now))
		}
	}
	return "", fmt.Errorf("find what group %q ran before: %w", r.Group, err)
}

// saved is the version that the group launches from, of the first template
// where a mixed instances policy has several. All must have the same image.
func (r Rollout) saved(ctx context.Context) (none ec2types.LaunchTemplateVersion, err error) {
	group, err := r.group(ctx)
	if err != nil {
		return none, err
	}
	if group.LaunchConfigurationName != nil {
		return none, fmt.Errorf("it has the launch configuration %q, which has no history; give it a launch template, or name the AMI by ami_id", *group.LaunchConfigurationName)
	}
	active, err := r.active(ctx)
	if err != nil {
		return none, err
	}
	if active != nil {
		return none, fmt.Errorf("instance refresh %s is %s, so it runs two images; wait for its end", aws.ToString(active.InstanceRefreshId), active.Status)
	}
	of := templatesOf(group.LaunchTemplate, group.MixedInstancesPolicy)
	if len(of) == 0 {
		return none, errors.New("it has no launch template, and so no history; give it one")
	}
	versions, err := r.templates(ctx, of)
	if err != nil {
		return none, err
	}
	if err := sameImage(of, versions, group.MixedInstancesPolicy); err != nil {
		return none, err
	}
	return versions[of[0]], nil
}

// sameImage gives an error unless there is one image in all that a group
// launches from.
func sameImage(of []reference, versions map[reference]ec2types.LaunchTemplateVersion, mixed *types.MixedInstancesPolicy) error {
	var images []string
	for _, ref := range of {
		id := imageOf(versions[ref])
		if !strings.HasPrefix(id, "ami-") {
			return fmt.Errorf("launch template %s has the image %q, which names no AMI by itself; look the AMI up by ssm_parameter", ref, id)
		}
		images = append(images, id)
	}
	if mixed != nil && mixed.LaunchTemplate != nil {
		for _, override := range mixed.LaunchTemplate.Overrides {
			if override.ImageId != nil {
				images = append(images, *override.ImageId)
			}
		}
	}
	slices.Sort(images)
	if images = slices.Compact(images); len(images) > 1 {
		return fmt.Errorf("its mixed instances policy has %d images, %s; name the one that is meant by ami_id", len(images), strings.Join(images, ", "))
	}
	return nil
}

// history lists a template's versions by their numbers.
func (r Rollout) history(ctx context.Context, template string) (map[int64]ec2types.LaunchTemplateVersion, error) {
	versions := map[int64]ec2types.LaunchTemplateVersion{}
	pages := ec2.NewDescribeLaunchTemplateVersionsPaginator(r.EC2, &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &template})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the versions of launch template %s: %w", template, err)
		}
		for _, v := range page.LaunchTemplateVersions {
			versions[aws.ToInt64(v.VersionNumber)] = v
		}
	}
	return versions, nil
}

// Replaced is the number of the version that a rollout put its version in place
// of: one that the group had then.
func Replaced(v ec2types.LaunchTemplateVersion) (number int64, ok bool) {
	if _, ours := MadeBy(v); !ours {
		return 0, false
	}
	m := source.FindStringSubmatch(aws.ToString(v.VersionDescription))
	if m == nil {
		return 0, false
	}
	number, err := strconv.ParseInt(m[1], 10, 64)
	return number, err == nil
}

// source is the number in the description of a version that a rollout made.
var source = regexp.MustCompile(`, made from version (\d+) `)

// previous goes back through the versions until one has another image. It is a
// pure function.
func previous(now ec2types.LaunchTemplateVersion, versions map[int64]ec2types.LaunchTemplateVersion) (image string, ok bool) {
	for at := now; ; {
		before, ok := versions[before(at, versions)]
		if !ok {
			return "", false
		}
		if id := imageOf(before); id != imageOf(now) && strings.HasPrefix(id, "ami-") {
			return id, true
		}
		at = before
	}
}

// before is the number of the version that came before another; 0 if none did.
// It is always a smaller number, so that going back comes to an end.
func before(v ec2types.LaunchTemplateVersion, versions map[int64]ec2types.LaunchTemplateVersion) int64 {
	number := aws.ToInt64(v.VersionNumber)
	if from, ok := Replaced(v); ok && from < number {
		return from
	}
	var older []int64
	for n := range versions {
		if n < number {
			older = append(older, n)
		}
	}
	if len(older) == 0 {
		return 0
	}
	return slices.MaxFunc(older, cmp.Compare[int64])
}
