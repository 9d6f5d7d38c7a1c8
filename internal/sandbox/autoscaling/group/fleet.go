package group

import (
	"context"
	"time"
)

// World is what a group acts upon, and how fast its world goes.
type World struct {
	Fleet   Fleet
	Targets Targets
	Alarms  Alarms
	Pace    Pace
}

// Fleet is what a group needs of EC2.
type Fleet interface {
	// Template resolves a reference, with instanceType in place of the
	// template's own unless that is empty.
	Template(ref TemplateRef, instanceType string) (Template, error)
	// Launch starts instances, all of the order or none. They are not yet
	// running when it returns.
	Launch(ctx context.Context, order Order) ([]Launched, error)
	// Terminate begins to terminate an instance; one that is gone is no error.
	Terminate(ctx context.Context, id string) error
	// State tells an instance's state; "terminated" for one that is gone.
	State(id string) string
}

// Targets is what a group needs of Elastic Load Balancing.
type Targets interface {
	// Register adds an instance that is running; one that is there already is
	// no error.
	Register(targetGroup, id string) error
	// Deregister begins to drain an instance.
	Deregister(targetGroup, id string) error
	// Health of one instance in a target group; the zero Health when it is not,
	// or no longer, registered there.
	Health(targetGroup, id string) Health
}

// Alarms is what a group needs of CloudWatch.
type Alarms interface {
	// State of an alarm in CloudWatch's words; "" when there is none.
	State(alarm string) string
}

// Order is for instances that are alike.
type Order struct {
	Template     TemplateRef
	InstanceType string // in place of the template's, when not empty
	Subnet       string
	Count        int
	Tags         map[string]string
}

// Launched is an instance that was started.
type Launched struct {
	ID, Zone, Type string
	Template       Template
}

// Health is what a target group thinks of a target: ELBv2's words.
type Health struct {
	State, Reason, Description string
}

// The instance and target states that a group acts upon.
const (
	stateRunning    = "running"
	statePending    = "pending"
	stateTerminated = "terminated"

	targetHealthy   = "healthy"
	targetUnhealthy = "unhealthy"

	alarmOK      = "OK"
	alarmRinging = "ALARM"
)

// Pace is how long AWS's own part in things takes, already scaled, and the
// scale of the durations that a user gives.
type Pace struct {
	Begin    time.Duration // a refresh is Pending
	Poll     time.Duration // between two looks at an instance on its way
	Check    time.Duration // between two health checks of an instance in service
	Retry    time.Duration // from a launch that failed to the next
	Patience time.Duration // a refresh goes on without headway; AWS: one hour
	Reboot   time.Duration // the longest that instances boot after the group was read
	Scale    func(time.Duration) time.Duration
}

// seconds scales what a user gave in seconds.
func (p Pace) seconds(s int) time.Duration {
	d := time.Duration(s) * time.Second
	if p.Scale == nil {
		return d
	}
	return p.Scale(d)
}
