package autoscaling_test

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	as "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	cw "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/smithy-go"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling/fleettest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/cloudwatch"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/elbv2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// scaling is the services and AWS's clients of them.
type scaling struct {
	*as.Client
	elb    *elb.Client
	alarms *cw.Client
	fleet  *fleettest.Fleet
	plane  *elbv2.States
	close  func()
}

// serve runs a test in a time of its own.
func serve(t *testing.T, test func(*testing.T, *scaling)) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), nil)
		defer s.close()
		test(t, s)
	})
}

// open opens the services on a directory, with the fleet of a sandbox that was
// closed before.
func open(t *testing.T, dir string, fleet *fleettest.Fleet) *scaling {
	t.Helper()
	books, err := state.Open(dir, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	c, err := clock.New(clock.Instant, 1)
	if err != nil {
		t.Fatal(err)
	}
	s := &scaling{fleet: fleet, plane: elbv2.NewStates(c)}
	if s.fleet == nil {
		s.fleet = fleettest.New(c)
	} else {
		s.fleet.Reopen(c)
	}
	fleets := func(string) ec2.Fleet { return s.fleet }
	balancing, err := elbv2.New(books, c, fleets, s.plane, 4566)
	if err != nil {
		t.Fatal(err)
	}
	watch, err := cloudwatch.New(books, c)
	if err != nil {
		t.Fatal(err)
	}
	service, err := autoscaling.New(books, c, fleets, balancing, watch, autoscaling.Options{LaunchConfigurations: true})
	if err != nil {
		t.Fatal(err)
	}
	cfg := fleettest.Config(t, books, c, service.API(), balancing.API(), watch.API())
	s.Client, s.elb, s.alarms = as.NewFromConfig(cfg), elb.NewFromConfig(cfg), cw.NewFromConfig(cfg)
	s.close = func() {
		c.Stop()
		if err := books.Close(); err != nil {
			t.Error(err)
		}
	}
	return s
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

func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return "no error of AWS's"
}

const name = "hello"

func version(v string) *types.LaunchTemplateSpecification {
	return &types.LaunchTemplateSpecification{LaunchTemplateId: new(fleettest.LaunchTemplate), Version: &v}
}

// group makes a group of n on version 1 and waits until it is in service.
func (s *scaling) group(t *testing.T, n int32, change ...func(*as.CreateAutoScalingGroupInput)) {
	t.Helper()
	in := &as.CreateAutoScalingGroupInput{
		AutoScalingGroupName: new(name), MinSize: new(int32(0)), MaxSize: new(2 * n), DesiredCapacity: &n,
		VPCZoneIdentifier: new("subnet-a,subnet-b,subnet-c"), LaunchTemplate: version("1"),
	}
	for _, c := range change {
		c(in)
	}
	must(s.CreateAutoScalingGroup(t.Context(), in))(t)
	time.Sleep(time.Minute)
}

func (s *scaling) describe(t *testing.T) types.AutoScalingGroup {
	t.Helper()
	out := must(s.DescribeAutoScalingGroups(t.Context(), &as.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{name}}))(t)
	if len(out.AutoScalingGroups) != 1 {
		t.Fatalf("%d groups of that name", len(out.AutoScalingGroups))
	}
	return out.AutoScalingGroups[0]
}

// balanced puts a target group with a listener before what is to come.
func (s *scaling) balanced(t *testing.T) string {
	t.Helper()
	ctx := t.Context()
	tg := must(s.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{
		Name: new(name), Protocol: elbtypes.ProtocolEnumHttp, Port: new(int32(8080)), VpcId: new(fleettest.VPC), HealthCheckIntervalSeconds: new(int32(10)),
	}))(t).TargetGroups[0].TargetGroupArn
	must(s.elb.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: tg,
		Attributes: []elbtypes.TargetGroupAttribute{{Key: new("deregistration_delay.timeout_seconds"), Value: new("30")}}}))(t)
	lb := must(s.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: new(name), Subnets: []string{"subnet-a", "subnet-b", "subnet-c"}}))(t).LoadBalancers[0].LoadBalancerArn
	must(s.elb.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: lb, Protocol: elbtypes.ProtocolEnumHttp, Port: new(int32(80)),
		DefaultActions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: tg}}}))(t)
	return *tg
}

func (s *scaling) start(t *testing.T, p *types.RefreshPreferences) string {
	t.Helper()
	out := must(s.StartInstanceRefresh(t.Context(), &as.StartInstanceRefreshInput{
		AutoScalingGroupName: new(name), DesiredConfiguration: &types.DesiredConfiguration{LaunchTemplate: version("2")}, Preferences: p,
	}))(t)
	return *out.InstanceRefreshId
}

func (s *scaling) refresh(t *testing.T) types.InstanceRefresh {
	t.Helper()
	return must(s.DescribeInstanceRefreshes(t.Context(), &as.DescribeInstanceRefreshesInput{AutoScalingGroupName: new(name)}))(t).InstanceRefreshes[0]
}

// ended waits for the end of the refresh, with something to see to on the way.
func (s *scaling) ended(t *testing.T, each func(types.InstanceRefresh)) types.InstanceRefresh {
	t.Helper()
	for range 10000 {
		r := s.refresh(t)
		if r.EndTime != nil {
			return r
		}
		each(r)
		time.Sleep(5 * time.Second)
	}
	t.Fatalf("the refresh does not end: %+v", s.refresh(t))
	panic("not reached")
}

func nothing(types.InstanceRefresh) {}

func TestARefreshBehindALoadBalancer(t *testing.T) {
	serve(t, func(t *testing.T, s *scaling) {
		tg := s.balanced(t)
		s.group(t, 3, func(in *as.CreateAutoScalingGroupInput) {
			in.TargetGroupARNs = []string{tg}
			in.HealthCheckType, in.HealthCheckGracePeriod = new("ELB"), new(int32(60))
			in.DefaultInstanceWarmup = new(int32(20))
		})
		if err := as.NewGroupInServiceWaiter(s).Wait(t.Context(), &as.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{name}}, time.Hour); err != nil {
			t.Fatal(err)
		}
		id := s.start(t, &types.RefreshPreferences{MinHealthyPercentage: new(int32(100)), MaxHealthyPercentage: new(int32(110)), AutoRollback: new(true)})
		last := int32(0)
		r := s.ended(t, func(r types.InstanceRefresh) {
			if v := *s.describe(t).LaunchTemplate.Version; v != "1" {
				t.Errorf("the group's version is %s before the refresh is over", v)
			}
			if r.PercentageComplete != nil {
				if *r.PercentageComplete < last {
					t.Errorf("percentage went back from %d to %d", last, *r.PercentageComplete)
				}
				last = *r.PercentageComplete
			}
			healthy := 0
			for _, h := range must(s.elb.DescribeTargetHealth(t.Context(), &elb.DescribeTargetHealthInput{TargetGroupArn: &tg}))(t).TargetHealthDescriptions {
				if h.TargetHealth.State == elbtypes.TargetHealthStateEnumHealthy {
					healthy++
				}
			}
			if healthy < 3 {
				t.Errorf("only %d healthy targets, want 3 at any time", healthy)
			}
		})
		if *r.InstanceRefreshId != id || r.Status != types.InstanceRefreshStatusSuccessful || *r.PercentageComplete != 100 || *r.InstancesToUpdate != 0 {
			t.Errorf("refresh = %+v, want %s successful", r, id)
		}
		g := s.describe(t)
		if *g.LaunchTemplate.Version != "2" || len(g.Instances) != 3 {
			t.Errorf("the group is on version %s with %d instances, want 2 and 3", *g.LaunchTemplate.Version, len(g.Instances))
		}
		for _, i := range g.Instances {
			if *i.LaunchTemplate.Version != "2" || i.LifecycleState != types.LifecycleStateInService || *i.HealthStatus != "Healthy" {
				t.Errorf("instance %s is %s %s of version %s", *i.InstanceId, i.LifecycleState, *i.HealthStatus, *i.LaunchTemplate.Version)
			}
		}
		if got := *r.Preferences.InstanceWarmup; got != 20 {
			t.Errorf("warm-up = %d, want the group's 20", got)
		}
	})
}

func TestARefreshThatIsNeverHealthyIsRolledBack(t *testing.T) {
	serve(t, func(t *testing.T, s *scaling) {
		tg := s.balanced(t)
		s.group(t, 3, func(in *as.CreateAutoScalingGroupInput) {
			in.TargetGroupARNs = []string{tg}
			in.HealthCheckType, in.HealthCheckGracePeriod = new("ELB"), new(int32(60))
		})
		s.start(t, &types.RefreshPreferences{MinHealthyPercentage: new(int32(100)), MaxHealthyPercentage: new(int32(110)), AutoRollback: new(true), InstanceWarmup: new(int32(0))})
		r := s.ended(t, func(types.InstanceRefresh) {
			for _, i := range s.describe(t).Instances {
				if *i.LaunchTemplate.Version == "2" {
					s.plane.Tell(*i.InstanceId, elbv2.Health{State: elbv2.Unhealthy, Reason: "Target.FailedHealthChecks", Description: "Health checks failed"})
				}
			}
		})
		if r.Status != types.InstanceRefreshStatusRollbackSuccessful || r.RollbackDetails == nil || *r.PercentageComplete != 0 {
			t.Errorf("refresh = %s %s, want RollbackSuccessful", r.Status, *r.StatusReason)
		}
		time.Sleep(2 * time.Minute)
		g := s.describe(t)
		if *g.LaunchTemplate.Version != "1" || len(g.Instances) != 3 || slices.ContainsFunc(g.Instances, func(i types.Instance) bool { return *i.LaunchTemplate.Version != "1" }) {
			t.Errorf("the group is on version %s with %+v, want version 1 throughout", *g.LaunchTemplate.Version, g.Instances)
		}
		var causes strings.Builder
		pages := as.NewDescribeScalingActivitiesPaginator(s, &as.DescribeScalingActivitiesInput{AutoScalingGroupName: new(name), MaxRecords: new(int32(7))})
		for pages.HasMorePages() {
			for _, a := range must(pages.NextPage(t.Context()))(t).Activities {
				causes.WriteString(*a.Cause + "\n")
			}
		}
		for _, want := range []string{"created an AutoScalingGroup changing the desired capacity from 0 to 3.", "launched in response to an instance refresh", "ELB system health check failure"} {
			if !strings.Contains(causes.String(), want) {
				t.Errorf("no activity's cause has %q", want)
			}
		}
	})
}

func TestCancelAndRollback(t *testing.T) {
	serve(t, func(t *testing.T, s *scaling) {
		s.group(t, 4)
		ctx, by := t.Context(), new(name)
		if _, err := s.CancelInstanceRefresh(ctx, &as.CancelInstanceRefreshInput{AutoScalingGroupName: by}); code(err) != "ActiveInstanceRefreshNotFound" {
			t.Errorf("cancelling none gave %v", err)
		}
		s.start(t, &types.RefreshPreferences{InstanceWarmup: new(int32(100))})
		time.Sleep(10 * time.Second)
		if _, err := s.StartInstanceRefresh(ctx, &as.StartInstanceRefreshInput{AutoScalingGroupName: by}); code(err) != "InstanceRefreshInProgress" {
			t.Errorf("a second refresh gave %v", err)
		}
		if _, err := s.UpdateAutoScalingGroup(ctx, &as.UpdateAutoScalingGroupInput{AutoScalingGroupName: by, LaunchTemplate: version("2")}); code(err) != "ValidationError" {
			t.Errorf("a change of the template gave %v", err)
		}
		must(s.RollbackInstanceRefresh(ctx, &as.RollbackInstanceRefreshInput{AutoScalingGroupName: by}))(t)
		if r := s.ended(t, nothing); r.Status != types.InstanceRefreshStatusRollbackSuccessful {
			t.Errorf("after the rollback: %s", r.Status)
		}
		s.start(t, &types.RefreshPreferences{InstanceWarmup: new(int32(100))})
		time.Sleep(10 * time.Second)
		must(s.CancelInstanceRefresh(ctx, &as.CancelInstanceRefreshInput{AutoScalingGroupName: by}))(t)
		if r := s.ended(t, nothing); r.Status != types.InstanceRefreshStatusCancelled || *r.StatusReason != "Cancelled due to user request." {
			t.Errorf("after the cancel: %s %s", r.Status, *r.StatusReason)
		}
	})
}

func TestRefreshesThatAreRefused(t *testing.T) {
	serve(t, func(t *testing.T, s *scaling) {
		s.group(t, 1)
		s.fleet.Change(func(f *fleettest.Fleet) { f.Latest, f.SSM = 3, 3 })
		p := func(change func(*types.RefreshPreferences)) *types.RefreshPreferences {
			p := &types.RefreshPreferences{}
			change(p)
			return p
		}
		two := &types.DesiredConfiguration{LaunchTemplate: version("2")}
		for name, in := range map[string]as.StartInstanceRefreshInput{
			"maximum without minimum": {Preferences: p(func(p *types.RefreshPreferences) { p.MaxHealthyPercentage = new(int32(110)) })},
			"minimum above 100":       {Preferences: p(func(p *types.RefreshPreferences) { p.MinHealthyPercentage = new(int32(101)) })},
			"too wide": {Preferences: p(func(p *types.RefreshPreferences) {
				p.MinHealthyPercentage, p.MaxHealthyPercentage = new(int32(50)), new(int32(160))
			})},
			"maximum below 100": {Preferences: p(func(p *types.RefreshPreferences) {
				p.MinHealthyPercentage, p.MaxHealthyPercentage = new(int32(50)), new(int32(90))
			})},
			"rollback to nothing":       {Preferences: p(func(p *types.RefreshPreferences) { p.AutoRollback = new(true) })},
			"checkpoints not in order":  {Preferences: p(func(p *types.RefreshPreferences) { p.CheckpointPercentages = []int32{50, 20} })},
			"a delay of no checkpoint":  {Preferences: p(func(p *types.RefreshPreferences) { p.CheckpointDelay = new(int32(1)) })},
			"another strategy":          {Strategy: types.RefreshStrategyReplaceRootVolume},
			"a version that is not":     {DesiredConfiguration: &types.DesiredConfiguration{LaunchTemplate: version("9")}},
			"a parameter for the image": {DesiredConfiguration: &types.DesiredConfiguration{LaunchTemplate: version("3")}},
		} {
			in.AutoScalingGroupName = new("hello")
			if _, err := s.StartInstanceRefresh(t.Context(), &in); code(err) != "ValidationError" {
				t.Errorf("%s: %v, want a ValidationError", name, err)
			}
		}
		must(s.UpdateAutoScalingGroup(t.Context(), &as.UpdateAutoScalingGroupInput{AutoScalingGroupName: new(name), LaunchTemplate: version("$Latest")}))(t)
		_, err := s.StartInstanceRefresh(t.Context(), &as.StartInstanceRefreshInput{AutoScalingGroupName: new(name), DesiredConfiguration: two, Preferences: p(func(p *types.RefreshPreferences) { p.AutoRollback = new(true) })})
		if code(err) != "ValidationError" || !strings.Contains(err.Error(), "$Latest") {
			t.Errorf("auto rollback of a group on $Latest: %v, want a ValidationError about it", err)
		}
		s.start(t, nil)
		if _, err := s.RollbackInstanceRefresh(t.Context(), &as.RollbackInstanceRefreshInput{AutoScalingGroupName: new(name)}); code(err) != "IrreversibleInstanceRefresh" {
			t.Errorf("rollback of a group on $Latest: %v", err)
		}
	})
}

func TestARefreshGoesOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, nil)
		tg := s.balanced(t)
		s.group(t, 6, func(in *as.CreateAutoScalingGroupInput) { in.TargetGroupARNs = []string{tg} })
		s.start(t, &types.RefreshPreferences{MinHealthyPercentage: new(int32(50)), InstanceWarmup: new(int32(60))})
		time.Sleep(30 * time.Second)
		s.close()
		s = open(t, dir, s.fleet)
		defer s.close()
		if r := s.ended(t, nothing); r.Status != types.InstanceRefreshStatusSuccessful {
			t.Errorf("refresh = %s (%s), want Successful", r.Status, *r.StatusReason)
		}
		if g := s.describe(t); *g.LaunchTemplate.Version != "2" || len(g.Instances) != 6 {
			t.Errorf("the group is on version %s with %d instances, want 2 and 6", *g.LaunchTemplate.Version, len(g.Instances))
		}
	})
}

func TestNothingIsUnhealthyForARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, nil)
		tg := s.balanced(t)
		s.group(t, 2, func(in *as.CreateAutoScalingGroupInput) {
			in.TargetGroupARNs, in.HealthCheckType = []string{tg}, new("ELB")
		})
		s.start(t, &types.RefreshPreferences{MinHealthyPercentage: new(int32(100)), MaxHealthyPercentage: new(int32(200)), InstanceWarmup: new(int32(600))})
		time.Sleep(time.Minute)
		before := s.describe(t).Instances
		s.close()
		time.Sleep(3 * time.Hour) // longer than a refresh may go without headway

		s = open(t, dir, s.fleet)
		defer s.close()
		say := func(h elbv2.Health) {
			for _, i := range before {
				s.plane.Tell(*i.InstanceId, h)
			}
		}
		say(elbv2.Health{State: elbv2.Unhealthy, Reason: "Target.FailedHealthChecks", Description: "Health checks failed"})
		time.Sleep(45 * time.Second) // they boot
		say(elbv2.Health{})
		time.Sleep(time.Minute)
		for i, now := range s.describe(t).Instances {
			if *now.InstanceId != *before[i].InstanceId || *now.HealthStatus != "Healthy" {
				t.Errorf("instance %d = %s %s, want %s, healthy", i, *now.InstanceId, *now.HealthStatus, *before[i].InstanceId)
			}
		}
		if r := s.ended(t, nothing); r.Status != types.InstanceRefreshStatusSuccessful {
			t.Errorf("refresh = %s (%s), want Successful", r.Status, *r.StatusReason)
		}
	})
}

func TestInstancesOfAGroup(t *testing.T) {
	serve(t, func(t *testing.T, s *scaling) {
		ctx, by := t.Context(), new(name)
		s.group(t, 3)
		all := must(s.DescribeAutoScalingInstances(ctx, nil))(t).AutoScalingInstances
		if len(all) != 3 || *all[0].HealthStatus != "HEALTHY" || *all[0].AutoScalingGroupName != name {
			t.Fatalf("instances = %+v, want three healthy ones of %s", all, name)
		}
		one := *all[0].InstanceId
		state := func(id string) string {
			for _, i := range s.describe(t).Instances {
				if *i.InstanceId == id {
					return string(i.LifecycleState)
				}
			}
			return "gone"
		}
		must(s.SetInstanceProtection(ctx, &as.SetInstanceProtectionInput{AutoScalingGroupName: by, InstanceIds: []string{one}, ProtectedFromScaleIn: new(true)}))(t)
		must(s.SetDesiredCapacity(ctx, &as.SetDesiredCapacityInput{AutoScalingGroupName: by, DesiredCapacity: new(int32(1))}))(t)
		time.Sleep(time.Minute)
		if g := s.describe(t); len(g.Instances) != 1 || *g.Instances[0].InstanceId != one {
			t.Errorf("after scaling in: %+v, want the protected one", g.Instances)
		}
		must(s.EnterStandby(ctx, &as.EnterStandbyInput{AutoScalingGroupName: by, InstanceIds: []string{one}, ShouldDecrementDesiredCapacity: new(true)}))(t)
		time.Sleep(time.Minute)
		if got := state(one); got != "Standby" {
			t.Errorf("state = %s, want Standby", got)
		}
		must(s.ExitStandby(ctx, &as.ExitStandbyInput{AutoScalingGroupName: by, InstanceIds: []string{one}}))(t)
		time.Sleep(time.Minute)
		if got := state(one); got != "InService" || *s.describe(t).DesiredCapacity != 1 {
			t.Errorf("state = %s, want InService and a desired capacity of 1", got)
		}
		must(s.SetInstanceHealth(ctx, &as.SetInstanceHealthInput{InstanceId: &one, HealthStatus: new("Unhealthy")}))(t)
		time.Sleep(time.Minute)
		g := s.describe(t)
		if len(g.Instances) != 1 || *g.Instances[0].InstanceId == one {
			t.Errorf("instances = %+v, want one that is not the unhealthy %s", g.Instances, one)
		}
		out := must(s.TerminateInstanceInAutoScalingGroup(ctx, &as.TerminateInstanceInAutoScalingGroupInput{InstanceId: g.Instances[0].InstanceId, ShouldDecrementDesiredCapacity: new(true)}))(t)
		if !strings.Contains(*out.Activity.Cause, "in response to a user request, shrinking the capacity from 1 to 0") {
			t.Errorf("cause = %s", *out.Activity.Cause)
		}
		time.Sleep(time.Minute)
		must(s.DeleteAutoScalingGroup(ctx, &as.DeleteAutoScalingGroupInput{AutoScalingGroupName: by}))(t)
		if err := as.NewGroupNotExistsWaiter(s).Wait(ctx, &as.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{name}}, time.Minute); err != nil {
			t.Error(err)
		}
	})
}

func TestGroupsOfAllKinds(t *testing.T) {
	serve(t, func(t *testing.T, s *scaling) {
		ctx := t.Context()
		s.group(t, 2, func(in *as.CreateAutoScalingGroupInput) {
			in.LaunchTemplate = nil
			in.MixedInstancesPolicy = &types.MixedInstancesPolicy{LaunchTemplate: &types.LaunchTemplate{
				LaunchTemplateSpecification: version("1"),
				Overrides:                   []types.LaunchTemplateOverrides{{InstanceType: new("m7g.large")}, {InstanceType: new("t4g.small"), LaunchTemplateSpecification: version("2")}},
			}}
			in.Tags = []types.Tag{{Key: new("Name"), Value: new("x"), PropagateAtLaunch: new(true)}}
			in.InstanceMaintenancePolicy = &types.InstanceMaintenancePolicy{MinHealthyPercentage: new(int32(100)), MaxHealthyPercentage: new(int32(120))}
		})
		g := s.describe(t)
		if got := *g.Instances[0].InstanceType; got != "m7g.large" {
			t.Errorf("instance type = %s, want that of the first override", got)
		}
		if len(g.MixedInstancesPolicy.LaunchTemplate.Overrides) != 2 || *g.InstanceMaintenancePolicy.MaxHealthyPercentage != 120 || len(g.Tags) != 1 {
			t.Errorf("group = %+v", g)
		}
		must(s.CreateLaunchConfiguration(ctx, &as.CreateLaunchConfigurationInput{LaunchConfigurationName: new("old"), ImageId: new("ami-1"), InstanceType: new("t3.micro")}))(t)
		must(s.CreateAutoScalingGroup(ctx, &as.CreateAutoScalingGroupInput{AutoScalingGroupName: new("old"), LaunchConfigurationName: new("old"),
			MinSize: new(int32(0)), MaxSize: new(int32(1)), AvailabilityZones: []string{"eu-west-1a"}}))(t)
		pages, names := as.NewDescribeAutoScalingGroupsPaginator(s, &as.DescribeAutoScalingGroupsInput{MaxRecords: new(int32(1))}), []string{}
		for pages.HasMorePages() {
			for _, g := range must(pages.NextPage(ctx))(t).AutoScalingGroups {
				names = append(names, *g.AutoScalingGroupName)
			}
		}
		if !slices.Equal(names, []string{"hello", "old"}) {
			t.Errorf("groups = %v", names)
		}
		filtered := must(s.DescribeAutoScalingGroups(ctx, &as.DescribeAutoScalingGroupsInput{Filters: []types.Filter{{Name: new("tag:Name"), Values: []string{"x"}}}}))(t)
		if len(filtered.AutoScalingGroups) != 1 {
			t.Errorf("%d groups with the tag, want 1", len(filtered.AutoScalingGroups))
		}
		must(s.CreateOrUpdateTags(ctx, &as.CreateOrUpdateTagsInput{Tags: []types.Tag{{Key: new("k"), Value: new("v"), ResourceId: new("old"), ResourceType: new("auto-scaling-group")}}}))(t)
		must(s.DeleteTags(ctx, &as.DeleteTagsInput{Tags: []types.Tag{{Key: new("Name"), ResourceId: new(name), ResourceType: new("auto-scaling-group")}}}))(t)
		if tags := must(s.DescribeTags(ctx, nil))(t).Tags; len(tags) != 1 || *tags[0].Key != "k" {
			t.Errorf("tags = %+v, want k alone", tags)
		}
		if _, err := s.DeleteAutoScalingGroup(ctx, &as.DeleteAutoScalingGroupInput{AutoScalingGroupName: new(name)}); code(err) != "ResourceInUse" {
			t.Errorf("deleting a group with instances gave %v", err)
		}
		must(s.DeleteAutoScalingGroup(ctx, &as.DeleteAutoScalingGroupInput{AutoScalingGroupName: new(name), ForceDelete: new(true)}))(t)
		time.Sleep(time.Second)
		if left := must(s.DescribeAutoScalingGroups(ctx, nil))(t).AutoScalingGroups; len(left) != 1 {
			t.Errorf("%d groups left, want 1", len(left))
		}
	})
}

func TestTrafficSources(t *testing.T) {
	serve(t, func(t *testing.T, s *scaling) {
		ctx, by := t.Context(), new(name)
		tg := s.balanced(t)
		s.group(t, 2)
		sources := []types.TrafficSourceIdentifier{{Identifier: &tg, Type: new("elbv2")}}
		must(s.AttachTrafficSources(ctx, &as.AttachTrafficSourcesInput{AutoScalingGroupName: by, TrafficSources: sources}))(t)
		state := func() string {
			out := must(s.DescribeTrafficSources(ctx, &as.DescribeTrafficSourcesInput{AutoScalingGroupName: by}))(t).TrafficSources
			if len(out) == 0 {
				return "none"
			}
			return *out[0].State
		}
		if got := state(); got != "Added" {
			t.Errorf("state = %s, want Added", got)
		}
		time.Sleep(time.Minute)
		if got := state(); got != "InService" {
			t.Errorf("state = %s, want InService", got)
		}
		must(s.DetachLoadBalancerTargetGroups(ctx, &as.DetachLoadBalancerTargetGroupsInput{AutoScalingGroupName: by, TargetGroupARNs: []string{tg}}))(t)
		if got := state(); got != "Removing" {
			t.Errorf("state = %s, want Removing", got)
		}
		time.Sleep(time.Minute)
		if got := state(); got != "none" {
			t.Errorf("state = %s, want none", got)
		}
	})
}

func TestSuspendedProcesses(t *testing.T) {
	serve(t, func(t *testing.T, s *scaling) {
		ctx, by := t.Context(), new(name)
		s.group(t, 1)
		must(s.SuspendProcesses(ctx, &as.SuspendProcessesInput{AutoScalingGroupName: by, ScalingProcesses: []string{"Launch"}}))(t)
		must(s.SetDesiredCapacity(ctx, &as.SetDesiredCapacityInput{AutoScalingGroupName: by, DesiredCapacity: new(int32(2))}))(t)
		time.Sleep(time.Minute)
		if g := s.describe(t); len(g.Instances) != 1 || len(g.SuspendedProcesses) != 1 {
			t.Errorf("%d instances, want 1 while Launch is suspended", len(g.Instances))
		}
		must(s.ResumeProcesses(ctx, &as.ResumeProcessesInput{AutoScalingGroupName: by}))(t)
		time.Sleep(time.Minute)
		if g := s.describe(t); len(g.Instances) != 2 {
			t.Errorf("%d instances, want 2 after it was resumed", len(g.Instances))
		}
	})
}

func TestALaunchThatFailsIsAnActivity(t *testing.T) {
	serve(t, func(t *testing.T, s *scaling) {
		s.fleet.Change(func(f *fleettest.Fleet) {
			f.Refuse = wire.Errorf("InvalidAMIID.NotFound", "The image id '[ami-1]' does not exist.")
		})
		s.group(t, 1)
		a := must(s.DescribeScalingActivities(t.Context(), &as.DescribeScalingActivitiesInput{AutoScalingGroupName: new(name)}))(t).Activities[0]
		if a.StatusCode != types.ScalingActivityStatusCodeFailed || *a.StatusMessage != "The image id '[ami-1]' does not exist. Launching EC2 instance failed." {
			t.Errorf("activity = %s %s", a.StatusCode, *a.StatusMessage)
		}
	})
}

// raceDetector is whether the tests run under it.
var raceDetector bool

func TestTenThousandInstancesAreCheap(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("saves the state of ten thousand instances many times, and measures memory")
	}
	serve(t, func(t *testing.T, s *scaling) {
		tg := s.balanced(t)
		s.group(t, 10000, func(in *as.CreateAutoScalingGroupInput) { in.TargetGroupARNs = []string{tg} })
		s.start(t, &types.RefreshPreferences{InstanceWarmup: new(int32(60))})
		var most uint64
		for s.refresh(t).EndTime == nil {
			time.Sleep(time.Minute)
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
		if r := s.refresh(t); r.Status != types.InstanceRefreshStatusSuccessful {
			t.Errorf("refresh = %s, want Successful", r.Status)
		}
		if most > 128<<20 {
			t.Errorf("%d MiB in use, want at most 128", most>>20)
		}
		t.Logf("at most %d MiB in use", most>>20)
	})
}
