package autoscaling_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	as "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	awsec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
)

// TestARefreshInTheWholeSandbox is with the sandbox's own EC2, over HTTP, and in
// real time, a hundred times as fast.
func TestARefreshInTheWholeSandbox(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "base.raw")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	whole, err := sandbox.Open(ctx, sandbox.Options{
		Listen: "127.0.0.1:0", BaseDisk: disk, Machines: sandbox.None, Profile: clock.Instant, TimeScale: 0.01,
		Report: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- whole.Serve(ctx) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := whole.Close(); err != nil {
			t.Error(err)
		}
	}()
	cfg := aws.Config{Region: sandbox.DefaultRegion, BaseEndpoint: aws.String(whole.URL()), Credentials: credentials.NewStaticCredentialsProvider("AKIATEST", "secret", "")}
	compute, balancing, s := awsec2.NewFromConfig(cfg), elb.NewFromConfig(cfg), &scaling{Client: as.NewFromConfig(cfg), elb: elb.NewFromConfig(cfg)}

	image := must(compute.DescribeImages(ctx, &awsec2.DescribeImagesInput{}))(t).Images[0]
	instanceType := ec2types.InstanceTypeT3Micro
	if image.Architecture == ec2types.ArchitectureValuesArm64 {
		instanceType = ec2types.InstanceTypeT4gMicro
	}
	lt := must(compute.CreateLaunchTemplate(ctx, &awsec2.CreateLaunchTemplateInput{LaunchTemplateName: new(name),
		LaunchTemplateData: &ec2types.RequestLaunchTemplateData{ImageId: image.ImageId, InstanceType: instanceType}}))(t).LaunchTemplate
	must(compute.CreateLaunchTemplateVersion(ctx, &awsec2.CreateLaunchTemplateVersionInput{LaunchTemplateId: lt.LaunchTemplateId, SourceVersion: new("1"),
		LaunchTemplateData: &ec2types.RequestLaunchTemplateData{UserData: new("dHdv")}}))(t)
	version := func(v string) *types.LaunchTemplateSpecification {
		return &types.LaunchTemplateSpecification{LaunchTemplateId: lt.LaunchTemplateId, Version: &v}
	}
	var subnets []string
	for _, subnet := range must(compute.DescribeSubnets(ctx, nil))(t).Subnets {
		subnets = append(subnets, *subnet.SubnetId)
	}
	vpc := must(compute.DescribeVpcs(ctx, nil))(t).Vpcs[0].VpcId
	tg := must(balancing.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: new(name), Protocol: elbtypes.ProtocolEnumHttp, Port: new(int32(80)), VpcId: vpc}))(t).TargetGroups[0].TargetGroupArn
	lb := must(balancing.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: new(name), Subnets: subnets}))(t).LoadBalancers[0].LoadBalancerArn
	must(balancing.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: lb, Protocol: elbtypes.ProtocolEnumHttp, Port: new(int32(80)),
		DefaultActions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: tg}}}))(t)
	must(s.CreateAutoScalingGroup(ctx, &as.CreateAutoScalingGroupInput{
		AutoScalingGroupName: new(name), MinSize: new(int32(3)), MaxSize: new(int32(6)), AvailabilityZones: zonesOf(t, compute),
		LaunchTemplate: version("1"), TargetGroupARNs: []string{*tg}, HealthCheckType: new("ELB"), DefaultInstanceWarmup: new(int32(10)),
		Tags: []types.Tag{{Key: new("Name"), Value: new("hello"), PropagateAtLaunch: new(true)}},
	}))(t)
	s.soon(t, func() bool { return inService(s.describe(t), 3) })
	must(s.StartInstanceRefresh(ctx, &as.StartInstanceRefreshInput{AutoScalingGroupName: new(name),
		DesiredConfiguration: &types.DesiredConfiguration{LaunchTemplate: version("2")},
		Preferences:          &types.RefreshPreferences{MinHealthyPercentage: new(int32(100)), MaxHealthyPercentage: new(int32(110)), AutoRollback: new(true)}}))(t)
	s.soon(t, func() bool { return s.refresh(t).EndTime != nil })
	if r := s.refresh(t); r.Status != types.InstanceRefreshStatusSuccessful {
		t.Fatalf("refresh = %s %s, want Successful", r.Status, aws.ToString(r.StatusReason))
	}
	g := s.describe(t)
	if !inService(g, 3) || *g.LaunchTemplate.Version != "2" {
		t.Errorf("group = %+v, want three in service of version 2", g)
	}
	var ids []string
	for _, i := range g.Instances {
		ids = append(ids, *i.InstanceId)
	}
	for _, r := range must(compute.DescribeInstances(ctx, &awsec2.DescribeInstancesInput{InstanceIds: ids}))(t).Reservations {
		for _, i := range r.Instances {
			tags := map[string]string{}
			for _, tag := range i.Tags {
				tags[*tag.Key] = *tag.Value
			}
			if tags["aws:autoscaling:groupName"] != name || tags["Name"] != "hello" {
				t.Errorf("instance %s has the tags %v, want the group's", *i.InstanceId, tags)
			}
		}
	}
}

func zonesOf(t *testing.T, compute *awsec2.Client) []string {
	t.Helper()
	var zones []string
	for _, z := range must(compute.DescribeAvailabilityZones(t.Context(), nil))(t).AvailabilityZones {
		zones = append(zones, *z.ZoneName)
	}
	return zones
}

func inService(g types.AutoScalingGroup, n int) bool {
	for _, i := range g.Instances {
		if i.LifecycleState != types.LifecycleStateInService || *i.LaunchTemplate.Version != *g.LaunchTemplate.Version {
			return false
		}
	}
	return len(g.Instances) == n
}

// soon waits, in real time, for as long as anything of a rehearsal takes.
func (s *scaling) soon(t *testing.T, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !holds() {
		select {
		case <-ctx.Done():
			for _, a := range must(s.DescribeScalingActivities(t.Context(), &as.DescribeScalingActivitiesInput{MaxRecords: new(int32(5))}))(t).Activities {
				t.Logf("%s %s: %s", a.StatusCode, *a.Description, aws.ToString(a.StatusMessage))
			}
			t.Fatalf("it does not come true; the group is %+v", s.describe(t))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
