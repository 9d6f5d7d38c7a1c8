package balancer

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/elbv2"
)

var (
	webs = elbv2.TargetGroup{
		ARN: "webs", Protocol: "HTTP", CheckProtocol: "HTTP", CheckPath: "/health", Matcher: "200,204",
		Interval: 10 * time.Second, Timeout: 2 * time.Second, Healthy: 3, Unhealthy: 2,
	}
	web = elbv2.Target{ID: "i-1", Address: netip.MustParseAddrPort("172.31.0.10:8080")}
)

// patient is a target of which a test says how it is. Its connections are pipes in memory,
// so that time passes only when the test lets it.
type patient struct {
	status atomic.Int64 // of its answers; 0 is none at all
	refuse atomic.Bool  // connections
	asked  atomic.Pointer[http.Request]
	closed chan struct{}
}

func newPatient(t *testing.T) *patient {
	p := &patient{closed: make(chan struct{})}
	t.Cleanup(func() { close(p.closed) })
	return p
}

func (p *patient) dial(_ context.Context, _ netip.Addr, _, address string) (net.Conn, error) {
	if p.refuse.Load() || address != web.Address.String() {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	server := &http.Server{Handler: p}
	go func() { _ = server.Serve(&single{conn: far}) }()
	return near, nil
}

func (p *patient) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.asked.Store(r)
	if status := int(p.status.Load()); status != 0 {
		w.WriteHeader(status)
		return
	}
	select {
	case <-r.Context().Done():
	case <-p.closed:
	}
}

// single is a listener that has one connection.
type single struct {
	conn net.Conn
}

func (s *single) Accept() (net.Conn, error) {
	if conn := s.conn; conn != nil {
		s.conn = nil
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (s *single) Close() error   { return nil }
func (s *single) Addr() net.Addr { return &net.TCPAddr{} }

// after lets time pass and what is due then happen.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestHealthOverTime(t *testing.T) {
	mismatch := wrongCode(500)
	type step struct {
		name   string
		status int64
		refuse bool
		pass   time.Duration
		want   elbv2.Health
	}
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"a new target needs one check", []step{
			{"at once", 200, false, 0, healthy},
		}},
		{"every status of the matcher is healthy", []step{
			{"at once", 204, false, 0, healthy},
		}},
		{"a new target that answers wrongly", []step{
			{"first check", 500, false, 0, checking},
			{"second check", 500, false, 10 * time.Second, mismatch},
		}},
		{"a new target that comes up late", []step{
			{"first check", 0, true, 0, checking},
			{"second check", 200, false, 10 * time.Second, healthy},
		}},
		{"a target that does not answer", []step{
			{"while it is asked", 0, false, 0, checking},
			{"first check", 0, false, 2 * time.Second, checking},
			{"second check", 0, false, 10 * time.Second, timedOut},
		}},
		{"a healthy target that refuses", []step{
			{"at first", 200, false, 0, healthy},
			{"one failed check", 0, true, 10 * time.Second, healthy},
			{"two failed checks", 0, true, 10 * time.Second, noAnswer},
			{"for another reason", 500, false, 10 * time.Second, mismatch},
		}},
		{"a failed check between passed ones", []step{
			{"at first", 200, false, 0, healthy},
			{"one failed check", 500, false, 10 * time.Second, healthy},
			{"one passed", 200, false, 10 * time.Second, healthy},
			{"one failed again", 500, false, 10 * time.Second, healthy},
		}},
		{"an unhealthy target that recovers", []step{
			{"first check", 500, false, 0, checking},
			{"unhealthy", 500, false, 10 * time.Second, mismatch},
			{"one passed check", 200, false, 10 * time.Second, mismatch},
			{"two passed checks", 200, false, 10 * time.Second, mismatch},
			{"three passed checks", 200, false, 10 * time.Second, healthy},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPatient(t)
				b := New(p.dial)
				defer closeBalancer(t, b)
				b.Serve(webs)
				for i, step := range test.steps {
					p.status.Store(step.status)
					p.refuse.Store(step.refuse)
					if i == 0 {
						b.Register(webs.ARN, web)
					}
					after(step.pass)
					if got := b.Health(webs.ARN, web); got != step.want {
						t.Errorf("%s: health is %+v, want %+v", step.name, got, step.want)
					}
				}
			})
		})
	}
}

func closeBalancer(t *testing.T, b *Balancer) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func TestHealthCheckIsAskedAsALoadBalancerAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPatient(t)
		p.status.Store(200)
		b := New(p.dial)
		defer closeBalancer(t, b)
		b.Serve(webs)
		b.Register(webs.ARN, web)
		synctest.Wait()
		asked := p.asked.Load()
		if asked.Method != http.MethodGet || asked.URL.Path != "/health" || asked.Host != "172.31.0.10:8080" || asked.UserAgent() != "ELB-HealthChecker/2.0" {
			t.Errorf("asked %s %s of %s as %q", asked.Method, asked.URL, asked.Host, asked.UserAgent())
		}
	})
}

func TestHealthCheckOfAnotherPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPatient(t)
		p.status.Store(200)
		b := New(p.dial)
		defer closeBalancer(t, b)
		other := web
		other.Address = netip.MustParseAddrPort("172.31.0.10:9000") // which p refuses
		checked := webs
		checked.CheckPort = 8080
		b.Serve(checked)
		b.Register(webs.ARN, other)
		synctest.Wait()
		if got := b.Health(webs.ARN, other); got != healthy {
			t.Errorf("health is %+v, want healthy", got)
		}
	})
}

func TestHealthCheckByTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPatient(t)
		b := New(p.dial)
		defer closeBalancer(t, b)
		group := webs
		group.CheckProtocol = "TCP"
		b.Serve(group)
		b.Register(webs.ARN, web)
		synctest.Wait()
		if got := b.Health(webs.ARN, web); got != healthy {
			t.Errorf("a target that takes connections: health is %+v, want healthy", got)
		}
		p.refuse.Store(true)
		after(20 * time.Second)
		if got := b.Health(webs.ARN, web); got != noAnswer {
			t.Errorf("a target that refuses them: health is %+v, want %+v", got, noAnswer)
		}
	})
}

func TestSubscriberHearsOfChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPatient(t)
		p.status.Store(200)
		b := New(p.dial)
		defer closeBalancer(t, b)
		var heard []string
		b.Subscribe(func(group string, target elbv2.Target) {
			heard = append(heard, group+" "+target.ID+" "+b.Health(group, target).State)
		})
		b.Serve(webs)
		b.Register(webs.ARN, web)
		after(30 * time.Second)
		if len(heard) != 1 || heard[0] != "webs i-1 healthy" {
			t.Errorf("heard %q, want of one change, to healthy", heard)
		}
	})
}

func TestTargetThatDrainsIsNotChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPatient(t)
		p.status.Store(200)
		b := New(p.dial)
		defer closeBalancer(t, b)
		b.Serve(webs)
		b.Register(webs.ARN, web)
		synctest.Wait()
		b.Drain(webs.ARN, web)
		p.asked.Store(nil)
		after(time.Minute)
		if p.asked.Load() != nil {
			t.Error("it was checked")
		}
	})
}

func TestMatches(t *testing.T) {
	for _, test := range []struct {
		matcher string
		status  int
		want    bool
	}{
		{"200", 200, true}, {"200", 201, false},
		{"200-299", 204, true}, {"200-299", 301, false},
		{"200,302", 302, true}, {"200,302", 301, false},
		{"200, 300-399", 307, true}, {"", 200, false},
	} {
		if got := matches(test.matcher, test.status); got != test.want {
			t.Errorf("%d is in %q: %t, want %t", test.status, test.matcher, got, test.want)
		}
	}
}
