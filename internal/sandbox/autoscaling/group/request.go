package group

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// What users ask of single instances. The caller has made sure that the
// instances are the group's.

// SetHealth overrides the health of an instance.
func (g *Group) SetHealth(id string, healthy bool) {
	m := g.Members[id]
	if !healthy {
		g.sicken(m, sickUser)
		return
	}
	g.change(m, func(m *Member) { m.Unhealthy = "" })
}

// InGrace is whether the health check grace period of an instance still runs.
func (g *Group) InGrace(w World, id string, now time.Time) bool {
	m := g.Members[id]
	return m.Entered.IsZero() || now.Before(m.Entered.Add(w.Pace.seconds(g.Grace)))
}

// Protect sets the protection from scale-in.
func (g *Group) Protect(id string, protected bool) {
	g.change(g.Members[id], func(m *Member) { m.Protected = protected })
}

// Terminate takes an instance out at a user's request; with decrement the
// desired capacity falls by one, else it is replaced.
func (g *Group) Terminate(ctx context.Context, w World, id string, decrement bool, now time.Time) *Activity {
	m := g.Members[id]
	if m.Lifecycle == Terminating {
		return g.byID[m.Activity]
	}
	cause := fmt.Sprintf("At %s instance %s was taken out of service in response to a user request", stamp(now), id)
	if decrement {
		cause += fmt.Sprintf(", shrinking the capacity from %d to %d.", g.Desired, g.Desired-1)
		g.Desired--
	} else {
		cause += fmt.Sprintf(", keeping the capacity at the current %d.", g.Desired)
	}
	return g.leave(ctx, w, m, cause, now)
}

// EnterStandby takes an instance out of service without terminating it.
func (g *Group) EnterStandby(w World, id string, decrement bool, now time.Time) *Activity {
	m := g.Members[id]
	cause := fmt.Sprintf("At %s instance %s was moved to standby in response to a user request", stamp(now), id)
	if decrement {
		cause += fmt.Sprintf(", shrinking the capacity from %d to %d.", g.Desired, g.Desired-1)
		g.Desired--
	} else {
		cause += fmt.Sprintf(", keeping the capacity at the current %d.", g.Desired)
	}
	a := g.begin(Activity{
		Description: "Moving EC2 instance to Standby: " + id,
		Cause:       cause,
		Status:      InProgress,
		Progress:    50,
		Zone:        m.Zone,
		Subnet:      g.subnet(m.Zone),
	}, now)
	g.deregister(w, m)
	g.change(m, func(m *Member) {
		m.Lifecycle = EnteringStandby
		m.Ready = false
		m.Activity = a.ID
	})
	g.agenda.set(m, now)
	return a
}

// ExitStandby returns an instance to service; the desired capacity grows by one.
func (g *Group) ExitStandby(id string, now time.Time) *Activity {
	m := g.Members[id]
	a := g.begin(Activity{
		Description: "Moving EC2 instance out of Standby: " + id,
		Cause: fmt.Sprintf("At %s instance %s was moved out of standby in response to a user request, increasing the capacity from %d to %d.",
			stamp(now), id, g.Desired, g.Desired+1),
		Status:   PreInService,
		Progress: 30,
		Zone:     m.Zone,
		Subnet:   g.subnet(m.Zone),
	}, now)
	g.Desired++
	g.change(m, func(m *Member) {
		m.Lifecycle = Pending
		m.Activity = a.ID
	})
	if m.Outdated {
		g.line()
	}
	g.agenda.set(m, now)
	return a
}

// Delete takes all instances out, without waiting for them to drain.
func (g *Group) Delete(ctx context.Context, w World, now time.Time) {
	g.EndRefresh("Cancelled due to the deletion of the group.", now)
	g.Deleting = true
	g.Min, g.Max, g.Desired = 0, 0, 0
	for _, id := range g.ids() {
		m := g.Members[id]
		if m.Lifecycle == Terminating {
			g.agenda.set(m, now)
			continue
		}
		g.leave(ctx, w, m, fmt.Sprintf("At %s a user request force deleted the AutoScalingGroup, changing the desired capacity to 0.  At %[1]s instance %[2]s was selected for termination.", stamp(now), id), now)
	}
}

// Resize changes the capacity that is desired at a user's request, which cause
// words ("a user request explicitly set group desired capacity").
func (g *Group) Resize(desired int, cause string, now time.Time) {
	if desired == g.Desired {
		return
	}
	g.Asked = fmt.Sprintf("At %s %s changing the desired capacity from %d to %d.", stamp(now), cause, g.Desired, desired)
	g.Desired = desired
}

// All lists the members, oldest first.
func (g *Group) All() []*Member {
	all := make([]*Member, 0, len(g.Members))
	for _, m := range g.Members {
		all = append(all, m)
	}
	slices.SortFunc(all, byAge)
	return all
}

func (g *Group) ids() []string {
	all := g.All()
	ids := make([]string, len(all))
	for i, m := range all {
		ids[i] = m.ID
	}
	return ids
}
