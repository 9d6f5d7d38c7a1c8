package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// address is one that nothing else is likely to have.
var address = netip.MustParseAddr("127.93.171.201")

func open(t *testing.T, dial Dial) *Gate {
	t.Helper()
	gates, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := gates.Close(); err != nil {
			t.Error(err)
		}
	})
	gate, err := gates.Open(address, dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := gate.Close(); err != nil {
			t.Error(err)
		}
	})
	return gate
}

// instance answers a connection with its port, the client's words and an end.
func instance(_ context.Context, port uint16) (net.Conn, error) {
	here, there := net.Pipe()
	go func() {
		fmt.Fprintf(there, "port %d", port)
		there.Close()
	}()
	return here, nil
}

func connect(t *testing.T, port int, patience time.Duration) (net.Conn, error) {
	t.Helper()
	dialer := net.Dialer{Timeout: patience}
	return dialer.DialContext(t.Context(), "tcp", fmt.Sprintf("%s:%d", address, port))
}

// answer is what a port says, if it lets one in.
func answer(t *testing.T, port int) string {
	t.Helper()
	conn, err := connect(t, port, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	said, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}

func dropped(t *testing.T, port int) bool {
	t.Helper()
	conn, err := connect(t, port, 200*time.Millisecond)
	if err == nil {
		conn.Close()
	}
	var waited net.Error
	return errors.As(err, &waited) && waited.Timeout()
}

func TestOnlyAdmittedPortsAreAnswered(t *testing.T) {
	gate := open(t, instance)
	if !dropped(t, 22) {
		t.Error("a gate lets connections in before it is told to")
	}
	if err := gate.Admit([]Ports{{8000, 8100}, {22, 22}}); err != nil {
		t.Fatal(err)
	}
	for _, port := range []int{22, 8000, 8057, 8100} {
		if got, want := answer(t, port), fmt.Sprint("port ", port); got != want {
			t.Errorf("port %d says %q, want %q", port, got, want)
		}
	}
	for _, port := range []int{21, 23, 7999, 8101} {
		if !dropped(t, port) {
			t.Errorf("port %d is not dropped", port)
		}
	}
}

func TestAConnectionGoesOnWhenItsPortIsClosed(t *testing.T) {
	here, there := net.Pipe()
	gate := open(t, func(context.Context, uint16) (net.Conn, error) { return here, nil })
	if err := gate.Admit([]Ports{{22, 22}}); err != nil {
		t.Fatal(err)
	}
	conn, err := connect(t, 22, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := gate.Admit(nil); err != nil {
		t.Fatal(err)
	}
	if !dropped(t, 22) {
		t.Error("a new connection is not dropped")
	}
	if _, err := conn.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	heard := make([]byte, len("still here"))
	if _, err := io.ReadFull(there, heard); err != nil || string(heard) != "still here" {
		t.Errorf("the instance heard %q, %v", heard, err)
	}
}

func TestAServerOnAllAddressesIsNotInTheWay(t *testing.T) {
	server, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	port := server.Addr().(*net.TCPAddr).Port
	gate := open(t, instance)
	if err := gate.Admit([]Ports{{uint16(port), uint16(port)}}); err != nil {
		t.Fatal(err)
	}
	if got, want := answer(t, port), fmt.Sprint("port ", port); got != want {
		t.Errorf("the address says %q, want %q", got, want)
	}
}

func TestWhatTheInstanceRefusesIsReset(t *testing.T) {
	gate := open(t, func(context.Context, uint16) (net.Conn, error) { return nil, errors.New("refused") })
	if err := gate.Admit([]Ports{{1, 65535}}); err != nil {
		t.Fatal(err)
	}
	conn, err := connect(t, 80, 20*time.Second)
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	if err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the client hears %v, want that it is refused", err)
	}
}

func TestJoinedRangesCoverTheSamePorts(t *testing.T) {
	got := joined([]Ports{{443, 443}, {80, 90}, {85, 100}, {101, 101}, {0, 65535}})
	if want := []Ports{{0, 65535}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	got = joined([]Ports{{443, 443}, {80, 90}, {85, 100}, {101, 101}})
	if want := []Ports{{80, 101}, {443, 443}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
