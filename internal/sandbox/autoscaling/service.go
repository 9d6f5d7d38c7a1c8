// Package autoscaling is the sandbox's EC2 Auto Scaling: its API, before the
// engine that package group is.
package autoscaling

import (
	"context"
	"fmt"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling/group"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/cloudwatch"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/elbv2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// Options are the choices for a sandbox.
type Options struct {
	// LaunchConfigurations lets launch configurations be created, as accounts
	// from before 2024-10-01 may. They serve to have groups that are not on a
	// launch template: no instance is launched from one.
	LaunchConfigurations bool
}

// Service is EC2 Auto Scaling.
type Service struct {
	books   *state.Books
	clock   *clock.Clock
	fleet   func(region string) ec2.Fleet
	elb     *elbv2.Service
	alarms  *cloudwatch.Service
	options Options
	pages   *state.Ledger[page]

	regions map[string]*region
}

// page is what Auto Scaling knows of a region.
type page struct {
	Groups               map[string]*group.Group
	LaunchConfigurations map[string]*launchConfiguration `json:",omitempty"`
}

// region is a region at work.
type region struct {
	*page
	world   group.World
	fleet   ec2.Fleet
	targets targets
	next    map[string]*appointment // by group
}

// appointment is when a group is stepped next.
type appointment struct {
	at     time.Time
	cancel func()
}

// New opens the service, after EC2, Elastic Load Balancing and CloudWatch. What
// the books know of goes on at once.
func New(books *state.Books, clock *clock.Clock, fleet func(region string) ec2.Fleet, elb *elbv2.Service, alarms *cloudwatch.Service, options Options) (*Service, error) {
	pages, err := state.Declare(books, "autoscaling", func(string) *page {
		return &page{Groups: map[string]*group.Group{}, LaunchConfigurations: map[string]*launchConfiguration{}}
	})
	if err != nil {
		return nil, fmt.Errorf("open Auto Scaling: %w", err)
	}
	s := &Service{books: books, clock: clock, fleet: fleet, elb: elb, alarms: alarms, options: options, pages: pages, regions: map[string]*region{}}
	books.Read(func() {
		for _, name := range pages.Regions() {
			s.in(name)
		}
	})
	return s, nil
}

// API lists the operations.
func (s *Service) API() *api.Service {
	r := api.NewService("autoscaling", wire.Query("http://autoscaling.amazonaws.com/doc/2011-01-01/"))
	api.Register(r, "CreateAutoScalingGroup", s.createAutoScalingGroup)
	api.Register(r, "UpdateAutoScalingGroup", s.updateAutoScalingGroup)
	api.Register(r, "DeleteAutoScalingGroup", s.deleteAutoScalingGroup)
	api.Register(r, "DescribeAutoScalingGroups", s.describeAutoScalingGroups)
	api.Register(r, "DescribeAutoScalingInstances", s.describeAutoScalingInstances)
	api.Register(r, "SetDesiredCapacity", s.setDesiredCapacity)
	api.Register(r, "TerminateInstanceInAutoScalingGroup", s.terminateInstance)
	api.Register(r, "SetInstanceHealth", s.setInstanceHealth)
	api.Register(r, "SetInstanceProtection", s.setInstanceProtection)
	api.Register(r, "EnterStandby", s.enterStandby)
	api.Register(r, "ExitStandby", s.exitStandby)
	api.Register(r, "DescribeScalingActivities", s.describeScalingActivities)
	api.Register(r, "AttachLoadBalancerTargetGroups", s.attachTargetGroups)
	api.Register(r, "DetachLoadBalancerTargetGroups", s.detachTargetGroups)
	api.Register(r, "DescribeLoadBalancerTargetGroups", s.describeTargetGroups)
	api.Register(r, "AttachTrafficSources", s.attachTrafficSources)
	api.Register(r, "DetachTrafficSources", s.detachTrafficSources)
	api.Register(r, "DescribeTrafficSources", s.describeTrafficSources)
	api.Register(r, "CreateOrUpdateTags", s.createOrUpdateTags)
	api.Register(r, "DeleteTags", s.deleteTags)
	api.Register(r, "DescribeTags", s.describeTags)
	api.Register(r, "SuspendProcesses", s.suspendProcesses)
	api.Register(r, "ResumeProcesses", s.resumeProcesses)
	api.Register(r, "CreateLaunchConfiguration", s.createLaunchConfiguration)
	api.Register(r, "DescribeLaunchConfigurations", s.describeLaunchConfigurations)
	api.Register(r, "DeleteLaunchConfiguration", s.deleteLaunchConfiguration)
	api.Register(r, "StartInstanceRefresh", s.startInstanceRefresh)
	api.Register(r, "DescribeInstanceRefreshes", s.describeInstanceRefreshes)
	api.Register(r, "CancelInstanceRefresh", s.cancelInstanceRefresh)
	api.Register(r, "RollbackInstanceRefresh", s.rollbackInstanceRefresh)
	return r
}

// in gives a region, whose groups are at work from the first time on. The books
// must be held.
func (s *Service) in(name string) *region {
	if r, ok := s.regions[name]; ok {
		return r
	}
	r := &region{page: s.pages.In(name), fleet: s.fleet(name), targets: targets{s.elb.Groups(name)}, next: map[string]*appointment{}}
	alarms := s.alarms.Alarms(name)
	r.world = group.World{Fleet: fleet{r.fleet}, Targets: r.targets, Alarms: alarms, Pace: s.pace()}
	s.regions[name] = r
	r.fleet.Subscribe(func(change ec2.StateChange) { s.heard(name, change.InstanceID) })
	r.targets.Subscribe(func(id string) { s.heard(name, id) })
	alarms.Subscribe(func() { s.alarmed(name) })
	now := s.clock.Now()
	for _, g := range r.Groups {
		g.Wake(now)
		s.stepAt(r, g, now)
	}
	return r
}

// pace is how fast the engine goes. News of instances and targets come by
// themselves, so looking for them only catches what did not come.
func (s *Service) pace() group.Pace {
	const least = time.Second
	return group.Pace{
		Begin:    s.clock.Transition(clock.Refresh),
		Poll:     max(least, s.clock.Interval(10*time.Second)),
		Check:    max(least, s.clock.Interval(time.Minute)),
		Retry:    max(least/10, s.clock.Interval(15*time.Second)),
		Patience: s.clock.Interval(time.Hour),
		Reboot:   time.Minute, // machines boot in real time, whatever the scale
		Scale:    s.clock.Interval,
	}
}

// heard has the group of an instance look at it.
func (s *Service) heard(name, id string) {
	s.books.Read(func() {
		r, now := s.in(name), s.clock.Now()
		for _, g := range r.Groups {
			if g.Notice(id, now) {
				s.stepAt(r, g, now)
				return
			}
		}
	})
}

// alarmed has the groups whose refresh minds alarms look at them.
func (s *Service) alarmed(name string) {
	s.books.Read(func() {
		r := s.in(name)
		for _, g := range r.Groups {
			if refresh := g.Active(); refresh != nil && len(refresh.Alarms) > 0 {
				s.soon(r, g)
			}
		}
	})
}

// stepAt has a group stepped at a time, or earlier if it is to be already. The
// books must be held.
func (s *Service) stepAt(r *region, g *group.Group, at time.Time) {
	if a, ok := r.next[g.Name]; ok {
		if !at.Before(a.at) {
			return
		}
		a.cancel()
	}
	a := &appointment{at: at}
	r.next[g.Name] = a
	name := g.Name
	a.cancel = s.clock.After(max(0, at.Sub(s.clock.Now())), func() {
		s.books.Do(func() {
			if r.next[name] != a {
				return // put off, or the group is gone
			}
			delete(r.next, name)
			if g, ok := r.Groups[name]; ok {
				s.step(r, g)
			}
		})
	})
}

// step brings a group on. The books must be held.
func (s *Service) step(r *region, g *group.Group) {
	next := g.Step(context.Background(), r.world, s.clock.Now())
	if g.Gone() {
		delete(r.Groups, g.Name)
		return
	}
	s.stepAt(r, g, next)
}

// soon has a group stepped that a request has changed.
func (s *Service) soon(r *region, g *group.Group) { s.stepAt(r, g, s.clock.Now()) }

// find gives a group that is there and notes it as the call's resource.
func (s *Service) find(c *api.Call, name string) (*region, *group.Group, error) {
	r := s.in(c.Region)
	g, err := r.group(name)
	if err != nil {
		c.On(arnOf(c, "*", name))
		return nil, nil, err
	}
	c.On(g.ARN)
	return r, g, nil
}

// group gives a group that is there. Describe operations call it rather than
// find: IAM knows no resources of theirs
// (https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2autoscaling.html).
func (r *region) group(name string) (*group.Group, error) {
	g, ok := r.Groups[name]
	if !ok || g.Deleting {
		return nil, invalid("AutoScalingGroup name not found - AutoScalingGroup '%s' not found", name)
	}
	return g, nil
}

// arnOf names a group.
func arnOf(c *api.Call, uuid, name string) string {
	return c.ARN("autoScalingGroup:" + uuid + ":autoScalingGroupName/" + name)
}

func invalid(format string, args ...any) error {
	return wire.Errorf("ValidationError", format, args...)
}

// succeeded is the answer of operations that have none but success.
type succeeded struct{}
