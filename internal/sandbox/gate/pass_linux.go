package gate

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
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

	var both sync.WaitGroup
	both.Go(func() { pass(server, client) })
	both.Go(func() { pass(client, server) })
	both.Wait()
}

// pass copies one direction to its end, and says to the other side that it has ended.
func pass(to, from net.Conn) {
	_, _ = io.Copy(to, from) // either side may hang up at any time
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = to.Close()
}
