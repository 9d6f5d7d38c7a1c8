// Package quota limits how often operations may be called, as AWS does: by
// token buckets. How many there may be of something is a rule of the service
// that has it.
package quota

import (
	"net/url"
	"sync"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
)

// Rates are the buckets of all operations in all regions. Nil limits nothing.
type Rates struct {
	second time.Duration // of AWS's, as it passes here

	mu      sync.Mutex
	buckets map[key]*bucket
}

// New makes full buckets. They are refilled as fast as the clock's time passes.
func New(c *clock.Clock) *Rates {
	return &Rates{second: c.Interval(time.Second), buckets: map[key]*bucket{}}
}

// Call is what the cost of a call depends on.
type Call struct {
	Service    string // as in IAM actions
	Operation  string
	Region     string
	Path       string     // of the URL
	Parameters url.Values // of services with a query protocol
}

// key names a bucket. Every region has its own.
type key struct{ region, name string }

// limit is what a bucket holds at most, and what it is given each second.
type limit struct{ burst, refill float64 }

// charge is what a call costs in one bucket, and the error when that has too
// little.
type charge struct {
	name string
	limit
	cost  float64
	empty error
}

type bucket struct {
	limit
	tokens float64
	at     time.Time
}

// Take pays for a call, or gives the service's throttling error, and then takes
// nothing.
func (r *Rates) Take(c Call) error {
	if r == nil {
		return nil
	}
	charges := c.charges()
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for _, one := range charges {
		if r.bucket(c.Region, one, now).tokens < one.cost {
			return one.empty
		}
	}
	for _, one := range charges {
		r.bucket(c.Region, one, now).tokens -= one.cost
	}
	return nil
}

// bucket gives the bucket of a charge, refilled.
func (r *Rates) bucket(region string, c charge, now time.Time) *bucket {
	k := key{region, c.name}
	b := r.buckets[k]
	if b == nil {
		r.forget(now)
		b = &bucket{limit: c.limit, tokens: c.burst, at: now}
		r.buckets[k] = b
	}
	b.refillAt(now, r.second)
	return b
}

func (b *bucket) refillAt(now time.Time, second time.Duration) {
	b.tokens = min(b.burst, b.tokens+b.refill*float64(now.Sub(b.at))/float64(second))
	b.at = now
}

// many is how many buckets there are before full ones, which are as good as
// new ones, are forgotten: every snapshot has its own.
const many = 1000

func (r *Rates) forget(now time.Time) {
	if len(r.buckets) < many {
		return
	}
	for k, b := range r.buckets {
		if b.refillAt(now, r.second); b.tokens == b.burst {
			delete(r.buckets, k)
		}
	}
}

// charges lists what a call costs. AWS publishes no rates of Auto Scaling,
// Elastic Load Balancing and STS.
func (c Call) charges() []charge {
	switch c.Service {
	case "ebs":
		return c.ebsCharges()
	case "ec2":
		return c.ec2Charges()
	}
	return nil
}
