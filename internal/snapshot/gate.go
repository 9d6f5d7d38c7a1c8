package snapshot

import (
	"context"
	"sync"
)

// workers is the most blocks that are ever in transfer at once; each holds one
// block's bytes, so that 64 are 32 MiB. Awslabs' coldsnap uses as many.
const workers = 64

// gate lets as many requests through at once as the service bears. EBS allows
// 1,000 block requests a second for a snapshot, and fewer where an account has
// others: nobody can know how many at once that is. So the limit grows with
// every success, doubling a round at first and then by one, and is halved when
// the service throttles or stalls, as TCP does it.
type gate struct {
	mu       sync.Mutex
	changed  *sync.Cond
	limit    float64
	busy     int
	next     int  // the ticket of the next request
	cut      int  // requests with earlier tickets have had their say on the limit
	steadied bool // the limit was cut once; grow slowly from now on
}

func newGate() *gate {
	g := &gate{limit: 8}
	g.changed = sync.NewCond(&g.mu)
	return g
}

// enter waits for a place and gives a ticket, to be handed back to leave.
func (g *gate) enter(ctx context.Context) (ticket int, err error) {
	stop := context.AfterFunc(ctx, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.changed.Broadcast()
	})
	defer stop()

	g.mu.Lock()
	defer g.mu.Unlock()
	for g.busy >= int(g.limit) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		g.changed.Wait()
	}
	g.busy++
	g.next++
	return g.next, nil
}

// leave frees the place. Requests that were under way together meet one jam
// together, so it is counted once.
func (g *gate) leave(ticket int, jammed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy--
	switch {
	case jammed && ticket > g.cut:
		g.limit = max(1, g.limit/2)
		g.cut, g.steadied = g.next, true
	case jammed:
	case g.steadied:
		g.limit = min(workers, g.limit+1/g.limit)
	default:
		g.limit = min(workers, g.limit+1)
	}
	g.changed.Broadcast()
}
