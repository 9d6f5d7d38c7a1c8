// Package elbv2 is the sandbox's Elastic Load Balancing: application and network
// load balancers, listeners, target groups and their targets.
//
// It keeps what there is and by which rules it changes: which targets are
// registered, which are draining and for how long. What really listens, forwards
// and asks targets for their health is behind Plane.
package elbv2

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// Service is Elastic Load Balancing.
type Service struct {
	books  *state.Books
	clock  *clock.Clock
	fleet  func(region string) ec2.Fleet
	plane  Plane
	port   int
	pages  *state.Ledger[page]
	opened map[string]*region
}

// page is what the service knows of a region, each by its ARN.
type page struct {
	LoadBalancers map[string]*loadBalancer
	Listeners     map[string]*listener
	Rules         map[string]*rule
	TargetGroups  map[string]*targetGroup
}

// region is a region at work.
type region struct {
	*page
	name  string
	fleet ec2.Fleet
	heard []*func(id string)
}

// New opens the service. Load balancers get addresses that are made from port,
// which is the sandbox's own, so that two sandboxes do not get in each other's way.
func New(books *state.Books, clock *clock.Clock, fleet func(region string) ec2.Fleet, plane Plane, port int) (*Service, error) {
	pages, err := state.Declare(books, "elasticloadbalancing", func(string) *page {
		return &page{
			LoadBalancers: map[string]*loadBalancer{},
			Listeners:     map[string]*listener{},
			Rules:         map[string]*rule{},
			TargetGroups:  map[string]*targetGroup{},
		}
	})
	if err != nil {
		return nil, fmt.Errorf("open Elastic Load Balancing: %w", err)
	}
	s := &Service{books: books, clock: clock, fleet: fleet, plane: plane, port: port, pages: pages, opened: map[string]*region{}}
	plane.Subscribe(s.healthChanged)
	books.Do(func() {
		for _, name := range pages.Regions() {
			if err = s.resume(s.in(name)); err != nil {
				return
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("open Elastic Load Balancing: %w", err)
	}
	return s, nil
}

// API lists the operations.
func (s *Service) API() *api.Service {
	r := api.NewService("elasticloadbalancing", wire.Query("http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"))
	api.Register(r, "CreateLoadBalancer", s.createLoadBalancer)
	api.Register(r, "DescribeLoadBalancers", s.describeLoadBalancers)
	api.Register(r, "DeleteLoadBalancer", s.deleteLoadBalancer)
	api.Register(r, "ModifyLoadBalancerAttributes", s.modifyLoadBalancerAttributes)
	api.Register(r, "DescribeLoadBalancerAttributes", s.describeLoadBalancerAttributes)
	api.Register(r, "CreateListener", s.createListener)
	api.Register(r, "DescribeListeners", s.describeListeners)
	api.Register(r, "ModifyListener", s.modifyListener)
	api.Register(r, "DeleteListener", s.deleteListener)
	api.Register(r, "CreateRule", s.createRule)
	api.Register(r, "DescribeRules", s.describeRules)
	api.Register(r, "ModifyRule", s.modifyRule)
	api.Register(r, "DeleteRule", s.deleteRule)
	api.Register(r, "SetRulePriorities", s.setRulePriorities)
	api.Register(r, "CreateTargetGroup", s.createTargetGroup)
	api.Register(r, "DescribeTargetGroups", s.describeTargetGroups)
	api.Register(r, "ModifyTargetGroup", s.modifyTargetGroup)
	api.Register(r, "ModifyTargetGroupAttributes", s.modifyTargetGroupAttributes)
	api.Register(r, "DescribeTargetGroupAttributes", s.describeTargetGroupAttributes)
	api.Register(r, "DeleteTargetGroup", s.deleteTargetGroup)
	api.Register(r, "RegisterTargets", s.registerTargets)
	api.Register(r, "DeregisterTargets", s.deregisterTargets)
	api.Register(r, "DescribeTargetHealth", s.describeTargetHealth)
	api.Register(r, "AddTags", s.addTags)
	api.Register(r, "RemoveTags", s.removeTags)
	api.Register(r, "DescribeTags", s.describeTags)
	return r
}

// in gives a region. The books must be held.
func (s *Service) in(name string) *region {
	if r, ok := s.opened[name]; ok {
		return r
	}
	r := &region{page: s.pages.In(name), name: name, fleet: s.fleet(name)}
	s.opened[name] = r
	r.fleet.SubscribeToRules(func() { s.relisten(r) })
	r.fleet.Subscribe(func(change ec2.StateChange) {
		if change.To == ec2.Terminated {
			s.books.Do(func() { s.bury(r, change.InstanceID) })
		}
	})
	return r
}

// resume puts a region that was saved back to work.
func (s *Service) resume(r *region) error {
	for _, tg := range r.TargetGroups {
		s.serve(r, tg)
		for _, t := range tg.all() {
			m, ok := r.fleet.Member(t.ID)
			switch {
			case !ok || m.State == ec2.Terminated:
				s.remove(r, tg, t)
			case t.draining():
				s.removeAt(r, tg, t)
			case tg.InUse:
				s.plane.Register(tg.ARN, t.onPlane())
			}
		}
	}
	for _, lb := range inOrder(r.LoadBalancers) {
		if s.reopen(r, lb) == nil {
			continue
		}
		if err := s.readdress(r, lb); err != nil {
			return fmt.Errorf("load balancer %q can listen neither at the address that it had nor at another: %w; begin with a fresh --state, or give the sandbox another port by --listen", lb.Name, err)
		}
	}
	return nil
}

// reopen opens the listeners of a load balancer, all or none.
func (s *Service) reopen(r *region, lb *loadBalancer) error {
	var opened []string
	for _, l := range inOrder(r.Listeners) {
		if l.LoadBalancer != lb.ARN {
			continue
		}
		if err := s.listen(r, l); err != nil {
			for _, arn := range opened {
				s.plane.Unlisten(arn)
			}
			return err
		}
		opened = append(opened, l.ARN)
	}
	return nil
}

// readdress gives a load balancer, whose address somebody else has taken while
// the sandbox was not there, another one, and with it another DNS name.
func (s *Service) readdress(r *region, lb *loadBalancer) error {
	before, err := lb.Address, error(nil)
	for n := 1; n <= maxLoadBalancers; n++ {
		if lb.Address = s.address(n); s.taken(lb) {
			continue
		}
		if err = s.reopen(r, lb); err == nil {
			return nil
		}
	}
	lb.Address = before
	return err
}

// address is the one of the n-th load balancer: 127.x.y.n, with the sandbox's
// port as x and y.
func (s *Service) address(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(s.port >> 8), byte(s.port), byte(n)})
}

// maxLoadBalancers is how many addresses there are for them: the upper half is
// instances'.
const maxLoadBalancers = 127

// unique is the last part of an ARN.
func unique() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func invalid(format string, args ...any) error {
	return wire.Errorf("ValidationError", format, args...)
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// succeeded is the answer of operations that have none but success.
type succeeded struct{}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}
