package cloud

import (
	"context"
	"fmt"
	"time"
)

// Until says what is waited for and how patiently. AWS gives no way to be told,
// so a state is asked for again and again: often at first, when it may be there
// in a moment, and ever more rarely, so that many builds at once don't exhaust
// the account's request rate.
type Until struct {
	What     string        // for errors: "snapshot snap-0ab1 is completed"
	First    time.Duration // the first pause; default 250 ms
	Every    time.Duration // the longest pause; default 10 s
	Deadline time.Duration // for the whole wait; 0 for as long as ctx lives
}

// Probe asks once. The state is AWS's own word for how things are, for the
// error when time runs out. An error ends the wait.
type Probe func(ctx context.Context) (done bool, state string, err error)

// Wait probes until it is done. The first probe is made at once.
func Wait(ctx context.Context, until Until, probe Probe) error {
	first, every := until.First, until.Every
	if first == 0 {
		first = 250 * time.Millisecond
	}
	if every == 0 {
		every = 10 * time.Second
	}
	began := time.Now()
	last := ""
	for pause := first; ; pause = min(pause*3/2, every) {
		done, state, err := probe(ctx)
		if err != nil {
			return fmt.Errorf("wait until %s: %w", until.What, err)
		}
		if done {
			return nil
		}
		last = state
		if until.Deadline > 0 && time.Since(began)+pause > until.Deadline {
			return fmt.Errorf("wait until %s: not after %s; AWS says: %s", until.What, until.Deadline, last)
		}
		if err := Sleep(ctx, pause); err != nil {
			return fmt.Errorf("wait until %s: %w", until.What, err)
		}
	}
}

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
