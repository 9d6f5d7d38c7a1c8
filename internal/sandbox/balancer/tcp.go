package balancer

import (
	"context"
	"net"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/relay"
)

// relay accepts the connections of a TCP listener until it is closed.
func (b *Balancer) relay(ctx context.Context, socket net.Listener, l *listener) {
	for {
		client, err := socket.Accept()
		if err != nil {
			return // closed
		}
		b.tasks.Go(func() { b.carry(ctx, client, l) })
	}
}

// carry joins a client's connection to one to a target. Where there is no target, or it refuses, the
// client's is closed: a Network Load Balancer has no other words.
func (b *Balancer) carry(ctx context.Context, client net.Conn, l *listener) {
	defer func() { _ = client.Close() }()
	t := b.choose(l, nil)
	if t == nil {
		return
	}
	server, err := within(connectTimeout, t.dial)(t.ctx, "tcp", t.Address.String())
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	cut := func() {
		_ = client.Close()
		_ = server.Close()
	}
	defer context.AfterFunc(t.ctx, cut)() // the target was removed
	defer context.AfterFunc(ctx, cut)()   // the listener was closed

	relay.Join(client, server)
}
