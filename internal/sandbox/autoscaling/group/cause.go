package group

import (
	"fmt"
	"time"
)

// The causes of activities, worded as AWS words them, since tools read them.

// stamp is a moment as it stands in a cause.
func stamp(now time.Time) string { return now.UTC().Format(time.RFC3339) }

// because begins a cause with what a user asked for, if that is what it follows from.
func (g *Group) because(cause string) string {
	if g.Asked == "" {
		return cause
	}
	return g.Asked + "  " + cause
}

func (g *Group) causeGrow(from, to int, now time.Time) string {
	return g.because(fmt.Sprintf("At %s an instance was started in response to a difference between desired and actual capacity, increasing the capacity from %d to %d.",
		stamp(now), from, to))
}

func (g *Group) causeShrink(id string, from, to int, now time.Time) string {
	return g.because(fmt.Sprintf("At %[1]s an instance was taken out of service in response to a difference between desired and actual capacity, shrinking the capacity from %[2]d to %[3]d.  At %[1]s instance %[4]s was selected for termination.",
		stamp(now), from, to, id))
}

func causeUnhealthy(why string, now time.Time) string {
	return fmt.Sprintf("At %s an instance was taken out of service in response to %s.", stamp(now), why)
}

func causeInstead(now time.Time) string {
	return fmt.Sprintf("At %s an instance was launched in response to an unhealthy instance needing to be replaced.", stamp(now))
}

func causeRefreshIn(now time.Time) string {
	return fmt.Sprintf("At %s an instance was launched in response to an instance refresh.", stamp(now))
}

func causeRefreshOut(id string, now time.Time) string {
	return fmt.Sprintf("At %[1]s an instance was taken out of service in response to an instance refresh.  At %[1]s instance %[2]s was selected for termination.",
		stamp(now), id)
}

// The reasons for which an instance is unhealthy.
const (
	sickEC2  = "an EC2 health check indicating it has been terminated or stopped"
	sickELB  = "an ELB system health check failure"
	sickUser = "a user health-check"
)
