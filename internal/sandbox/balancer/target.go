package balancer

import (
	"context"
	"net/http"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/elbv2"
)

// What an Application Load Balancer allows a target.
const (
	connectTimeout = 10 * time.Second // then 504
	idleTimeout    = 60 * time.Second // without a word, to or from a client: then 504, or the connection is closed
)

// target is a target that is registered or draining.
type target struct {
	elbv2.Target
	dial      dial
	transport *http.Transport // its own: another target may get its address later, but not its connections

	ctx     context.Context // ends when the target is removed
	cancel  context.CancelFunc
	watched context.Context // ends when its health is no longer asked
	unwatch context.CancelFunc

	// Held by the balancer's lock.
	draining       bool
	health         elbv2.Health
	passed, failed int // checks in a row
}

func newTarget(ctx context.Context, t elbv2.Target, dial dial) *target {
	added := &target{Target: t, dial: dial, health: registering}
	added.ctx, added.cancel = context.WithCancel(ctx)
	added.watched, added.unwatch = context.WithCancel(added.ctx)
	added.transport = &http.Transport{
		DialContext:           within(connectTimeout, dial),
		ResponseHeaderTimeout: idleTimeout,
		IdleConnTimeout:       idleTimeout,
		DisableCompression:    true, // bodies go through as they are
		MaxIdleConnsPerHost:   256,
	}
	return added
}

// end cuts what is under way to the target.
func (t *target) end() {
	t.cancel()
	t.unwatch()
	t.transport.CloseIdleConnections()
}
