package group

import (
	"container/heap"
	"time"
)

// Lifecycle is the state of an instance in its group, in AWS's words.
type Lifecycle string

// The lifecycle states.
const (
	Pending         Lifecycle = "Pending"
	InService       Lifecycle = "InService"
	EnteringStandby Lifecycle = "EnteringStandby"
	Standby         Lifecycle = "Standby"
	Terminating     Lifecycle = "Terminating"
)

// Member is an instance of a group. Its exported fields change only through
// Group.change, which keeps the group's tally right.
type Member struct {
	ID, Zone, Type      string
	Template            Template
	LaunchConfiguration string `json:",omitempty"`
	Lifecycle           Lifecycle
	Unhealthy           string    `json:",omitempty"` // why, as it stands in an activity's cause; "" is healthy
	Protected           bool      `json:",omitempty"` // from scale-in
	Launched            time.Time // asked of EC2
	Entered             time.Time // into service; zero before
	Ready               bool      `json:",omitempty"` // in service, healthy where it must be, and warm
	Parting             bool      `json:",omitempty"` // EC2 was asked to terminate it; before that it is drained
	Activity            string    `json:",omitempty"` // the one that is not yet over

	// Outdated is to be replaced by the refresh that is active.
	Outdated bool `json:",omitempty"`
	// Refresh is the last that launched it as part of its own configuration, not
	// to roll back.
	Refresh string `json:",omitempty"`

	due time.Time // when to look at it next
	at  int       // its place in the agenda; -1 when it is on none
}

// Healthy is the health status that the group reports.
func (m *Member) Healthy() bool { return m.Unhealthy == "" }

// capacity is whether it counts for the group's desired capacity.
func (m *Member) capacity() bool {
	return m.Healthy() && (m.Lifecycle == Pending || m.Lifecycle == InService)
}

// tally counts members, so that nobody has to walk through all of them.
type tally struct {
	capacity  int // pending or in service, and healthy
	ready     int
	unhealthy int // in service or pending, to be replaced
	leaving   int // terminating
	standby   int
	pending   int // of capacity
	warming   int // of capacity, not outdated and not ready
	current   int // of capacity, not outdated
	done      int // of current, ready
	outdated  int // of capacity
	guarded   int // of outdated, protected from scale-in
	waiting   int // outdated in standby
	zones     map[string]int
}

func (t *tally) count(m *Member, by int) {
	switch {
	case m.Lifecycle == Terminating:
		t.leaving += by
	case m.Lifecycle == Standby || m.Lifecycle == EnteringStandby:
		t.standby += by
		if m.Outdated {
			t.waiting += by
		}
	case !m.Healthy():
		t.unhealthy += by
	default:
		t.capacity += by
		t.zones[m.Zone] += by
		if m.Lifecycle == Pending {
			t.pending += by
		}
		if m.Ready {
			t.ready += by
		}
		switch {
		case m.Outdated:
			t.outdated += by
			if m.Protected {
				t.guarded += by
			}
		case m.Ready:
			t.current += by
			t.done += by
		default:
			t.current += by
			t.warming += by
		}
	}
}

// change is the one way to change a member.
func (g *Group) change(m *Member, how func(*Member)) {
	g.tally.count(m, -1)
	how(m)
	g.tally.count(m, +1)
}

func (g *Group) add(m *Member, due time.Time) {
	m.at = -1
	g.Members[m.ID] = m
	g.tally.count(m, +1)
	g.agenda.set(m, due)
}

func (g *Group) remove(m *Member) {
	g.agenda.drop(m)
	g.tally.count(m, -1)
	delete(g.Members, m.ID)
}

// agenda is a heap of members by when to look at them next.
type agenda []*Member

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].due.Before(a[j].due) }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i]; a[i].at, a[j].at = i, j }

// Push is heap.Interface's.
func (a *agenda) Push(x any) {
	m := x.(*Member)
	m.at = len(*a)
	*a = append(*a, m)
}

// Pop is heap.Interface's.
func (a *agenda) Pop() any {
	last := len(*a) - 1
	m := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	m.at = -1
	return m
}

func (a *agenda) set(m *Member, due time.Time) {
	m.due = due
	if m.at < 0 {
		heap.Push(a, m)
		return
	}
	heap.Fix(a, m.at)
}

func (a *agenda) drop(m *Member) {
	if m.at >= 0 {
		heap.Remove(a, m.at)
	}
}

// next is the first member that is due by now, or nil.
func (a *agenda) next(now time.Time) *Member {
	if len(*a) == 0 || (*a)[0].due.After(now) {
		return nil
	}
	return heap.Pop(a).(*Member)
}
