// Package group is the engine of EC2 Auto Scaling: it keeps a group's instances
// at its desired capacity, replaces the unhealthy ones, and carries out instance
// refreshes by AWS's rules.
//
// It is a state machine that knows neither the wire nor real time. A Group is
// plain data that is stored as JSON; Step brings it as far as the moment allows
// and says when it wants to be called again. The cost of a step follows from what
// changes in it, not from the group's size. A Group is not safe for concurrent use.
package group

import (
	"context"
	"slices"
	"time"
)

// Group is an Auto Scaling group.
type Group struct {
	Name, ARN           string
	Created             time.Time
	Min, Max, Desired   int
	Zones               []Zone
	Saved               Configuration // what a refresh changes only when it succeeds
	TargetGroups        []Attachment  `json:",omitempty"`
	HealthCheckELB      bool          `json:",omitempty"`
	Grace               int           // seconds after an instance came into service
	Warmup              *int          `json:",omitempty"` // DefaultInstanceWarmup, seconds
	Maintenance         *Bounds       `json:",omitempty"`
	ProtectNew          bool          `json:",omitempty"`
	TerminationPolicies []string
	Suspended           []string `json:",omitempty"` // processes
	Tags                []Tag    `json:",omitempty"`
	Deleting            bool     `json:",omitempty"`

	Members    map[string]*Member
	Activities []*Activity `json:",omitempty"` // oldest first
	Refreshes  []*Refresh  `json:",omitempty"` // oldest first; only the last can be active

	// Asked is the user's request that changed the desired capacity and has led
	// to nothing yet, as it stands in a cause.
	Asked string `json:",omitempty"`
	// Replaced is how many unhealthy instances were found that have no
	// replacement yet.
	Replaced int `json:",omitempty"`
	// Failures counts the launches that failed since one did not, and Retry is
	// when to try again.
	Failures int       `json:",omitempty"`
	Retry    time.Time `json:",omitzero"`

	tally  tally
	agenda agenda
	queue  map[string][]string  // outdated members by zone, oldest first
	sick   []string             // unhealthy members that are still here
	byID   map[string]*Activity // those that are not over
	seen   string               // a member that was lately seen on its way
	wake   time.Time            // when to step again, beside the agenda
	woken  time.Time            // when the group was read, with members that boot
}

// Zone is where a group launches.
type Zone struct {
	Subnet, Zone string
}

// Attachment is a target group of the group's.
type Attachment struct {
	ARN      string
	Removing bool `json:",omitempty"` // its instances are being drained
}

// Bounds are percentages of the desired capacity that are to be healthy.
type Bounds struct {
	Min, Max int
}

// Tag is a tag of a group; Propagate puts it onto instances at launch.
type Tag struct {
	Key, Value string
	Propagate  bool `json:",omitempty"`
}

// The processes that a user can suspend.
const (
	ProcessLaunch            = "Launch"
	ProcessTerminate         = "Terminate"
	ProcessHealthCheck       = "HealthCheck"
	ProcessReplaceUnhealthy  = "ReplaceUnhealthy"
	ProcessAddToLoadBalancer = "AddToLoadBalancer"
	ProcessInstanceRefresh   = "InstanceRefresh"
)

// Wake makes a group that was just made, or read from its JSON, ready to step.
//
// Instances that were in service when the sandbox ended boot now, and their load
// balancers begin to ask them: they come into service once more, with all of
// their grace and warm-up. Nor does the time in which nothing ran count against
// an active refresh.
func (g *Group) Wake(now time.Time) {
	if g.Members == nil {
		g.Members = map[string]*Member{}
	}
	if len(g.Members) > 0 {
		g.woken = now
	}
	for _, m := range g.Members {
		if m.Lifecycle == InService {
			m.Entered, m.Ready = now, false
		}
	}
	g.headway(now)
	g.tally = tally{zones: map[string]int{}}
	g.agenda = nil
	g.sick = nil
	g.byID = map[string]*Activity{}
	for _, a := range g.Activities {
		if !a.Ended() {
			g.byID[a.ID] = a
		}
	}
	for _, m := range g.Members {
		m.at = -1
		g.tally.count(m, +1)
		g.agenda.set(m, now)
		if !m.Healthy() {
			g.sick = append(g.sick, m.ID)
		}
	}
	g.line()
}

// Step does what there is to do at a moment and returns the next one at which
// there will be something, if nothing happens before.
func (g *Group) Step(ctx context.Context, w World, now time.Time) time.Time {
	g.wake = now.Add(time.Hour)
	for m := g.agenda.next(now); m != nil; m = g.agenda.next(now) {
		g.look(ctx, w, m, now)
	}
	g.detach(w, now)
	g.replaceUnhealthy(ctx, w, now)
	if !g.refresh(ctx, w, now) {
		g.balance(ctx, w, now)
	}
	g.prune(now)
	if len(g.agenda) > 0 && g.agenda[0].due.Before(g.wake) {
		return g.agenda[0].due
	}
	return g.wake
}

// Notice has an instance looked at in the next step, because something was
// heard of it. It reports whether the instance is one of the group's.
func (g *Group) Notice(id string, now time.Time) bool {
	m, ok := g.Members[id]
	if ok && m.Lifecycle != Standby {
		g.agenda.set(m, now)
	}
	return ok
}

// Gone is whether a group that is being deleted has no instance left.
func (g *Group) Gone() bool { return g.Deleting && len(g.Members) == 0 }

// launchFailed puts the next launch off, each time for longer.
func (g *Group) launchFailed(w World, now time.Time) {
	g.Retry = now.Add(w.Pace.Retry << min(g.Failures, 4))
	g.Failures++
	g.wakeAt(g.Retry)
}

// wakeAt has the group stepped by t at the latest.
func (g *Group) wakeAt(t time.Time) {
	if t.Before(g.wake) {
		g.wake = t
	}
}

func (g *Group) suspended(process string) bool {
	return slices.Contains(g.Suspended, process)
}

// warmup is how long a member takes to warm up after it came into service.
func (g *Group) warmup(w World, m *Member) time.Duration {
	if r := g.Active(); r != nil && r.Warmup != nil && !m.Launched.Before(r.Start) {
		return w.Pace.seconds(*r.Warmup)
	}
	if g.Warmup != nil {
		return w.Pace.seconds(*g.Warmup)
	}
	return 0
}
