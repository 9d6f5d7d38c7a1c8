package gate

import (
	"context"
	"net"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/relay"
)

// connectTimeout is how long the instance may take to accept a connection.
const connectTimeout = 10 * time.Second

// serve passes connections on until the gate is closed.
func (g *Gate) serve(dial Dial) {
	for {
		client, err := g.socket.AcceptTCP()
		if err != nil {
			return // closed
		}
		g.tasks.Go(func() { g.carry(client, dial) })
	}
}

// carry joins a client's connection to one to the same port of the instance. Where the instance refuses it, the
// client's is reset, which is the nearest that there is to refusing what is accepted already.
func (g *Gate) carry(client *net.TCPConn, dial Dial) {
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(g.ctx, connectTimeout)
	server, err := dial(ctx, uint16(client.LocalAddr().(*net.TCPAddr).Port))
	cancel()
	if err != nil {
		_ = client.SetLinger(0)
		return
	}
	defer func() { _ = server.Close() }()
	defer context.AfterFunc(g.ctx, func() {
		_ = client.SetLinger(0)
		_ = client.Close()
		_ = server.Close()
	})()

	relay.Join(client, server)
}
