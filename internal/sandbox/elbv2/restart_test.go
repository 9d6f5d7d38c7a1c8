package elbv2_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling/fleettest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/elbv2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
)

// occupied is a plane for which some addresses are taken.
type occupied struct {
	*elbv2.States
	taken func(address string) bool
	open  map[string]string // address and port, by ARN
}

func (o *occupied) Listen(l elbv2.Listener) error {
	if o.taken(l.Address.Addr().String()) {
		return errors.New("address already in use")
	}
	o.open[l.ARN] = l.Address.String()
	return nil
}

func (o *occupied) Unlisten(arn string) { delete(o.open, arn) }

// restarted opens a service on a directory with the plane, and gives what ends it.
func restarted(t *testing.T, dir string, taken func(string) bool) (*balancing, *occupied, func(), error) {
	t.Helper()
	books, err := state.Open(dir, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	c, err := clock.New(clock.Instant, 1)
	if err != nil {
		t.Fatal(err)
	}
	end := func() {
		c.Stop()
		if err := books.Close(); err != nil {
			t.Error(err)
		}
	}
	plane := &occupied{elbv2.NewStates(c), taken, map[string]string{}}
	fleet := fleettest.New(c)
	s, err := elbv2.New(books, c, func(string) ec2.Fleet { return fleet }, plane, 4566)
	if err != nil {
		return nil, plane, end, err
	}
	return &balancing{Client: elb.NewFromConfig(fleettest.Config(t, books, c, s.API())), fleet: fleet}, plane, end, nil
}

func TestALoadBalancerWhoseAddressIsTakenGetsAnother(t *testing.T) {
	dir, none := t.TempDir(), func(string) bool { return false }
	b, _, end, err := restarted(t, dir, none)
	if err != nil {
		t.Fatal(err)
	}
	tg := b.targetGroup(t, "hello")
	lb, second := b.loadBalancer(t, "hello"), b.loadBalancer(t, "second")
	http, alternative := b.listener(t, lb.LoadBalancerArn, 80, tg), b.listener(t, lb.LoadBalancerArn, 8080, tg)
	end()

	b, plane, end, err := restarted(t, dir, func(address string) bool { return address == *lb.DNSName || address == "127.17.214.3" })
	if err != nil {
		t.Fatal(err)
	}
	now := must(b.DescribeLoadBalancers(t.Context(), &elb.DescribeLoadBalancersInput{Names: []string{"hello"}}))(t).LoadBalancers[0]
	if *now.DNSName == *lb.DNSName || *now.DNSName == *second.DNSName || *now.LoadBalancerArn != *lb.LoadBalancerArn {
		t.Errorf("the load balancer is at %s, and was at %s; the other one is at %s", *now.DNSName, *lb.DNSName, *second.DNSName)
	}
	want := map[string]string{http: *now.DNSName + ":80", alternative: *now.DNSName + ":8080"}
	if fmt.Sprint(plane.open) != fmt.Sprint(want) {
		t.Errorf("open = %v, want %v", plane.open, want)
	}
	end()

	_, _, end, err = restarted(t, dir, func(string) bool { return true })
	defer end()
	if err == nil || !strings.Contains(err.Error(), `load balancer "hello"`) || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("with no address left: %v, want an error that names the load balancer and a remedy", err)
	}
}
