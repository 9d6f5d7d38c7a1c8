package sandbox

import (
	"fmt"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/elbv2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/fault"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/scenario"
)

// stage is the sandbox as a scenario sees it.
type stage struct {
	*Sandbox
	faults *fault.Faults
}

func (s stage) SetFaults(rules []fault.Rule) { s.faults.Set(rules) }

func (s stage) SetShortages(region string, shortages []ec2.Shortage) error {
	return s.services.ec2.SetShortages(region, shortages...)
}

func (s stage) SetAlarm(region, name, state, reason string) (err error) {
	s.books.Do(func() { err = s.services.cloudwatch.SetState(region, name, state, reason) })
	return err
}

// healths are what the load balancer finds; the zero Health leaves it to find it.
var healths = map[string]elbv2.Health{
	scenario.Healthy:   {State: elbv2.Healthy},
	scenario.Unhealthy: {State: elbv2.Unhealthy, Reason: "Target.ResponseCodeMismatch", Description: "Health checks failed with these codes: [503]"},
	scenario.Checked:   {},
}

func (s stage) SetNewTargets(health string) { s.services.states.TellNew(healths[health]) }

func (s stage) SetTargets(region, group string, newest int, health string) error {
	ids, err := s.newest(region, group, newest)
	for _, id := range ids {
		s.services.states.Tell(id, healths[health])
	}
	return err
}

func (s stage) SetInstances(region, group string, newest int, healthy bool) error {
	ids, err := s.newest(region, group, newest)
	if err != nil {
		return err
	}
	s.books.Do(func() { err = s.services.autoscaling.SetHealth(region, group, ids, healthy) })
	return err
}

// newest lists a group's newest instances; all of them when n is 0.
func (s stage) newest(region, group string, n int) (ids []string, err error) {
	s.books.Read(func() { ids, err = s.services.autoscaling.Newest(region, group) })
	switch {
	case err != nil:
		return nil, err
	case len(ids) < n:
		return nil, fmt.Errorf("group %s has %d instances, not %d", group, len(ids), n)
	case n > 0:
		ids = ids[:n]
	}
	return ids, nil
}
