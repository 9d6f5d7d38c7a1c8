package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// AutoScaling is satisfied by *autoscaling.Client.
type AutoScaling interface {
	groups
	refreshes
}

type groups interface {
	DescribeAutoScalingGroups(context.Context, *autoscaling.DescribeAutoScalingGroupsInput, ...func(*autoscaling.Options)) (*autoscaling.DescribeAutoScalingGroupsOutput, error)
	DescribeScalingActivities(context.Context, *autoscaling.DescribeScalingActivitiesInput, ...func(*autoscaling.Options)) (*autoscaling.DescribeScalingActivitiesOutput, error)
}

type refreshes interface {
	DescribeInstanceRefreshes(context.Context, *autoscaling.DescribeInstanceRefreshesInput, ...func(*autoscaling.Options)) (*autoscaling.DescribeInstanceRefreshesOutput, error)
	StartInstanceRefresh(context.Context, *autoscaling.StartInstanceRefreshInput, ...func(*autoscaling.Options)) (*autoscaling.StartInstanceRefreshOutput, error)
	CancelInstanceRefresh(context.Context, *autoscaling.CancelInstanceRefreshInput, ...func(*autoscaling.Options)) (*autoscaling.CancelInstanceRefreshOutput, error)
}

// EC2 is satisfied by *ec2.Client.
type EC2 interface {
	machines
	templates
}

type machines interface {
	DescribeImages(context.Context, *ec2.DescribeImagesInput, ...func(*ec2.Options)) (*ec2.DescribeImagesOutput, error)
	DescribeInstances(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)
}

type templates interface {
	DescribeLaunchTemplateVersions(context.Context, *ec2.DescribeLaunchTemplateVersionsInput, ...func(*ec2.Options)) (*ec2.DescribeLaunchTemplateVersionsOutput, error)
	CreateLaunchTemplateVersion(context.Context, *ec2.CreateLaunchTemplateVersionInput, ...func(*ec2.Options)) (*ec2.CreateLaunchTemplateVersionOutput, error)
	DeleteLaunchTemplateVersions(context.Context, *ec2.DeleteLaunchTemplateVersionsInput, ...func(*ec2.Options)) (*ec2.DeleteLaunchTemplateVersionsOutput, error)
}

// Balancers is satisfied by *elasticloadbalancingv2.Client.
type Balancers interface {
	DescribeTargetGroups(context.Context, *elb.DescribeTargetGroupsInput, ...func(*elb.Options)) (*elb.DescribeTargetGroupsOutput, error)
	DescribeTargetHealth(context.Context, *elb.DescribeTargetHealthInput, ...func(*elb.Options)) (*elb.DescribeTargetHealthOutput, error)
}

// State is all that a plan is made from.
type State struct {
	Region string
	Group  types.AutoScalingGroup
	// Active is the refresh that has not ended, if there is one.
	Active *types.InstanceRefresh
	// Templates are the launch template versions that the group and the active
	// refresh name.
	Templates map[reference]ec2types.LaunchTemplateVersion
	// Image is what is to be rolled out.
	Image ec2types.Image
	// Images are those of the templates, as far as they still exist.
	Images map[string]ec2types.Image
	// Running has the image of each instance.
	Running map[string]string
	// TargetGroups are those that the group registers its instances with, and
	// Targets is what they say of each instance.
	TargetGroups []elbtypes.TargetGroup
	Targets      map[string][]target
}

// reference names a launch template version as a group does: the version may
// also be "$Latest" or "$Default", which is what a group means by none.
type reference struct{ template, version string }

func (r reference) String() string { return fmt.Sprintf("%s version %s", r.template, r.version) }

const defaultVersion, latestVersion = "$Default", "$Latest"

func refer(spec *types.LaunchTemplateSpecification) reference {
	r := reference{aws.ToString(spec.LaunchTemplateId), aws.ToString(spec.Version)}
	if r.version == "" {
		r.version = defaultVersion
	}
	return r
}

// templatesOf lists what a configuration launches from: the template, and those
// that overrides of a mixed instances policy name in its place.
func templatesOf(template *types.LaunchTemplateSpecification, mixed *types.MixedInstancesPolicy) []reference {
	var all []reference
	add := func(spec *types.LaunchTemplateSpecification) {
		if spec != nil && !slices.Contains(all, refer(spec)) {
			all = append(all, refer(spec))
		}
	}
	add(template)
	if mixed != nil && mixed.LaunchTemplate != nil {
		add(mixed.LaunchTemplate.LaunchTemplateSpecification)
		for _, override := range mixed.LaunchTemplate.Overrides {
			add(override.LaunchTemplateSpecification)
		}
	}
	return all
}

func (r Rollout) describe(ctx context.Context) (s State, err error) {
	s.Region = r.Region
	if s.Group, err = r.group(ctx); err != nil {
		return s, err
	}
	if s.Active, err = r.active(ctx); err != nil {
		return s, err
	}
	wanted := templatesOf(s.Group.LaunchTemplate, s.Group.MixedInstancesPolicy)
	if s.Active != nil && s.Active.DesiredConfiguration != nil {
		desired := s.Active.DesiredConfiguration
		wanted = append(wanted, templatesOf(desired.LaunchTemplate, desired.MixedInstancesPolicy)...)
	}
	if s.Templates, err = r.templates(ctx, wanted); err != nil {
		return s, err
	}
	if s.Image, s.Images, err = r.images(ctx, s.Templates); err != nil {
		return s, err
	}
	if s.Running, err = r.running(ctx, s.Group.Instances, nil); err != nil {
		return s, err
	}
	if s.TargetGroups, err = r.targetGroups(ctx, s.Group); err != nil {
		return s, err
	}
	s.Targets, err = r.targets(ctx, s.Group)
	return s, err
}

func (r Rollout) group(ctx context.Context) (types.AutoScalingGroup, error) {
	out, err := r.AutoScaling.DescribeAutoScalingGroups(ctx, &autoscaling.DescribeAutoScalingGroupsInput{
		AutoScalingGroupNames: []string{r.Group},
	})
	if err != nil {
		return types.AutoScalingGroup{}, fmt.Errorf("describe the group: %w", err)
	}
	if len(out.AutoScalingGroups) == 0 {
		return types.AutoScalingGroup{}, fmt.Errorf("there is no group of that name in region %s; correct its name or the region, or create the group first", r.Region)
	}
	return out.AutoScalingGroups[0], nil
}

// active finds the refresh that has not ended; a group has one at most.
func (r Rollout) active(ctx context.Context) (*types.InstanceRefresh, error) {
	out, err := r.AutoScaling.DescribeInstanceRefreshes(ctx, &autoscaling.DescribeInstanceRefreshesInput{
		AutoScalingGroupName: &r.Group,
	})
	if err != nil {
		return nil, fmt.Errorf("describe the group's instance refreshes: %w", err)
	}
	for _, refresh := range out.InstanceRefreshes {
		if !ended(refresh.Status) {
			return &refresh, nil
		}
	}
	return nil, nil
}

func ended(status types.InstanceRefreshStatus) bool {
	switch status {
	case types.InstanceRefreshStatusSuccessful, types.InstanceRefreshStatusFailed, types.InstanceRefreshStatusCancelled,
		types.InstanceRefreshStatusRollbackFailed, types.InstanceRefreshStatusRollbackSuccessful:
		return true
	}
	return false
}

func (r Rollout) templates(ctx context.Context, wanted []reference) (map[reference]ec2types.LaunchTemplateVersion, error) {
	found := map[reference]ec2types.LaunchTemplateVersion{}
	for _, ref := range wanted {
		if _, known := found[ref]; known {
			continue
		}
		out, err := r.EC2.DescribeLaunchTemplateVersions(ctx, &ec2.DescribeLaunchTemplateVersionsInput{
			LaunchTemplateId: &ref.template,
			Versions:         []string{ref.version},
		})
		if err == nil && len(out.LaunchTemplateVersions) == 0 {
			err = errors.New("there is none; give the group a launch template version that exists")
		}
		if err != nil {
			return nil, fmt.Errorf("describe launch template %s, which the group uses: %w", ref, err)
		}
		found[ref] = out.LaunchTemplateVersions[0]
	}
	return found, nil
}

// images finds the image to roll out, which must exist, and those of the
// templates, which need not any more.
func (r Rollout) images(ctx context.Context, used map[reference]ec2types.LaunchTemplateVersion) (ec2types.Image, map[string]ec2types.Image, error) {
	ids := []string{r.Image}
	for _, version := range used {
		id := imageOf(version)
		if strings.HasPrefix(id, "ami-") && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	// A filter, because DescribeImages refuses a list with an id in it that is no more.
	out, err := r.EC2.DescribeImages(ctx, &ec2.DescribeImagesInput{
		Filters: []ec2types.Filter{{Name: aws.String("image-id"), Values: ids}},
	})
	if err != nil {
		return ec2types.Image{}, nil, fmt.Errorf("describe the images %s: %w", strings.Join(ids, ", "), err)
	}
	found := map[string]ec2types.Image{}
	for _, image := range out.Images {
		found[aws.ToString(image.ImageId)] = image
	}
	image, ok := found[r.Image]
	if !ok {
		return ec2types.Image{}, nil, fmt.Errorf("image %s is not there in region %s, or this account may not see it", r.Image, r.Region)
	}
	return image, found, nil
}

func imageOf(version ec2types.LaunchTemplateVersion) string {
	if version.LaunchTemplateData == nil {
		return ""
	}
	return aws.ToString(version.LaunchTemplateData.ImageId)
}

// EC2's limit on the values of one filter.
const mostValues = 200

// running asks for the images of those instances that known lacks, and returns
// the images of all.
func (r Rollout) running(ctx context.Context, instances []types.Instance, known map[string]string) (map[string]string, error) {
	images := map[string]string{}
	var unknown []string
	for _, instance := range instances {
		id := aws.ToString(instance.InstanceId)
		if image, ok := known[id]; ok {
			images[id] = image
		} else {
			unknown = append(unknown, id)
		}
	}
	for ids := range slices.Chunk(unknown, mostValues) {
		pages := ec2.NewDescribeInstancesPaginator(r.EC2, &ec2.DescribeInstancesInput{
			Filters: []ec2types.Filter{{Name: aws.String("instance-id"), Values: ids}},
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, fmt.Errorf("describe the group's instances: %w", err)
			}
			for _, reservation := range page.Reservations {
				for _, instance := range reservation.Instances {
					images[aws.ToString(instance.InstanceId)] = aws.ToString(instance.ImageId)
				}
			}
		}
	}
	return images, nil
}

// A target group is attached to a group in one of two ways, the newer of which
// the older shows too, though not the other way round for all accounts.
func targetGroupARNs(group types.AutoScalingGroup) []string {
	arns := slices.Clone(group.TargetGroupARNs)
	for _, source := range group.TrafficSources {
		if aws.ToString(source.Type) == "elbv2" {
			arns = append(arns, aws.ToString(source.Identifier))
		}
	}
	slices.Sort(arns)
	return slices.Compact(arns)
}

// Elastic Load Balancing's limit on the ARNs of one call.
const mostARNs = 20

func (r Rollout) targetGroups(ctx context.Context, group types.AutoScalingGroup) ([]elbtypes.TargetGroup, error) {
	var all []elbtypes.TargetGroup
	for arns := range slices.Chunk(targetGroupARNs(group), mostARNs) {
		out, err := r.Balancers.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{TargetGroupArns: arns})
		if err != nil {
			return nil, fmt.Errorf("describe the group's target groups: %w", err)
		}
		all = append(all, out.TargetGroups...)
	}
	return all, nil
}
