package sandbox_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	astypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/smithy-go"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/scenario"
)

// perform serves a sandbox that plays a scenario.
func perform(t *testing.T, text string) aws.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "day.hcl")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	read, err := scenario.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	cfg, _ := run(t, options(t, func(o *sandbox.Options) { o.Scenario, o.TimeScale = read, 0.01 }))
	cfg.RetryMaxAttempts = 1
	return cfg
}

func codeOf(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return ""
}

func TestAScenarioSetsAlarms(t *testing.T) {
	client := cloudwatch.NewFromConfig(perform(t, `
step {
  call = "cloudwatch:PutMetricAlarm"
  alarm "errors" {
    state = "ALARM"
  }
}
`))
	if _, err := client.PutMetricAlarm(t.Context(), &cloudwatch.PutMetricAlarmInput{
		AlarmName: aws.String("errors"), MetricName: aws.String("5xx"), Namespace: aws.String("Hello"), Statistic: cwtypes.StatisticSum,
		Period: aws.Int32(60), EvaluationPeriods: aws.Int32(1), Threshold: aws.Float64(1), ComparisonOperator: cwtypes.ComparisonOperatorGreaterThanThreshold,
	}); err != nil {
		t.Fatal(err)
	}
	out, err := client.DescribeAlarms(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if state := out.MetricAlarms[0].StateValue; state != cwtypes.StateValueAlarm {
		t.Errorf("the alarm is %s, want ALARM", state)
	}
}

func TestAScenarioPutsFaultsOnAndOff(t *testing.T) {
	client := ec2.NewFromConfig(perform(t, `
step {
  call   = "ec2:DescribeVpcs"
  faults = ["ec2:DescribeRegions,kind=throttle"]
}
step {
  call   = "ec2:DescribeVpcs"
  nth    = 2
  faults = []
}
`))
	for _, want := range []string{"", "RequestLimitExceeded", ""} {
		if _, err := client.DescribeRegions(t.Context(), nil); codeOf(err) != want {
			t.Errorf("DescribeRegions gives %v, want %q", err, want)
		}
		if _, err := client.DescribeVpcs(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// template makes an image of an empty disk and a launch template of it.
func template(t *testing.T, client *ec2.Client) *string {
	t.Helper()
	volume, err := client.CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1a"), Size: aws.Int32(1)})
	if err != nil {
		t.Fatal(err)
	}
	if err := ec2.NewVolumeAvailableWaiter(client, func(o *ec2.VolumeAvailableWaiterOptions) { o.MinDelay, o.MaxDelay = time.Millisecond, time.Second }).
		Wait(t.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{*volume.VolumeId}}, time.Minute); err != nil {
		t.Fatal(err)
	}
	snapshot, err := client.CreateSnapshot(t.Context(), &ec2.CreateSnapshotInput{VolumeId: volume.VolumeId})
	if err != nil {
		t.Fatal(err)
	}
	if err := ec2.NewSnapshotCompletedWaiter(client, func(o *ec2.SnapshotCompletedWaiterOptions) { o.MinDelay, o.MaxDelay = time.Millisecond, time.Second }).
		Wait(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*snapshot.SnapshotId}}, time.Minute); err != nil {
		t.Fatal(err)
	}
	image, err := client.RegisterImage(t.Context(), &ec2.RegisterImageInput{
		Name: aws.String("empty"), Architecture: types.ArchitectureValuesX8664, VirtualizationType: aws.String("hvm"), RootDeviceName: aws.String("/dev/xvda"),
		EnaSupport:          aws.Bool(true),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: snapshot.SnapshotId}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	made, err := client.CreateLaunchTemplate(t.Context(), &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: aws.String("empty"), LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: image.ImageId, InstanceType: types.InstanceTypeT3Micro},
	})
	if err != nil {
		t.Fatal(err)
	}
	return made.LaunchTemplate.LaunchTemplateId
}

func TestAScenarioTakesCapacityAway(t *testing.T) {
	client := ec2.NewFromConfig(perform(t, `
step {
  call = "ec2:CreateLaunchTemplate"
  capacity {
    shortage {
      instance_type = "t3.micro"
    }
  }
}
step {
  call = "ec2:DescribeVpcs"
  capacity {}
}
`))
	in := &ec2.RunInstancesInput{
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1), LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateId: template(t, client)},
	}
	if _, err := client.RunInstances(t.Context(), in); codeOf(err) != "InsufficientInstanceCapacity" {
		t.Errorf("RunInstances gives %v, want InsufficientInstanceCapacity", err)
	}
	if _, err := client.DescribeVpcs(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := client.RunInstances(t.Context(), in); err != nil {
		t.Errorf("once there is capacity again, RunInstances gives %v", err)
	}
}

// service makes a group of one instance behind a load balancer, and waits until
// the instance is in service.
func service(t *testing.T, cfg aws.Config) (targetGroup *string) {
	t.Helper()
	machines, balancing, groups := ec2.NewFromConfig(cfg), elb.NewFromConfig(cfg), autoscaling.NewFromConfig(cfg)
	subnets, err := machines.DescribeSubnets(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	target, err := balancing.CreateTargetGroup(t.Context(), &elb.CreateTargetGroupInput{
		Name: aws.String("hello"), Protocol: elbtypes.ProtocolEnumHttp, Port: aws.Int32(80), VpcId: subnets.Subnets[0].VpcId,
	})
	if err != nil {
		t.Fatal(err)
	}
	targetGroup = target.TargetGroups[0].TargetGroupArn
	lb, err := balancing.CreateLoadBalancer(t.Context(), &elb.CreateLoadBalancerInput{
		Name: aws.String("hello"), Subnets: []string{*subnets.Subnets[0].SubnetId, *subnets.Subnets[1].SubnetId},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := balancing.CreateListener(t.Context(), &elb.CreateListenerInput{
		LoadBalancerArn: lb.LoadBalancers[0].LoadBalancerArn, Protocol: elbtypes.ProtocolEnumHttp, Port: aws.Int32(80),
		DefaultActions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: targetGroup}},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := groups.CreateAutoScalingGroup(t.Context(), &autoscaling.CreateAutoScalingGroupInput{
		AutoScalingGroupName: aws.String("hello"), MinSize: aws.Int32(1), MaxSize: aws.Int32(1), VPCZoneIdentifier: subnets.Subnets[0].SubnetId,
		LaunchTemplate: &astypes.LaunchTemplateSpecification{LaunchTemplateId: template(t, machines)}, TargetGroupARNs: []string{*targetGroup},
	}); err != nil {
		t.Fatal(err)
	}
	if err := autoscaling.NewGroupInServiceWaiter(groups, func(o *autoscaling.GroupInServiceWaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Millisecond, time.Second
	}).
		Wait(t.Context(), &autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{"hello"}}, time.Minute); err != nil {
		t.Fatal(err)
	}
	return targetGroup
}

// targetHealth waits until a target group's one target is in a state.
func targetHealth(t *testing.T, cfg aws.Config, targetGroup *string, want elbtypes.TargetHealthStateEnum) {
	t.Helper()
	client, state := elb.NewFromConfig(cfg), elbtypes.TargetHealthStateEnum("")
	for end := time.Now().Add(time.Minute); state != want && time.Now().Before(end); {
		out, err := client.DescribeTargetHealth(t.Context(), &elb.DescribeTargetHealthInput{TargetGroupArn: targetGroup})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.TargetHealthDescriptions) > 0 {
			state = out.TargetHealthDescriptions[0].TargetHealth.State
		}
	}
	if state != want {
		t.Fatalf("the target is %s, want %s", state, want)
	}
}

func TestAScenarioMakesTargetsIll(t *testing.T) {
	cfg := perform(t, `
step {
  call = "ec2:DescribeVpcs"
  targets "hello" {
    health = "unhealthy"
    newest = 1
  }
}
step {
  call = "ec2:DescribeVpcs"
  nth  = 2
  targets "hello" {
    health = "checked"
  }
}
`)
	targetGroup := service(t, cfg)
	for _, want := range []elbtypes.TargetHealthStateEnum{
		elbtypes.TargetHealthStateEnumHealthy, elbtypes.TargetHealthStateEnumUnhealthy, elbtypes.TargetHealthStateEnumHealthy,
	} {
		targetHealth(t, cfg, targetGroup, want)
		if _, err := ec2.NewFromConfig(cfg).DescribeVpcs(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAScenarioMakesNewTargetsIll(t *testing.T) {
	cfg := perform(t, `
step {
  after       = "0s"
  new_targets = "unhealthy"
}
`)
	targetHealth(t, cfg, service(t, cfg), elbtypes.TargetHealthStateEnumUnhealthy)
}

func TestAScenarioMakesInstancesIll(t *testing.T) {
	cfg := perform(t, `
step {
  call = "ec2:DescribeVpcs"
  instances "hello" {
    health = "unhealthy"
  }
}
`)
	service(t, cfg)
	groups := autoscaling.NewFromConfig(cfg)
	members := func() map[string]bool {
		out, err := groups.DescribeAutoScalingInstances(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		ids := map[string]bool{}
		for _, i := range out.AutoScalingInstances {
			ids[*i.InstanceId] = true
		}
		return ids
	}
	before := members()
	if _, err := ec2.NewFromConfig(cfg).DescribeVpcs(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		now := members()
		for id := range before {
			if !now[id] {
				return // it was replaced
			}
		}
	}
	t.Error("the instance is still in the group")
}
