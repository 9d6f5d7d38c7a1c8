package elbv2

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// target is an instance in a target group.
type target struct {
	ID      string
	Port    int
	Address netip.Addr
	Until   time.Time `json:",omitzero"` // when it has drained; zero while it does not
}

func (t *target) draining() bool { return !t.Until.IsZero() }

func (t *target) onPlane() Target {
	return Target{ID: t.ID, Address: netip.AddrPortFrom(t.Address, uint16(t.Port))}
}

// target makes a target of an instance that can be one.
func (r *region) target(id string, port int) (*target, error) {
	m, ok := r.fleet.Member(id)
	switch {
	case !ok:
		return nil, wire.Errorf("InvalidTarget", "The following targets are not valid instances: '%s'", id)
	case m.State != ec2.Running:
		return nil, wire.Errorf("InvalidTarget", "The following targets are not in a running state and cannot be registered: '%s'", id)
	}
	return &target{ID: id, Port: port, Address: m.Address}, nil
}

// register adds a target, or takes one back that is draining.
func (s *Service) register(r *region, tg *targetGroup, t *target) {
	if before := tg.at(t.ID, t.Port); before != nil {
		if !before.draining() {
			return
		}
		s.remove(r, tg, before)
	}
	tg.Targets[t.ID] = append(tg.Targets[t.ID], t)
	if tg.InUse {
		s.plane.Register(tg.ARN, t.onPlane())
	}
}

// deregister begins to drain a target. Where nothing comes from a load balancer
// there is nothing to drain.
func (s *Service) deregister(r *region, tg *targetGroup, t *target) {
	delay := s.clock.Interval(seconds(tg.DeregistrationDelay))
	switch {
	case t.draining():
	case !tg.InUse || delay == 0:
		s.remove(r, tg, t)
	default:
		t.Until = s.clock.Now().Add(delay)
		s.plane.Drain(tg.ARN, t.onPlane())
		s.removeAt(r, tg, t)
	}
}

// removeAt removes a draining target when its time has come. AWS waits for the
// whole delay, also when no request is under way.
func (s *Service) removeAt(r *region, tg *targetGroup, t *target) {
	s.clock.After(max(0, t.Until.Sub(s.clock.Now())), func() {
		s.books.Do(func() {
			if tg.at(t.ID, t.Port) == t {
				s.remove(r, tg, t)
			}
		})
	})
}

// remove takes a target out for good and tells who wants to know.
func (s *Service) remove(r *region, tg *targetGroup, t *target) {
	tg.Targets[t.ID] = slices.DeleteFunc(tg.Targets[t.ID], func(other *target) bool { return other == t })
	if len(tg.Targets[t.ID]) == 0 {
		delete(tg.Targets, t.ID)
	}
	s.plane.Remove(tg.ARN, t.onPlane())
	s.tell(r, t.ID)
}

// bury takes an instance that was terminated out of all target groups.
func (s *Service) bury(r *region, id string) {
	for _, tg := range r.TargetGroups {
		for _, t := range slices.Clone(tg.Targets[id]) {
			s.remove(r, tg, t)
		}
	}
}

// at is the target with an instance's port, or nil.
func (tg *targetGroup) at(id string, port int) *target {
	for _, t := range tg.Targets[id] {
		if t.Port == port {
			return t
		}
	}
	return nil
}

// all lists the targets in the order of their instances and ports.
func (tg *targetGroup) all() []*target {
	var all []*target
	for _, ports := range inOrder(tg.Targets) {
		all = append(all, ports...)
	}
	return all
}

// inUseChanged puts the targets of groups that load balancers have begun to
// forward to onto the plane, and those of the others off it.
func (s *Service) inUseChanged(r *region) {
	for _, tg := range r.TargetGroups {
		inUse := len(r.loadBalancersOf(tg.ARN)) > 0
		if inUse == tg.InUse {
			continue
		}
		tg.InUse = inUse
		s.serve(r, tg)
		for _, t := range tg.all() {
			switch {
			case inUse:
				s.plane.Register(tg.ARN, t.onPlane())
				s.tell(r, t.ID)
			case t.draining():
				s.remove(r, tg, t)
			default:
				s.plane.Remove(tg.ARN, t.onPlane())
				s.tell(r, t.ID)
			}
		}
	}
}

// health is the health of a target that is registered or draining.
func (s *Service) health(r *region, tg *targetGroup, t *target) Health {
	if t.draining() {
		return leaving
	}
	if !tg.InUse {
		return notInUse
	}
	if m, ok := r.fleet.Member(t.ID); !ok || m.State != ec2.Running {
		return notRunning
	}
	return s.plane.Health(tg.ARN, t.onPlane())
}

// tell tells the subscribers of a region that a target's health has changed. The
// books must be held; the subscribers are called without.
func (s *Service) tell(r *region, id string) {
	heard := slices.Clone(r.heard)
	if len(heard) == 0 {
		return
	}
	s.clock.After(0, func() {
		for _, f := range heard {
			(*f)(id)
		}
	})
}

// healthChanged hears from the plane.
func (s *Service) healthChanged(targetGroup string, t Target) {
	s.books.Read(func() {
		parts := strings.Split(targetGroup+":::", ":")
		if r, ok := s.opened[parts[3]]; ok {
			s.tell(r, t.ID)
		}
	})
}

// targetDescription is a target on the wire.
type targetDescription struct {
	Id   string `wire:",,required"`
	Port *int
}

type targetsInput struct {
	TargetGroupArn string `wire:",,required"`
	Targets        []targetDescription
}

func (s *Service) registerTargets(_ context.Context, c *api.Call, in *targetsInput) (*succeeded, error) {
	return s.eachTarget(c, in, s.register, func(r *region, tg *targetGroup, d targetDescription) ([]*target, error) {
		port := tg.Port
		set(&port, d.Port)
		if port < 1 || port > 65535 {
			return nil, invalid("The port of target '%s' is %d, but must be between 1 and 65535", d.Id, port)
		}
		t, err := r.target(d.Id, port)
		return []*target{t}, err
	})
}

func (s *Service) deregisterTargets(_ context.Context, c *api.Call, in *targetsInput) (*succeeded, error) {
	return s.eachTarget(c, in, s.deregister, func(_ *region, tg *targetGroup, d targetDescription) ([]*target, error) {
		found := tg.matching(d)
		if len(found) == 0 {
			return nil, wire.Errorf("InvalidTarget", "The following targets are not registered to the target group: '%s'", d.Id)
		}
		return found, nil
	})
}

// eachTarget does something to all targets that are meant, or, where one of them
// can't be found, to none.
func (s *Service) eachTarget(c *api.Call, in *targetsInput, do func(*region, *targetGroup, *target), find func(*region, *targetGroup, targetDescription) ([]*target, error)) (*succeeded, error) {
	r := s.in(c.Region)
	c.On(in.TargetGroupArn)
	tg, err := r.targetGroup(in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	if len(in.Targets) == 0 {
		return nil, invalid("At least one target must be specified")
	}
	var all []*target
	for _, d := range in.Targets {
		found, err := find(r, tg, d)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	for _, t := range all {
		do(r, tg, t)
	}
	return &succeeded{}, nil
}

// matching lists the targets that a description means: without a port all of an
// instance's.
func (tg *targetGroup) matching(d targetDescription) []*target {
	var found []*target
	for _, t := range tg.Targets[d.Id] {
		if d.Port == nil || t.Port == *d.Port {
			found = append(found, t)
		}
	}
	return found
}

type describeTargetHealthOutput struct {
	TargetHealthDescriptions []targetHealthDescription
}

type targetHealthDescription struct {
	Target          targetOut
	HealthCheckPort string
	TargetHealth    Health
}

type targetOut struct {
	Id   string
	Port int
}

func (s *Service) describeTargetHealth(_ context.Context, c *api.Call, in *targetsInput) (*describeTargetHealthOutput, error) {
	r := s.in(c.Region)
	tg, err := r.targetGroup(in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	out := &describeTargetHealthOutput{}
	add := func(id string, port int, h Health) {
		check := tg.Check.Port
		if check == trafficPort {
			check = strconv.Itoa(port)
		}
		out.TargetHealthDescriptions = append(out.TargetHealthDescriptions, targetHealthDescription{targetOut{id, port}, check, h})
	}
	if len(in.Targets) == 0 {
		for _, t := range tg.all() {
			add(t.ID, t.Port, s.health(r, tg, t))
		}
		return out, nil
	}
	for _, d := range in.Targets {
		found := tg.matching(d)
		for _, t := range found {
			add(t.ID, t.Port, s.health(r, tg, t))
		}
		if len(found) == 0 {
			add(d.Id, cmp.Or(value(d.Port), tg.Port), notThere)
		}
	}
	return out, nil
}

func value(p *int) int {
	if p == nil {
		return 0
	}
	return *p
}
