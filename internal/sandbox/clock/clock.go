// Package clock is the sandbox's time.
//
// It tells two kinds of durations apart. A transition is time that AWS needs
// (an instance to start, a snapshot to complete): none in the Instant profile,
// AWS's usual time in the Typical one. An interval is time that a user of the
// API asked for (a warm-up, a health check's interval): always what was asked.
// Both are multiplied by the scale, so that a rehearsal can be made shorter.
//
//	clock.After(clock.Transition(25*time.Second), func() { … becomes running … })
//	clock.After(clock.Interval(group.warmup()), func() { … counts as warm … })
//
// Functions given to After run in a goroutine of their own and do not hold the
// books (package state). Nothing runs any more once Stop has returned.
package clock

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Profile says how long AWS's own work takes.
type Profile string

// The profiles.
const (
	Instant Profile = "instant" // no time at all
	Typical Profile = "typical" // about as long as AWS takes
)

// Clock is the time of one sandbox.
type Clock struct {
	profile Profile
	scale   float64

	mu      sync.Mutex
	stopped bool
	waiting map[*wait]struct{}
	running sync.WaitGroup
}

// New makes a clock; scale multiplies every duration and must be positive.
func New(profile Profile, scale float64) (*Clock, error) {
	if profile != Instant && profile != Typical {
		return nil, fmt.Errorf("profile %q is not known: use %s or %s", profile, Instant, Typical)
	}
	if !(scale > 0) {
		return nil, fmt.Errorf("time scale %v must be above 0", scale)
	}
	return &Clock{profile: profile, scale: scale, waiting: map[*wait]struct{}{}}, nil
}

// Now is the present, in UTC and with the milliseconds that AWS shows.
func (c *Clock) Now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// Transition is how long something takes here that takes AWS typical.
func (c *Clock) Transition(typical time.Duration) time.Duration {
	if c.profile == Instant {
		return 0
	}
	return c.Interval(typical)
}

// Interval is how long something takes here that a user wants to take asked.
func (c *Clock) Interval(asked time.Duration) time.Duration {
	return time.Duration(float64(asked) * c.scale)
}

// Sleep waits for d, or until ctx ends, which is an error.
func (c *Clock) Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// After calls f once d has passed, unless cancel is called before, or the
// clock is stopped.
func (c *Clock) After(d time.Duration, f func()) (cancel func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return func() {}
	}
	w := &wait{}
	w.timer = time.AfterFunc(d, func() {
		if c.begin(w) {
			defer c.running.Done()
			f()
		}
	})
	c.waiting[w] = struct{}{}
	return func() { c.forget(w) }
}

// wait is a function that waits for its time.
type wait struct{ timer *time.Timer }

// begin takes a wait off the list and counts its function as running, if
// neither has the timer been cancelled nor the clock been stopped.
func (c *Clock) begin(w *wait) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, waiting := c.waiting[w]; !waiting {
		return false
	}
	delete(c.waiting, w)
	c.running.Add(1)
	return true
}

func (c *Clock) forget(w *wait) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.timer.Stop()
	delete(c.waiting, w)
}

// Stop drops everything that waits and returns when what runs has ended. It
// must not be called with the books held.
func (c *Clock) Stop() {
	c.mu.Lock()
	c.stopped = true
	for w := range c.waiting {
		w.timer.Stop()
	}
	clear(c.waiting)
	c.mu.Unlock()
	c.running.Wait()
}
