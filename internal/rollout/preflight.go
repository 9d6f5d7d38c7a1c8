package rollout

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// preflight finds all the reasons why the rollout could not succeed, before
// anything is created.
func preflight(s State, p Preferences) error {
	return errors.Join(
		checkGroup(s.Group),
		checkTemplates(s, p),
		checkImage(s),
		checkProcesses(s.Group),
		checkTargetGroups(s),
	)
}

func checkGroup(g types.AutoScalingGroup) error {
	switch {
	case aws.ToString(g.Status) != "":
		return fmt.Errorf("the group is being deleted (%s)", *g.Status)
	case g.LaunchConfigurationName != nil:
		return fmt.Errorf("the group has the launch configuration %q, which has no versions to roll out or back to; give the group a launch template (the EC2 console copies a launch configuration to one) and run the build again", *g.LaunchConfigurationName)
	case len(templatesOf(g.LaunchTemplate, g.MixedInstancesPolicy)) == 0:
		return errors.New("the group has no launch template; give it one")
	}
	return nil
}

func checkTemplates(s State, p Preferences) error {
	var errs []error
	for _, ref := range templatesOf(s.Group.LaunchTemplate, s.Group.MixedInstancesPolicy) {
		version := s.Templates[ref]
		errs = append(errs, checkPinned(s, ref, p), checkAlias(ref, version), checkArchitecture(s, ref, version))
		if version.LaunchTemplateData != nil && version.LaunchTemplateData.InstanceRequirements != nil {
			errs = append(errs, attributeBased(ref.String()))
		}
	}
	if mixed := s.Group.MixedInstancesPolicy; mixed != nil && mixed.LaunchTemplate != nil {
		for _, override := range mixed.LaunchTemplate.Overrides {
			if override.InstanceRequirements != nil {
				errs = append(errs, attributeBased("an override of the mixed instances policy"))
			}
		}
	}
	return errors.Join(errs...)
}

// Auto Scaling can only roll back to a number. On $Latest the new version would
// moreover be launched from the moment that it is made, by any scale-out.
func checkPinned(s State, ref reference, p Preferences) error {
	number := aws.ToInt64(s.Templates[ref].VersionNumber)
	pin := fmt.Sprintf("pin the group first, which replaces no instance: aws autoscaling update-auto-scaling-group --region %s --auto-scaling-group-name %q --launch-template LaunchTemplateId=%s,Version=%d",
		s.Region, aws.ToString(s.Group.AutoScalingGroupName), ref.template, number)
	if s.Group.MixedInstancesPolicy != nil {
		pin = fmt.Sprintf("give version %d in the group's mixed instances policy first, which replaces no instance", number)
	}
	switch {
	case ref.version == latestVersion:
		return fmt.Errorf("the group launches version %s of template %s (now %d), so that a new version would be launched before it is rolled out, and could not be rolled back; %s", ref.version, ref.template, number, pin)
	case ref.version == defaultVersion && p.autoRollback():
		return fmt.Errorf("the group launches version %s of template %s (now %d), which AWS can't roll back to; %s; or set auto_rollback = false", ref.version, ref.template, number, pin)
	}
	return nil
}

func checkAlias(ref reference, version ec2types.LaunchTemplateVersion) error {
	if image := imageOf(version); strings.HasPrefix(image, "resolve:ssm:") {
		return fmt.Errorf("launch template %s takes its image from the SSM parameter %s, which AWS can't roll out or back to; give the group a version with the id of an AMI", ref, strings.TrimPrefix(image, "resolve:ssm:"))
	}
	return nil
}

func checkArchitecture(s State, ref reference, version ec2types.LaunchTemplateVersion) error {
	former, known := s.Images[imageOf(version)]
	if known && former.Architecture != s.Image.Architecture {
		return fmt.Errorf("the image is for %s, but launch template %s launches %s, which is for %s; build the image for that architecture, or choose another group",
			s.Image.Architecture, ref, imageOf(version), former.Architecture)
	}
	return nil
}

func attributeBased(what string) error {
	return fmt.Errorf("%s chooses instance types by attributes, for which AWS allows no refresh with a desired configuration; list instance types instead", what)
}

func checkImage(s State) error {
	if s.Image.State == ec2types.ImageStateAvailable {
		return nil
	}
	reason := ""
	if s.Image.StateReason != nil {
		reason = ": " + aws.ToString(s.Image.StateReason.Message)
	}
	return fmt.Errorf("the image is %s%s; it must be available", s.Image.State, reason)
}

// The processes without which a refresh stands still or is blind.
var needed = map[string]string{
	"Launch":            "no new instance can start",
	"Terminate":         "no old instance can end",
	"InstanceRefresh":   "no refresh can work",
	"HealthCheck":       "nobody would notice that new instances are unhealthy",
	"AddToLoadBalancer": "new instances would get no requests",
}

func checkProcesses(g types.AutoScalingGroup) error {
	var errs []error
	for _, process := range g.SuspendedProcesses {
		name := aws.ToString(process.ProcessName)
		why, ok := needed[name]
		if !ok || (name == "AddToLoadBalancer" && len(targetGroupARNs(g))+len(g.LoadBalancerNames) == 0) {
			continue
		}
		errs = append(errs, fmt.Errorf("the group's process %s is suspended (%s), so that %s; resume it first: aws autoscaling resume-processes --auto-scaling-group-name %q --scaling-processes %s",
			name, aws.ToString(process.SuspensionReason), why, aws.ToString(g.AutoScalingGroupName), name))
	}
	return errors.Join(errs...)
}

func checkTargetGroups(s State) error {
	var errs []error
	for _, target := range s.TargetGroups {
		if len(target.LoadBalancerArns) == 0 {
			errs = append(errs, fmt.Errorf("target group %q has no listener rule, so its targets can never be healthy; attach it first", aws.ToString(target.TargetGroupName)))
		}
	}
	return errors.Join(errs...)
}

// checkActive tells of a refresh that is under way whether it can be joined.
func checkActive(s State) (join bool, err error) {
	refresh := s.Active
	id, status := aws.ToString(refresh.InstanceRefreshId), refresh.Status
	towards := targetsOf(s, refresh)
	what := fmt.Sprintf("instance refresh %s of the group towards %s is %s", id, strings.Join(towards, ", "), status)
	if refresh.StartTime != nil {
		what += " since " + refresh.StartTime.UTC().Format("2006-01-02 15:04:05 MST")
	}
	switch {
	case status == types.InstanceRefreshStatusCancelling || status == types.InstanceRefreshStatusRollbackInProgress:
		return false, fmt.Errorf("%s; wait until it has ended and run the build again", what)
	case !slices.Equal(towards, []string{aws.ToString(s.Image.ImageId)}):
		return false, fmt.Errorf("%s; wait for its end, or cancel it: aws autoscaling cancel-instance-refresh --region %s --auto-scaling-group-name %q", what, s.Region, aws.ToString(s.Group.AutoScalingGroupName))
	}
	return true, nil
}

// targetsOf lists the images that a refresh rolls out: those of its desired
// configuration, or of the group's own where it has none.
func targetsOf(s State, refresh *types.InstanceRefresh) []string {
	if desired := refresh.DesiredConfiguration; desired != nil {
		return imagesOf(s, desired.LaunchTemplate, desired.MixedInstancesPolicy)
	}
	return imagesOf(s, s.Group.LaunchTemplate, s.Group.MixedInstancesPolicy)
}

// imagesOf lists, sorted, what a configuration launches.
func imagesOf(s State, template *types.LaunchTemplateSpecification, mixed *types.MixedInstancesPolicy) []string {
	var images []string
	for _, ref := range templatesOf(template, mixed) {
		images = append(images, imageOf(s.Templates[ref]))
	}
	if mixed != nil && mixed.LaunchTemplate != nil {
		for _, override := range mixed.LaunchTemplate.Overrides {
			if override.ImageId != nil {
				images = append(images, *override.ImageId)
			}
		}
	}
	slices.Sort(images)
	return slices.Compact(images)
}
