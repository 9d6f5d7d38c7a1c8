package group

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// look brings one member as far as it can come now, and puts it back onto the
// agenda for as long as there is something to see.
func (g *Group) look(ctx context.Context, w World, m *Member, now time.Time) {
	switch m.Lifecycle {
	case Pending:
		g.lookPending(ctx, w, m, now)
	case InService:
		g.lookInService(w, m, now)
	case EnteringStandby:
		if !g.drained(w, m) {
			g.agenda.set(m, now.Add(w.Pace.Poll))
			return
		}
		g.change(m, func(m *Member) { m.Lifecycle = Standby })
		g.end(m, Successful, "", now)
	case Terminating:
		g.lookLeaving(ctx, w, m, now)
	}
}

func (g *Group) lookPending(ctx context.Context, w World, m *Member, now time.Time) {
	switch state := w.Fleet.State(m.ID); state {
	case statePending:
		g.seen = m.ID
		g.agenda.set(m, now.Add(w.Pace.Poll))
	case stateRunning:
		g.change(m, func(m *Member) {
			m.Lifecycle = InService
			m.Entered = now
		})
		g.register(w, m)
		g.end(m, Successful, "", now)
		g.lookInService(w, m, now)
	default:
		g.end(m, Failed, fmt.Sprintf("Instance became unhealthy while waiting for instance to be in InService state. Termination Reason: the instance is %s", state), now)
		g.launchFailed(w, now)
		g.change(m, func(m *Member) {
			m.Lifecycle = Terminating
			m.Parting = true
		})
		g.part(ctx, w, m, now)
	}
}

// lookInService is the health check.
func (g *Group) lookInService(w World, m *Member, now time.Time) {
	checking := !g.suspended(ProcessHealthCheck)
	if state := w.Fleet.State(m.ID); state != stateRunning && checking {
		g.sicken(m, sickEC2)
	}
	warm := m.Entered.Add(g.warmup(w, m))
	healthy := m.Healthy()
	for _, tg := range g.TargetGroups {
		if tg.Removing {
			continue
		}
		state := w.Targets.Health(tg.ARN, m.ID).State
		if state == targetHealthy {
			continue
		}
		healthy = false
		if state == targetUnhealthy && g.HealthCheckELB && checking && !g.graced(w, m, now) {
			g.sicken(m, sickELB)
		}
	}

	ready := healthy && !now.Before(warm)
	if ready != m.Ready {
		g.change(m, func(m *Member) { m.Ready = ready })
		if ready && !m.Outdated {
			g.headway(now)
		}
	}
	next := now.Add(w.Pace.Check)
	switch {
	case ready:
	case !healthy:
		next = now.Add(w.Pace.Poll)
		g.seen = m.ID
	default:
		g.seen = m.ID
		if warm.Before(next) {
			next = warm
		}
	}
	g.agenda.set(m, next)
}

// graced is whether a member is not to be judged by its load balancers yet.
func (g *Group) graced(w World, m *Member, now time.Time) bool {
	return now.Before(m.Entered.Add(w.Pace.seconds(g.Grace))) || g.rebooting(w, now)
}

// rebooting is whether members may not have come back yet since the group was read.
func (g *Group) rebooting(w World, now time.Time) bool {
	return now.Before(g.woken.Add(w.Pace.Reboot))
}

// sicken marks a member for replacement.
func (g *Group) sicken(m *Member, why string) {
	if !m.Healthy() {
		return
	}
	g.change(m, func(m *Member) {
		m.Unhealthy = why
		m.Ready = false
	})
	g.sick = append(g.sick, m.ID)
	g.Replaced++
}

// replaceUnhealthy takes the unhealthy members out. With a maintenance policy one
// stays until enough others are ready; its replacement is launched in any case,
// since it counts for no capacity.
func (g *Group) replaceUnhealthy(ctx context.Context, w World, now time.Time) {
	if g.suspended(ProcessReplaceUnhealthy) || g.suspended(ProcessTerminate) {
		return
	}
	g.sick = slices.DeleteFunc(g.sick, func(id string) bool {
		m, ok := g.Members[id]
		if !ok || m.Healthy() || m.Lifecycle == Terminating {
			return true
		}
		if m.Lifecycle != InService && m.Lifecycle != Pending {
			return false
		}
		if g.Maintenance != nil && !g.Deleting && g.tally.ready < ceil(g.Desired, g.Maintenance.Min) {
			return false
		}
		g.leave(ctx, w, m, causeUnhealthy(m.Unhealthy, now), now)
		return true
	})
}

// leave begins a member's way out: first out of its target groups, and only when
// these have drained it is EC2 asked to terminate it, so that no request is lost.
func (g *Group) leave(ctx context.Context, w World, m *Member, cause string, now time.Time) *Activity {
	// An activity that it was still in ends with the member's new course.
	g.end(m, Cancelled, "", now)
	a := g.begin(Activity{
		Description: "Terminating EC2 instance: " + m.ID,
		Cause:       cause,
		Status:      InProgress,
		Zone:        m.Zone,
		Subnet:      g.subnet(m.Zone),
	}, now)
	registered := m.Lifecycle == InService
	g.change(m, func(m *Member) {
		m.Lifecycle = Terminating
		m.Ready = false
		m.Activity = a.ID
	})
	if registered && g.deregister(w, m) {
		a.Status, a.Progress = Draining, 50
		a.StatusMessage = "Connection draining in progress"
	}
	g.lookLeaving(ctx, w, m, now)
	return a
}

func (g *Group) lookLeaving(ctx context.Context, w World, m *Member, now time.Time) {
	if !m.Parting && !g.Deleting && !g.drained(w, m) {
		g.agenda.set(m, now.Add(w.Pace.Poll))
		return
	}
	g.part(ctx, w, m, now)
}

// part terminates a member that nothing depends on any more.
func (g *Group) part(ctx context.Context, w World, m *Member, now time.Time) {
	if err := w.Fleet.Terminate(ctx, m.ID); err != nil {
		if a := g.byID[m.Activity]; a != nil {
			a.StatusMessage = err.Error()
		}
		g.agenda.set(m, now.Add(w.Pace.Retry))
		return
	}
	m.Parting = true
	if a := g.byID[m.Activity]; a != nil {
		a.Status, a.StatusMessage = InProgress, ""
	}
	if w.Fleet.State(m.ID) != stateTerminated {
		g.agenda.set(m, now.Add(w.Pace.Poll))
		return
	}
	g.end(m, Successful, "", now)
	g.remove(m)
}

// register puts a member into all of the group's target groups.
func (g *Group) register(w World, m *Member) {
	if g.suspended(ProcessAddToLoadBalancer) {
		return
	}
	for _, tg := range g.TargetGroups {
		if !tg.Removing {
			// A target group that is gone has no health either, and so the
			// member never becomes ready: that is how AWS shows it, too.
			_ = w.Targets.Register(tg.ARN, m.ID)
		}
	}
}

// deregister takes a member out of the group's target groups, and reports
// whether there is one in which it has to drain.
func (g *Group) deregister(w World, m *Member) bool {
	for _, tg := range g.TargetGroups {
		// One that is gone, or does not have the member, has nothing to drain.
		_ = w.Targets.Deregister(tg.ARN, m.ID)
	}
	return !g.drained(w, m)
}

// drained is whether no target group has the member any more.
func (g *Group) drained(w World, m *Member) bool {
	return !slices.ContainsFunc(g.TargetGroups, func(tg Attachment) bool {
		return w.Targets.Health(tg.ARN, m.ID).State != ""
	})
}

func (g *Group) subnet(zone string) string {
	for _, z := range g.Zones {
		if z.Zone == zone {
			return z.Subnet
		}
	}
	return ""
}
