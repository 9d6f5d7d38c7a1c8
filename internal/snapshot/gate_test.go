package snapshot

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func limit(g *gate) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return int(g.limit)
}

func TestTheGateOpensWithSuccessAndNarrowsWithJams(t *testing.T) {
	g := newGate()
	pass := func(jammed bool) {
		ticket, err := g.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		g.leave(ticket, jammed)
	}
	for range 200 {
		pass(false)
	}
	if got := limit(g); got != workers {
		t.Fatalf("after successes only, %d may pass; want %d", got, workers)
	}
	pass(true)
	if got := limit(g); got != workers/2 {
		t.Errorf("after a jam, %d may pass; want %d", got, workers/2)
	}
	for range 2 * workers {
		pass(false)
	}
	if got := limit(g); got <= workers/2 || got > workers/2+4 {
		t.Errorf("after a jam and %d successes, %d may pass; want a few more than %d", 2*workers, got, workers/2)
	}
	for range 20 {
		pass(true)
	}
	if got := limit(g); got != 1 {
		t.Errorf("after jams only, %d may pass; want 1", got)
	}
}

func TestOneJamIsCountedOnce(t *testing.T) {
	g := newGate()
	var tickets []int
	for range 8 {
		ticket, err := g.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		tickets = append(tickets, ticket)
	}
	for _, ticket := range tickets {
		g.leave(ticket, true)
	}
	if got := limit(g); got != 4 {
		t.Errorf("8 requests in one jam left a limit of %d; want 4", got)
	}
}

func TestWhoWaitsAtTheGateCanBeInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		for range 8 {
			if _, err := g.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		interrupt := errors.New("interrupt")
		done := make(chan error)
		go func() {
			_, err := g.enter(ctx)
			done <- err
		}()
		synctest.Wait()
		cancel(interrupt)
		if err := <-done; !errors.Is(err, interrupt) {
			t.Errorf("enter gave %v", err)
		}
	})
}
