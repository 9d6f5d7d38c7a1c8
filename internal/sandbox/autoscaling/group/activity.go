package group

import (
	"slices"
	"time"

	"github.com/google/uuid"
)

// History is how long activities and refreshes are kept, as AWS does.
const History = 6 * 7 * 24 * time.Hour

// Status is the status code of an activity, in AWS's words.
type Status string

// The status codes of activities.
const (
	PreInService Status = "PreInService"
	InProgress   Status = "InProgress"
	Draining     Status = "WaitingForELBConnectionDraining"
	Successful   Status = "Successful"
	Failed       Status = "Failed"
	Cancelled    Status = "Cancelled"
)

// Activity is a scaling activity.
type Activity struct {
	ID            string
	Start         time.Time
	End           time.Time `json:",omitzero"`
	Description   string
	Cause         string
	Status        Status
	StatusMessage string `json:",omitempty"`
	Progress      int
	Subnet        string `json:",omitempty"`
	Zone          string `json:",omitempty"`
}

// Ended is whether the activity is over.
func (a *Activity) Ended() bool { return !a.End.IsZero() }

// begin records the start of an activity.
func (g *Group) begin(a Activity, now time.Time) *Activity {
	a.ID = uuid.NewString()
	a.Start = now
	g.Activities = append(g.Activities, &a)
	g.byID[a.ID] = &a
	return &a
}

// end closes the activity that a member is in, if any.
func (g *Group) end(m *Member, status Status, message string, now time.Time) {
	a := g.byID[m.Activity]
	m.Activity = ""
	if a == nil {
		return
	}
	a.close(status, message, now)
	delete(g.byID, a.ID)
}

func (a *Activity) close(status Status, message string, now time.Time) {
	a.Status, a.StatusMessage, a.Progress, a.End = status, message, 100, now
}

// prune forgets what is older than History.
func (g *Group) prune(now time.Time) {
	old := now.Add(-History)
	g.Activities = slices.Delete(g.Activities, 0, leading(g.Activities, func(a *Activity) bool { return a.Ended() && a.Start.Before(old) }))
	g.Refreshes = slices.Delete(g.Refreshes, 0, leading(g.Refreshes, func(r *Refresh) bool { return r.Ended() && r.Start.Before(old) }))
}

// leading counts the items that come before the first that does not fit.
func leading[T any](items []T, fits func(T) bool) int {
	if i := slices.IndexFunc(items, func(t T) bool { return !fits(t) }); i >= 0 {
		return i
	}
	return len(items)
}
