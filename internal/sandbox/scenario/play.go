package scenario

import (
	"errors"
	"fmt"
	"sync"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/fault"
)

// Stage is where a scenario is played. Its methods are called without the books.
type Stage interface {
	// SetFaults puts rules in the place of those it was given before.
	SetFaults(rules []fault.Rule)
	// SetShortages says all that EC2 lacks in a region.
	SetShortages(region string, shortages []ec2.Shortage) error
	// SetAlarm puts an alarm into a state.
	SetAlarm(region, name, state, reason string) error
	// SetNewTargets decides what health checks find of targets from now on.
	SetNewTargets(health string)
	// SetTargets decides what health checks find of a group's newest instances;
	// 0 means all.
	SetTargets(region, group string, newest int, health string) error
	// SetInstances tells a group how its newest instances are; 0 means all.
	SetInstances(region, group string, newest int, healthy bool) error
}

// Play is a scenario that is being played. Nil plays none.
type Play struct {
	stage  Stage
	clock  *clock.Clock
	region string
	report func(error)

	mu      sync.Mutex
	waiting []*Step        // for calls
	calls   map[string]int // that were carried out, by operation
}

// Begin plays a scenario from now on. Steps without a region happen in the
// given one. What goes wrong is reported.
func (s *Scenario) Begin(stage Stage, clock *clock.Clock, region string, report func(error)) *Play {
	p := &Play{stage: stage, clock: clock, region: region, report: report, calls: map[string]int{}}
	for _, step := range s.Steps {
		if step.Call == "" {
			p.later(step)
		} else {
			p.waiting = append(p.waiting, step)
		}
	}
	return p
}

// Called counts a call that was carried out, before it is answered. Steps that are
// due at once have happened when it returns.
func (p *Play) Called(operation string) {
	if p == nil {
		return
	}
	for _, step := range p.due(operation) {
		if step.after == 0 {
			p.happen(step)
		} else {
			p.later(step)
		}
	}
}

func (p *Play) due(operation string) (steps []*Step) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[operation]++
	for _, step := range p.waiting {
		if step.Call == operation && step.Nth == p.calls[operation] {
			steps = append(steps, step)
		}
	}
	return steps
}

func (p *Play) later(step *Step) {
	p.clock.After(p.clock.Interval(step.after), func() { p.happen(step) })
}

// happen carries a step out, all of it that can be.
func (p *Play) happen(s *Step) {
	region := s.Region
	if region == "" {
		region = p.region
	}
	var errs []error
	if s.Faults != nil {
		p.stage.SetFaults(s.rules)
	}
	if s.Capacity != nil {
		errs = append(errs, p.stage.SetShortages(region, s.shortages()))
	}
	if s.NewTargets != "" {
		p.stage.SetNewTargets(s.NewTargets)
	}
	for _, t := range s.Targets {
		errs = append(errs, p.stage.SetTargets(region, t.Group, t.Newest, t.Health))
	}
	for _, i := range s.Instances {
		errs = append(errs, p.stage.SetInstances(region, i.Group, i.Newest, i.Health == Healthy))
	}
	for _, a := range s.Alarms {
		reason := a.Reason
		if reason == "" {
			reason = "The scenario of the sandbox"
		}
		errs = append(errs, p.stage.SetAlarm(region, a.Name, a.State, reason))
	}
	if err := errors.Join(errs...); err != nil {
		p.report(fmt.Errorf("scenario: %s: %w", s.Range, err))
	}
}
