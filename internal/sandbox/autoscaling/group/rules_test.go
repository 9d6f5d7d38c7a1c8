package group

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// start starts a refresh to version 2, with nothing but these preferences.
func (w *world) start(g *Group, change func(*Preferences)) *Refresh {
	p := preferences(100, new(110))
	change(&p)
	desired := version("2")
	return g.StartRefresh(&desired, p, w.now)
}

// waits counts how often the refresh waits at a checkpoint until it ends.
func (w *world) waits(t *testing.T, g *Group, each func(n int)) int {
	t.Helper()
	r, n, last := g.Active(), 0, time.Time{}
	w.ended(t, g, func() {
		if r.Status == RefreshInProgress && !r.Until.IsZero() && !r.Until.Equal(last) {
			n, last = n+1, r.Until
			each(n)
		}
	})
	return n
}

func (g *Group) any(t *testing.T, fits func(*Member) bool) *Member {
	t.Helper()
	for _, m := range g.All() {
		if fits(m) {
			return m
		}
	}
	t.Fatal("there is no such member")
	return nil
}

func ofVersion(n int64) func(*Member) bool {
	return func(m *Member) bool { return m.Template.Version == n }
}

// TestRulesOfARefresh has one test for each rule of the user guide's chapter
// about instance refreshes that no other test is about.
func TestRulesOfARefresh(t *testing.T) {
	for rule, test := range map[string]func(*testing.T, *world){
		"a checkpoint that a later one is reached with is skipped": func(t *testing.T, w *world) {
			g := w.group(t, 2)
			r := w.start(g, func(p *Preferences) { p.Checkpoints, p.CheckpointDelay = []int{10, 40, 100}, 600 })
			if n := w.waits(t, g, func(int) {}); n != 1 || r.Status != RefreshSuccessful {
				t.Errorf("%s after %d waits, want Successful after 1", r.Status, n)
			}
		},
		"the last checkpoint is not waited at": func(t *testing.T, w *world) {
			g := w.group(t, 1)
			w.start(g, func(p *Preferences) { p.Checkpoints, p.CheckpointDelay = []int{50, 100}, 600 })
			if n := w.waits(t, g, func(int) {}); n != 0 {
				t.Errorf("%d waits, want none", n)
			}
		},
		"a checkpoint is reached again when the group has grown": func(t *testing.T, w *world) {
			g := w.group(t, 4)
			r := w.start(g, func(p *Preferences) { p.Checkpoints, p.CheckpointDelay, p.Warmup = []int{50, 100}, 600, new(900) })
			if n := w.waits(t, g, func(n int) {
				if n == 1 {
					g.Desired = 8
				}
			}); n != 2 || r.Status != RefreshSuccessful || versions(g)[2] != 8 {
				t.Errorf("%s after %d waits with %v, want Successful after 2 with 8 of version 2", r.Status, n, versions(g))
			}
		},
		"a last checkpoint below 100 ends Successful, and a rerun begins anew": func(t *testing.T, w *world) {
			g := w.group(t, 4)
			partial := func(p *Preferences) { p.Checkpoints = []int{50} }
			r := w.start(g, partial)
			w.ended(t, g, nil)
			if r.Status != RefreshSuccessful || versions(g)[2] != 2 || g.Saved.Template.Version != "2" || r.Percentage != 50 {
				t.Errorf("%s at %d%% with %v, saved %s; want Successful at 50%% with 2 and 2, saved 2", r.Status, r.Percentage, versions(g), g.Saved.Template.Version)
			}
			w.start(g, partial)
			w.ended(t, g, nil)
			if versions(g)[2] != 4 {
				t.Errorf("after the rerun: %v, want the earlier two replaced", versions(g))
			}
		},
		"what was replaced is replaced again when $Latest changes": func(t *testing.T, w *world) {
			w.versions["lt-1"] = 2
			g := w.group(t, 4)
			p := preferences(100, new(110))
			desired := version("$Latest")
			r := g.StartRefresh(&desired, p, w.now)
			w.until(t, g, func() bool { return r.Percentage == 50 })
			w.versions["lt-1"] = 3
			if w.ended(t, g, nil); r.Status != RefreshSuccessful || versions(g)[3] != 4 {
				t.Errorf("%s with %v, want Successful with 4 of version 3", r.Status, versions(g))
			}
		},
		"skip matching is decided for each instance of $Latest": func(t *testing.T, w *world) {
			w.versions["lt-1"] = 2
			g := w.group(t, 4)
			p := preferences(100, new(110))
			p.SkipMatching = true
			desired := version("$Latest")
			r := g.StartRefresh(&desired, p, w.now)
			w.until(t, g, func() bool { return r.Percentage == 50 })
			w.versions["lt-1"] = 1
			if w.ended(t, g, nil); r.Status != RefreshSuccessful || versions(g)[1] != 4 {
				t.Errorf("%s with %v, want Successful with 4 of version 1", r.Status, versions(g))
			}
			if left := g.Members["i-00003"]; left == nil {
				t.Error("an instance that matched was replaced")
			}
		},
		"without a desired configuration the saved one is launched": func(t *testing.T, w *world) {
			g := w.group(t, 2)
			r := g.StartRefresh(nil, preferences(50, nil), w.now)
			if w.ended(t, g, nil); r.Status != RefreshSuccessful || w.n != 4 || versions(g)[1] != 2 {
				t.Errorf("%s after %d launches with %v, want Successful, every instance replaced by one of version 1", r.Status, w.n, versions(g))
			}
		},
		"templates of overrides win": func(t *testing.T, w *world) {
			g := w.group(t, 2)
			desired := Configuration{Mixed: &Mixed{
				Template:  TemplateRef{ID: "lt-1", Version: "2"},
				Overrides: []Override{{InstanceType: "t3.micro", Template: &TemplateRef{ID: "lt-1", Version: "1"}}, {InstanceType: "m7i.large"}},
			}}
			r := g.StartRefresh(&desired, preferences(50, nil), w.now)
			if w.ended(t, g, nil); r.Status != RefreshSuccessful || versions(g)[1] != 2 {
				t.Errorf("%s with %v, want Successful with the override's version 1", r.Status, versions(g))
			}
		},
		"skip matching replaces what is of a type that is not wanted": func(t *testing.T, w *world) {
			g := w.group(t, 3)
			odd := g.any(t, ofVersion(1))
			g.change(odd, func(m *Member) { m.Type = "m5a.large" })
			desired := Configuration{Mixed: &Mixed{Template: TemplateRef{ID: "lt-1", Version: "1"}, Overrides: []Override{{InstanceType: "t3.micro"}}}}
			p := preferences(50, nil)
			p.SkipMatching = true
			r := g.StartRefresh(&desired, p, w.now)
			if w.ended(t, g, nil); r.Status != RefreshSuccessful || w.n != 4 || g.Members[odd.ID] != nil || g.Saved.Mixed == nil {
				t.Errorf("%s after %d launches, want Successful, with the odd one alone replaced", r.Status, w.n)
			}
		},
		"a single instance is ended and replaced at once when the maximum is omitted": func(t *testing.T, w *world) {
			g := w.group(t, 1)
			desired := version("2")
			g.StartRefresh(&desired, preferences(90, nil), w.now)
			w.ended(t, g, func() {
				if g.tally.capacity > 1 {
					t.Errorf("a capacity of %d, want never more than 1", g.tally.capacity)
				}
			})
		},
		"protection that is put on midway is respected by Ignore": func(t *testing.T, w *world) {
			g := w.group(t, 4)
			r := w.start(g, func(p *Preferences) { p.ProtectedWay = WayIgnore })
			w.until(t, g, func() bool { return r.Percentage == 50 })
			for _, m := range g.All() {
				g.Protect(m.ID, ofVersion(1)(m))
			}
			if w.ended(t, g, nil); r.Status != RefreshSuccessful || versions(g)[1] == 0 {
				t.Errorf("%s (%s) with %v, want Successful with the protected ones kept", r.Status, r.Reason, versions(g))
			}
		},
		"what is put into standby midway is terminated by Terminate": func(t *testing.T, w *world) {
			g := w.group(t, 4)
			r := w.start(g, func(p *Preferences) { p.StandbyWay = WayTake })
			w.until(t, g, func() bool { return r.Percentage == 25 })
			g.EnterStandby(w.World(), g.any(t, ofVersion(1)).ID, true, w.now)
			if w.ended(t, g, nil); r.Status != RefreshSuccessful || len(g.Members) != 3 || versions(g)[2] != 3 {
				t.Errorf("%s (%s) with %v, want Successful with 3 of version 2 alone", r.Status, r.Reason, versions(g))
			}
		},
		"a refresh fails after 14 days, whatever it waits for": func(t *testing.T, w *world) {
			w.check = time.Hour
			g := w.group(t, 10)
			r := w.start(g, func(p *Preferences) {
				p.Checkpoints, p.CheckpointDelay = []int{10, 20, 30, 40, 50, 60, 70, 80, 90, 100}, 172800
			})
			w.ended(t, g, nil)
			if took := r.End.Sub(r.Start); r.Status != RefreshFailed || took != 14*24*time.Hour {
				t.Errorf("%s after %s, want Failed after 14 days", r.Status, took)
			}
		},
		"a rollback after 14 days has 14 days": func(t *testing.T, w *world) {
			w.check = time.Hour
			g := w.group(t, 10)
			r := w.start(g, func(p *Preferences) {
				p.AutoRollback, p.Checkpoints, p.CheckpointDelay = true, []int{10, 20, 30, 40, 50, 60, 70, 80, 90, 100}, 172800
			})
			if w.ended(t, g, nil); r.Status != RefreshRollbackSuccessful || versions(g)[1] != 10 {
				t.Errorf("%s with %v, want RollbackSuccessful with 10 of version 1", r.Status, versions(g))
			}
		},
		"a rollback to what cannot be launched fails after an hour": func(t *testing.T, w *world) {
			g := w.group(t, 2)
			r := w.start(g, func(p *Preferences) { p.AutoRollback = true })
			w.until(t, g, func() bool { return r.Percentage == 50 })
			w.refuse = errors.New("InvalidAMIID.NotFound")
			g.StartRollback("Rolling back due to user request.", w.now)
			w.ended(t, g, nil)
			if took := r.End.Sub(r.Rollback.Start); r.Status != RefreshRollbackFailed || took < time.Hour {
				t.Errorf("%s after %s, want RollbackFailed after an hour", r.Status, took)
			}
		},
		"a rollback can be cancelled": func(t *testing.T, w *world) {
			w.boot = time.Minute
			g := w.group(t, 4)
			r := w.start(g, func(*Preferences) {})
			w.until(t, g, func() bool { return r.Percentage == 50 })
			g.StartRollback("Rolling back due to user request.", w.now)
			w.until(t, g, func() bool { return g.tally.pending > 0 })
			g.CancelRefresh(true, w.now)
			if w.ended(t, g, nil); r.Status != RefreshCancelled || versions(g)[2] == 0 {
				t.Errorf("%s with %v, want Cancelled with some of version 2", r.Status, versions(g))
			}
		},
		"cancel without waiting ends at once": func(t *testing.T, w *world) {
			w.boot = time.Minute
			g := w.group(t, 4)
			r := w.start(g, func(*Preferences) {})
			w.until(t, g, func() bool { return g.tally.pending > 0 })
			g.CancelRefresh(false, w.now)
			if r.Status != RefreshCancelled || g.tally.pending == 0 {
				t.Errorf("%s with %d pending, want Cancelled with the launch on its way", r.Status, g.tally.pending)
			}
		},
		"while it bakes the group is as it was, and launches what is desired": func(t *testing.T, w *world) {
			g := w.group(t, 2)
			r := w.start(g, func(p *Preferences) { p.BakeTime = 600 })
			w.until(t, g, func() bool { return r.Status == RefreshBaking })
			g.Desired = 3
			w.until(t, g, func() bool { return g.tally.ready == 3 })
			if r.Status != RefreshBaking || g.Saved.Template.Version != "1" || versions(g)[2] != 3 {
				t.Errorf("%s with %v, saved %s; want Baking with 3 of version 2, saved 1", r.Status, versions(g), g.Saved.Template.Version)
			}
			if w.ended(t, g, nil); r.Status != RefreshSuccessful || r.Percentage != 100 {
				t.Errorf("%s at %d%%, want Successful at 100%%", r.Status, r.Percentage)
			}
		},
		"new instances that are unhealthy are replaced until they are not": func(t *testing.T, w *world) {
			w.broken[2] = true
			g := w.group(t, 3)
			g.HealthCheckELB, g.Grace = true, 60
			g.Attach(w.World(), targetGroup, w.now)
			w.until(t, g, func() bool { return g.tally.ready == 3 })
			r := w.start(g, func(*Preferences) {})
			begun := w.now
			w.until(t, g, func() bool { return w.now.Sub(begun) > 30*time.Minute })
			if r.Status != RefreshInProgress || !strings.Contains(r.Reason, "Waiting") {
				t.Errorf("after half an hour: %s (%s), want it to try again", r.Status, r.Reason)
			}
			w.broken[2] = false
			if w.ended(t, g, nil); r.Status != RefreshSuccessful || versions(g)[2] != 3 {
				t.Errorf("%s with %v, want Successful with 3 of version 2", r.Status, versions(g))
			}
		},
	} {
		t.Run(rule, func(t *testing.T) { test(t, newWorld()) })
	}
}

func TestStandbyInstances(t *testing.T) {
	for way, want := range map[Way]RefreshStatus{WayWait: RefreshFailed, WayIgnore: RefreshSuccessful, WayTake: RefreshSuccessful} {
		t.Run(string(way), func(t *testing.T) {
			w := newWorld()
			g := w.group(t, 4)
			aside := g.any(t, ofVersion(1))
			g.EnterStandby(w.World(), aside.ID, true, w.now)
			w.until(t, g, func() bool { return aside.Lifecycle == Standby })
			r := w.start(g, func(p *Preferences) { p.StandbyWay = way })
			w.ended(t, g, nil)
			if r.Status != want || (g.Members[aside.ID] == nil) != (way == WayTake) || versions(g)[2] != 3 {
				t.Errorf("%s (%s) with %v, want %s", r.Status, r.Reason, versions(g), want)
			}
		})
	}
}

func TestStandbyInstancesThatReturnAreReplaced(t *testing.T) {
	w := newWorld()
	g := w.group(t, 4)
	g.Max = 8
	aside := g.any(t, ofVersion(1))
	g.EnterStandby(w.World(), aside.ID, true, w.now)
	w.until(t, g, func() bool { return aside.Lifecycle == Standby })
	r := w.start(g, func(*Preferences) {})
	w.until(t, g, func() bool { return versions(g)[2] == 3 && strings.Contains(r.Reason, "Standby") })
	g.ExitStandby(aside.ID, w.now)
	if w.ended(t, g, nil); r.Status != RefreshSuccessful || versions(g)[2] != 4 {
		t.Errorf("%s (%s) with %v, want Successful with 4 of version 2", r.Status, r.Reason, versions(g))
	}
}
