package elbv2_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/smithy-go"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling/fleettest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/elbv2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
)

// balancing is a service with one load balancer's worth of resources.
type balancing struct {
	*elb.Client
	fleet *fleettest.Fleet
	plane *elbv2.States
	ids   []string
}

// serve runs a test with a service and two running instances, in a time of its own.
func serve(t *testing.T, test func(*testing.T, *balancing)) {
	synctest.Test(t, func(t *testing.T) { test(t, open(t, t.TempDir())) })
}

func open(t *testing.T, dir string) *balancing {
	t.Helper()
	books, err := state.Open(dir, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	c, err := clock.New(clock.Instant, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Stop()
		if err := books.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &balancing{fleet: fleettest.New(c), plane: elbv2.NewStates(c)}
	s, err := elbv2.New(books, c, func(string) ec2.Fleet { return b.fleet }, b.plane, 4566)
	if err != nil {
		t.Fatal(err)
	}
	b.Client = elb.NewFromConfig(fleettest.Config(t, books, c, s.API()))
	members, err := b.fleet.Launch(t.Context(), ec2.LaunchOrder{Template: ec2.TemplateRef{ID: fleettest.LaunchTemplate}, Count: 2, SubnetID: "subnet-a"})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		b.ids = append(b.ids, m.ID)
	}
	time.Sleep(2 * time.Second)
	return b
}

func must[T any](out T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

func (b *balancing) targetGroup(t *testing.T, name string) string {
	t.Helper()
	out := must(b.CreateTargetGroup(t.Context(), &elb.CreateTargetGroupInput{
		Name: &name, Protocol: types.ProtocolEnumHttp, Port: new(int32(8080)), VpcId: new(fleettest.VPC),
		HealthCheckIntervalSeconds: new(int32(10)), HealthCheckPath: new("/health"),
	}))(t)
	return *out.TargetGroups[0].TargetGroupArn
}

func (b *balancing) loadBalancer(t *testing.T, name string) types.LoadBalancer {
	t.Helper()
	out := must(b.CreateLoadBalancer(t.Context(), &elb.CreateLoadBalancerInput{Name: &name, Subnets: []string{"subnet-a", "subnet-b"}}))(t)
	return out.LoadBalancers[0]
}

func forward(arns ...string) []types.Action {
	a := types.Action{Type: types.ActionTypeEnumForward, ForwardConfig: &types.ForwardActionConfig{}}
	for _, arn := range arns {
		a.ForwardConfig.TargetGroups = append(a.ForwardConfig.TargetGroups, types.TargetGroupTuple{TargetGroupArn: &arn, Weight: new(int32(1))})
	}
	return []types.Action{a}
}

func (b *balancing) listener(t *testing.T, lb *string, port int32, arns ...string) string {
	t.Helper()
	out := must(b.CreateListener(t.Context(), &elb.CreateListenerInput{
		LoadBalancerArn: lb, Protocol: types.ProtocolEnumHttp, Port: &port, DefaultActions: forward(arns...),
	}))(t)
	return *out.Listeners[0].ListenerArn
}

func (b *balancing) register(t *testing.T, tg string, ids ...string) {
	t.Helper()
	must(b.RegisterTargets(t.Context(), &elb.RegisterTargetsInput{TargetGroupArn: &tg, Targets: targets(ids)}))(t)
}

func targets(ids []string) []types.TargetDescription {
	var all []types.TargetDescription
	for _, id := range ids {
		all = append(all, types.TargetDescription{Id: &id})
	}
	return all
}

// health is the state and reason of one target, as "healthy" or "initial Elb.…".
func (b *balancing) health(t *testing.T, tg, id string) string {
	t.Helper()
	out := must(b.DescribeTargetHealth(t.Context(), &elb.DescribeTargetHealthInput{TargetGroupArn: &tg, Targets: targets([]string{id})}))(t)
	h := out.TargetHealthDescriptions[0].TargetHealth
	return strings.TrimSpace(string(h.State) + " " + string(h.Reason))
}

func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return "no error of AWS's"
}

func TestATargetComesAndGoes(t *testing.T) {
	serve(t, func(t *testing.T, b *balancing) {
		tg := b.targetGroup(t, "hello")
		want := func(id, want string) {
			t.Helper()
			if got := b.health(t, tg, id); got != want {
				t.Errorf("health = %s, want %s", got, want)
			}
		}
		want(b.ids[0], "unused Target.NotRegistered")
		b.register(t, tg, b.ids...)
		want(b.ids[0], "unused Target.NotInUse")
		lb := b.loadBalancer(t, "hello")
		b.listener(t, lb.LoadBalancerArn, 80, tg)
		want(b.ids[0], "initial Elb.InitialHealthChecking")
		time.Sleep(11 * time.Second)
		want(b.ids[0], "healthy")

		b.plane.Tell(b.ids[0], elbv2.Health{State: elbv2.Unhealthy, Reason: "Target.ResponseCodeMismatch", Description: "Health checks failed with these codes: [503]"})
		want(b.ids[0], "unhealthy Target.ResponseCodeMismatch")
		b.plane.Tell(b.ids[0], elbv2.Health{})
		want(b.ids[0], "healthy")

		must(b.ModifyTargetGroupAttributes(t.Context(), &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: &tg,
			Attributes: []types.TargetGroupAttribute{{Key: new("deregistration_delay.timeout_seconds"), Value: new("60")}}}))(t)
		must(b.DeregisterTargets(t.Context(), &elb.DeregisterTargetsInput{TargetGroupArn: &tg, Targets: targets(b.ids[:1])}))(t)
		time.Sleep(59 * time.Second)
		want(b.ids[0], "draining Target.DeregistrationInProgress")
		time.Sleep(2 * time.Second)
		want(b.ids[0], "unused Target.NotRegistered")

		b.fleet.To(b.ids[1], ec2.Stopped)
		want(b.ids[1], "unused Target.InvalidState")
		b.fleet.To(b.ids[1], ec2.Terminated)
		want(b.ids[1], "unused Target.NotRegistered")
	})
}

func TestWaitersAndPaginators(t *testing.T) {
	serve(t, func(t *testing.T, b *balancing) {
		lb := b.loadBalancer(t, "hello")
		if again := b.loadBalancer(t, "hello"); *again.LoadBalancerArn != *lb.LoadBalancerArn {
			t.Errorf("the same request again made another load balancer %s", *again.LoadBalancerArn)
		}
		if got, want := *lb.DNSName, "127.17.214.1"; got != want {
			t.Errorf("DNSName = %s, want %s, made of port 4566", got, want)
		}
		if err := elb.NewLoadBalancerAvailableWaiter(b).Wait(t.Context(), &elb.DescribeLoadBalancersInput{Names: []string{"hello"}}, time.Minute); err != nil {
			t.Error(err)
		}
		tg := b.targetGroup(t, "hello")
		b.listener(t, lb.LoadBalancerArn, 80, tg)
		b.register(t, tg, b.ids...)
		in := &elb.DescribeTargetHealthInput{TargetGroupArn: &tg}
		if err := elb.NewTargetInServiceWaiter(b).Wait(t.Context(), in, time.Minute); err != nil {
			t.Error(err)
		}
		for _, name := range []string{"one", "two", "three", "four"} {
			b.targetGroup(t, name)
		}
		pages, n := elb.NewDescribeTargetGroupsPaginator(b, &elb.DescribeTargetGroupsInput{PageSize: new(int32(2))}), 0
		for pages.HasMorePages() {
			n += len(must(pages.NextPage(t.Context()))(t).TargetGroups)
		}
		if n != 5 {
			t.Errorf("%d target groups in all pages, want 5", n)
		}
	})
}

func TestWhatIsRefused(t *testing.T) {
	serve(t, func(t *testing.T, b *balancing) {
		ctx := t.Context()
		used, other := b.targetGroup(t, "used"), b.targetGroup(t, "other")
		lb, second := b.loadBalancer(t, "first"), b.loadBalancer(t, "second")
		listener := b.listener(t, lb.LoadBalancerArn, 80, used)
		for name, tc := range map[string]struct {
			want string
			do   func() error
		}{
			"delete a target group that is used": {"ResourceInUse", func() error {
				_, err := b.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: &used})
				return err
			}},
			"the same port twice": {"DuplicateListener", func() error {
				_, err := b.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: lb.LoadBalancerArn, Protocol: "HTTP", Port: new(int32(80)), DefaultActions: forward(other)})
				return err
			}},
			"a target group of two load balancers": {"TargetGroupAssociationLimit", func() error {
				_, err := b.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: second.LoadBalancerArn, Protocol: "HTTP", Port: new(int32(80)), DefaultActions: forward(used)})
				return err
			}},
			"an unknown target group": {"TargetGroupNotFound", func() error {
				_, err := b.ModifyListener(ctx, &elb.ModifyListenerInput{ListenerArn: &listener, DefaultActions: forward("arn:none")})
				return err
			}},
			"an unknown load balancer": {"LoadBalancerNotFound", func() error {
				_, err := b.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{Names: []string{"none"}})
				return err
			}},
			"HTTPS": {"UnsupportedProtocol", func() error {
				_, err := b.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: lb.LoadBalancerArn, Protocol: "HTTPS", Port: new(int32(443)), DefaultActions: forward(other)})
				return err
			}},
			"a name that is taken": {"DuplicateTargetGroupName", func() error {
				_, err := b.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: new("used"), Protocol: "HTTP", Port: new(int32(1)), VpcId: new(fleettest.VPC)})
				return err
			}},
			"another load balancer of that name": {"DuplicateLoadBalancerName", func() error {
				_, err := b.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: new("first"), Subnets: []string{"subnet-a", "subnet-c"}})
				return err
			}},
			"a timeout as long as the interval": {"ValidationError", func() error {
				_, err := b.ModifyTargetGroup(ctx, &elb.ModifyTargetGroupInput{TargetGroupArn: &used, HealthCheckTimeoutSeconds: new(int32(10))})
				return err
			}},
			"an attribute that does nothing here": {"ValidationError", func() error {
				_, err := b.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: &used,
					Attributes: []types.TargetGroupAttribute{{Key: new("slow_start.duration_seconds"), Value: new("30")}}})
				return err
			}},
			"a target that is no instance": {"InvalidTarget", func() error {
				_, err := b.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: &used, Targets: targets([]string{b.ids[0], "i-none"})})
				return err
			}},
			"a parameter that is not known": {"ValidationError", func() error {
				_, err := b.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: new("third"), Subnets: []string{"subnet-a", "subnet-b"}, CustomerOwnedIpv4Pool: new("pool")})
				return err
			}},
			"one subnet for an application": {"ValidationError", func() error {
				_, err := b.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: new("third"), Subnets: []string{"subnet-a"}})
				return err
			}},
		} {
			if got := code(tc.do()); got != tc.want {
				t.Errorf("%s: %s, want %s", name, got, tc.want)
			}
		}
		if left := must(b.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &used}))(t).TargetHealthDescriptions; len(left) != 0 {
			t.Errorf("what was refused has registered %+v", left)
		}
	})
}

func TestTagsRulesAndDeletion(t *testing.T) {
	serve(t, func(t *testing.T, b *balancing) {
		ctx := t.Context()
		blue, green := b.targetGroup(t, "blue"), b.targetGroup(t, "green")
		lb := b.loadBalancer(t, "hello")
		listener := b.listener(t, lb.LoadBalancerArn, 80, blue)
		must(b.ModifyListener(ctx, &elb.ModifyListenerInput{ListenerArn: &listener, DefaultActions: forward(blue, green)}))(t)
		rules := must(b.DescribeRules(ctx, &elb.DescribeRulesInput{ListenerArn: &listener}))(t).Rules
		if len(rules) != 1 || !*rules[0].IsDefault || len(rules[0].Actions[0].ForwardConfig.TargetGroups) != 2 {
			t.Errorf("rules = %+v, want the default one, to two target groups", rules)
		}
		must(b.AddTags(ctx, &elb.AddTagsInput{ResourceArns: []string{green, listener}, Tags: []types.Tag{{Key: new("a"), Value: new("1")}}}))(t)
		must(b.RemoveTags(ctx, &elb.RemoveTagsInput{ResourceArns: []string{listener}, TagKeys: []string{"a"}}))(t)
		tags := must(b.DescribeTags(ctx, &elb.DescribeTagsInput{ResourceArns: []string{green, listener}}))(t).TagDescriptions
		if len(tags[0].Tags) != 1 || len(tags[1].Tags) != 0 {
			t.Errorf("tags = %+v, want one on the target group and none on the listener", tags)
		}
		must(b.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: lb.LoadBalancerArn}))(t)
		must(b.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: &blue}))(t)
		if _, err := b.DescribeListeners(ctx, &elb.DescribeListenersInput{ListenerArns: []string{listener}}); code(err) != "ListenerNotFound" {
			t.Errorf("describing the listener gave %v, want ListenerNotFound", err)
		}
		if out := must(b.DescribeTargetGroups(ctx, nil))(t); aws.ToString(out.TargetGroups[0].TargetGroupName) != "green" || len(out.TargetGroups) != 1 {
			t.Errorf("target groups = %+v, want green alone", out.TargetGroups)
		}
	})
}
