package autoscaling

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling/group"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// settings are what CreateAutoScalingGroup and UpdateAutoScalingGroup have in
// common.
type settings struct {
	AutoScalingGroupName             string `wire:",,required"`
	MinSize, MaxSize                 *int
	DesiredCapacity                  *int
	AvailabilityZones                []string
	VPCZoneIdentifier                string
	LaunchConfigurationName          string
	LaunchTemplate                   *launchTemplateSpecification
	MixedInstancesPolicy             *mixedInstancesPolicy
	HealthCheckType                  string
	HealthCheckGracePeriod           *int
	DefaultInstanceWarmup            *int
	InstanceMaintenancePolicy        *maintenancePolicy
	NewInstancesProtectedFromScaleIn *bool
	TerminationPolicies              []string
}

type maintenancePolicy struct {
	MinHealthyPercentage, MaxHealthyPercentage *int
}

type createAutoScalingGroupInput struct {
	settings
	TargetGroupARNs []string
	TrafficSources  []trafficSource
	Tags            []tag
}

// maxGroups is how many groups a region may have
// (https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-quotas.html).
const maxGroups = 500

func (s *Service) createAutoScalingGroup(_ context.Context, c *api.Call, in *createAutoScalingGroupInput) (*succeeded, error) {
	r := s.in(c.Region)
	name := in.AutoScalingGroupName
	c.On(arnOf(c, "*", name))
	if _, ok := r.Groups[name]; ok {
		return nil, wire.Errorf("AlreadyExists", "AutoScalingGroup by this name already exists - A group with the name %s already exists", name)
	}
	if len(r.Groups) >= maxGroups {
		return nil, wire.Errorf("LimitExceeded", "The region can have at most %d Auto Scaling groups", maxGroups)
	}
	if strings.Contains(name, ":") || len(name) > 255 {
		return nil, invalid("The group name '%s' is not valid: it has at most 255 characters and no colon.", name)
	}
	if in.MinSize == nil || in.MaxSize == nil {
		return nil, invalid("The request must contain the parameters MinSize and MaxSize")
	}
	if in.LaunchConfigurationName == "" && in.LaunchTemplate == nil && in.MixedInstancesPolicy == nil {
		return nil, invalid("Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId or MixedInstancesPolicy parameter.")
	}
	g := &group.Group{
		Name:                name,
		ARN:                 arnOf(c, api.NewUUID(), name),
		Created:             c.Now,
		TerminationPolicies: []string{"Default"},
	}
	g.Wake(c.Now)
	if in.DesiredCapacity == nil {
		in.DesiredCapacity = in.MinSize
	}
	if err := s.apply(c, r, g, &in.settings); err != nil {
		return nil, err
	}
	if len(g.Zones) == 0 {
		return nil, invalid("At least one Availability Zone or VPC Subnet is required.")
	}
	if err := setTags(g, in.Tags); err != nil {
		return nil, err
	}
	sources, err := targetGroupsOf(in.TrafficSources)
	if err != nil {
		return nil, err
	}
	if err := r.attach(g, append(in.TargetGroupARNs, sources...), c.Now); err != nil {
		return nil, err
	}
	// The first cause of such a group is worded in another way.
	g.Desired = 0
	g.Resize(*in.DesiredCapacity, "a user request created an AutoScalingGroup", c.Now)
	r.Groups[name] = g
	s.soon(r, g)
	return &succeeded{}, nil
}

type updateAutoScalingGroupInput struct{ settings }

func (s *Service) updateAutoScalingGroup(_ context.Context, c *api.Call, in *updateAutoScalingGroupInput) (*succeeded, error) {
	r, g, err := s.find(c, in.AutoScalingGroupName)
	if err != nil {
		return nil, err
	}
	changesTemplate := in.LaunchTemplate != nil || in.MixedInstancesPolicy != nil || in.LaunchConfigurationName != ""
	if refresh := g.Active(); refresh != nil && refresh.Desired != nil && changesTemplate {
		return nil, invalid("An active instance refresh with a desired configuration exists. All configuration options derived from the desired configuration are not available for update while the instance refresh is active.")
	}
	changed := *g // so that an update is made in full or not at all
	before := g.Desired
	if err := s.apply(c, r, &changed, &in.settings); err != nil {
		return nil, err
	}
	desired := changed.Desired
	changed.Desired = before
	changed.Resize(desired, fmt.Sprintf("a user request update of AutoScalingGroup constraints to min: %d, max: %d, desired: %d", changed.Min, changed.Max, desired), c.Now)
	*g = changed
	s.soon(r, g)
	return &succeeded{}, nil
}

// apply sets what a request gives and checks that all of it fits together.
func (s *Service) apply(c *api.Call, r *region, g *group.Group, in *settings) error {
	for _, step := range []func(*api.Call, *region, *group.Group, *settings) error{applySizes, applyPlaces, applyConfiguration, applyHealth, applyPolicies} {
		if err := step(c, r, g, in); err != nil {
			return err
		}
	}
	return nil
}

func applySizes(_ *api.Call, _ *region, g *group.Group, in *settings) error {
	set(&g.Min, in.MinSize)
	set(&g.Max, in.MaxSize)
	if g.Min < 0 || g.Max < 0 {
		return invalid("MinSize and MaxSize must not be negative, and are %d and %d", g.Min, g.Max)
	}
	if g.Max < g.Min {
		return invalid("Max bound, %d, must be greater than or equal to min bound, %d", g.Max, g.Min)
	}
	if in.DesiredCapacity == nil {
		g.Desired = min(max(g.Desired, g.Min), g.Max)
		return nil
	}
	g.Desired = *in.DesiredCapacity
	if g.Desired < g.Min || g.Desired > g.Max {
		return invalid("Desired capacity:%d must be between the specified min size:%d and max size:%d", g.Desired, g.Min, g.Max)
	}
	return nil
}

func applyPlaces(_ *api.Call, r *region, g *group.Group, in *settings) error {
	var zones []group.Zone
	for _, id := range strings.FieldsFunc(in.VPCZoneIdentifier, func(c rune) bool { return c == ',' || c == ' ' }) {
		subnet, ok := r.fleet.Subnet(id)
		if !ok {
			return invalid("The subnet ID '%s' does not exist", id)
		}
		if slices.ContainsFunc(zones, func(z group.Zone) bool { return z.Subnet == id }) {
			return invalid("The subnet ID '%s' is given more than once", id)
		}
		zones = append(zones, group.Zone{Subnet: id, Zone: subnet.Zone})
	}
	if zones == nil {
		for _, name := range in.AvailabilityZones {
			i := slices.IndexFunc(r.fleet.Subnets(), func(p ec2.SubnetPlace) bool { return p.Zone == name })
			if i < 0 {
				return invalid("Invalid availability zones: [%s]", name)
			}
			zones = append(zones, group.Zone{Subnet: r.fleet.Subnets()[i].ID, Zone: name})
		}
	}
	for _, name := range in.AvailabilityZones {
		if !slices.ContainsFunc(zones, func(z group.Zone) bool { return z.Zone == name }) {
			return invalid("The availability zones of the specified subnets and the Auto Scaling group do not match: none of the subnets is in %s", name)
		}
	}
	if zones != nil {
		g.Zones = zones
	}
	return nil
}

func applyConfiguration(c *api.Call, r *region, g *group.Group, in *settings) error {
	switch {
	case in.LaunchConfigurationName != "":
		if in.LaunchTemplate != nil || in.MixedInstancesPolicy != nil {
			return invalid("Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId or MixedInstancesPolicy parameter.")
		}
		if _, ok := r.LaunchConfigurations[in.LaunchConfigurationName]; !ok {
			return invalid("Launch configuration name not found - Launch configuration %s not found", in.LaunchConfigurationName)
		}
		g.Saved = group.Configuration{LaunchConfiguration: in.LaunchConfigurationName}
	case in.LaunchTemplate != nil || in.MixedInstancesPolicy != nil:
		conf, err := r.configuration(c, in.LaunchTemplate, in.MixedInstancesPolicy)
		if err != nil {
			return err
		}
		g.Saved = conf
	}
	if g.Saved.LaunchConfiguration != "" && g.Desired > 0 {
		return invalid("The sandbox launches no instances from a launch configuration: the group '%s' must have a desired capacity of 0", g.Name)
	}
	return nil
}

func applyHealth(_ *api.Call, _ *region, g *group.Group, in *settings) error {
	switch in.HealthCheckType {
	case "":
	case "EC2", "ELB":
		g.HealthCheckELB = in.HealthCheckType == "ELB"
	default:
		return invalid("Invalid HealthCheckType '%s': the sandbox knows EC2 and ELB", in.HealthCheckType)
	}
	set(&g.Grace, in.HealthCheckGracePeriod)
	if g.Grace < 0 {
		return invalid("HealthCheckGracePeriod must not be negative, and is %d", g.Grace)
	}
	if w := in.DefaultInstanceWarmup; w != nil {
		switch {
		case *w < -1:
			return invalid("DefaultInstanceWarmup must not be negative, and is %d; -1 removes it", *w)
		case *w == -1:
			g.Warmup = nil
		default:
			g.Warmup = w
		}
	}
	return nil
}

func applyPolicies(_ *api.Call, _ *region, g *group.Group, in *settings) error {
	if p := in.InstanceMaintenancePolicy; p != nil {
		if p.MinHealthyPercentage == nil || p.MaxHealthyPercentage == nil {
			return invalid("Both MinHealthyPercentage and MaxHealthyPercentage must be specified in an InstanceMaintenancePolicy.")
		}
		least, most := *p.MinHealthyPercentage, *p.MaxHealthyPercentage
		if least == -1 && most == -1 {
			g.Maintenance = nil
		} else if err := checkBounds(least, &most); err != nil {
			return err
		} else {
			g.Maintenance = &group.Bounds{Min: least, Max: most}
		}
	}
	set(&g.ProtectNew, in.NewInstancesProtectedFromScaleIn)
	for _, p := range in.TerminationPolicies {
		if !slices.Contains(group.TerminationPolicies, p) {
			return invalid("The sandbox does not know the termination policy %s; it knows %s", p, strings.Join(group.TerminationPolicies, ", "))
		}
	}
	if len(in.TerminationPolicies) > 0 {
		g.TerminationPolicies = in.TerminationPolicies
	}
	return nil
}

// checkBounds checks percentages of healthy instances; most is nil when it was
// not given.
func checkBounds(least int, most *int) error {
	if least < 0 || least > 100 {
		return invalid("MinHealthyPercentage is %d, but must be between 0 and 100.", least)
	}
	if most == nil {
		return nil
	}
	if *most < 100 || *most > 200 {
		return invalid("MaxHealthyPercentage is %d, but must be between 100 and 200.", *most)
	}
	if *most-least > 100 {
		return invalid("The difference between MaxHealthyPercentage and MinHealthyPercentage is %d, but cannot be greater than 100.", *most-least)
	}
	return nil
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

type deleteAutoScalingGroupInput struct {
	AutoScalingGroupName string `wire:",,required"`
	ForceDelete          bool
}

func (s *Service) deleteAutoScalingGroup(ctx context.Context, c *api.Call, in *deleteAutoScalingGroupInput) (*succeeded, error) {
	r, g, err := s.find(c, in.AutoScalingGroupName)
	if err != nil {
		return nil, err
	}
	if len(g.Members) > 0 && !in.ForceDelete {
		if g.Desired == 0 {
			return nil, wire.Errorf("ScalingActivityInProgress", "You cannot delete an AutoScalingGroup while there are scaling activities in progress for that group.")
		}
		return nil, wire.Errorf("ResourceInUse", "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) still in the group.")
	}
	g.Delete(ctx, r.world, c.Now)
	s.step(r, g)
	return &succeeded{}, nil
}

type filter struct {
	Name   string
	Values []string
}

type describeAutoScalingGroupsInput struct {
	paging
	AutoScalingGroupNames []string
	Filters               []filter
	IncludeInstances      *bool
}

type describeAutoScalingGroupsOutput struct {
	AutoScalingGroups []autoScalingGroup
	NextToken         string
}

type autoScalingGroup struct {
	AutoScalingGroupName             string
	AutoScalingGroupARN              string
	LaunchConfigurationName          string
	LaunchTemplate                   *launchTemplateSpecification
	MixedInstancesPolicy             *mixedInstancesPolicy
	MinSize, MaxSize                 int
	DesiredCapacity                  int
	DefaultCooldown                  int
	AvailabilityZones                []string
	LoadBalancerNames                []string
	TargetGroupARNs                  []string
	TrafficSources                   []trafficSource
	HealthCheckType                  string
	HealthCheckGracePeriod           int
	Instances                        []groupInstance
	CreatedTime                      time.Time
	SuspendedProcesses               []suspendedProcess
	VPCZoneIdentifier                string
	Status                           string
	Tags                             []tagDescription
	TerminationPolicies              []string
	NewInstancesProtectedFromScaleIn bool
	ServiceLinkedRoleARN             string
	CapacityRebalance                bool
	DefaultInstanceWarmup            *int
	InstanceMaintenancePolicy        *maintenancePolicy
}

func (s *Service) describeAutoScalingGroups(_ context.Context, c *api.Call, in *describeAutoScalingGroupsInput) (*describeAutoScalingGroupsOutput, error) {
	if err := checkFilters(in.Filters, "tag-key", "tag-value", "tag:<key>"); err != nil {
		return nil, err
	}
	r := s.in(c.Region)
	var found []*group.Group
	for _, name := range slices.Sorted(maps.Keys(r.Groups)) {
		g := r.Groups[name]
		if (len(in.AutoScalingGroupNames) == 0 || slices.Contains(in.AutoScalingGroupNames, name)) && tagged(g, in.Filters) {
			found = append(found, g)
		}
	}
	found, token, err := cut(found, in.paging, 50, 100, func(g *group.Group) string { return g.Name })
	if err != nil {
		return nil, err
	}
	out := &describeAutoScalingGroupsOutput{NextToken: token}
	for _, g := range found {
		described := describeGroup(g)
		if in.IncludeInstances == nil || *in.IncludeInstances {
			for _, m := range g.All() {
				described.Instances = append(described.Instances, describeMember(m))
			}
		}
		out.AutoScalingGroups = append(out.AutoScalingGroups, described)
	}
	return out, nil
}

// cooldown is the default cooldown of groups. Nothing here has one: there are no
// scaling policies.
const cooldown = 300

func describeGroup(g *group.Group) autoScalingGroup {
	out := autoScalingGroup{
		AutoScalingGroupName:             g.Name,
		AutoScalingGroupARN:              g.ARN,
		LaunchConfigurationName:          g.Saved.LaunchConfiguration,
		LaunchTemplate:                   templateOut(g.Saved.Template),
		MixedInstancesPolicy:             mixedOut(g.Saved.Mixed),
		MinSize:                          g.Min,
		MaxSize:                          g.Max,
		DesiredCapacity:                  g.Desired,
		DefaultCooldown:                  cooldown,
		LoadBalancerNames:                []string{},
		TargetGroupARNs:                  []string{},
		TrafficSources:                   []trafficSource{},
		HealthCheckType:                  healthCheckType(g),
		HealthCheckGracePeriod:           g.Grace,
		Instances:                        []groupInstance{},
		CreatedTime:                      g.Created,
		SuspendedProcesses:               describeSuspended(g),
		Tags:                             describeTagsOf(g),
		TerminationPolicies:              slices.Clone(g.TerminationPolicies),
		NewInstancesProtectedFromScaleIn: g.ProtectNew,
		ServiceLinkedRoleARN:             "arn:aws:iam::" + api.Account + ":role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling",
	}
	if g.Warmup != nil {
		out.DefaultInstanceWarmup = new(*g.Warmup)
	}
	var subnets []string
	for _, z := range g.Zones {
		subnets = append(subnets, z.Subnet)
		if !slices.Contains(out.AvailabilityZones, z.Zone) {
			out.AvailabilityZones = append(out.AvailabilityZones, z.Zone)
		}
	}
	out.VPCZoneIdentifier = strings.Join(subnets, ",")
	for _, tg := range g.TargetGroups {
		if !tg.Removing {
			out.TargetGroupARNs = append(out.TargetGroupARNs, tg.ARN)
			out.TrafficSources = append(out.TrafficSources, trafficSource{Identifier: tg.ARN, Type: trafficType})
		}
	}
	if g.Deleting {
		out.Status = "Delete in progress"
	}
	if m := g.Maintenance; m != nil {
		out.InstanceMaintenancePolicy = &maintenancePolicy{MinHealthyPercentage: new(m.Min), MaxHealthyPercentage: new(m.Max)}
	}
	return out
}

func healthCheckType(g *group.Group) string {
	if g.HealthCheckELB {
		return "ELB"
	}
	return "EC2"
}
