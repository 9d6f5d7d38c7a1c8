package balancer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/elbv2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/gate"
)

// listener is an open listener.
type listener struct {
	elbv2.Listener
	routes routes // held by the balancer's lock
	socket *net.TCPListener
	close  func() error
}

// admit drops clients that try to connect, or does so no more, as the listener is to be.
func (l *listener) admit() error {
	raw, err := l.socket.SyscallConn()
	if err == nil {
		err = gate.Shut(raw, l.Shut)
	}
	if err != nil {
		return fmt.Errorf("shut or open the listener %s: %w", l.Address, err)
	}
	return nil
}

// Listen opens a listener, or changes the one of the same ARN.
func (b *Balancer) Listen(spec elbv2.Listener) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.listeners[spec.ARN]
	if before != nil && before.Address == spec.Address && before.Protocol == spec.Protocol {
		before.Listener, before.routes = spec, newRoutes(spec)
		return before.admit()
	}
	if before != nil && before.Address == spec.Address { // the port is wanted by the new one
		_ = before.close() // nobody is served by it any more, whatever it says
		delete(b.listeners, spec.ARN)
	}
	opened, err := b.open(spec)
	if err != nil {
		return err
	}
	if before != nil {
		_ = before.close()
	}
	b.listeners[spec.ARN] = opened
	return nil
}

// Unlisten closes a listener and its connections.
func (b *Balancer) Unlisten(arn string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l, open := b.listeners[arn]; open {
		_ = l.close() // it is gone, whatever it says
		delete(b.listeners, arn)
	}
}

func (b *Balancer) open(spec elbv2.Listener) (*listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error { return gate.Shut(raw, spec.Shut) }}
	socket, err := config.Listen(b.ctx, "tcp", spec.Address.String())
	if err != nil {
		return nil, fmt.Errorf("open the listener %s: %w", spec.Address, err)
	}
	l := &listener{Listener: spec, routes: newRoutes(spec), socket: socket.(*net.TCPListener)}
	if spec.Protocol == "TCP" {
		ctx, cancel := context.WithCancel(b.ctx)
		l.close = func() error {
			cancel()
			return socket.Close()
		}
		b.tasks.Go(func() { b.relay(ctx, socket, l) })
		return l, nil
	}
	server := &http.Server{
		Handler:           b.forward(l),
		BaseContext:       func(net.Listener) context.Context { return b.ctx },
		ReadHeaderTimeout: idleTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          silence,
	}
	l.close = func() error {
		_ = socket.Close() // of which the server may not know yet
		return ignoreClosed(server.Close())
	}
	b.tasks.Go(func() { _ = server.Serve(socket) }) // ends with close, and says only that it did
	return l, nil
}

// ignoreClosed makes no error of a socket that was closed before.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// within limits how long a connection may take.
func within(limit time.Duration, dial dial) dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return dial(ctx, network, address)
	}
}
