// Package relay joins connections.
package relay

import (
	"io"
	"net"
	"sync"
)

// Join passes what comes from each of two connections on to the other one, until
// both directions have ended. The end of a direction is passed on too, so that the
// other one can go on. It closes neither connection.
func Join(a, b net.Conn) {
	var both sync.WaitGroup
	both.Go(func() { pass(a, b) })
	both.Go(func() { pass(b, a) })
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
