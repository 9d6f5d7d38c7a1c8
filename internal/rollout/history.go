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
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Current is the id of the image that the group runs: that of its saved launch
// template version. It is an error while a refresh goes on, when the group runs
// two.
func (r Rollout) Current(ctx context.Context) (string, error) {
	now, err := r.saved(ctx)
	if err != nil {
		return "", fmt.Errorf("find what auto_scaling_group %q runs: %w", r.Group, err)
	}
	return imageOf(now), nil
}

// Previous is the id of the image that the group ran before the one that it
// runs now, from the history of its launch template. A version that a rollout
// made says which one it replaced; so a rollout that failed in between is no
// part of the history. Behind a version that somebody else made comes the one
// before it.
func (r Rollout) Previous(ctx context.Context) (string, error) {
	now, err := r.saved(ctx)
	if err == nil {
		var versions map[int64]ec2types.LaunchTemplateVersion
		if versions, err = r.history(ctx, aws.ToString(now.LaunchTemplateId)); err == nil {
			if image, ok := previous(now, versions); ok {
				return image, nil
			}
			err = fmt.Errorf("launch template %s has no version before %d with another image than %s; name the image by ami_id or commit",
				aws.ToString(now.LaunchTemplateName), aws.ToInt64(now.VersionNumber), imageOf(now))
		}
	}
	return "", fmt.Errorf("find what auto_scaling_group %q ran before: %w", r.Group, err)
}

// saved is the version that the group launches from. Where a mixed instances
// policy has further templates, it is that of the first.
func (r Rollout) saved(ctx context.Context) (none ec2types.LaunchTemplateVersion, err error) {
	group, err := r.group(ctx)
	if err != nil {
		return none, err
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
	versions, err := r.templates(ctx, of[:1])
	if err != nil {
		return none, err
	}
	now := versions[of[0]]
	if id := imageOf(now); !strings.HasPrefix(id, "ami-") {
		return none, fmt.Errorf("launch template %s has the image %q, which names no AMI by itself; look the AMI up by ssm_parameter", of[0], id)
	}
	return now, nil
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
	if _, ours := MadeBy(v); ours {
		if m := source.FindStringSubmatch(aws.ToString(v.VersionDescription)); m != nil {
			if from, err := strconv.ParseInt(m[1], 10, 64); err == nil && from < number {
				return from
			}
		}
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
