package group

import (
	"strings"
	"testing"
	"time"
)

func TestAnAlarmThatGoesOffEndsTheRefresh(t *testing.T) {
	for _, tc := range []struct {
		name     string
		at       RefreshStatus
		rollback bool
		want     RefreshStatus
	}{
		{"in progress", RefreshInProgress, false, RefreshFailed},
		{"in progress, with auto rollback", RefreshInProgress, true, RefreshRollbackSuccessful},
		{"baking", RefreshBaking, false, RefreshFailed},
		{"baking, with auto rollback", RefreshBaking, true, RefreshRollbackSuccessful},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld()
			w.alarms["errors"] = alarmOK
			g := w.group(t, 4)
			p := preferences(75, nil)
			p.Warmup, p.BakeTime, p.AutoRollback, p.Alarms = new(60), 600, tc.rollback, []string{"errors"}
			desired := version("2")
			r := g.StartRefresh(&desired, p, w.now)
			w.until(t, g, func() bool { return r.Status == tc.at && r.Percentage >= 50 && g.tally.capacity == 4 })
			begun := w.now
			w.alarms["errors"] = alarmRinging
			w.until(t, g, func() bool { return r.Status != tc.at })
			if took := w.now.Sub(begun); took != 0 {
				t.Errorf("the alarm was heard after %s, want at once", took)
			}
			if !r.Ended() {
				w.ended(t, g, nil)
			}
			w.until(t, g, func() bool { return g.tally.ready == 4 })
			if r.Status != tc.want || !strings.Contains(r.Reason, "alarm errors is in the ALARM state") {
				t.Errorf("refresh = %s (%s), want %s for the alarm", r.Status, r.Reason, tc.want)
			}
			if old := versions(g)[1]; (old == 4) != tc.rollback || g.Saved.Template.Version != "1" {
				t.Errorf("%d of 4 members are of version 1, and version %s is saved; want 1, and all only after a rollback", old, g.Saved.Template.Version)
			}
		})
	}
}

func TestAnAlarmWithoutDataBlocksReplacement(t *testing.T) {
	w := newWorld()
	w.alarms["errors"] = alarmOK
	g := w.group(t, 4)
	p := preferences(75, nil)
	p.Alarms = []string{"errors"}
	desired := version("2")
	r := g.StartRefresh(&desired, p, w.now)
	w.until(t, g, func() bool { return r.Percentage == 25 })
	w.alarms["errors"] = "INSUFFICIENT_DATA"
	blocked := w.now
	w.until(t, g, func() bool { return w.now.Sub(blocked) > 30*time.Minute })
	if n := versions(g)[1]; n != 3 && n != 2 || !strings.Contains(r.Reason, "sufficient data") {
		t.Errorf("%d of version 1 left (%s), want no more replaced than were on their way", n, r.Reason)
	}
	w.alarms["errors"] = alarmOK
	if w.ended(t, g, nil); r.Status != RefreshSuccessful {
		t.Errorf("refresh = %s (%s), want Successful when there is data again", r.Status, r.Reason)
	}
}

func TestAnAlarmWithoutDataForAnHourFailsTheRefresh(t *testing.T) {
	w := newWorld()
	w.alarms["errors"] = "INSUFFICIENT_DATA"
	g := w.group(t, 2)
	p := preferences(50, nil)
	p.Alarms = []string{"errors"}
	desired := version("2")
	r := g.StartRefresh(&desired, p, w.now)
	if w.ended(t, g, nil); r.Status != RefreshFailed || versions(g)[1] != 2 {
		t.Errorf("refresh = %s with %v, want Failed and nothing replaced", r.Status, versions(g))
	}
}
