package group

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// world is a fleet and target groups that do at once, or after a delay, what
// they are told, in a time of the test's own.
type world struct {
	now      time.Time
	versions map[string]int64 // what $Latest is, by template
	state    map[string]string
	born     map[string]time.Time
	boot     time.Duration
	check    time.Duration
	broken   map[int64]bool // template versions whose instances are never healthy
	refuse   error          // of every launch
	version  map[string]int64
	targets  map[string]string // state by instance, in the one target group
	drainEnd map[string]time.Time
	delay    time.Duration
	alarms   map[string]string
	log      []string
	n        int
}

const targetGroup = "tg"

func newWorld() *world {
	return &world{
		check:    10 * time.Second,
		now:      time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		versions: map[string]int64{},
		state:    map[string]string{},
		born:     map[string]time.Time{},
		broken:   map[int64]bool{},
		version:  map[string]int64{},
		targets:  map[string]string{},
		alarms:   map[string]string{},
		drainEnd: map[string]time.Time{},
	}
}

func (w *world) World() World {
	return World{Fleet: w, Targets: w, Alarms: alarms(w.alarms), Pace: Pace{
		Begin: time.Second, Poll: time.Second, Check: w.check, Retry: 15 * time.Second, Patience: time.Hour,
	}}
}

type alarms map[string]string

func (a alarms) State(name string) string { return a[name] }

func (w *world) Template(ref TemplateRef, instanceType string) (Template, error) {
	t := Template{ID: ref.ID, Name: ref.Name, Version: w.versions[ref.ID], InstanceType: "t3.micro"}
	if !ref.Floating() {
		if _, err := fmt.Sscan(ref.Version, &t.Version); err != nil {
			return t, err
		}
	}
	return t, nil
}

func (w *world) Launch(_ context.Context, o Order) ([]Launched, error) {
	if w.refuse != nil {
		return nil, w.refuse
	}
	t, err := w.Template(o.Template, o.InstanceType)
	if err != nil {
		return nil, err
	}
	var all []Launched
	for range o.Count {
		w.n++
		id := fmt.Sprintf("i-%05d", w.n)
		w.state[id], w.born[id], w.version[id] = "pending", w.now, t.Version
		typ := t.InstanceType
		if o.InstanceType != "" {
			typ = o.InstanceType
		}
		all = append(all, Launched{ID: id, Zone: strings.TrimPrefix(o.Subnet, "subnet-"), Type: typ, Template: t})
		w.log = append(w.log, "launch")
	}
	return all, nil
}

func (w *world) Terminate(_ context.Context, id string) error {
	if w.targets[id] != "" {
		return errors.New("still registered: " + id)
	}
	w.state[id] = stateTerminated
	w.log = append(w.log, "terminate")
	return nil
}

func (w *world) State(id string) string {
	if w.state[id] == "pending" && !w.now.Before(w.born[id].Add(w.boot)) {
		w.state[id] = stateRunning
	}
	if s, ok := w.state[id]; ok {
		return s
	}
	return stateTerminated
}

func (w *world) Register(_, id string) error {
	w.targets[id] = targetHealthy
	if w.broken[w.version[id]] {
		w.targets[id] = targetUnhealthy
	}
	return nil
}

func (w *world) Deregister(_, id string) error {
	if w.targets[id] != "" && w.drainEnd[id].IsZero() {
		w.targets[id] = "draining"
		w.drainEnd[id] = w.now.Add(w.delay)
		w.log = append(w.log, "drain")
	}
	return nil
}

func (w *world) Health(_, id string) Health {
	if end, ok := w.drainEnd[id]; ok && !w.now.Before(end) {
		delete(w.targets, id)
	}
	return Health{State: w.targets[id], Description: "Health checks failed"}
}

// group makes a group of n instances of version 1, all in service.
func (w *world) group(t *testing.T, n int) *Group {
	t.Helper()
	g := &Group{
		Name: "hello", Created: w.now, Min: 0, Max: 2 * n, Desired: n,
		Zones: []Zone{{"subnet-a", "a"}, {"subnet-b", "b"}, {"subnet-c", "c"}},
		Saved: version("1"),
	}
	g.Wake(w.now)
	w.until(t, g, func() bool { return g.tally.ready == n })
	w.log = nil
	return g
}

func version(v string) Configuration {
	return Configuration{Template: &TemplateRef{ID: "lt-1", Version: v}}
}

// until steps the group, moving time from one wake to the next, until it holds.
func (w *world) until(t *testing.T, g *Group, holds func() bool) {
	t.Helper()
	for range 100000 {
		next := g.Step(t.Context(), w.World(), w.now)
		if holds() {
			return
		}
		if next.After(w.now) {
			w.now = next
		}
	}
	r := g.Refreshes
	t.Fatalf("never came true; tally %+v, refreshes %+v", g.tally, r)
}

func (w *world) ended(t *testing.T, g *Group, each func()) *Refresh {
	t.Helper()
	r := g.Active()
	w.until(t, g, func() bool {
		if each != nil {
			each()
		}
		return r.Ended()
	})
	return r
}

func preferences(least int, most *int) Preferences {
	return Preferences{MinHealthy: least, MaxHealthy: most, Warmup: new(0), ProtectedWay: WayWait, StandbyWay: WayWait}
}

func versions(g *Group) map[int64]int {
	n := map[int64]int{}
	for _, m := range g.Members {
		n[m.Template.Version]++
	}
	return n
}

func TestAGroupIsSpreadOverItsZones(t *testing.T) {
	w := newWorld()
	g := w.group(t, 7)
	if got := g.tally.zones; got["a"] != 3 || got["b"] != 2 || got["c"] != 2 {
		t.Errorf("zones = %v, want 3, 2 and 2", got)
	}
}

func TestTheOrderOfReplacement(t *testing.T) {
	for _, tc := range []struct {
		name        string
		n           int
		least       int
		most        *int
		low, high   int // capacity seen: ready at the lowest, all at the highest
		firstToLast string
	}{
		{"omitted maximum terminates first", 3, 100, nil, 2, 3, "terminate launch"},
		{"explicit 100 launches first", 3, 100, new(100), 3, 4, "launch terminate"},
		{"110 of three launches first", 3, 100, new(110), 3, 4, "launch terminate"},
		{"110 of ten launches one", 10, 100, new(110), 10, 11, "launch terminate"},
		{"90 of ten takes one", 10, 90, nil, 9, 10, "terminate launch"},
		{"50 of ten takes five", 10, 50, nil, 5, 10, "terminate launch"},
		{"0 takes all", 4, 0, nil, 0, 4, "terminate launch"},
		{"200 launches all", 4, 100, new(200), 4, 8, "launch terminate"},
		{"90 to 110 does both", 10, 90, new(110), 9, 11, "terminate launch"},
		{"a single one, launch first", 1, 100, new(100), 1, 2, "launch terminate"},
		{"a single one, terminate first", 1, 100, nil, 0, 1, "terminate launch"},
		{"a single one, by default", 1, 90, nil, 0, 1, "terminate launch"},
		{"none at all", 0, 90, nil, 0, 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld()
			w.boot = 20 * time.Second
			g := w.group(t, tc.n)
			desired := version("2")
			g.StartRefresh(&desired, preferences(tc.least, tc.most), w.now)
			low, high := tc.n, tc.n
			r := w.ended(t, g, func() {
				low, high = min(low, g.tally.ready), max(high, g.tally.capacity)
				if g.Active() != nil && g.Saved.Template.Version != "1" {
					t.Error("the saved template changed before the refresh succeeded")
				}
			})
			if r.Status != RefreshSuccessful {
				t.Fatalf("refresh = %s (%s), want Successful", r.Status, r.Reason)
			}
			if r.Percentage != 100 || r.Remaining != 0 {
				t.Errorf("progress = %d%%, %d remaining, want 100%%, 0", r.Percentage, r.Remaining)
			}
			if got := versions(g); got[2] != tc.n || len(g.Members) != tc.n {
				t.Errorf("members by version = %v, want all %d of version 2", got, tc.n)
			}
			if low != tc.low || high != tc.high {
				t.Errorf("ready at the lowest %d and capacity at the highest %d, want %d and %d", low, high, tc.low, tc.high)
			}
			if got := strings.Join(slices.Compact(slices.Clone(w.log)), " "); !strings.HasPrefix(got, tc.firstToLast) {
				t.Errorf("order = %s, want it to begin %s", got, tc.firstToLast)
			}
			if g.Saved.Template.Version != "2" {
				t.Errorf("saved version = %s, want 2 after success", g.Saved.Template.Version)
			}
		})
	}
}

func TestAnInstanceIsDrainedBeforeItIsTerminated(t *testing.T) {
	w := newWorld()
	w.delay = 30 * time.Second
	g := w.group(t, 3)
	g.Attach(w.World(), targetGroup, w.now)
	w.until(t, g, func() bool { return g.tally.ready == 3 })
	desired := version("2")
	g.StartRefresh(&desired, preferences(100, new(110)), w.now)
	r := w.ended(t, g, nil) // Terminate fails for a target that is registered
	if r.Status != RefreshSuccessful {
		t.Fatalf("refresh = %s (%s)", r.Status, r.Reason)
	}
	for _, a := range g.Activities {
		if a.Status != Successful {
			t.Errorf("%s: %s %s, want Successful", a.Description, a.Status, a.StatusMessage)
		}
	}
}

func TestAnInstanceCountsOnlyWhenItIsWarm(t *testing.T) {
	w := newWorld()
	g := w.group(t, 4)
	desired := version("2")
	p := preferences(50, nil)
	p.Warmup = new(300)
	r := g.StartRefresh(&desired, p, w.now)
	start := w.now
	w.until(t, g, func() bool { return w.now.Sub(start) > 200*time.Second })
	if r.Percentage != 0 || r.Remaining != 4 {
		t.Errorf("before the warm-up is over: %d%%, %d remaining, want 0%%, 4", r.Percentage, r.Remaining)
	}
	if want := "is warming up."; !strings.HasSuffix(r.Reason, want) {
		t.Errorf("reason = %q, want it to end %q", r.Reason, want)
	}
	w.until(t, g, func() bool { return w.now.Sub(start) > 310*time.Second })
	if r.Percentage != 50 || r.Remaining != 2 {
		t.Errorf("after the first warm-up: %d%%, %d remaining, want 50%%, 2", r.Percentage, r.Remaining)
	}
}

func TestARefreshThatDoesNotComeOnFailsAfterAnHour(t *testing.T) {
	for _, tc := range []struct {
		name     string
		rollback bool
		elb      bool
		refuse   bool
		want     RefreshStatus
	}{
		{"never healthy", false, false, false, RefreshFailed},
		{"never healthy, replaced again and again", false, true, false, RefreshFailed},
		{"never healthy, rolled back", true, true, false, RefreshRollbackSuccessful},
		{"launches refused", false, false, true, RefreshFailed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld()
			w.broken[2] = true
			g := w.group(t, 3)
			g.HealthCheckELB, g.Grace = tc.elb, 60
			g.Attach(w.World(), targetGroup, w.now)
			w.until(t, g, func() bool { return g.tally.ready == 3 })
			desired := version("2")
			p := preferences(100, new(110))
			p.AutoRollback = tc.rollback
			start := w.now
			if tc.refuse {
				w.refuse = errors.New("InsufficientInstanceCapacity")
			}
			g.StartRefresh(&desired, p, w.now)
			r := w.ended(t, g, func() {
				if g.tally.ready < 3 {
					t.Fatalf("only %d healthy old instances, want all 3 at any time", g.tally.ready)
				}
			})
			if r.Status != tc.want {
				t.Errorf("status = %s (%s), want %s", r.Status, r.Reason, tc.want)
			}
			if took := r.End.Sub(start); took < time.Hour || took > time.Hour+5*time.Minute {
				t.Errorf("it took %s, want about an hour", took)
			}
			if g.Saved.Template.Version != "1" {
				t.Errorf("saved version = %s, want 1 still", g.Saved.Template.Version)
			}
			w.until(t, g, func() bool { return len(g.Members) == 3 })
			if tc.rollback {
				if got := versions(g); got[1] != 3 {
					t.Errorf("members by version = %v, want 3 of version 1", got)
				}
				if r.Percentage != 0 || r.Rollback == nil {
					t.Errorf("progress = %d%%, rollback %v, want 0%% and its details", r.Percentage, r.Rollback)
				}
			}
		})
	}
}

func TestARollbackReplacesOnlyWhatWasReplaced(t *testing.T) {
	w := newWorld()
	g := w.group(t, 4)
	desired := version("2")
	p := preferences(75, nil)
	p.Warmup = new(60)
	r := g.StartRefresh(&desired, p, w.now)
	w.until(t, g, func() bool { return r.Percentage == 50 })
	w.log = nil
	g.StartRollback("Rolling back due to user request.", w.now)
	w.ended(t, g, func() {
		if !r.Ended() && r.Percentage > 50 {
			t.Errorf("percentage = %d in the rollback, want it to fall", r.Percentage)
		}
	})
	if r.Status != RefreshRollbackSuccessful || r.Rollback.Percentage != 50 || r.Rollback.Remaining != 2 || r.Percentage != 0 || r.Remaining != 4 {
		t.Errorf("refresh = %s %d%% %d, rollback %+v; want RollbackSuccessful 0%% 4 from 50%% 2", r.Status, r.Percentage, r.Remaining, *r.Rollback)
	}
	if got := versions(g); got[1] != 4 {
		t.Errorf("members by version = %v, want 4 of version 1", got)
	}
	launches := 0
	for _, l := range w.log {
		if l == "launch" {
			launches++
		}
	}
	if launches > 3 {
		t.Errorf("%d launches in the rollback, want at most the 3 that were replaced", launches)
	}
}

func TestCancelWaitsForWhatIsOnItsWay(t *testing.T) {
	w := newWorld()
	w.boot = time.Minute
	g := w.group(t, 4)
	desired := version("2")
	r := g.StartRefresh(&desired, preferences(75, nil), w.now)
	w.until(t, g, func() bool { return g.tally.pending == 1 })
	g.CancelRefresh(true, w.now)
	w.ended(t, g, func() {
		if !r.Ended() && r.Status != RefreshCancelling {
			t.Errorf("status = %s, want Cancelling", r.Status)
		}
	})
	if got := versions(g); r.Status != RefreshCancelled || got[1] != 3 || got[2] != 1 {
		t.Errorf("refresh %s with members by version %v, want Cancelled with 3 and 1", r.Status, got)
	}
	if g.Saved.Template.Version != "1" {
		t.Errorf("saved version = %s, want 1", g.Saved.Template.Version)
	}
}

func TestSkipMatchingLeavesWhatMatches(t *testing.T) {
	w := newWorld()
	g := w.group(t, 3)
	p := preferences(100, new(110))
	p.SkipMatching = true
	desired := version("1")
	g.StartRefresh(&desired, p, w.now)
	r := w.ended(t, g, nil)
	if r.Status != RefreshSuccessful || len(w.log) != 0 {
		t.Errorf("refresh %s did %v, want Successful and nothing", r.Status, w.log)
	}
}

func TestAScaleOutInARefreshUsesTheDesiredConfiguration(t *testing.T) {
	w := newWorld()
	g := w.group(t, 4)
	p := preferences(75, nil)
	p.Warmup = new(600)
	desired := version("2")
	r := g.StartRefresh(&desired, p, w.now)
	w.until(t, g, func() bool { return r.Status == RefreshInProgress })
	g.Desired = 6
	w.until(t, g, func() bool { return g.tally.capacity == 6 })
	if got := versions(g); got[2] < 2 || got[1] > 4 {
		t.Errorf("members by version = %v, want the new ones of version 2", got)
	}
	if w.ended(t, g, nil); r.Status != RefreshSuccessful || versions(g)[2] != 6 {
		t.Errorf("refresh %s, members by version %v, want Successful and 6 of version 2", r.Status, versions(g))
	}
}

func TestAScaleInInARefresh(t *testing.T) {
	w := newWorld()
	g := w.group(t, 6)
	p := preferences(50, nil)
	p.Warmup = new(600)
	desired := version("2")
	r := g.StartRefresh(&desired, p, w.now)
	w.until(t, g, func() bool { return r.Percentage == 50 })
	g.Desired = 2
	if w.ended(t, g, nil); r.Status != RefreshSuccessful || versions(g)[2] != 2 || len(g.Members) != 2 {
		t.Errorf("refresh %s, members by version %v, want Successful and 2 of version 2", r.Status, versions(g))
	}
}

func TestCheckpointsAndBakeTime(t *testing.T) {
	w := newWorld()
	g := w.group(t, 10)
	p := preferences(90, nil)
	p.Checkpoints, p.CheckpointDelay, p.BakeTime = []int{20, 100}, 1800, 900
	desired := version("2")
	r := g.StartRefresh(&desired, p, w.now)
	start := w.now
	w.until(t, g, func() bool { return w.now.Sub(start) > 20*time.Minute })
	if r.Percentage != 20 || versions(g)[2] != 2 {
		t.Errorf("at the checkpoint: %d%%, %v, want 20%% and 2 of version 2", r.Percentage, versions(g))
	}
	w.until(t, g, func() bool { return r.Status == RefreshBaking })
	baking := w.now
	w.ended(t, g, nil)
	if took := w.now.Sub(baking); r.Status != RefreshSuccessful || took != 15*time.Minute {
		t.Errorf("%s after baking %s, want Successful after 15m", r.Status, took)
	}
}

func TestACheckpointKeepsWhatWasLaunched(t *testing.T) {
	w := newWorld()
	g := w.group(t, 4)
	p := preferences(100, new(110))
	p.Checkpoints, p.CheckpointDelay = []int{50, 100}, 1800
	desired := version("2")
	r := g.StartRefresh(&desired, p, w.now)
	w.ended(t, g, nil)
	if r.Status != RefreshSuccessful || w.n != 8 {
		t.Errorf("%s with %d launches, want Successful with one for each of the 4 that there were", r.Status, w.n-4)
	}
}

func TestASuspendedRefreshKeepsWhatWasLaunched(t *testing.T) {
	w := newWorld()
	g := w.group(t, 3)
	p := preferences(100, new(200))
	p.Warmup = new(60)
	desired := version("2")
	r := g.StartRefresh(&desired, p, w.now)
	w.until(t, g, func() bool { return g.tally.capacity == 6 })
	g.Suspended = []string{ProcessInstanceRefresh}
	start := w.now
	w.until(t, g, func() bool { return w.now.Sub(start) > 3*time.Hour })
	if n := versions(g); n[1] != 3 || n[2] != 3 || r.Status != RefreshInProgress {
		t.Errorf("while it is suspended: %s with %v, want InProgress with 3 and 3", r.Status, n)
	}
	g.Suspended = nil
	if w.ended(t, g, nil); r.Status != RefreshSuccessful || versions(g)[2] != 3 {
		t.Errorf("%s with %v, want Successful with 3 of version 2", r.Status, versions(g))
	}
}

func TestProtectedInstances(t *testing.T) {
	for way, want := range map[Way]RefreshStatus{WayWait: RefreshFailed, WayIgnore: RefreshSuccessful, WayTake: RefreshSuccessful} {
		t.Run(string(way), func(t *testing.T) {
			w := newWorld()
			g := w.group(t, 3)
			for _, m := range g.Members {
				g.change(m, func(m *Member) { m.Protected = true })
				break
			}
			p := preferences(100, new(110))
			p.ProtectedWay = way
			desired := version("2")
			g.StartRefresh(&desired, p, w.now)
			r := w.ended(t, g, nil)
			kept := versions(g)[1]
			if r.Status != want || (kept == 1) != (way != WayTake) {
				t.Errorf("refresh %s (%s), %d of version 1 kept", r.Status, r.Reason, kept)
			}
			if len(g.Members) != 3 {
				t.Errorf("%d members, want 3", len(g.Members))
			}
		})
	}
}

func TestAnUnhealthyInstanceIsReplaced(t *testing.T) {
	w := newWorld()
	g := w.group(t, 3)
	w.state["i-00001"] = "stopped"
	w.until(t, g, func() bool { return w.state["i-00001"] == stateTerminated && g.tally.ready == 3 })
	var causes []string
	for _, a := range g.Activities[3:] {
		causes = append(causes, a.Cause)
	}
	all := strings.Join(causes, "\n")
	for _, want := range []string{"taken out of service in response to an EC2 health check", "launched in response to an unhealthy instance needing to be replaced"} {
		if !strings.Contains(all, want) {
			t.Errorf("causes\n%s\nwant %q among them", all, want)
		}
	}
}

func TestAMaintenancePolicyLaunchesBeforeItTerminates(t *testing.T) {
	w := newWorld()
	w.boot = time.Minute
	g := w.group(t, 2)
	g.Maintenance = &Bounds{Min: 100, Max: 150}
	g.SetHealth("i-00001", false)
	w.until(t, g, func() bool { return w.state["i-00001"] == stateTerminated })
	if got := strings.Join(w.log, " "); got != "launch terminate" {
		t.Errorf("order = %s, want launch terminate", got)
	}
}

func TestARefreshGoesOnAfterARestart(t *testing.T) {
	w := newWorld()
	g := w.group(t, 6)
	p := preferences(50, nil)
	p.Warmup = new(60)
	desired := version("2")
	r := g.StartRefresh(&desired, p, w.now)
	w.until(t, g, func() bool { return r.Percentage == 50 })
	text, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	again := &Group{}
	if err := json.Unmarshal(text, again); err != nil {
		t.Fatal(err)
	}
	again.Wake(w.now)
	if r = w.ended(t, again, nil); r.Status != RefreshSuccessful || versions(again)[2] != 6 {
		t.Errorf("refresh %s, members by version %v, want Successful and 6 of version 2", r.Status, versions(again))
	}
}

func TestTenThousandInstances(t *testing.T) {
	w := newWorld()
	const n = 10000
	g := w.group(t, n)
	g.Min, g.Max = 0, n
	desired := version("2")
	p := preferences(90, new(110))
	p.Warmup = new(60)
	r := g.StartRefresh(&desired, p, w.now)
	steps := 0
	w.ended(t, g, func() { steps++ })
	if r.Status != RefreshSuccessful || versions(g)[2] != n {
		t.Errorf("refresh %s, members by version %v", r.Status, versions(g))
	}
	if steps > 2000 {
		t.Errorf("%d steps for ten batches", steps)
	}
}
