package autoscaling

import (
	"context"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

type setDesiredCapacityInput struct {
	AutoScalingGroupName string `wire:",,required"`
	DesiredCapacity      *int   `wire:",,required"`
}

func (s *Service) setDesiredCapacity(_ context.Context, c *api.Call, in *setDesiredCapacityInput) (*succeeded, error) {
	r, g, err := s.find(c, in.AutoScalingGroupName)
	if err != nil {
		return nil, err
	}
	switch n := *in.DesiredCapacity; {
	case n > g.Max:
		return nil, invalid("New SetDesiredCapacity value %d is above max value %d for the AutoScalingGroup.", n, g.Max)
	case n < g.Min:
		return nil, invalid("New SetDesiredCapacity value %d is below min value %d for the AutoScalingGroup.", n, g.Min)
	case n > 0 && g.Saved.LaunchConfiguration != "":
		return nil, invalid("The sandbox launches no instances from a launch configuration: the group '%s' must have a desired capacity of 0", g.Name)
	}
	g.Resize(*in.DesiredCapacity, "a user request explicitly set group desired capacity", c.Now)
	s.soon(r, g)
	return &succeeded{}, nil
}

type terminateInstanceInput struct {
	InstanceId                     string `wire:",,required"`
	ShouldDecrementDesiredCapacity *bool  `wire:",,required"`
}

type terminateInstanceOutput struct{ Activity activity }

func (s *Service) terminateInstance(ctx context.Context, c *api.Call, in *terminateInstanceInput) (*terminateInstanceOutput, error) {
	r, g, err := s.owner(c, in.InstanceId)
	if err != nil {
		return nil, err
	}
	if *in.ShouldDecrementDesiredCapacity && g.Desired <= g.Min {
		return nil, invalid("Currently, desiredSize equals minSize (%d). Terminating instance without replacement will violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower group's min size.", g.Min)
	}
	a := g.Terminate(ctx, r.world, in.InstanceId, *in.ShouldDecrementDesiredCapacity, c.Now)
	s.soon(r, g)
	return &terminateInstanceOutput{describeActivity(g, a)}, nil
}
