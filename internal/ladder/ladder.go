// Package ladder keeps what a run has begun, so that all of it can be undone.
//
// Every step that creates something (a mount, a snapshot, a launch template
// version) adds a rung with the way to take it back. An error or an interrupt
// walks the ladder down, last rung first.
package ladder

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Patience is how long walking back down may take in all. It starts when the
// walk does, because the run's own context is usually already cancelled then.
const Patience = 5 * time.Minute

// Ladder is a stack of things to undo. The zero value is empty and ready; it
// is safe for concurrent use.
type Ladder struct {
	mu    sync.Mutex
	rungs []rung
}

type rung struct {
	what string
	undo func(context.Context) error
}

// Add puts a rung on top: what names the thing in errors ("delete snapshot
// snap-0ab1"), undo takes it back.
func (l *Ladder) Add(what string, undo func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rungs = append(l.rungs, rung{what, undo})
}

// Keep forgets every rung: what was begun is wanted now.
func (l *Ladder) Keep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rungs = nil
}

// Back undoes every rung, last first, and empties the ladder. A rung that
// fails does not stop the walk; all errors are joined. The values of ctx are
// kept but not its cancellation: the walk has Patience of its own.
func (l *Ladder) Back(ctx context.Context) error {
	l.mu.Lock()
	rungs := l.rungs
	l.rungs = nil
	l.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Patience)
	defer cancel()

	var errs []error
	for i := len(rungs) - 1; i >= 0; i-- {
		if err := rungs[i].undo(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", rungs[i].what, err))
		}
	}
	return errors.Join(errs...)
}

// BackOn walks the ladder down if *err is not nil, joining the clean-up's own
// errors to it. It is meant for a deferred call:
//
//	defer l.BackOn(ctx, &err)
func (l *Ladder) BackOn(ctx context.Context, err *error) {
	if *err == nil {
		return
	}
	if cleanup := l.Back(ctx); cleanup != nil {
		*err = errors.Join(*err, fmt.Errorf("clean up: %w", cleanup))
	}
}
