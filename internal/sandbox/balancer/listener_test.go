package balancer

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/elbv2"
)

// lab is a balancer with one listener that forwards to the group "webs".
type lab struct {
	*Balancer
	t        *testing.T
	listener elbv2.Listener
	changed  chan elbv2.Target
}

func newLab(t *testing.T, protocol string) *lab {
	t.Helper()
	l := &lab{
		Balancer: New(anywhere), t: t, changed: make(chan elbv2.Target, 100),
		listener: elbv2.Listener{
			ARN: "front", Address: freeAddress(t), Protocol: protocol,
			Forward: []elbv2.Weighted{{TargetGroup: "webs", Weight: 1}},
		},
	}
	t.Cleanup(func() { closeBalancer(t, l.Balancer) })
	l.Subscribe(func(_ string, t elbv2.Target) { l.changed <- t })
	l.group("webs", "/health")
	if err := l.Listen(l.listener); err != nil {
		t.Fatal(err)
	}
	return l
}

// anywhere connects from no node.
func anywhere(ctx context.Context, _ netip.Addr, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

// freeAddress is one of a loopback address of its own, so that nobody takes the port in between.
func freeAddress(t *testing.T) netip.AddrPort {
	t.Helper()
	socket, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.45.67.89:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := socket.Close(); err != nil {
		t.Fatal(err)
	}
	return netip.MustParseAddrPort(socket.Addr().String())
}

// group serves a target group whose checks come an hour apart: one is all that a test sees.
func (l *lab) group(arn, checkPath string) {
	l.Serve(elbv2.TargetGroup{
		ARN: arn, Protocol: "HTTP", CheckProtocol: "HTTP", CheckPath: checkPath, Matcher: "200",
		Interval: time.Hour, Timeout: time.Minute, Healthy: 2, Unhealthy: 1,
	})
}

// add registers a target and waits for its first check to be over.
func (l *lab) add(group, id string, handler http.HandlerFunc) elbv2.Target {
	l.t.Helper()
	server := httptest.NewServer(handler)
	l.t.Cleanup(server.Close)
	target := elbv2.Target{ID: id, Address: netip.MustParseAddrPort(server.Listener.Addr().String())}
	l.Register(group, target)
	<-l.changed
	return target
}

// named answers everything with a name.
func named(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) }
}

// sick fails its health checks and is otherwise as the handler.
func sick(handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		handler(w, r)
	}
}

func (l *lab) request(method string, header http.Header) *http.Response {
	l.t.Helper()
	request, err := http.NewRequestWithContext(l.t.Context(), method, fmt.Sprintf("http://%s/page", l.listener.Address), nil)
	if err != nil {
		l.t.Fatal(err)
	}
	if header != nil {
		request.Header = header
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		l.t.Fatal(err)
	}
	return response
}

// body reads what a response has, to its end.
func body(t *testing.T, response *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// get returns the status and the body of one request.
func (l *lab) get() (int, string) {
	l.t.Helper()
	response := l.request(http.MethodGet, nil)
	return response.StatusCode, body(l.t, response)
}

// names gets n times and returns all bodies.
func (l *lab) names(n int) string {
	l.t.Helper()
	var all strings.Builder
	for range n {
		status, body := l.get()
		if status != http.StatusOK {
			l.t.Fatalf("answers %d: %s", status, body)
		}
		all.WriteString(body)
	}
	return all.String()
}

func TestRequestsGoToHealthyTargetsInTurn(t *testing.T) {
	l := newLab(t, "HTTP")
	l.add("webs", "i-1", named("a"))
	l.add("webs", "i-2", sick(named("b")))
	l.add("webs", "i-3", named("c"))
	if got := l.names(4); got != "caca" && got != "acac" {
		t.Errorf("answered by %q, want by a and c in turn", got)
	}
}

func TestGroupWithoutAHealthyTargetFailsOpen(t *testing.T) {
	l := newLab(t, "HTTP")
	l.add("webs", "i-1", sick(named("a")))
	l.add("webs", "i-2", sick(named("b")))
	if got := l.names(4); got != "baba" && got != "abab" {
		t.Errorf("answered by %q, want by a and b in turn", got)
	}
}

func TestGroupWithoutTargetsIs503(t *testing.T) {
	l := newLab(t, "HTTP")
	if status, body := l.get(); status != http.StatusServiceUnavailable || !strings.Contains(body, "503 Service Temporarily Unavailable") {
		t.Errorf("answers %d %q, want 503", status, body)
	}
}

func TestTargetThatHangsUpIs502(t *testing.T) {
	l := newLab(t, "HTTP")
	l.add("webs", "i-1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			panic(http.ErrAbortHandler)
		}
	})
	if status, body := l.get(); status != http.StatusBadGateway {
		t.Errorf("answers %d %q, want 502", status, body)
	}
}

func TestTargetThatRefusesIs502AndNoOtherIsTried(t *testing.T) {
	l := newLab(t, "HTTP")
	l.add("webs", "i-1", named("a"))
	gone := elbv2.Target{ID: "i-2", Address: freeAddress(t)}
	l.Register("webs", gone)
	<-l.changed
	l.mu.Lock()
	l.groups["webs"].find(gone).health = healthy // its last check was passed
	l.mu.Unlock()
	first, _ := l.get()
	second, _ := l.get()
	if first+second != http.StatusOK+http.StatusBadGateway {
		t.Errorf("answers %d and %d, want one 200 and one 502", first, second)
	}
}

func TestTargetThatTakesTooLongIs504(t *testing.T) {
	l := newLab(t, "HTTP")
	target := l.add("webs", "i-1", func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			<-r.Context().Done()
		}
	})
	l.mu.Lock()
	l.groups["webs"].find(target).transport.ResponseHeaderTimeout = time.Millisecond
	l.mu.Unlock()
	if status, body := l.get(); status != http.StatusGatewayTimeout {
		t.Errorf("answers %d %q, want 504", status, body)
	}
}

func TestTargetIsToldOfTheClient(t *testing.T) {
	l := newLab(t, "HTTP")
	l.add("webs", "i-1", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Host, "|", r.Header.Get("X-Forwarded-For"), "|", r.Header.Get("X-Forwarded-Proto"), "|", r.Header.Get("X-Forwarded-Port"))
	})
	response := l.request(http.MethodGet, http.Header{"X-Forwarded-For": {"203.0.113.7"}})
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	address := l.listener.Address
	if want := fmt.Sprintf("%s|203.0.113.7, 127.0.0.1|http|%d", address, address.Port()); string(body) != want {
		t.Errorf("the target sees %q, want %q", body, want)
	}
}

func TestWeightsShareRequestsOutAndChange(t *testing.T) {
	l := newLab(t, "HTTP")
	l.group("green", "/health")
	l.add("webs", "i-1", named("b"))
	l.add("green", "i-2", named("g"))
	l.listener.Forward = []elbv2.Weighted{{TargetGroup: "webs", Weight: 3}, {TargetGroup: "green", Weight: 1}}
	if err := l.Listen(l.listener); err != nil {
		t.Fatal(err)
	}
	if got := l.names(4); got != "bbgb" {
		t.Errorf("with weights 3 and 1 answered by %q", got)
	}
	l.listener.Forward = []elbv2.Weighted{{TargetGroup: "webs", Weight: 0}, {TargetGroup: "green", Weight: 1}}
	if err := l.Listen(l.listener); err != nil {
		t.Fatal(err)
	}
	if got := l.names(4); got != "gggg" {
		t.Errorf("with weights 0 and 1 answered by %q", got)
	}
}

// slow answers "begun", then the rest when it is let.
func slow(let <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			return
		}
		_, _ = io.WriteString(w, "begun\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-let:
			_, _ = io.WriteString(w, "ended\n")
		case <-r.Context().Done():
		}
	}
}

func TestTargetThatDrainsFinishesItsRequestsAndGetsNoMore(t *testing.T) {
	l := newLab(t, "HTTP")
	let := make(chan struct{})
	draining := l.add("webs", "i-1", slow(let))
	response := l.request(http.MethodGet, nil)
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewScanner(response.Body)
	lines.Scan()

	l.add("webs", "i-2", named("b"))
	l.Drain("webs", draining)
	if got := l.names(4); got != "bbbb" {
		t.Errorf("after draining began answered by %q, want by b alone", got)
	}
	close(let)
	if lines.Scan(); lines.Text() != "ended" {
		t.Errorf("the request under way was cut: %q, %v", lines.Text(), lines.Err())
	}
}

func TestTargetThatIsRemovedEndsItsRequests(t *testing.T) {
	l := newLab(t, "HTTP")
	target := l.add("webs", "i-1", slow(nil))
	response := l.request(http.MethodGet, nil)
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewScanner(response.Body)
	lines.Scan()
	l.Remove("webs", target)
	if lines.Scan() || lines.Err() == nil {
		t.Errorf("the request went on: %q", lines.Text())
	}
}

func TestListenerThatIsClosedAnswersNoMore(t *testing.T) {
	l := newLab(t, "HTTP")
	l.Unlisten("front")
	if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.listener.Address.String()); err == nil {
		_ = conn.Close()
		t.Error("it takes connections")
	}
}

func TestListenerThatMovesLeavesItsAddress(t *testing.T) {
	l := newLab(t, "HTTP")
	l.add("webs", "i-1", named("a"))
	before := l.listener.Address
	l.listener.Address = freeAddress(t)
	if err := l.Listen(l.listener); err != nil {
		t.Fatal(err)
	}
	if got := l.names(1); got != "a" {
		t.Errorf("at the new address answers %q", got)
	}
	if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", before.String()); err == nil {
		_ = conn.Close()
		t.Error("the old address takes connections")
	}
}

func TestListenerOfATakenAddressSaysWhich(t *testing.T) {
	l := newLab(t, "HTTP")
	second := l.listener
	second.ARN = "back"
	if err := l.Listen(second); err == nil || !strings.Contains(err.Error(), l.listener.Address.String()) {
		t.Errorf("error is %v, want one that names %s", err, l.listener.Address)
	}
}

func TestTCPIsRelayed(t *testing.T) {
	l := newLab(t, "TCP")
	l.add("webs", "i-1", named("a"))
	if got := l.names(1); got != "a" {
		t.Errorf("answers %q", got)
	}
}

func TestTCPGoesOnWhileItsTargetDrains(t *testing.T) {
	l := newLab(t, "TCP")
	let := make(chan struct{})
	target := l.add("webs", "i-1", slow(let))
	lines := l.begun(l.connect())
	l.Drain("webs", target)
	close(let)
	if lines.Scan(); lines.Text() != "ended" {
		t.Errorf("the connection was cut: %q, %v", lines.Text(), lines.Err())
	}
}

func TestTCPWithoutATargetIsClosed(t *testing.T) {
	l := newLab(t, "TCP")
	if answer, err := io.ReadAll(l.connect()); len(answer) > 0 {
		t.Errorf("reads %q, %v", answer, err)
	}
}

func TestTCPEndsWithItsTarget(t *testing.T) {
	l := newLab(t, "TCP")
	target := l.add("webs", "i-1", slow(nil))
	lines := l.begun(l.connect())
	l.Remove("webs", target)
	if lines.Scan() {
		t.Errorf("the connection went on: %q", lines.Text())
	}
}

func (l *lab) connect() net.Conn {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", l.listener.Address.String())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// begun sends a request over a connection and reads the answer of a slow target up to where it waits.
func (l *lab) begun(conn net.Conn) *bufio.Scanner {
	l.t.Helper()
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		l.t.Fatal(err)
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if lines.Text() == "begun" {
			return lines
		}
	}
	l.t.Fatalf("the target never began to answer: %v", lines.Err())
	return nil
}

func TestAShutListenerDropsClients(t *testing.T) {
	l := newLab(t, "HTTP")
	l.add("webs", "i-1", named("one"))
	l.listener.Shut = true
	if err := l.Listen(l.listener); err != nil {
		t.Fatal(err)
	}
	if hears(t, l.listener) {
		t.Error("a listener that is shut lets a client in")
	}
	l.listener.Shut = false
	if err := l.Listen(l.listener); err != nil {
		t.Fatal(err)
	}
	if status, body := l.get(); status != http.StatusOK || body != "one" {
		t.Errorf("a listener that is open again answers %d %q", status, body)
	}
}

func hears(t *testing.T, l elbv2.Listener) bool {
	t.Helper()
	dialer := net.Dialer{Timeout: 300 * time.Millisecond}
	conn, err := dialer.DialContext(t.Context(), "tcp", l.Address.String())
	if err == nil {
		conn.Close()
	}
	return err == nil
}
