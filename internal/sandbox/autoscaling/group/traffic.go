package group

import (
	"slices"
	"time"
)

// Attach adds a target group and registers the instances in service with it.
func (g *Group) Attach(w World, arn string, now time.Time) {
	i := slices.IndexFunc(g.TargetGroups, func(tg Attachment) bool { return tg.ARN == arn })
	switch {
	case i < 0:
		g.TargetGroups = append(g.TargetGroups, Attachment{ARN: arn})
	case g.TargetGroups[i].Removing:
		g.TargetGroups[i].Removing = false
	default:
		return
	}
	for _, m := range g.inService() {
		g.register(w, m)
		g.agenda.set(m, now)
	}
}

// Detach deregisters the instances from one of the group's target groups, which
// stays as Removing until they are drained.
func (g *Group) Detach(w World, arn string) {
	i := slices.IndexFunc(g.TargetGroups, func(tg Attachment) bool { return tg.ARN == arn })
	if i < 0 {
		return
	}
	g.TargetGroups[i].Removing = true
	for _, m := range g.inService() {
		_ = w.Targets.Deregister(arn, m.ID) // where it is not registered there is nothing to drain
	}
}

// detach drops the target groups that have drained.
func (g *Group) detach(w World, now time.Time) {
	g.TargetGroups = slices.DeleteFunc(g.TargetGroups, func(tg Attachment) bool {
		if !tg.Removing {
			return false
		}
		for id := range g.Members {
			if w.Targets.Health(tg.ARN, id).State != "" {
				g.wakeAt(now.Add(w.Pace.Poll))
				return false
			}
		}
		return true
	})
}

// AttachmentState is the state of a target group of the group's, in AWS's words.
func (g *Group) AttachmentState(w World, tg Attachment) string {
	if tg.Removing {
		return "Removing"
	}
	for id, m := range g.Members {
		if m.Lifecycle == InService && w.Targets.Health(tg.ARN, id).State == targetHealthy {
			return "InService"
		}
	}
	return "Added"
}

func (g *Group) inService() []*Member {
	return slices.DeleteFunc(g.All(), func(m *Member) bool { return m.Lifecycle != InService })
}
