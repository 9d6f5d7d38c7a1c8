package door

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/fault"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// misfortune makes calls go wrong as the rules say.
func (d *Door) misfortune(next handler) handler {
	return func(ctx context.Context, v *visit) (*wire.Response, error) {
		rule, struck := d.faults.Strike(v.Service + ":" + v.Operation)
		if !struck {
			return next(ctx, v)
		}
		v.Fault = rule.String()
		if rule.When == fault.Before {
			return d.strikeBefore(ctx, v, rule, next)
		}
		response, err := next(ctx, v)
		if answer := rule.Err(v.Service, v.Operation); answer != nil {
			return nil, answer
		}
		v.deliver = func(w http.ResponseWriter, response *wire.Response) {
			d.strikeAfter(ctx, w, response, rule)
		}
		return response, err
	}
}

// nothing is the response to a call whose client gets none.
var nothing = &wire.Response{}

func (d *Door) strikeBefore(ctx context.Context, v *visit, rule fault.Rule, next handler) (*wire.Response, error) {
	switch rule.Kind {
	case fault.Late:
		v.Late = d.clock.Interval(rule.For)
		return next(ctx, v)
	case fault.Reset:
	case fault.Stall:
		// Only who has read a request learns that its client has left.
		if err := takeIn(v.http); err != nil {
			return nil, err
		}
		if d.pause(ctx, rule.For) {
			return next(ctx, v)
		}
	default:
		return nil, rule.Err(v.Service, v.Operation)
	}
	v.deliver = func(w http.ResponseWriter, _ *wire.Response) { reset(w) }
	return nothing, nil
}

// takeIn reads the rest of a request, for which the operation may ask later.
func takeIn(r *http.Request) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, longest))
	if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// strikeAfter delivers a response badly.
func (d *Door) strikeAfter(ctx context.Context, w http.ResponseWriter, response *wire.Response, rule fault.Rule) {
	sent := 0
	if rule.When == fault.Midway {
		response.WriteHead(w)
		sent = len(response.Body) / 2
		if _, err := w.Write(response.Body[:sent]); err != nil {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
	}
	if rule.Kind == fault.Reset || !d.pause(ctx, rule.For) {
		reset(w)
		return
	}
	if rule.When != fault.Midway {
		response.WriteHead(w)
	}
	_, _ = w.Write(response.Body[sent:]) // who has hung up does not want it
}

// pause lasts for so long, or without end when it is zero, and tells whether
// the client is still there afterwards.
func (d *Door) pause(ctx context.Context, asked time.Duration) bool {
	var over <-chan time.Time
	if asked > 0 {
		timer := time.NewTimer(d.clock.Interval(asked))
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
		return true
	case <-ctx.Done():
	case <-d.faults.Done():
	}
	return false
}

// reset ends the connection that w answers on by a reset (RST) rather than an
// orderly close.
func reset(w http.ResponseWriter) {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // not a connection of its own: cut off at least
	}
	if tcp, ok := connection.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails when the client has closed it already
	}
	_ = connection.Close()
}
