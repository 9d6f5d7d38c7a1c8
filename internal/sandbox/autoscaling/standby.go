package autoscaling

import (
	"context"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling/group"
)

type enterStandbyInput struct {
	AutoScalingGroupName           string `wire:",,required"`
	InstanceIds                    []string
	ShouldDecrementDesiredCapacity *bool `wire:",,required"`
}

type standbyOutput struct{ Activities []activity }

func (s *Service) enterStandby(_ context.Context, c *api.Call, in *enterStandbyInput) (*standbyOutput, error) {
	r, g, err := s.members(c, in.AutoScalingGroupName, in.InstanceIds, group.InService)
	if err != nil {
		return nil, err
	}
	if n := g.Desired - len(in.InstanceIds); *in.ShouldDecrementDesiredCapacity && n < g.Min {
		return nil, invalid("AutoScalingGroup %s has min-size=%d, and moving %d instances to Standby would lower its desired capacity to %d. Either set shouldDecrementDesiredCapacity flag to false or lower group's min size.",
			g.Name, g.Min, len(in.InstanceIds), n)
	}
	out := &standbyOutput{}
	for _, id := range in.InstanceIds {
		a := g.EnterStandby(r.world, id, *in.ShouldDecrementDesiredCapacity, c.Now)
		out.Activities = append(out.Activities, describeActivity(g, a))
	}
	s.soon(r, g)
	return out, nil
}

type exitStandbyInput struct {
	AutoScalingGroupName string `wire:",,required"`
	InstanceIds          []string
}

func (s *Service) exitStandby(_ context.Context, c *api.Call, in *exitStandbyInput) (*standbyOutput, error) {
	r, g, err := s.members(c, in.AutoScalingGroupName, in.InstanceIds, group.Standby)
	if err != nil {
		return nil, err
	}
	if n := g.Desired + len(in.InstanceIds); n > g.Max {
		return nil, invalid("AutoScalingGroup %s has max-size=%d, and moving %d instances out of Standby would raise its desired capacity to %d. Please raise its max-size.",
			g.Name, g.Max, len(in.InstanceIds), n)
	}
	out := &standbyOutput{}
	for _, id := range in.InstanceIds {
		out.Activities = append(out.Activities, describeActivity(g, g.ExitStandby(id, c.Now)))
	}
	s.soon(r, g)
	return out, nil
}
