package autoscaling

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling/group"
)

// groupInstance is an instance as its group shows it.
type groupInstance struct {
	InstanceId              string
	InstanceType            string
	AvailabilityZone        string
	LifecycleState          string
	HealthStatus            string
	LaunchConfigurationName string
	LaunchTemplate          *launchTemplateSpecification
	ProtectedFromScaleIn    bool
}

func describeMember(m *group.Member) groupInstance {
	out := groupInstance{
		InstanceId:              m.ID,
		InstanceType:            m.Type,
		AvailabilityZone:        m.Zone,
		LifecycleState:          string(m.Lifecycle),
		HealthStatus:            "Healthy",
		LaunchConfigurationName: m.LaunchConfiguration,
		ProtectedFromScaleIn:    m.Protected,
	}
	if m.Template.ID != "" {
		out.LaunchTemplate = &launchTemplateSpecification{
			LaunchTemplateId:   m.Template.ID,
			LaunchTemplateName: m.Template.Name,
			Version:            strconv.FormatInt(m.Template.Version, 10),
		}
	}
	if !m.Healthy() {
		out.HealthStatus = "Unhealthy"
	}
	return out
}

type describeAutoScalingInstancesInput struct {
	paging
	InstanceIds []string
}

type describeAutoScalingInstancesOutput struct {
	AutoScalingInstances []autoScalingInstance
	NextToken            string
}

// autoScalingInstance is an instance as it is shown by itself, for which AWS
// writes the health in capitals.
type autoScalingInstance struct {
	groupInstance
	AutoScalingGroupName string
}

func (s *Service) describeAutoScalingInstances(_ context.Context, c *api.Call, in *describeAutoScalingInstancesInput) (*describeAutoScalingInstancesOutput, error) {
	if len(in.InstanceIds) > 50 {
		return nil, invalid("At most 50 instance ids can be given, and %d are", len(in.InstanceIds))
	}
	type found struct {
		*group.Member
		group string
	}
	var all []found
	for _, g := range s.in(c.Region).Groups {
		if len(in.InstanceIds) > 0 {
			for _, id := range in.InstanceIds {
				if m, ok := g.Members[id]; ok {
					all = append(all, found{m, g.Name})
				}
			}
			continue
		}
		for _, m := range g.Members {
			all = append(all, found{m, g.Name})
		}
	}
	slices.SortFunc(all, func(a, b found) int { return cmp.Compare(a.ID, b.ID) })
	all = slices.CompactFunc(all, func(a, b found) bool { return a.ID == b.ID })
	all, token, err := cut(all, in.paging, 50, 50, func(f found) string { return f.ID })
	if err != nil {
		return nil, err
	}
	out := &describeAutoScalingInstancesOutput{NextToken: token}
	for _, f := range all {
		i := autoScalingInstance{groupInstance: describeMember(f.Member), AutoScalingGroupName: f.group}
		i.HealthStatus = "HEALTHY"
		if !f.Healthy() {
			i.HealthStatus = "UNHEALTHY"
		}
		out.AutoScalingInstances = append(out.AutoScalingInstances, i)
	}
	return out, nil
}

// owner finds the group of an instance.
func (s *Service) owner(c *api.Call, id string) (*region, *group.Group, error) {
	r := s.in(c.Region)
	for _, g := range r.Groups {
		if _, ok := g.Members[id]; ok && !g.Deleting {
			c.On(g.ARN)
			return r, g, nil
		}
	}
	return nil, nil, invalid("Instance Id not found - No managed instance found for instance ID: %s", id)
}

type setInstanceHealthInput struct {
	InstanceId               string `wire:",,required"`
	HealthStatus             string `wire:",,required"`
	ShouldRespectGracePeriod *bool
}

func (s *Service) setInstanceHealth(_ context.Context, c *api.Call, in *setInstanceHealthInput) (*succeeded, error) {
	r, g, err := s.owner(c, in.InstanceId)
	if err != nil {
		return nil, err
	}
	if in.HealthStatus != "Healthy" && in.HealthStatus != "Unhealthy" {
		return nil, invalid("Valid instance health states are: [Healthy, Unhealthy].")
	}
	healthy := in.HealthStatus == "Healthy"
	respect := in.ShouldRespectGracePeriod == nil || *in.ShouldRespectGracePeriod
	if healthy || !respect || !g.InGrace(r.world, in.InstanceId, c.Now) {
		g.SetHealth(in.InstanceId, healthy)
		s.soon(r, g)
	}
	return &succeeded{}, nil
}

type setInstanceProtectionInput struct {
	AutoScalingGroupName string `wire:",,required"`
	InstanceIds          []string
	ProtectedFromScaleIn *bool `wire:",,required"`
}

func (s *Service) setInstanceProtection(_ context.Context, c *api.Call, in *setInstanceProtectionInput) (*succeeded, error) {
	r, g, err := s.members(c, in.AutoScalingGroupName, in.InstanceIds, group.InService, group.Pending)
	if err != nil {
		return nil, err
	}
	for _, id := range in.InstanceIds {
		g.Protect(id, *in.ProtectedFromScaleIn)
	}
	s.soon(r, g)
	return &succeeded{}, nil
}

// members checks that all instances are a group's and in one of the states.
func (s *Service) members(c *api.Call, name string, ids []string, states ...group.Lifecycle) (*region, *group.Group, error) {
	r, g, err := s.find(c, name)
	if err != nil {
		return nil, nil, err
	}
	if len(ids) == 0 || len(ids) > 50 {
		return nil, nil, invalid("Between 1 and 50 instance ids can be given, and %d are", len(ids))
	}
	for i, id := range ids {
		m, ok := g.Members[id]
		if !ok || slices.Contains(ids[:i], id) {
			return nil, nil, invalid("The instance %s is not part of Auto Scaling group %s, or is given twice.", id, name)
		}
		if !slices.Contains(states, m.Lifecycle) {
			return nil, nil, invalid("The instance %s is not in %s.", id, states[0])
		}
	}
	return r, g, nil
}
