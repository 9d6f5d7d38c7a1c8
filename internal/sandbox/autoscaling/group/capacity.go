package group

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// balance brings the capacity to what is desired.
func (g *Group) balance(ctx context.Context, w World, now time.Time) {
	if g.Deleting {
		return
	}
	switch n := g.Desired - g.tally.capacity; {
	case n > 0:
		g.grow(ctx, w, n, now)
	case n < 0:
		g.shrink(ctx, w, -n, func(m *Member) bool { return true }, now)
	}
}

// grow launches n instances because there are too few.
func (g *Group) grow(ctx context.Context, w World, n int, now time.Time) {
	instead := g.Replaced
	capacity := g.tally.capacity
	done := g.launch(ctx, w, n, func(i int) string {
		if i < instead {
			return causeInstead(now)
		}
		return g.causeGrow(capacity+i, capacity+i+1, now)
	}, now)
	g.Replaced = max(0, g.Replaced-done)
	if done == n {
		g.Asked = ""
	}
}

// configuration is what is launched now. Scale-outs during a refresh use the
// desired configuration already; a rollback returns to the saved one.
func (g *Group) configuration() (Configuration, string) {
	if r := g.Active(); r != nil && r.Desired != nil &&
		(r.Status == RefreshPending || r.Status == RefreshInProgress || r.Status == RefreshBaking) {
		return *r.Desired, r.ID
	}
	return g.Saved, ""
}

// launch starts up to n instances, balanced over the zones, and returns how many
// were started. cause words the activity of the i-th. A failure is an activity
// too, and puts further launches off.
func (g *Group) launch(ctx context.Context, w World, n int, cause func(i int) string, now time.Time) int {
	if n <= 0 || g.suspended(ProcessLaunch) {
		return 0
	}
	if now.Before(g.Retry) {
		g.wakeAt(g.Retry)
		return 0
	}
	conf, refresh := g.configuration()
	started := 0
	for i, count := range g.spread(n) {
		if count == 0 {
			continue
		}
		zone := g.Zones[i]
		launched, err := g.order(ctx, w, conf, zone, count)
		if err != nil {
			message := err.Error() + " Launching EC2 instance failed."
			a := g.begin(Activity{
				Description: "Launching a new EC2 instance.  Status Reason: " + message,
				Cause:       cause(started),
				Subnet:      zone.Subnet,
				Zone:        zone.Zone,
			}, now)
			a.close(Failed, message, now)
			delete(g.byID, a.ID)
			g.launchFailed(w, now)
			return started
		}
		g.Failures = 0
		for _, l := range launched {
			a := g.begin(Activity{
				Description: "Launching a new EC2 instance: " + l.ID,
				Cause:       cause(started),
				Status:      PreInService,
				Progress:    30,
				Subnet:      zone.Subnet,
				Zone:        zone.Zone,
			}, now)
			started++
			g.add(&Member{
				ID: l.ID, Zone: l.Zone, Type: l.Type,
				Template:  l.Template,
				Lifecycle: Pending,
				Protected: g.ProtectNew,
				Launched:  now,
				Activity:  a.ID,
				Refresh:   refresh,
			}, now.Add(w.Pace.Poll))
		}
	}
	return started
}

// order launches alike instances in one zone: the preferred choice that EC2 has.
func (g *Group) order(ctx context.Context, w World, conf Configuration, zone Zone, count int) (launched []Launched, err error) {
	tags := map[string]string{"aws:autoscaling:groupName": g.Name}
	for _, t := range g.Tags {
		if t.Propagate {
			tags[t.Key] = t.Value
		}
	}
	for _, choice := range conf.Choices() {
		launched, err = w.Fleet.Launch(ctx, Order{
			Template:     choice.Template,
			InstanceType: choice.InstanceType,
			Subnet:       zone.Subnet,
			Count:        count,
			Tags:         tags,
		})
		if err == nil {
			return launched, nil
		}
	}
	return nil, err
}

// spread says how many of n new instances go into each zone, so that the zones
// come as near to each other as they can.
func (g *Group) spread(n int) []int {
	have := make([]int, len(g.Zones))
	for i, z := range g.Zones {
		have[i] = g.tally.zones[z.Zone]
	}
	counts := make([]int, len(g.Zones))
	for ; n > 0 && len(have) > 0; n-- {
		least := slices.Index(have, slices.Min(have))
		have[least]++
		counts[least]++
	}
	return counts
}

// shrink takes n of the members that may go out of the zones that have most, by
// the group's termination policies.
func (g *Group) shrink(ctx context.Context, w World, n int, may func(*Member) bool, now time.Time) {
	if n <= 0 || g.suspended(ProcessTerminate) {
		return
	}
	zones := map[string][]*Member{}
	for _, m := range g.Members {
		if m.capacity() && !m.Protected && may(m) {
			zones[m.Zone] = append(zones[m.Zone], m)
		}
	}
	names := make([]string, 0, len(zones))
	for zone, members := range zones {
		names = append(names, zone)
		slices.SortFunc(members, g.firstToGo)
	}
	slices.Sort(names)
	for ; n > 0; n-- {
		full := ""
		for _, zone := range names {
			if len(zones[zone]) > 0 && (full == "" || g.tally.zones[zone] > g.tally.zones[full]) {
				full = zone
			}
		}
		if full == "" {
			return
		}
		m := zones[full][0]
		zones[full] = zones[full][1:]
		c := g.tally.capacity
		g.leave(ctx, w, m, g.causeShrink(m.ID, c, c-1, now), now)
	}
	g.Asked = ""
}

// TerminationPolicies are the names that a group can have.
var TerminationPolicies = []string{"Default", "OldestInstance", "NewestInstance", "OldestLaunchTemplate"}

// firstToGo orders members by the termination policies.
func (g *Group) firstToGo(a, b *Member) int {
	for _, policy := range g.TerminationPolicies {
		order := 0
		switch policy {
		case "OldestInstance":
			order = byAge(a, b)
		case "NewestInstance":
			order = -byAge(a, b)
		case "OldestLaunchTemplate":
			order = byTemplate(a, b)
		}
		if order != 0 {
			return order
		}
	}
	return cmp.Or(byTemplate(a, b), byAge(a, b))
}

// byAge puts those that were launched first first.
func byAge(a, b *Member) int {
	return cmp.Or(a.Launched.Compare(b.Launched), cmp.Compare(a.ID, b.ID))
}

// byTemplate puts older versions of a launch template first.
func byTemplate(a, b *Member) int {
	return cmp.Or(cmp.Compare(a.Template.ID, b.Template.ID), cmp.Compare(a.Template.Version, b.Template.Version))
}

// ceil and floor are a percentage of a capacity, in whole instances.
func ceil(capacity, percent int) int  { return (capacity*percent + 99) / 100 }
func floor(capacity, percent int) int { return capacity * percent / 100 }
