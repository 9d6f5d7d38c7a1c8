// Package balancer carries the traffic of the sandbox's load balancers: listeners that really listen,
// requests that are really forwarded, health checks that are really asked.
//
// It behaves as the nodes of an Application Load Balancer (protocol HTTP) and a Network Load Balancer
// (protocol TCP) do, where their users can tell:
//   - A new target is in service after one passed check; an unhealthy one after as many as its group says.
//   - Requests go to the healthy targets in turn. Where a group has none, they go to all of its
//     targets: it fails open. A draining target gets none.
//   - The share of a group goes to that group, also when it is empty, which is answered with 503:
//     there is no failover between groups.
//   - A request is tried on one target. When that refuses the connection the answer is 502, as AWS
//     documents it; a retry would hide from a rehearsal what users would see.
//
// Sources: the user guides' chapters "Health checks for your target groups" and "Troubleshoot your
// Application Load Balancers".
package balancer

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/elbv2"
)

// Dial connects to a target's address from that of a load balancer's node. A node that is not valid is none.
type Dial func(ctx context.Context, node netip.Addr, network, address string) (net.Conn, error)

// dial connects to a target's address.
type dial func(ctx context.Context, network, address string) (net.Conn, error)

// Balancer is an elbv2.Plane.
type Balancer struct {
	dial  Dial
	ctx   context.Context // ends with Close
	stop  context.CancelFunc
	tasks sync.WaitGroup // health checks and what listeners serve

	mu        sync.Mutex
	groups    map[string]*group    // by ARN
	listeners map[string]*listener // by ARN
	heard     []func(group string, t elbv2.Target)
}

var _ elbv2.Plane = (*Balancer)(nil)

// group is a target group and its targets, in the order of their registration.
type group struct {
	elbv2.TargetGroup
	targets []*target
	next    int // whose turn it is
	node    int // which node's
}

// New makes a balancer that reaches its targets by dial.
func New(dial Dial) *Balancer {
	ctx, stop := context.WithCancel(context.Background())
	return &Balancer{
		dial: dial, ctx: ctx, stop: stop,
		groups: map[string]*group{}, listeners: map[string]*listener{},
	}
}

// Close ends every listener, request and health check. It must not be called with a lock held that a
// subscriber takes.
func (b *Balancer) Close() error {
	b.stop()
	b.mu.Lock()
	var errs []error
	for _, l := range b.listeners {
		errs = append(errs, l.close())
	}
	clear(b.listeners)
	b.mu.Unlock()
	b.tasks.Wait()
	return errors.Join(errs...)
}

// Serve adds a target group, or changes the one of the same ARN. Checks that are under way are not changed.
func (b *Balancer) Serve(spec elbv2.TargetGroup) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g, known := b.groups[spec.ARN]; known {
		g.TargetGroup = spec
		return
	}
	b.groups[spec.ARN] = &group{TargetGroup: spec}
}

// Drop removes a target group that nothing forwards to.
func (b *Balancer) Drop(arn string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g, known := b.groups[arn]; known {
		for _, t := range g.targets {
			t.end()
		}
		delete(b.groups, arn)
	}
}

// Register adds a target to a group that is served, and begins to check its health.
func (b *Balancer) Register(arn string, t elbv2.Target) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.groups[arn]
	if g.find(t) != nil {
		return
	}
	added := newTarget(b.ctx, t, b.from(g))
	g.targets = append(g.targets, added)
	b.tasks.Go(func() { b.watch(g, added) })
}

// from connects to targets of a group from the nodes of its load balancer in turn.
func (b *Balancer) from(g *group) dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		b.mu.Lock()
		var node netip.Addr
		if len(g.Nodes) > 0 {
			g.node++
			node = g.Nodes[g.node%len(g.Nodes)]
		}
		b.mu.Unlock()
		return b.dial(ctx, node, network, address)
	}
}

// Drain gives a target no more requests; those under way finish.
func (b *Balancer) Drain(arn string, t elbv2.Target) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if found := b.groups[arn].find(t); found != nil {
		found.draining = true
		found.unwatch()
	}
}

// Remove ends what is under way to a target and forgets it.
func (b *Balancer) Remove(arn string, t elbv2.Target) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.groups[arn]
	if found := g.find(t); found != nil {
		g.targets = slices.DeleteFunc(g.targets, func(other *target) bool { return other == found })
		found.end()
	}
}

// Health is what the checks of a target have found: initial, healthy or unhealthy.
func (b *Balancer) Health(arn string, t elbv2.Target) elbv2.Health {
	b.mu.Lock()
	defer b.mu.Unlock()
	if found := b.groups[arn].find(t); found != nil {
		return found.health
	}
	return registering
}

// Subscribe calls heard, with nothing locked, after each change of a target's health.
func (b *Balancer) Subscribe(heard func(group string, t elbv2.Target)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard = append(b.heard, heard)
}

// find is nil where the group is not served or the target is not in it.
func (g *group) find(t elbv2.Target) *target {
	if g == nil {
		return nil
	}
	for _, found := range g.targets {
		if found.Target == t {
			return found
		}
	}
	return nil
}

// choose gives the target for the next request of a listener, or for the next connection when the request
// is nil: nil where there is none.
func (b *Balancer) choose(l *listener, r *http.Request) *target {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.groups[l.routes.of(r).next()]
	if g == nil {
		return nil
	}
	return g.choose()
}

// choose takes turns among the healthy targets, or among all where none is healthy.
func (g *group) choose() *target {
	healthy := g.where(func(t *target) bool { return t.health.State == elbv2.Healthy })
	if len(healthy) == 0 {
		healthy = g.where(func(*target) bool { return true })
	}
	if len(healthy) == 0 {
		return nil
	}
	g.next++
	return healthy[g.next%len(healthy)]
}

func (g *group) where(fits func(*target) bool) []*target {
	var found []*target
	for _, t := range g.targets {
		if !t.draining && fits(t) {
			found = append(found, t)
		}
	}
	return found
}
