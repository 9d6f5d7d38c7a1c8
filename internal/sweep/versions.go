package sweep

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	astypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/rollout"
)

// AutoScaling is satisfied by *autoscaling.Client.
type AutoScaling interface {
	DescribeAutoScalingGroups(context.Context, *autoscaling.DescribeAutoScalingGroupsInput, ...func(*autoscaling.Options)) (*autoscaling.DescribeAutoScalingGroupsOutput, error)
	DescribeInstanceRefreshes(context.Context, *autoscaling.DescribeInstanceRefreshesInput, ...func(*autoscaling.Options)) (*autoscaling.DescribeInstanceRefreshesOutput, error)
}

type templates interface {
	DescribeLaunchTemplates(context.Context, *ec2.DescribeLaunchTemplatesInput, ...func(*ec2.Options)) (*ec2.DescribeLaunchTemplatesOutput, error)
	DescribeLaunchTemplateVersions(context.Context, *ec2.DescribeLaunchTemplateVersionsInput, ...func(*ec2.Options)) (*ec2.DescribeLaunchTemplateVersionsOutput, error)
	DeleteLaunchTemplateVersions(context.Context, *ec2.DeleteLaunchTemplateVersionsInput, ...func(*ec2.Options)) (*ec2.DeleteLaunchTemplateVersionsOutput, error)
}

// memory is how long Auto Scaling remembers an instance refresh, six weeks, less
// a day (DescribeInstanceRefreshes). Of an older version nobody can say any more
// that it was never rolled out, and so never is what a group may return to.
const memory = 41 * 24 * time.Hour

// versions finds the launch template versions that a rollout made and never
// began to roll out: no group names them, no refresh that Auto Scaling
// remembers was towards them, no instance was launched from them, and no later
// rollout found them in a group that may be gone since.
func (s Sweep) versions(ctx context.Context) ([]Leftover, error) {
	candidates, err := s.candidates(ctx)
	if err != nil || len(candidates) == 0 {
		return nil, err
	}
	used, err := s.used(ctx)
	if err != nil {
		return nil, err
	}
	var found []Leftover
	for _, v := range candidates {
		id, number := aws.ToString(v.LaunchTemplateId), strconv.FormatInt(aws.ToInt64(v.VersionNumber), 10)
		if used[version{id, number}] || used[version{id, latestVersion}] || used[version{id, defaultVersion}] {
			continue
		}
		launched, err := s.launched(ctx, id, number)
		if err != nil {
			return nil, err
		}
		if launched {
			continue
		}
		run, _ := rollout.MadeBy(v)
		found = append(found, Leftover{
			Region: s.Region, Kind: Version, ID: id + ":" + number, Name: aws.ToString(v.LaunchTemplateName),
			Run: run, Expires: aws.ToTime(v.CreateTime).Add(cloud.Lifetime),
		})
	}
	return found, nil
}

// candidates are the versions of the right age that immutable-rollout made, but
// for those that a group may mean without saying their number.
func (s Sweep) candidates(ctx context.Context) ([]types.LaunchTemplateVersion, error) {
	var found []types.LaunchTemplateVersion
	pages := ec2.NewDescribeLaunchTemplatesPaginator(s.EC2, &ec2.DescribeLaunchTemplatesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the launch templates in %s (ec2:DescribeLaunchTemplates): %w", s.Region, err)
		}
		for _, template := range page.LaunchTemplates {
			more, err := s.candidatesOf(ctx, template)
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
		}
	}
	return found, nil
}

func (s Sweep) candidatesOf(ctx context.Context, template types.LaunchTemplate) ([]types.LaunchTemplateVersion, error) {
	var found []types.LaunchTemplateVersion
	replaced := map[int64]bool{}
	pages := ec2.NewDescribeLaunchTemplateVersionsPaginator(s.EC2, &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: template.LaunchTemplateId})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the versions of launch template %s (ec2:DescribeLaunchTemplateVersions): %w", aws.ToString(template.LaunchTemplateName), err)
		}
		for _, v := range page.LaunchTemplateVersions {
			if number, ok := rollout.Replaced(v); ok {
				replaced[number] = true
			}
			made := aws.ToTime(v.CreateTime)
			if run, ours := rollout.MadeBy(v); ours && !aws.ToBool(v.DefaultVersion) && s.Now.Sub(made) < memory && s.swept(run, made.Add(cloud.Lifetime)) {
				found = append(found, v)
			}
		}
	}
	return slices.DeleteFunc(found, func(v types.LaunchTemplateVersion) bool { return replaced[aws.ToInt64(v.VersionNumber)] }), nil
}

// version names a launch template version as a group does.
type version struct{ template, number string }

// What a group says that does not name a number, but means the youngest version,
// or the template's default. It has come to its versions without a refresh, so
// that all of them may have been in use.
const latestVersion, defaultVersion = "$Latest", "$Default"

// used gives the versions that groups name, and those that their refreshes,
// also the former ones, were towards.
func (s Sweep) used(ctx context.Context) (map[version]bool, error) {
	used := map[version]bool{}
	pages := autoscaling.NewDescribeAutoScalingGroupsPaginator(s.AutoScaling, &autoscaling.DescribeAutoScalingGroupsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the groups in %s (autoscaling:DescribeAutoScalingGroups): %w", s.Region, err)
		}
		for _, group := range page.AutoScalingGroups {
			note(used, group.LaunchTemplate, group.MixedInstancesPolicy)
			for _, instance := range group.Instances {
				note(used, instance.LaunchTemplate, nil)
			}
			if err := s.refreshes(ctx, used, aws.ToString(group.AutoScalingGroupName)); err != nil {
				return nil, err
			}
		}
	}
	return used, nil
}

func (s Sweep) refreshes(ctx context.Context, used map[version]bool, group string) error {
	pages := autoscaling.NewDescribeInstanceRefreshesPaginator(s.AutoScaling, &autoscaling.DescribeInstanceRefreshesInput{AutoScalingGroupName: &group})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list the instance refreshes of group %q (autoscaling:DescribeInstanceRefreshes): %w", group, err)
		}
		for _, refresh := range page.InstanceRefreshes {
			if desired := refresh.DesiredConfiguration; desired != nil {
				note(used, desired.LaunchTemplate, desired.MixedInstancesPolicy)
			}
		}
	}
	return nil
}

func note(used map[version]bool, template *astypes.LaunchTemplateSpecification, mixed *astypes.MixedInstancesPolicy) {
	if template != nil {
		// A group that says nothing means the default.
		used[version{aws.ToString(template.LaunchTemplateId), cmp.Or(aws.ToString(template.Version), defaultVersion)}] = true
	}
	if mixed == nil || mixed.LaunchTemplate == nil {
		return
	}
	note(used, mixed.LaunchTemplate.LaunchTemplateSpecification, nil)
	for _, override := range mixed.LaunchTemplate.Overrides {
		note(used, override.LaunchTemplateSpecification, nil)
	}
}

// launched tells whether there is an instance of a version, by the tags that EC2
// itself puts on instances.
func (s Sweep) launched(ctx context.Context, template, number string) (bool, error) {
	out, err := s.EC2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: []types.Filter{
		{Name: aws.String("tag:aws:ec2launchtemplate:id"), Values: []string{template}},
		{Name: aws.String("tag:aws:ec2launchtemplate:version"), Values: []string{number}},
	}})
	if err != nil {
		return false, fmt.Errorf("look for instances of launch template %s version %s (ec2:DescribeInstances): %w", template, number, err)
	}
	return len(out.Reservations) > 0, nil
}

func (s Sweep) deleteVersion(ctx context.Context, id string) error {
	template, number, _ := strings.Cut(id, ":")
	out, err := s.EC2.DeleteLaunchTemplateVersions(ctx, &ec2.DeleteLaunchTemplateVersionsInput{
		LaunchTemplateId: &template, Versions: []string{number},
	})
	if err != nil {
		return unlessGone(err)
	}
	for _, failed := range out.UnsuccessfullyDeletedLaunchTemplateVersions {
		if e := failed.ResponseError; e != nil && e.Code != types.LaunchTemplateErrorCodeLaunchTemplateVersionDoesNotExist {
			return fmt.Errorf("%s: %s", e.Code, aws.ToString(e.Message))
		}
	}
	return nil
}
