package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/commit"
)

// Plan is what is to be done: nothing at all (Done), to join a refresh (Join),
// or to make Versions and start a refresh towards them.
type Plan struct {
	Done bool
	// Join is the id of the refresh that already rolls out the image.
	Join string
	// Versions are the launch template versions to make, one for each that the
	// group launches from and that has not the image yet.
	Versions []Version
	// Group is as it is now; the desired configuration is made from it.
	Group types.AutoScalingGroup
	// Numbers are those of the versions that the group launches from now, for
	// the desired configuration knows neither $Latest nor $Default.
	Numbers map[reference]string
	// Image is what is rolled out.
	Image string
	// Notes are for the user to read, in order.
	Notes []string
}

// makePlan decides what to do, or gives all the reasons why it can't be done.
// It is a pure function.
func makePlan(s State, prefix string, p Preferences) (Plan, error) {
	if s.Active != nil {
		if join, err := checkActive(s); !join {
			return Plan{}, err
		}
		return Plan{Join: aws.ToString(s.Active.InstanceRefreshId)}, nil
	}
	if err := preflight(s, p); err != nil {
		return Plan{}, err
	}
	plan := Plan{Group: s.Group, Numbers: map[reference]string{}, Image: aws.ToString(s.Image.ImageId), Done: done(s)}
	if plan.Done {
		return plan, nil
	}

	tags := commitTags(s, prefix)
	if len(tags) == 0 {
		plan.note("The image has no tags of a commit (%s…), so the instances get none: run the immutable-tag post-processor before", prefix+commit.Keys[0])
	}
	for _, ref := range templatesOf(s.Group.LaunchTemplate, s.Group.MixedInstancesPolicy) {
		former := s.Templates[ref]
		plan.Numbers[ref] = fmt.Sprint(aws.ToInt64(former.VersionNumber))
		if imageOf(former) == plan.Image {
			continue
		}
		version, notes, err := nextVersion(ref, former, s, prefix, tags)
		if err != nil {
			return Plan{}, err
		}
		plan.Versions = append(plan.Versions, version)
		plan.Notes = append(plan.Notes, notes...)
	}
	plan.noteHeld(s.Group, p)
	if percent, partial := p.Partial(); partial {
		plan.note("The last of checkpoint_percentages is %d: the rest of the group stays on its image, and another run starts anew", percent)
	}
	return plan, nil
}

func (p *Plan) note(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

// noteHeld tells of instances that will hold the refresh up, or stay behind.
func (p *Plan) noteHeld(g types.AutoScalingGroup, preferences Preferences) {
	var protected, standby []string
	for _, instance := range g.Instances {
		if aws.ToBool(instance.ProtectedFromScaleIn) {
			protected = append(protected, aws.ToString(instance.InstanceId))
		}
		if instance.LifecycleState == types.LifecycleStateStandby || instance.LifecycleState == types.LifecycleStateEnteringStandby {
			standby = append(standby, aws.ToString(instance.InstanceId))
		}
	}
	hold := func(ids []string, what, option, value string) {
		if len(ids) == 0 {
			return
		}
		switch value {
		case "", "Wait":
			p.note("%s: %s. The refresh waits an hour for that to end, and fails then; see %s", strings.Join(ids, ", "), what, option)
		case "Ignore":
			p.note("%s: %s. By %s it keeps its image", strings.Join(ids, ", "), what, option)
		}
	}
	hold(protected, "protected from scale-in", "scale_in_protected_instances", preferences.ScaleInProtectedInstances)
	hold(standby, "on standby", "standby_instances", preferences.StandbyInstances)
}

// done tells that the group launches the image already, and that all instances
// have it. Those of a warm pool aren't known: such a group is always refreshed,
// which skips what matches.
func done(s State) bool {
	if s.Group.WarmPoolConfiguration != nil {
		return false
	}
	image := aws.ToString(s.Image.ImageId)
	if !slices.Equal(imagesOf(s, s.Group.LaunchTemplate, s.Group.MixedInstancesPolicy), []string{image}) {
		return false
	}
	for _, instance := range s.Group.Instances {
		if s.Running[aws.ToString(instance.InstanceId)] != image {
			return false
		}
	}
	return true
}

// commitTags are those that the immutable-tag post-processor put on the image.
// The image, not the work tree, says of which commit it is: an older image that
// is rolled out again brings its own.
func commitTags(s State, prefix string) map[string]string {
	found := map[string]string{}
	for _, tag := range s.Image.Tags {
		if name, ok := strings.CutPrefix(aws.ToString(tag.Key), prefix); ok && slices.Contains(commit.Keys, name) {
			found[*tag.Key] = aws.ToString(tag.Value)
		}
	}
	return found
}

// desired is the group's configuration with the image in it. Made has the
// numbers of the new versions, by those that they replace.
func (p Plan) desired(made map[reference]string) *types.DesiredConfiguration {
	numbers := maps.Clone(p.Numbers)
	maps.Copy(numbers, made)
	next := func(spec *types.LaunchTemplateSpecification) *types.LaunchTemplateSpecification {
		if spec == nil {
			return nil
		}
		return &types.LaunchTemplateSpecification{
			LaunchTemplateId: spec.LaunchTemplateId,
			Version:          aws.String(numbers[refer(spec)]),
		}
	}
	mixed := p.Group.MixedInstancesPolicy
	if mixed == nil {
		return &types.DesiredConfiguration{LaunchTemplate: next(p.Group.LaunchTemplate)}
	}
	var overrides []types.LaunchTemplateOverrides
	for _, override := range mixed.LaunchTemplate.Overrides {
		override.LaunchTemplateSpecification = next(override.LaunchTemplateSpecification)
		if override.ImageId != nil {
			override.ImageId = aws.String(p.Image)
		}
		overrides = append(overrides, override)
	}
	return &types.DesiredConfiguration{MixedInstancesPolicy: &types.MixedInstancesPolicy{
		InstancesDistribution: mixed.InstancesDistribution,
		LaunchTemplate: &types.LaunchTemplate{
			LaunchTemplateSpecification: next(mixed.LaunchTemplate.LaunchTemplateSpecification),
			Overrides:                   overrides,
		},
	}}
}
