package machine

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Two instances without machines, which have their network alone, and a node.
var (
	web    = netip.MustParseAddr("172.31.0.10")
	client = netip.MustParseAddr("172.31.16.20")
	node   = netip.MustParseAddr("172.31.0.200")
)

// town is a network with web and client in it.
type town struct {
	*testing.T
	host   *host
	spaces map[netip.Addr]*os.File
}

func newTown(t *testing.T) *town {
	t.Helper()
	w := &town{T: t, host: newHost(t).(*host), spaces: map[netip.Addr]*os.File{}}
	for _, address := range []netip.Addr{web, client} {
		namespace, err := newNamespace()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { namespace.Close() })
		if err := w.host.vpc.attach(namespace, address); err != nil {
			t.Fatal(err)
		}
		w.spaces[address] = namespace
	}
	return w
}

// serve accepts TCP connections at a port of an instance, and answers UDP.
func (w *town) serve(address netip.Addr, port uint16) {
	w.Helper()
	var listener net.Listener
	var packets net.PacketConn
	err := within(w.spaces[address], func() (err error) {
		at := netip.AddrPortFrom(address, port)
		if listener, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at)); err == nil {
			packets, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { listener.Close(); packets.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			w.Cleanup(func() { conn.Close() })
		}
	}()
	go func() {
		word := make([]byte, 16)
		for {
			n, from, err := packets.ReadFrom(word)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo(word[:n], from)
		}
	}()
}

func (w *town) groups(groups ...Group) {
	w.Helper()
	if err := w.host.Configure(Network{Nodes: []netip.Addr{node}, Groups: groups}); err != nil {
		w.Fatal(err)
	}
}

// patience is how long an answer is waited for: long where there should be one.
func patience(expected bool) time.Duration {
	if expected {
		return 20 * time.Second
	}
	return 300 * time.Millisecond
}

// reach checks that a TCP connection is made, or is not, from an instance, a node or, where from is not valid, the gateway.
func (w *town) reach(from, to netip.Addr, port uint16, want bool) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), patience(want))
	defer cancel()
	conn, err := w.connect(ctx, from, netip.AddrPortFrom(to, port).String())
	if err == nil {
		conn.Close()
	}
	if (err == nil) != want {
		w.Errorf("a connection from %s to %s:%d: %v", from, to, port, err)
	}
}

func (w *town) connect(ctx context.Context, from netip.Addr, to string) (conn net.Conn, err error) {
	namespace := w.spaces[from]
	switch {
	case !from.IsValid():
		return w.host.Dial(ctx, "tcp", to)
	case namespace == nil:
		return w.host.DialFrom(ctx, from, "tcp", to)
	}
	err = within(namespace, func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", to)
		return err
	})
	return conn, err
}

const tcp, udp, icmp = 6, 17, 1

var everywhere = netip.MustParsePrefix("0.0.0.0/0")

var allOut = []Rule{{Peer: everywhere}}

func TestSecurityGroupsLetThroughOrDrop(t *testing.T) {
	w := newTown(t)
	w.serve(web, 80)
	w.serve(web, 22)
	for _, test := range []struct {
		name   string
		groups []Group
		port   uint16
		client bool // reaches web
		node   bool // reaches web
	}{
		{"without groups", nil, 80, false, false},
		{"from anywhere", []Group{
			{ID: "web", Members: []netip.Addr{web}, In: []Rule{{Protocol: tcp, From: 80, To: 80, Peer: everywhere}}},
			{ID: "rest", Members: []netip.Addr{client, node}, Out: allOut},
		}, 80, true, true},
		{"another port", []Group{
			{ID: "web", Members: []netip.Addr{web}, In: []Rule{{Protocol: tcp, From: 23, To: 80, Peer: everywhere}}},
			{ID: "rest", Members: []netip.Addr{client, node}, Out: allOut},
		}, 22, false, false},
		{"another protocol", []Group{
			{ID: "web", Members: []netip.Addr{web}, In: []Rule{{Protocol: udp, From: 80, To: 80, Peer: everywhere}}},
			{ID: "rest", Members: []netip.Addr{client, node}, Out: allOut},
		}, 80, false, false},
		{"from a subnet", []Group{
			{ID: "web", Members: []netip.Addr{web}, In: []Rule{{Peer: netip.MustParsePrefix("172.31.16.0/20")}}},
			{ID: "rest", Members: []netip.Addr{client, node}, Out: allOut},
		}, 22, true, false},
		{"from a group", []Group{
			{ID: "web", Members: []netip.Addr{web}, In: []Rule{{PeerGroup: "balancer"}}},
			{ID: "rest", Members: []netip.Addr{client}, Out: allOut},
			{ID: "balancer", Members: []netip.Addr{node}, Out: allOut},
		}, 80, false, true},
		{"from a group that is not there", []Group{
			{ID: "web", Members: []netip.Addr{web}, In: []Rule{{PeerGroup: "gone"}}},
			{ID: "rest", Members: []netip.Addr{client, node}, Out: allOut},
		}, 80, false, false},
		{"by the second group", []Group{
			{ID: "one", Members: []netip.Addr{web}},
			{ID: "two", Members: []netip.Addr{web}, In: []Rule{{Protocol: tcp, From: 0, To: 65535, Peer: everywhere}}},
			{ID: "rest", Members: []netip.Addr{client, node}, Out: allOut},
		}, 80, true, true},
		{"not out of the sender's", []Group{
			{ID: "web", Members: []netip.Addr{web}, In: []Rule{{Peer: everywhere}}},
			{ID: "rest", Members: []netip.Addr{client, node}, Out: []Rule{{Protocol: tcp, From: 443, To: 443, Peer: everywhere}}},
		}, 80, false, false},
		{"out to a group", []Group{
			{ID: "web", Members: []netip.Addr{web}, In: []Rule{{Peer: everywhere}}},
			{ID: "rest", Members: []netip.Addr{client}, Out: []Rule{{PeerGroup: "web"}}},
			{ID: "balancer", Members: []netip.Addr{node}, Out: []Rule{{PeerGroup: "rest"}}},
		}, 80, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := &town{T: t, host: w.host, spaces: w.spaces}
			w.groups(test.groups...)
			w.reach(client, web, test.port, test.client)
			w.reach(node, web, test.port, test.node)
			w.reach(netip.Addr{}, web, test.port, true)
		})
	}
}

func TestRulesAreStateful(t *testing.T) {
	w := newTown(t)
	w.serve(web, 80)
	open := []Group{
		{ID: "web", Members: []netip.Addr{web}, In: []Rule{{Protocol: tcp, From: 80, To: 80, Peer: everywhere}}}, // nothing out
		{ID: "rest", Members: []netip.Addr{client}, Out: allOut},                                                 // nothing in
	}
	w.groups(open...)
	conn, err := w.connect(t.Context(), client, fmt.Sprint(web, ":80"))
	if err != nil {
		t.Fatalf("an answer needs no rule of its own: %v", err)
	}
	defer conn.Close()
	w.groups()
	w.reach(client, web, 80, false)
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Error(err)
	}
	w.groups(open...)
	w.reach(client, web, 80, true)
}

func TestDatagramsAndPingsHaveRules(t *testing.T) {
	w := newTown(t)
	w.serve(web, 53)
	echoed := func(network, to string, word []byte, want bool) bool {
		var conn net.Conn
		if err := within(w.spaces[client], func() (err error) {
			conn, err = new(net.Dialer).DialContext(t.Context(), network, to)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(patience(want))); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(word); err != nil {
			return false
		}
		n, err := conn.Read(make([]byte, 64))
		return err == nil && n > 0
	}
	for n, test := range []struct {
		name      string
		in        Rule
		udp, ping bool
	}{
		{"udp", Rule{Protocol: udp, From: 53, To: 53, Peer: everywhere}, true, false},
		{"icmp", Rule{Protocol: icmp, Peer: everywhere}, false, true},
		{"echo requests", Rule{Protocol: icmp, ICMP: &ICMP{Type: 8, Code: new(uint8(0))}, Peer: everywhere}, false, true},
		{"other icmp", Rule{Protocol: icmp, ICMP: &ICMP{Type: 13}, Peer: everywhere}, false, false},
	} {
		// One that has its own identifier (n) is new to the firewall.
		ping := []byte{8, 0, 0xf7, 0xff - byte(n), 0, byte(n), 0, 0}
		w.groups(Group{ID: "web", Members: []netip.Addr{web}, In: []Rule{test.in}}, Group{ID: "rest", Members: []netip.Addr{client}, Out: allOut})
		if got := echoed("udp", fmt.Sprint(web, ":53"), []byte("hello"), test.udp); got != test.udp {
			t.Errorf("a rule for %s lets UDP through is %t", test.name, got)
		}
		if got := echoed("ip4:icmp", web.String(), ping, test.ping); got != test.ping {
			t.Errorf("a rule for %s lets a ping through is %t", test.name, got)
		}
	}
}

func TestInstancesReachNothingOfTheNetworkButTheMetadataService(t *testing.T) {
	w := newTown(t)
	w.groups(Group{ID: "all", Members: []netip.Addr{client, node}, In: []Rule{{Peer: everywhere}}, Out: allOut})
	w.reach(client, metadataAddress, 80, true)
	for _, own := range []netip.Addr{w.host.vpc.gateway(), node} {
		w.reach(client, own, 80, false)
	}
}

func TestTokensGoAsManyHopsAsTheirLimit(t *testing.T) {
	w := newTown(t)
	w.host.vpc.metadata.add(Spec{
		ID: "i-1", Address: client, Metadata: Tree(map[string]string{"meta-data/instance-id": "i-1"}),
		MetadataOptions: func() MetadataOptions { return MetadataOptions{HopLimit: 3, TokenOptional: true} },
	})
	for _, test := range []struct {
		method string
		hops   int // that an answer must have left
		want   bool
	}{
		{http.MethodPut, 3, true},
		{http.MethodPut, 4, false},
		{http.MethodGet, 64, true},
	} {
		conn, err := w.connect(t.Context(), client, fmt.Sprint(metadataAddress, ":80"))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MINTTL, test.hops) }); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(patience(test.want))); err != nil {
			t.Fatal(err)
		}
		path := map[string]string{http.MethodPut: "/latest/api/token", http.MethodGet: "/latest/meta-data/instance-id"}[test.method]
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: imds\r\n%s: 60\r\n\r\n", test.method, path, ttlHeader)
		if n, _ := conn.Read(make([]byte, 12)); (n > 0) != test.want {
			t.Errorf("the answer to %s goes %d hops is %t", test.method, test.hops, n > 0)
		}
		conn.Close()
	}
}
