package machine

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// None is a host whose machines are only states: they run nothing and answer nowhere.
func None() Host { return none{} }

type none struct{}

func (none) Launch(context.Context, Spec) (Machine, error) {
	return &state{done: make(chan struct{})}, nil
}

func (none) Configure(Network) error { return nil }

func (n none) DialFrom(ctx context.Context, _ netip.Addr, network, address string) (net.Conn, error) {
	return n.Dial(ctx, network, address)
}

func (none) Dial(_ context.Context, network, address string) (net.Conn, error) {
	return nil, fmt.Errorf("connect to %s %s: this sandbox runs no machines (--machines none)", network, address)
}

func (none) Close() error { return nil }

type state struct {
	end  sync.Once
	done chan struct{}
}

func (s *state) Kill() { s.end.Do(func() { close(s.done) }) }

func (s *state) Stop(context.Context) error {
	s.Kill()
	return nil
}

func (s *state) Attach(Volume) error { return nil }

func (s *state) Detach(context.Context, string) error { return nil }

func (s *state) Hold(read func()) error {
	read()
	return nil
}

func (s *state) Done() <-chan struct{} { return s.done }
