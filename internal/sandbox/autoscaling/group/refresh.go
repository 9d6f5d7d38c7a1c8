package group

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// RefreshStatus is the status of an instance refresh, in AWS's words.
type RefreshStatus string

// The statuses of an instance refresh.
const (
	RefreshPending            RefreshStatus = "Pending"
	RefreshInProgress         RefreshStatus = "InProgress"
	RefreshBaking             RefreshStatus = "Baking"
	RefreshCancelling         RefreshStatus = "Cancelling"
	RefreshCancelled          RefreshStatus = "Cancelled"
	RefreshSuccessful         RefreshStatus = "Successful"
	RefreshFailed             RefreshStatus = "Failed"
	RefreshRollbackInProgress RefreshStatus = "RollbackInProgress"
	RefreshRollbackSuccessful RefreshStatus = "RollbackSuccessful"
	RefreshRollbackFailed     RefreshStatus = "RollbackFailed"
)

// longest is how long a refresh can run at all.
const longest = 14 * 24 * time.Hour

// Refresh is an instance refresh.
type Refresh struct {
	ID         string
	Status     RefreshStatus
	Reason     string    `json:",omitempty"`
	Start      time.Time `json:",omitzero"`
	End        time.Time `json:",omitzero"`
	Percentage int
	Remaining  int            // instances to update
	Desired    *Configuration `json:",omitempty"`
	Preferences
	Rollback *Rollback `json:",omitempty"`

	Moved      time.Time  `json:",omitzero"`  // the last headway: an hour without is a failure
	Checkpoint int        `json:",omitempty"` // how many were reached
	Reached    int        `json:",omitempty"` // the desired capacity at the last of them
	Wanted     []Template `json:",omitempty"` // what a floating desired configuration was, last
	Until      time.Time  `json:",omitzero"`  // of the wait at a checkpoint, or of the bake
}

// Preferences are what the user chose for a refresh, defaults filled in.
type Preferences struct {
	MinHealthy      int
	MaxHealthy      *int     `json:",omitempty"` // nil is not the same as 100
	Warmup          *int     // seconds
	SkipMatching    bool     `json:",omitempty"`
	AutoRollback    bool     `json:",omitempty"`
	ProtectedWay    Way      // with instances protected from scale-in
	StandbyWay      Way      // with instances in standby
	Checkpoints     []int    `json:",omitempty"` // percentages, ascending
	CheckpointDelay int      `json:",omitempty"` // seconds
	BakeTime        int      `json:",omitempty"` // seconds
	Alarms          []string `json:",omitempty"` // names
}

// Way is what a refresh does with instances that it should not simply replace.
type Way string

// The ways.
const (
	WayWait   Way = "Wait"
	WayIgnore Way = "Ignore"
	WayTake   Way = "Take" // AWS says Refresh for protected instances and Terminate for those in standby
)

// Rollback is how far a refresh was when it was rolled back, and why it was.
type Rollback struct {
	Reason     string
	Start      time.Time
	Percentage int
	Remaining  int
}

// Ended is whether the refresh is over.
func (r *Refresh) Ended() bool { return !r.End.IsZero() }

// Active is the refresh that is not over, or nil.
func (g *Group) Active() *Refresh {
	if n := len(g.Refreshes); n > 0 && !g.Refreshes[n-1].Ended() {
		return g.Refreshes[n-1]
	}
	return nil
}

// StartRefresh begins a refresh. The caller has made sure that none is active.
func (g *Group) StartRefresh(desired *Configuration, p Preferences, now time.Time) *Refresh {
	r := &Refresh{
		ID:          uuid.NewString(),
		Status:      RefreshPending,
		Start:       now,
		Moved:       now,
		Desired:     desired,
		Preferences: p,
	}
	g.Refreshes = append(g.Refreshes, r)
	return r
}

// CancelRefresh begins to cancel the active refresh; without wait it is
// cancelled at once, whatever is on its way.
func (g *Group) CancelRefresh(wait bool, now time.Time) {
	r := g.Active()
	r.Status = RefreshCancelling
	r.Reason = "Cancelling due to user request."
	if !wait {
		g.endRefresh(r, RefreshCancelled, "Cancelled due to user request.", now)
	}
}

// StartRollback turns the active refresh round, for the caller who has made sure
// that it can be.
func (g *Group) StartRollback(reason string, now time.Time) {
	r := g.Active()
	r.Rollback = &Rollback{Reason: reason, Start: now, Percentage: r.Percentage, Remaining: r.Remaining}
	r.Status = RefreshRollbackInProgress
	r.Reason = reason
	r.Moved = now
	r.Until = time.Time{}
	g.mark(func(m *Member) bool { return m.Refresh == r.ID })
	g.wakeAt(now)
}

// refresh carries the active refresh on and reports whether it has seen to the
// group's capacity in doing so.
func (g *Group) refresh(ctx context.Context, w World, now time.Time) bool {
	r := g.Active()
	if r == nil || g.Deleting {
		return false
	}
	if g.alarmed(w, r, now) {
		return true
	}
	switch r.Status {
	case RefreshPending:
		if begin := r.Start.Add(w.Pace.Begin); now.Before(begin) {
			g.wakeAt(begin)
			return false
		}
		r.Status = RefreshInProgress
		g.outdate(ctx, w, r, now)
		g.replace(ctx, w, r, now)
	case RefreshInProgress, RefreshRollbackInProgress:
		g.replace(ctx, w, r, now)
	case RefreshBaking:
		if now.Before(r.Until) {
			g.wakeAt(r.Until)
			return false
		}
		g.succeed(r, now)
	case RefreshCancelling:
		if g.tally.pending == 0 && g.tally.leaving == 0 {
			g.endRefresh(r, RefreshCancelled, "Cancelled due to user request.", now)
			return false
		}
		g.grow(ctx, w, g.Desired-g.tally.capacity, now)
	}
	return true
}

// outdate decides at the start which members are to be replaced.
func (g *Group) outdate(ctx context.Context, w World, r *Refresh, now time.Time) {
	wanted := r.target(g).wanted(w.Fleet)
	var out []*Member
	g.mark(func(m *Member) bool {
		switch {
		case r.SkipMatching && m.matches(wanted):
			return false
		case m.Protected && r.ProtectedWay == WayIgnore:
			return false
		case m.Lifecycle == Standby || m.Lifecycle == EnteringStandby:
			if r.StandbyWay == WayTake {
				out = append(out, m)
			}
			return r.StandbyWay == WayWait
		}
		return true
	})
	for _, m := range out {
		g.leave(ctx, w, m, causeRefreshOut(m.ID, now), now)
	}
}

// target is the configuration that the refresh is to bring about.
func (r *Refresh) target(g *Group) Configuration {
	if r.Desired != nil && r.Rollback == nil {
		return *r.Desired
	}
	return g.Saved
}

// mark sets which members are outdated and lines them up.
func (g *Group) mark(outdated func(*Member) bool) {
	for _, m := range g.Members {
		is := m.Lifecycle != Terminating && outdated(m)
		if is != m.Outdated {
			g.change(m, func(m *Member) { m.Outdated = is })
		}
	}
	g.line()
}

// line makes the queues of outdated members from the members.
func (g *Group) line() {
	g.queue = map[string][]string{}
	for id, m := range g.Members {
		if m.Outdated {
			g.queue[m.Zone] = append(g.queue[m.Zone], id)
		}
	}
	for _, ids := range g.queue {
		slices.SortFunc(ids, func(a, b string) int { return byAge(g.Members[a], g.Members[b]) })
	}
}

// recent is whether a member was launched since the refresh before this one
// began. Those that were not are replaced first, so that a refresh that is run
// again after a partial one comes to what that left.
func (g *Group) recent(m *Member) bool {
	n := len(g.Refreshes)
	return n > 1 && !m.Launched.Before(g.Refreshes[n-2].Start)
}

// headway notes that the active refresh has come on.
func (g *Group) headway(now time.Time) {
	if r := g.Active(); r != nil {
		r.Moved = now
	}
}

// measure brings the progress up to date. An instance counts when it is healthy
// and warm; in a rollback the percentage falls back to zero.
func (g *Group) measure(r *Refresh) {
	if g.Desired == 0 {
		r.Percentage, r.Remaining = 100, 0
		if r.Rollback != nil {
			r.Percentage = 0
		}
		return
	}
	if r.Rollback != nil {
		r.Percentage = min(r.Rollback.Percentage, 100*g.tally.outdated/g.Desired)
		r.Remaining = max(r.Rollback.Remaining, g.Desired-g.tally.outdated)
		return
	}
	done := min(g.tally.done, g.Desired)
	r.Percentage = 100 * done / g.Desired
	r.Remaining = g.Desired - done
}

// succeed ends a refresh that has done what it should; only now is the group's
// own configuration changed.
func (g *Group) succeed(r *Refresh, now time.Time) {
	g.measure(r)
	if r.Rollback != nil {
		g.endRefresh(r, RefreshRollbackSuccessful, r.Rollback.Reason, now)
		return
	}
	if r.Desired != nil {
		g.Saved = *r.Desired
	}
	g.endRefresh(r, RefreshSuccessful, "", now)
}

// fail ends a refresh that does not come on, or turns it round.
func (g *Group) fail(r *Refresh, why string, now time.Time) {
	switch {
	case r.Rollback != nil:
		g.endRefresh(r, RefreshRollbackFailed, "Rollback failed. "+why, now)
	case r.AutoRollback:
		g.StartRollback("Rolling back due to instance refresh failure: "+why, now)
	default:
		g.endRefresh(r, RefreshFailed, why, now)
	}
}

func (g *Group) endRefresh(r *Refresh, status RefreshStatus, reason string, now time.Time) {
	r.Status, r.Reason, r.End = status, reason, now
	r.Until = time.Time{}
	g.mark(func(*Member) bool { return false })
	g.wakeAt(now)
}

// EndRefresh stops the active refresh of a group that is being deleted.
func (g *Group) EndRefresh(reason string, now time.Time) {
	if r := g.Active(); r != nil {
		g.endRefresh(r, RefreshCancelled, reason, now)
	}
}

// waitingFor says what a refresh is waiting for, as AWS words it.
func (g *Group) waitingFor(w World) string {
	m, ok := g.Members[g.seen]
	if !ok || m.Ready || m.Outdated || m.Lifecycle == Terminating {
		switch {
		case g.tally.guarded > 0 && g.tally.outdated == g.tally.guarded:
			return "Waiting for instances that are protected from scale in."
		case g.tally.waiting > 0 && g.tally.outdated == 0:
			return "Waiting for instances that are in Standby to return to service."
		case g.tally.leaving > 0:
			return "Waiting for instances to be terminated."
		}
		return ""
	}
	const available = "Waiting for remaining instances to be available. For example: %s %s."
	if m.Lifecycle == Pending {
		return fmt.Sprintf(available, m.ID, "has insufficient data to evaluate its health with Amazon EC2")
	}
	for _, tg := range g.TargetGroups {
		switch h := w.Targets.Health(tg.ARN, m.ID); h.State {
		case targetHealthy:
		case targetUnhealthy, "unused":
			return fmt.Sprintf(available, m.ID, "is not healthy with Elastic Load Balancing: "+h.Description)
		default:
			return fmt.Sprintf(available, m.ID, "has insufficient data to evaluate its health with Elastic Load Balancing")
		}
	}
	if !m.Healthy() {
		return fmt.Sprintf(available, m.ID, "is not healthy with Amazon EC2")
	}
	return fmt.Sprintf("Waiting for instances to warm up before continuing. For example: %s is warming up.", m.ID)
}
