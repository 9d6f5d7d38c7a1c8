package sandbox_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/basedisk"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox"
)

// site is a web server behind a load balancer, whose security groups let nobody in.
type site struct {
	*testing.T
	compute      *ec2.Client
	balancing    *elb.Client
	front, back  string // security groups
	targets, url string
}

func newSite(t *testing.T) *site {
	t.Helper()
	config, end := run(t, options(t, func(o *sandbox.Options) {
		o.Machines, o.BaseDisk, o.TimeScale = sandbox.Container, basedisk.Path(t), 0.5
	}))
	t.Cleanup(end)
	s := &site{T: t, compute: ec2.NewFromConfig(config), balancing: elb.NewFromConfig(config)}
	s.front, s.back = s.group("front"), s.group("back")

	images := got(s.compute.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}}))(t).Images
	ran := got(s.compute.RunInstances(t.Context(), &ec2.RunInstancesInput{
		ImageId: images[0].ImageId, InstanceType: types.InstanceTypeT3Micro, MinCount: aws.Int32(1), MaxCount: aws.Int32(1), SecurityGroupIds: []string{s.back},
		UserData: aws.String(base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\nsystemd-run python3 -m http.server 8080\n"))),
	}))(t).Instances[0].InstanceId
	if err := ec2.NewInstanceRunningWaiter(s.compute, func(o *ec2.InstanceRunningWaiterOptions) { o.MinDelay = time.Millisecond }).Wait(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{*ran}}, time.Minute); err != nil {
		t.Fatal(err)
	}

	subnets := got(s.compute.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{}))(t).Subnets
	targets := got(s.balancing.CreateTargetGroup(t.Context(), &elb.CreateTargetGroupInput{
		Name: aws.String("site"), Protocol: elbtypes.ProtocolEnumHttp, Port: aws.Int32(8080), VpcId: subnets[0].VpcId,
		HealthCheckIntervalSeconds: aws.Int32(5), HealthCheckTimeoutSeconds: aws.Int32(2), HealthyThresholdCount: aws.Int32(2), UnhealthyThresholdCount: aws.Int32(2),
	}))(t).TargetGroups[0]
	s.targets = *targets.TargetGroupArn
	balancer := got(s.balancing.CreateLoadBalancer(t.Context(), &elb.CreateLoadBalancerInput{
		Name: aws.String("site"), Subnets: []string{*subnets[0].SubnetId, *subnets[1].SubnetId}, SecurityGroups: []string{s.front},
	}))(t).LoadBalancers[0]
	s.url = "http://" + *balancer.DNSName
	got(s.balancing.CreateListener(t.Context(), &elb.CreateListenerInput{
		LoadBalancerArn: balancer.LoadBalancerArn, Protocol: elbtypes.ProtocolEnumHttp, Port: aws.Int32(80),
		DefaultActions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: &s.targets}},
	}))(t)
	got(s.balancing.RegisterTargets(t.Context(), &elb.RegisterTargetsInput{TargetGroupArn: &s.targets, Targets: []elbtypes.TargetDescription{{Id: ran}}}))(t)
	return s
}

// got ends the test where a call fails.
func got[T any](out T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

func (s *site) group(name string) string {
	s.Helper()
	return *got(s.compute.CreateSecurityGroup(s.Context(), &ec2.CreateSecurityGroupInput{GroupName: &name, Description: &name}))(s.T).GroupId
}

func (s *site) allow(group string, port int32, from types.IpPermission) {
	s.Helper()
	from.IpProtocol, from.FromPort, from.ToPort = aws.String("tcp"), &port, &port
	got(s.compute.AuthorizeSecurityGroupIngress(s.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &group, IpPermissions: []types.IpPermission{from}}))(s.T)
}

// until waits until the target has a state, and gives the reason of it.
func (s *site) until(state elbtypes.TargetHealthStateEnum) elbtypes.TargetHealthReasonEnum {
	s.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		out := got(s.balancing.DescribeTargetHealth(s.Context(), &elb.DescribeTargetHealthInput{TargetGroupArn: &s.targets}))(s.T)
		health := out.TargetHealthDescriptions[0].TargetHealth
		if health.State == state {
			return health.Reason
		}
		if time.Now().After(deadline) {
			s.Fatalf("the target is %s (%s), want %s", health.State, health.Reason, state)
		}
	}
}

// answers tells what a request is answered with: 0 where it is not, in a while.
func (s *site) answers(patience time.Duration) int {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		s.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func TestSecurityGroupsOfALoadBalancerAndItsTargets(t *testing.T) {
	s := newSite(t)
	if reason := s.until(elbtypes.TargetHealthStateEnumUnhealthy); reason != elbtypes.TargetHealthReasonEnumTimeout {
		t.Errorf("a target whose group does not let the load balancer in is unhealthy because of %s", reason)
	}
	if status := s.answers(300 * time.Millisecond); status != 0 {
		t.Errorf("a load balancer whose group lets nobody in answers %d", status)
	}
	s.allow(s.front, 80, types.IpPermission{IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}})
	s.allow(s.back, 8080, types.IpPermission{UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: &s.front}}})
	s.until(elbtypes.TargetHealthStateEnumHealthy)
	if status := s.answers(time.Minute); status != http.StatusOK {
		t.Errorf("a load balancer that is let through answers %d", status)
	}
	if _, err := s.compute.DeleteSecurityGroup(t.Context(), &ec2.DeleteSecurityGroupInput{GroupId: &s.front}); err == nil {
		t.Error("the group of a load balancer is deleted")
	}
}
