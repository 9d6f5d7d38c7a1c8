package elbv2

import (
	"sync"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
)

// States is a Plane without traffic, for instances that are only states: a
// target is healthy one interval after it was registered, unless it was told
// otherwise.
type States struct {
	clock *clock.Clock

	mu     sync.Mutex
	every  map[string]time.Duration // by target group
	target map[key]*simulated
	told   map[string]Health // by instance
	fresh  Health            // told of instances when they are registered; zero for none
	heard  func(targetGroup string, t Target)
}

type key struct {
	targetGroup string
	target      Target
}

type simulated struct {
	health Health
	cancel func()
}

// NewStates makes a plane without traffic.
func NewStates(clock *clock.Clock) *States {
	return &States{clock: clock, every: map[string]time.Duration{}, target: map[key]*simulated{}, told: map[string]Health{}}
}

// Tell decides what the health checks of an instance find, in all target groups
// and from now on; the zero Health leaves it to itself again.
func (s *States) Tell(instanceID string, h Health) {
	s.mu.Lock()
	if h == (Health{}) {
		delete(s.told, instanceID)
	} else {
		s.told[instanceID] = h
	}
	var changed []key
	for k := range s.target {
		if k.target.ID == instanceID {
			changed = append(changed, k)
		}
	}
	heard := s.heard
	s.mu.Unlock()
	for _, k := range changed {
		heard(k.targetGroup, k.target)
	}
}

// TellNew decides what the health checks find of instances that are registered
// from now on; the zero Health leaves them to themselves.
func (s *States) TellNew(h Health) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fresh = h
}

// Listen listens nowhere.
func (s *States) Listen(Listener) error { return nil }

// Unlisten has nothing to close.
func (s *States) Unlisten(string) {}

// Serve notes a target group's interval.
func (s *States) Serve(tg TargetGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.every[tg.ARN] = tg.Interval
}

// Drop forgets a target group.
func (s *States) Drop(arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.every, arn)
}

// Register adds a target, whose first check is one interval from now.
func (s *States) Register(targetGroup string, t Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fresh != (Health{}) {
		s.told[t.ID] = s.fresh
	}
	k := key{targetGroup, t}
	one := &simulated{health: Health{Initial, "Elb.InitialHealthChecking", "Initial health checks in progress"}}
	one.cancel = s.clock.After(s.every[targetGroup], func() {
		s.mu.Lock()
		one.health = passesChecks
		heard := s.heard
		s.mu.Unlock()
		heard(targetGroup, t)
	})
	s.target[k] = one
}

// Drain has no requests to let finish.
func (s *States) Drain(string, Target) {}

// Remove forgets a target.
func (s *States) Remove(targetGroup string, t Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{targetGroup, t}
	if one, ok := s.target[k]; ok {
		one.cancel()
		delete(s.target, k)
	}
}

// Health is what the target was told, or what time makes of it.
func (s *States) Health(targetGroup string, t Target) Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.target[key{targetGroup, t}]
	if !ok {
		return registering
	}
	if h, ok := s.told[t.ID]; ok {
		return h
	}
	return one.health
}

// Subscribe sets who hears of changes.
func (s *States) Subscribe(heard func(targetGroup string, t Target)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = heard
}
