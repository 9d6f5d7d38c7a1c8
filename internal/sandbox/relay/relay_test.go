package relay_test

import (
	"io"
	"net"
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/relay"
)

// pair is the two ends of a TCP connection.
func pair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	socket, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	if near, err = net.DialTCP("tcp", nil, socket.Addr().(*net.TCPAddr)); err != nil {
		t.Fatal(err)
	}
	if far, err = socket.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

func TestWhoHasSaidAllStillHearsTheAnswer(t *testing.T) {
	client, clientSide := pair(t)
	server, serverSide := pair(t)
	joined := make(chan struct{})
	go func() { relay.Join(clientSide, serverSide); close(joined) }()

	say := func(c *net.TCPConn, text string) {
		t.Helper()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	hear := func(c *net.TCPConn, want string) {
		t.Helper()
		if got, err := io.ReadAll(c); err != nil || string(got) != want {
			t.Errorf("heard %q (%v), want %q", got, err, want)
		}
	}
	say(client, "question")
	hear(server, "question")
	say(server, "answer")
	hear(client, "answer")
	<-joined
}
