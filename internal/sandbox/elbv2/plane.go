package elbv2

import (
	"net/netip"
	"time"
)

// Plane is what carries traffic: it listens, forwards requests and asks targets
// for their health. Its methods are called with the books held and must not wait.
type Plane interface {
	// Listen opens a listener, or changes the one of the same ARN.
	Listen(Listener) error
	// Unlisten closes a listener.
	Unlisten(arn string)
	// Serve adds a target group, or changes the one of the same ARN.
	Serve(TargetGroup)
	// Drop removes a target group that nothing forwards to.
	Drop(arn string)
	// Register adds a target, which gets requests once it is healthy.
	Register(targetGroup string, t Target)
	// Drain gives a target no more requests and lets those under way finish.
	Drain(targetGroup string, t Target)
	// Remove ends what is still under way to a target, and forgets it.
	Remove(targetGroup string, t Target)
	// Health is what the health checks of a registered target have found:
	// initial, healthy or unhealthy.
	Health(targetGroup string, t Target) Health
	// Subscribe calls heard, with no lock held, when that changes.
	Subscribe(heard func(targetGroup string, t Target))
}

// Listener is where a load balancer listens, and where what comes goes to.
type Listener struct {
	ARN      string
	Address  netip.AddrPort
	Protocol string     // HTTP or TCP
	Rules    []Rule     // in the order in which they are tried; of HTTP alone
	Forward  []Weighted // what no rule is about
	Shut     bool       // clients on this machine are not let in by the security groups: they are dropped
}

// Rule is where requests go that meet all of its conditions.
type Rule struct {
	Conditions []Condition
	Forward    []Weighted
}

// Weighted is a target group and its share of the requests.
type Weighted struct {
	TargetGroup string
	Weight      int
}

// TargetGroup is how requests and health checks of a target group are made.
// Durations are scaled already.
type TargetGroup struct {
	ARN                string
	Nodes              []netip.Addr // of the load balancer: where requests and checks come from
	Protocol           string       // HTTP or TCP
	CheckProtocol      string       // HTTP or TCP
	CheckPort          int          // 0 is the target's own
	CheckPath          string
	Matcher            string // of HTTP status codes: "200", "200,202", "200-299"
	Interval, Timeout  time.Duration
	Healthy, Unhealthy int // thresholds
}

// Target is an instance's port.
type Target struct {
	ID      string
	Address netip.AddrPort
}

// Health is the health of a target in ELBv2's words.
type Health struct{ State, Reason, Description string }

// The states of a target.
const (
	Initial   = "initial"
	Healthy   = "healthy"
	Unhealthy = "unhealthy"
	Unused    = "unused"
	Draining  = "draining"
)

// The reasons that are not the plane's to give, and those of a target that is new.
var (
	registering  = Health{Initial, "Elb.RegistrationInProgress", "Target registration is in progress"}
	notInUse     = Health{Unused, "Target.NotInUse", "Target group is not configured to receive traffic from the load balancer"}
	notThere     = Health{Unused, "Target.NotRegistered", "Target is not registered to the target group"}
	leaving      = Health{Draining, "Target.DeregistrationInProgress", "Target deregistration is in progress"}
	notRunning   = Health{Unused, "Target.InvalidState", "Target is in the stopped state"}
	passesChecks = Health{State: Healthy}
)
