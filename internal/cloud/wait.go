package cloud

import (
	"context"
	"fmt"
	"time"
)

// Until says what is waited for and how patiently. AWS gives no way to be told,
// so a state is asked for again and again: for the first time when it could be
// there, then often, and ever more rarely, so that many builds at once don't
// exhaust the account's request rate.
type Until struct {
	What     string        // for errors: "snapshot snap-0ab1 is completed"
	Least    time.Duration // what it takes at least; nobody asks sooner
	First    time.Duration // the pause behind the first look; default 250 ms
	Every    time.Duration // the longest pause; default 10 s
	Deadline time.Duration // for the whole wait; 0 for as long as ctx lives

	// Left, if not nil, is how long AWS will still take by the last look, as
	// far as that can be told; 0 if it can't.
	Left func() time.Duration
}

// Probe asks once. The state is AWS's own word for how things are, for the
// error when time runs out. An error ends the wait, unless it is that AWS is
// asked too often: then the pauses grow.
type Probe func(ctx context.Context) (done bool, state string, err error)

// Wait probes until it is done.
func Wait(ctx context.Context, until Until, probe Probe) error {
	began, pauses := time.Now(), until.pauses()
	if until.Least > 0 {
		if err := Sleep(ctx, until.Least); err != nil {
			return fmt.Errorf("wait until %s: %w", until.What, err)
		}
	}
	for {
		done, state, err := probe(ctx)
		throttled := Throttled(err)
		if err != nil && !throttled {
			return fmt.Errorf("wait until %s: %w", until.What, err)
		}
		if throttled {
			state = err.Error()
		}
		if done {
			return nil
		}
		pause := pauses.next(throttled)
		if until.Deadline > 0 && time.Since(began)+pause > until.Deadline {
			return fmt.Errorf("wait until %s: not after %s; AWS says: %s", until.What, until.Deadline, state)
		}
		if err := Sleep(ctx, pause); err != nil {
			return fmt.Errorf("wait until %s: %w", until.What, err)
		}
	}
}

// pauses are those between the looks of one wait.
type pauses struct {
	first, longest, usual time.Duration
	left                  func() time.Duration
}

func (u Until) pauses() *pauses {
	p := &pauses{first: u.First, longest: u.Every, left: u.Left}
	if p.first == 0 {
		p.first = 250 * time.Millisecond
	}
	if p.longest == 0 {
		p.longest = 10 * time.Second
	}
	p.usual = p.first
	return p
}

// next is as long as AWS will still take, where that is known. Otherwise each
// pause is half as long again as the one before, and at each throttling all of
// them become twice as long, the longest too.
func (p *pauses) next(throttled bool) time.Duration {
	if throttled {
		p.usual, p.longest = 2*p.usual, min(2*p.longest, slowest)
	}
	pause := min(p.usual, p.longest)
	p.usual = min(p.usual*3/2, slowest) // it would overflow in a wait of hours
	if p.left == nil || throttled {
		return pause
	}
	if left := p.left(); left > 0 {
		return min(max(left, p.first), p.longest)
	}
	return pause
}

// slowest is the longest pause in an account that is throttled.
const slowest = time.Minute

// Sleep pauses for d, or until ctx ends: then it gives the reason.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
