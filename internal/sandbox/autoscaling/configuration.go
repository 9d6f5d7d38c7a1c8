package autoscaling

import (
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling/group"
)

// What a group launches from, on the wire.

type launchTemplateSpecification struct {
	LaunchTemplateId   string
	LaunchTemplateName string
	Version            string
}

// mixedInstancesPolicy knows On-Demand instances of several types. Attribute
// based selection, weights, Spot instances and images of overrides are not known.
type mixedInstancesPolicy struct {
	LaunchTemplate        *mixedLaunchTemplate
	InstancesDistribution *instancesDistribution
}

type mixedLaunchTemplate struct {
	LaunchTemplateSpecification *launchTemplateSpecification
	Overrides                   []launchTemplateOverride
}

type launchTemplateOverride struct {
	InstanceType                string
	LaunchTemplateSpecification *launchTemplateSpecification
}

type instancesDistribution struct {
	OnDemandAllocationStrategy          string
	OnDemandBaseCapacity                *int
	OnDemandPercentageAboveBaseCapacity *int
	SpotAllocationStrategy              string
}

// maxOverrides is how many instance types a mixed instances policy may have.
const maxOverrides = 40

// configuration checks what a request wants launched and resolves it, except
// for the version, which stays as it was written.
func (r *region) configuration(c *api.Call, template *launchTemplateSpecification, mixed *mixedInstancesPolicy) (group.Configuration, error) {
	var conf group.Configuration
	switch {
	case template != nil && mixed != nil:
		return conf, invalid("Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId or MixedInstancesPolicy parameter.")
	case template != nil:
		ref, err := r.template(c, *template, "")
		conf.Template = &ref
		return conf, err
	}
	m, err := r.mixed(c, mixed)
	conf.Mixed = m
	return conf, err
}

func (r *region) mixed(c *api.Call, in *mixedInstancesPolicy) (*group.Mixed, error) {
	lt := in.LaunchTemplate
	if lt == nil || lt.LaunchTemplateSpecification == nil {
		return nil, invalid("MixedInstancesPolicy must contain a LaunchTemplate with a LaunchTemplateSpecification.")
	}
	if len(lt.Overrides) > maxOverrides {
		return nil, invalid("A MixedInstancesPolicy can have at most %d overrides, and has %d.", maxOverrides, len(lt.Overrides))
	}
	d, err := distribution(in.InstancesDistribution)
	if err != nil {
		return nil, err
	}
	m := &group.Mixed{Distribution: d}
	instanceType := ""
	if len(lt.Overrides) > 0 {
		instanceType = lt.Overrides[0].InstanceType
	}
	if m.Template, err = r.template(c, *lt.LaunchTemplateSpecification, instanceType); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, o := range lt.Overrides {
		if o.InstanceType == "" {
			return nil, invalid("Every override of a MixedInstancesPolicy must have an InstanceType.")
		}
		if seen[o.InstanceType] {
			return nil, invalid("The instance type %s is in more than one override.", o.InstanceType)
		}
		seen[o.InstanceType] = true
		override := group.Override{InstanceType: o.InstanceType}
		spec := *lt.LaunchTemplateSpecification
		if o.LaunchTemplateSpecification != nil {
			spec = *o.LaunchTemplateSpecification
		}
		ref, err := r.template(c, spec, o.InstanceType)
		if err != nil {
			return nil, err
		}
		if o.LaunchTemplateSpecification != nil {
			override.Template = &ref
		}
		m.Overrides = append(m.Overrides, override)
	}
	return m, nil
}

// distribution fills AWS's defaults in and refuses what needs Spot instances.
func distribution(in *instancesDistribution) (*group.Distribution, error) {
	d := &group.Distribution{
		OnDemandAllocationStrategy:          "prioritized",
		OnDemandPercentageAboveBaseCapacity: 100,
		SpotAllocationStrategy:              "lowest-price",
	}
	if in == nil {
		return d, nil
	}
	if s := in.OnDemandAllocationStrategy; s != "" && s != "prioritized" {
		return nil, invalid("The sandbox does not know OnDemandAllocationStrategy %s; it knows prioritized.", s)
	}
	if p := in.OnDemandPercentageAboveBaseCapacity; p != nil && *p != 100 {
		return nil, invalid("OnDemandPercentageAboveBaseCapacity is %d, but the sandbox has no Spot instances; it must be 100.", *p)
	}
	if b := in.OnDemandBaseCapacity; b != nil {
		if *b < 0 {
			return nil, invalid("OnDemandBaseCapacity is %d, but must not be negative.", *b)
		}
		d.OnDemandBaseCapacity = *b
	}
	if in.SpotAllocationStrategy != "" {
		d.SpotAllocationStrategy = in.SpotAllocationStrategy
	}
	return d, nil
}

// template resolves a launch template, and notes what a caller needs in order to
// use one.
func (r *region) template(c *api.Call, in launchTemplateSpecification, instanceType string) (group.TemplateRef, error) {
	if (in.LaunchTemplateId == "") == (in.LaunchTemplateName == "") {
		return group.TemplateRef{}, invalid("Valid requests must contain either launchTemplateId or LaunchTemplateName")
	}
	ref := group.TemplateRef{ID: in.LaunchTemplateId, Name: in.LaunchTemplateName, Version: in.Version}
	t, err := r.world.Fleet.Template(ref, instanceType)
	if err != nil {
		return ref, invalid("You must use a valid fully-formed launch template. %v", err)
	}
	// A caller must be permitted to run what the group will run
	// (https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-launch-template-permissions.html).
	for _, needed := range t.Permissions {
		c.Needs(needed.Name, needed.Resources...)
	}
	ref.ID, ref.Name = t.ID, t.Name
	if ref.Version == "" {
		ref.Version = "$Default"
	}
	return ref, nil
}

// fromSSM is whether a configuration's image is a Systems Manager parameter.
func (r *region) fromSSM(conf group.Configuration) bool {
	for _, choice := range conf.Choices() {
		t, err := r.world.Fleet.Template(choice.Template, choice.InstanceType)
		if err == nil && t.FromSSM {
			return true
		}
	}
	return false
}

func templateOut(ref *group.TemplateRef) *launchTemplateSpecification {
	if ref == nil {
		return nil
	}
	return &launchTemplateSpecification{LaunchTemplateId: ref.ID, LaunchTemplateName: ref.Name, Version: ref.Version}
}

func mixedOut(m *group.Mixed) *mixedInstancesPolicy {
	if m == nil {
		return nil
	}
	lt := &mixedLaunchTemplate{LaunchTemplateSpecification: templateOut(&m.Template)}
	for _, o := range m.Overrides {
		lt.Overrides = append(lt.Overrides, launchTemplateOverride{InstanceType: o.InstanceType, LaunchTemplateSpecification: templateOut(o.Template)})
	}
	return &mixedInstancesPolicy{
		LaunchTemplate: lt,
		InstancesDistribution: &instancesDistribution{
			OnDemandAllocationStrategy:          m.Distribution.OnDemandAllocationStrategy,
			OnDemandBaseCapacity:                new(m.Distribution.OnDemandBaseCapacity),
			OnDemandPercentageAboveBaseCapacity: new(m.Distribution.OnDemandPercentageAboveBaseCapacity),
			SpotAllocationStrategy:              m.Distribution.SpotAllocationStrategy,
		},
	}
}
