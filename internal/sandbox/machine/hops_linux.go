package machine

import (
	"context"
	"net"

	"golang.org/x/sys/unix"
)

// connection is the context key of the connection that a request came by.
type connection struct{}

func withConnection(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connection{}, conn)
}

// limitHops limits how many hops the answer to a request goes; 0 is the usual limit. Containers of an instance
// are a hop further than the instance.
func limitHops(ctx context.Context, hops int) {
	conn, ok := ctx.Value(connection{}).(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return // it is closed
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, limitOf(hops))
	})
}

// limitOf is a limit as a socket has it: -1 is the usual one.
func limitOf(hops int) int {
	if hops == 0 {
		return -1
	}
	return hops
}
