package autoscaling

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling/group"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// Target groups are attached in two ways that mean the same: as target groups,
// and as traffic sources of type elbv2, the only type that is known here.

const trafficType = "elbv2"

// The limits of AWS for target groups, of a group and of one call
// (https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-quotas.html).
const (
	maxTargetGroups = 50
	maxAttached     = 10
)

type trafficSource struct {
	Identifier string `wire:",,required"`
	Type       string
}

type targetGroupsInput struct {
	AutoScalingGroupName string `wire:",,required"`
	TargetGroupARNs      []string
}

type trafficSourcesInput struct {
	AutoScalingGroupName string `wire:",,required"`
	TrafficSources       []trafficSource
}

// targetGroupsOf gives the target groups that traffic sources are.
func targetGroupsOf(sources []trafficSource) ([]string, error) {
	arns := make([]string, len(sources))
	for i, source := range sources {
		if source.Type != "" && source.Type != trafficType {
			return nil, invalid("The sandbox does not know traffic sources of type %s; it knows %s", source.Type, trafficType)
		}
		arns[i] = source.Identifier
	}
	return arns, nil
}

// attach attaches target groups that exist, all or none.
func (r *region) attach(g *group.Group, arns []string, now time.Time) error {
	if len(arns) > maxAttached {
		return invalid("At most %d target groups can be attached at once, and %d are given", maxAttached, len(arns))
	}
	for _, arn := range arns {
		if !r.targets.Exists(arn) {
			return invalid("Provided Target Groups may not be valid. Please ensure they exist and try again: %s", arn)
		}
	}
	if n := len(g.TargetGroups) + len(arns); n > maxTargetGroups {
		return wire.Errorf("LimitExceeded", "The group '%s' can have at most %d target groups", g.Name, maxTargetGroups)
	}
	for _, arn := range arns {
		g.Attach(r.world, arn, now)
	}
	return nil
}

func (s *Service) attachTargetGroups(_ context.Context, c *api.Call, in *targetGroupsInput) (*succeeded, error) {
	r, g, err := s.find(c, in.AutoScalingGroupName)
	if err != nil {
		return nil, err
	}
	if g.Active() != nil {
		return nil, refreshInProgress()
	}
	if err := r.attach(g, in.TargetGroupARNs, c.Now); err != nil {
		return nil, err
	}
	s.soon(r, g)
	return &succeeded{}, nil
}

func (s *Service) attachTrafficSources(ctx context.Context, c *api.Call, in *trafficSourcesInput) (*succeeded, error) {
	arns, err := targetGroupsOf(in.TrafficSources)
	if err != nil {
		return nil, err
	}
	return s.attachTargetGroups(ctx, c, &targetGroupsInput{in.AutoScalingGroupName, arns})
}

func (s *Service) detachTargetGroups(_ context.Context, c *api.Call, in *targetGroupsInput) (*succeeded, error) {
	r, g, err := s.find(c, in.AutoScalingGroupName)
	if err != nil {
		return nil, err
	}
	for _, arn := range in.TargetGroupARNs {
		if !slices.ContainsFunc(g.TargetGroups, func(tg group.Attachment) bool { return tg.ARN == arn && !tg.Removing }) {
			return nil, invalid("The target group %s is not attached to the group '%s'", arn, g.Name)
		}
	}
	for _, arn := range in.TargetGroupARNs {
		g.Detach(r.world, arn)
	}
	s.soon(r, g)
	return &succeeded{}, nil
}

func (s *Service) detachTrafficSources(ctx context.Context, c *api.Call, in *trafficSourcesInput) (*succeeded, error) {
	arns, err := targetGroupsOf(in.TrafficSources)
	if err != nil {
		return nil, err
	}
	return s.detachTargetGroups(ctx, c, &targetGroupsInput{in.AutoScalingGroupName, arns})
}

type describeTargetGroupsInput struct {
	paging
	AutoScalingGroupName string `wire:",,required"`
}

type describeTargetGroupsOutput struct {
	LoadBalancerTargetGroups []targetGroupState
	NextToken                string
}

type targetGroupState struct {
	LoadBalancerTargetGroupARN string
	State                      string
}

func (s *Service) describeTargetGroups(_ context.Context, c *api.Call, in *describeTargetGroupsInput) (*describeTargetGroupsOutput, error) {
	states, token, err := s.attached(c, in.AutoScalingGroupName, in.paging, 100)
	if err != nil {
		return nil, err
	}
	return &describeTargetGroupsOutput{states, token}, nil
}

type describeTrafficSourcesInput struct {
	paging
	AutoScalingGroupName string `wire:",,required"`
	TrafficSourceType    string
}

type describeTrafficSourcesOutput struct {
	TrafficSources []trafficSourceState
	NextToken      string
}

type trafficSourceState struct {
	Identifier string
	Type       string
	State      string
}

func (s *Service) describeTrafficSources(_ context.Context, c *api.Call, in *describeTrafficSourcesInput) (*describeTrafficSourcesOutput, error) {
	out := &describeTrafficSourcesOutput{}
	if _, err := targetGroupsOf([]trafficSource{{Type: in.TrafficSourceType}}); err != nil {
		return nil, err
	}
	states, token, err := s.attached(c, in.AutoScalingGroupName, in.paging, 50)
	if err != nil {
		return nil, err
	}
	out.NextToken = token
	for _, state := range states {
		out.TrafficSources = append(out.TrafficSources, trafficSourceState{state.LoadBalancerTargetGroupARN, trafficType, state.State})
	}
	return out, nil
}

func (s *Service) attached(c *api.Call, name string, asked paging, most int) ([]targetGroupState, string, error) {
	r := s.in(c.Region)
	g, err := r.group(name)
	if err != nil {
		return nil, "", err
	}
	var states []targetGroupState
	for _, tg := range g.TargetGroups {
		states = append(states, targetGroupState{tg.ARN, g.AttachmentState(r.world, tg)})
	}
	slices.SortFunc(states, func(a, b targetGroupState) int {
		return strings.Compare(a.LoadBalancerTargetGroupARN, b.LoadBalancerTargetGroupARN)
	})
	return cut(states, asked, most, most, func(t targetGroupState) string { return t.LoadBalancerTargetGroupARN })
}
