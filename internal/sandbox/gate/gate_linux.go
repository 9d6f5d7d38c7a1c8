package gate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
)

// Gates are the gates of one sandbox.
type Gates struct{ steering *steering }

// New prepares for gates in the network namespace that the sandbox is in.
func New() (*Gates, error) {
	steering, err := newSteering()
	if err != nil {
		return nil, fmt.Errorf("steer connections to instances: %w; it takes root rights and Linux 5.9 or later", err)
	}
	return &Gates{steering}, nil
}

// Close closes the gates that are left, but not their connections.
func (g *Gates) Close() error { return g.steering.close() }

// Gate is one open address.
type Gate struct {
	socket *net.TCPListener
	ctx    context.Context // ends, and the connections with it, when the gate is closed
	stop   context.CancelFunc
	tasks  sync.WaitGroup
}

// Open opens an address, which drops everything until Admit. Connections are passed on by dial.
func (g *Gates) Open(address netip.Addr, dial Dial) (*Gate, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return onSocket(raw, func(fd int) error { return admit(fd, nil) })
	}}
	listener, err := config.Listen(context.Background(), "tcp4", netip.AddrPortFrom(address, 0).String())
	if err != nil {
		return nil, fmt.Errorf("listen for the instance at %s: %w", address, err)
	}
	opened := &Gate{socket: listener.(*net.TCPListener)}
	opened.ctx, opened.stop = context.WithCancel(context.Background())
	if err := opened.onSocket(func(fd int) error { return g.steering.add(address, fd) }); err != nil {
		return nil, errors.Join(fmt.Errorf("steer connections to %s: %w", address, err), opened.Close())
	}
	opened.tasks.Go(func() { opened.serve(dial) })
	return opened, nil
}

// Admit lets connections to the ports in, from now on, and no others. Those that are open go on.
func (g *Gate) Admit(ports []Ports) error {
	err := g.onSocket(func(fd int) error { return admit(fd, slices.Clone(ports)) })
	if err != nil {
		return fmt.Errorf("let connections to %s in: %w", g.socket.Addr(), err)
	}
	return nil
}

// Close closes the address and its connections.
func (g *Gate) Close() error {
	g.stop()
	err := g.socket.Close() // the kernel takes it out of the steering
	g.tasks.Wait()
	return err
}

func (g *Gate) onSocket(f func(fd int) error) error {
	raw, err := g.socket.SyscallConn()
	if err != nil {
		return err
	}
	return onSocket(raw, f)
}

func onSocket(raw syscall.RawConn, f func(fd int) error) error {
	var result error
	if err := raw.Control(func(fd uintptr) { result = f(int(fd)) }); err != nil {
		return err
	}
	return result
}
