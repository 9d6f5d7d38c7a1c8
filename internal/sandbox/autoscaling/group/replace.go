package group

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// replace takes a rolling refresh, or its rollback, one step on.
//
// Between two bounds of the capacity, in percent of what is desired, outdated
// members are taken out and others launched: as many as are ready beyond the
// lower bound go, as many as fit below the upper one come. Where the bounds leave
// no room for either, an explicit upper bound means that one is launched before
// one is terminated, beyond the bound; without one, one is terminated and its
// replacement launched at the same time.
func (g *Group) replace(ctx context.Context, w World, r *Refresh, now time.Time) {
	t := &g.tally
	g.follow(w, r, now)
	g.spare(ctx, w, r, now)
	goal, holding := g.goal(w, r, now)
	if !holding && g.achieved(r) {
		g.achieve(w, r, now)
		return
	}

	least, most := ceil(g.Desired, r.MinHealthy), g.Desired
	if r.MaxHealthy != nil {
		most = floor(g.Desired, *r.MaxHealthy)
	}
	dataless := r.dataless(w)
	paused := holding || dataless != "" || g.suspended(ProcessInstanceRefresh) || g.suspended(ProcessTerminate)
	if g.rebooting(w, now) && t.ready < t.capacity {
		paused = true // those that are not ready are not there to be replaced
		g.wakeAt(g.woken.Add(w.Pace.Reboot))
	}
	left := func() int { // outdated members that may be taken before the next checkpoint
		if paused {
			return 0
		}
		return max(0, min(t.outdated-g.guarded(r), t.outdated-(g.Desired-goal)))
	}

	for left() > 0 {
		m := g.head(w, r)
		if m == nil || m.Ready && t.ready <= least || !m.Ready && t.capacity <= least {
			break
		}
		g.take(ctx, w, m, now)
	}
	room := most - t.capacity
	if idle := t.warming == 0 && t.unhealthy == 0 && t.capacity >= g.Desired; idle && room <= 0 && left() > 0 {
		if m := g.head(w, r); m != nil {
			if r.MaxHealthy == nil {
				g.take(ctx, w, m, now)
			}
			room = 1
		}
	}

	switch n := g.Desired - t.capacity + left(); {
	case n < 0 && paused: // there are more while some are replaced, and these go when it goes on
		g.shrink(ctx, w, t.current-g.Desired, current, now)
	case n < 0:
		g.shrink(ctx, w, -n, current, now)
	case r.Rollback == nil && t.capacity < g.Desired && t.outdated == 0 && t.leaving == 0:
		g.grow(ctx, w, n, now) // a scale-out; nothing is left to replace
	default:
		g.launch(ctx, w, min(n, room), func(int) string { return causeRefreshIn(now) }, now)
	}

	g.measure(r)
	switch {
	case dataless != "":
		r.Reason = fmt.Sprintf("Waiting for the CloudWatch alarm %s to have sufficient data.", dataless)
	case r.Status != RefreshInProgress || !holding:
		r.Reason = g.waitingFor(w)
	}
	g.judge(w, r, holding, now)
}

// current is whether a member is not to be replaced.
func current(m *Member) bool { return !m.Outdated }

// guarded is how many outdated members the refresh has to leave alone for now.
func (g *Group) guarded(r *Refresh) int {
	if r.ProtectedWay == WayTake {
		return 0
	}
	return g.tally.guarded
}

// take replaces an outdated member.
func (g *Group) take(ctx context.Context, w World, m *Member, now time.Time) {
	g.queue[m.Zone] = g.queue[m.Zone][1:]
	g.headway(now)
	g.leave(ctx, w, m, causeRefreshOut(m.ID, now), now)
}

// head is the outdated member to replace next: the oldest of the zone that has
// most, of those that are not recent as long as there are such. Members that turn
// out not to need it are passed over for good; protected ones go to the end of
// their queue.
func (g *Group) head(w World, r *Refresh) *Member {
	var best *Member
	for _, zone := range slices.Sorted(maps.Keys(g.queue)) {
		m := g.zoneHead(w, r, zone)
		switch {
		case m == nil:
		case best == nil, g.recent(best) && !g.recent(m):
			best = m
		case g.recent(best) == g.recent(m) && g.tally.zones[m.Zone] > g.tally.zones[best.Zone]:
			best = m
		}
	}
	return best
}

func (g *Group) zoneHead(w World, r *Refresh, zone string) *Member {
	queue := g.queue[zone]
	defer func() { g.queue[zone] = queue }()
	for range len(queue) {
		m := g.Members[queue[0]]
		switch {
		case m == nil || !m.Outdated || m.Lifecycle == Terminating:
			queue = queue[1:]
		case r.SkipMatching && r.Rollback == nil && r.target(g).Floating() && m.matches(r.target(g).wanted(w.Fleet)):
			g.change(m, func(m *Member) { m.Outdated = false })
			queue = queue[1:]
		case !m.capacity() || m.Protected && r.ProtectedWay == WayWait:
			queue = append(queue[1:], queue[0])
		default:
			return m
		}
	}
	return nil
}

// follow replaces again what was replaced already when the desired configuration
// names $Latest or $Default, and that has come to mean another version
// (https://docs.aws.amazon.com/autoscaling/ec2/userguide/asg-instance-refresh-skip-matching.html).
func (g *Group) follow(w World, r *Refresh, now time.Time) {
	if r.Desired == nil || r.Rollback != nil || !r.Desired.Floating() {
		return
	}
	g.wakeAt(now.Add(w.Pace.Check))
	wanted := r.Desired.wanted(w.Fleet)
	if r.Wanted != nil && !slices.EqualFunc(wanted, r.Wanted, Template.same) {
		g.mark(func(m *Member) bool { return m.Outdated || m.Refresh == r.ID && !m.matches(wanted) })
	}
	r.Wanted = wanted
}

// spare decides on outdated members that have come into standby, or under
// protection, since the refresh began.
func (g *Group) spare(ctx context.Context, w World, r *Refresh, now time.Time) {
	protected := g.tally.guarded > 0 && r.ProtectedWay == WayIgnore
	standby := g.tally.waiting > 0 && r.StandbyWay != WayWait
	if !protected && !standby {
		return
	}
	for _, m := range g.All() {
		aside := m.Lifecycle == Standby || m.Lifecycle == EnteringStandby
		switch {
		case !m.Outdated:
		case aside && r.StandbyWay == WayTake:
			g.leave(ctx, w, m, causeRefreshOut(m.ID, now), now)
		case aside && r.StandbyWay == WayIgnore, !aside && m.Protected && r.ProtectedWay == WayIgnore:
			g.change(m, func(m *Member) { m.Outdated = false })
		}
	}
}

// goal is how many members are to be up to date before the next checkpoint is
// reached, and whether the refresh is waiting at one. A checkpoint that a later
// one is reached with is skipped; one is reached again when the group has grown
// (https://docs.aws.amazon.com/autoscaling/ec2/userguide/asg-adding-checkpoints-instance-refresh.html).
func (g *Group) goal(w World, r *Refresh, now time.Time) (goal int, holding bool) {
	last := len(r.Checkpoints) - 1
	if r.Rollback != nil || last < 0 {
		return g.Desired, false
	}
	at := func(i int) int { return ceil(g.Desired, r.Checkpoints[i]) }
	if !r.Until.IsZero() {
		if now.Before(r.Until) {
			g.wakeAt(r.Until)
			return at(r.Checkpoint - 1), true
		}
		r.Until = time.Time{}
		r.Moved = now
	}
	for r.Checkpoint > 0 && g.Desired > r.Reached && g.tally.done < at(r.Checkpoint-1) {
		r.Checkpoint--
	}
	if g.tally.leaving > 0 || g.tally.capacity > g.Desired || r.Checkpoint >= last || g.tally.done < at(r.Checkpoint) {
		return at(min(r.Checkpoint, last)), false
	}
	for r.Checkpoint < last && g.tally.done >= at(r.Checkpoint) {
		r.Checkpoint++
	}
	if r.Checkpoint == last && g.tally.done >= at(last) {
		return at(last), false // nothing is left to wait for
	}
	r.Reached = g.Desired
	r.Until = now.Add(w.Pace.seconds(r.CheckpointDelay))
	r.Reason = "Waiting at a checkpoint before continuing."
	g.wakeAt(r.Until)
	return at(r.Checkpoint - 1), true
}

// achieved is whether the refresh has replaced all that it is to replace.
func (g *Group) achieved(r *Refresh) bool {
	t := &g.tally
	goal := g.Desired
	if r.Rollback == nil && len(r.Checkpoints) > 0 {
		goal = ceil(g.Desired, r.Checkpoints[len(r.Checkpoints)-1])
	}
	rest := g.Desired - goal // with a last checkpoint below 100 these stay as they are
	return t.leaving == 0 && t.waiting == 0 && t.warming == 0 && t.unhealthy == 0 &&
		t.outdated <= rest && t.done >= goal && t.capacity == g.Desired
}

// achieve ends the refresh, after its bake time if it has one.
func (g *Group) achieve(w World, r *Refresh, now time.Time) {
	if r.BakeTime == 0 || r.Rollback != nil {
		g.succeed(r, now)
		return
	}
	g.measure(r)
	r.Status = RefreshBaking
	r.Reason = "Waiting for the bake time to pass before the instance refresh is complete."
	r.Until = now.Add(w.Pace.seconds(r.BakeTime))
	g.wakeAt(r.Until)
}

// judge fails a refresh that has not come on for as long as AWS has patience. A
// warm-up is not a lack of headway, so the patience begins after one.
func (g *Group) judge(w World, r *Refresh, holding bool, now time.Time) {
	patience := w.Pace.Patience
	if r.Warmup != nil {
		patience += w.Pace.seconds(*r.Warmup)
	}
	end := r.Moved.Add(patience)
	t := &g.tally
	begun := r.Start
	if r.Rollback != nil {
		begun = r.Rollback.Start
	}
	switch parting := t.leaving > 0 && t.outdated == 0 && t.warming == 0; {
	case !now.Before(begun.Add(w.Pace.seconds(int(longest / time.Second)))):
		g.fail(r, "The instance refresh has run for the longest time that it can, which is 14 days.", now)
	case holding || parting:
	case g.suspended(ProcessInstanceRefresh): // it is paused, not stuck
		r.Moved = now
	case !now.Before(end):
		g.fail(r, "Instances could not be replaced within one hour. "+r.Reason, now)
	default:
		g.wakeAt(end)
	}
}
