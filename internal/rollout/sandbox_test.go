package rollout

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
)

// stage is a sandbox with a group of three instances behind a load balancer, on
// version 1 of a launch template and on the image old. New is to be rolled out.
type stage struct {
	*testing.T
	scaling  *autoscaling.Client
	compute  *ec2.Client
	balancer *elb.Client
	config   aws.Config

	old, new     string
	template     string
	targetGroup  string
	subnets, vpc string
}

// scale is how long a second that a user asked for takes.
const scale = 0.001

func aStage(t *testing.T) *stage {
	t.Helper()
	if testing.Short() {
		t.Skip("rolls out in a sandbox")
	}
	box, err := sandbox.Open(t.Context(), sandbox.Options{
		Listen: "127.0.0.1:0", StateDir: t.TempDir(), Machines: sandbox.None, Profile: clock.Instant, TimeScale: scale,
		Report: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- box.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-served, box.Close()); err != nil {
			t.Error(err)
		}
	})
	config := aws.Config{
		Region: "eu-west-1", BaseEndpoint: aws.String(box.URL()),
		Credentials: credentials.NewStaticCredentialsProvider("AKIATEST", "secret", ""),
	}
	s := &stage{
		T: t, config: config,
		scaling: autoscaling.NewFromConfig(config), compute: ec2.NewFromConfig(config), balancer: elb.NewFromConfig(config),
	}
	s.old, s.new = s.anImage("hello-1", nil), s.anImage("hello-2", map[string]string{"Source/CommitId": "c0ffee", "Source/BranchName": "main"})
	s.network()
	s.aTemplate()
	s.aTargetGroup()
	s.aGroup("hello", &types.LaunchTemplateSpecification{LaunchTemplateId: &s.template, Version: aws.String("1")})
	return s
}

// must ends the test where a call fails.
func must[T any](out T, err error) func(*stage) T {
	return func(s *stage) T {
		s.Helper()
		if err != nil {
			s.Fatal(err)
		}
		return out
	}
}

func (s *stage) anImage(name string, tags map[string]string) string {
	s.Helper()
	direct := ebs.NewFromConfig(s.config)
	snapshot := must(direct.StartSnapshot(s.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(8)}))(s)
	must(direct.CompleteSnapshot(s.Context(), &ebs.CompleteSnapshotInput{SnapshotId: snapshot.SnapshotId, ChangedBlocksCount: aws.Int32(0)}))(s)
	in := &ec2.RegisterImageInput{
		Name: &name, Architecture: ec2types.ArchitectureValuesX8664, VirtualizationType: aws.String("hvm"), EnaSupport: aws.Bool(true), RootDeviceName: aws.String("/dev/xvda"),
		BlockDeviceMappings: []ec2types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &ec2types.EbsBlockDevice{SnapshotId: snapshot.SnapshotId}}},
	}
	if len(tags) > 0 {
		in.TagSpecifications = []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeImage, Tags: tagList(tags)}}
	}
	completed := ec2.NewSnapshotCompletedWaiter(s.compute, func(o *ec2.SnapshotCompletedWaiterOptions) { o.MinDelay = 10 * time.Millisecond })
	if err := completed.Wait(s.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*snapshot.SnapshotId}}, time.Minute); err != nil {
		s.Fatal(err)
	}
	return *must(s.compute.RegisterImage(s.Context(), in))(s).ImageId
}

func (s *stage) network() {
	subnets := must(s.compute.DescribeSubnets(s.Context(), &ec2.DescribeSubnetsInput{}))(s)
	var ids []string
	for _, subnet := range subnets.Subnets {
		ids = append(ids, *subnet.SubnetId)
	}
	s.subnets, s.vpc = strings.Join(ids, ","), *subnets.Subnets[0].VpcId
}

// aTemplate has much that could be lost.
func (s *stage) aTemplate() {
	root := s.snapshotOf(s.old)
	made := must(s.compute.CreateLaunchTemplate(s.Context(), &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: aws.String("hello"),
		LaunchTemplateData: &ec2types.RequestLaunchTemplateData{
			ImageId: &s.old, InstanceType: ec2types.InstanceTypeT3Small, UserData: aws.String(base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\n"))),
			EbsOptimized: aws.Bool(true), DisableApiTermination: aws.Bool(true),
			BlockDeviceMappings: []ec2types.LaunchTemplateBlockDeviceMappingRequest{
				{DeviceName: aws.String("/dev/xvda"), Ebs: &ec2types.LaunchTemplateEbsBlockDeviceRequest{
					SnapshotId: &root, VolumeSize: aws.Int32(20), VolumeType: ec2types.VolumeTypeGp3, Iops: aws.Int32(4000), Throughput: aws.Int32(250), DeleteOnTermination: aws.Bool(true),
				}},
				{DeviceName: aws.String("/dev/sdf"), Ebs: &ec2types.LaunchTemplateEbsBlockDeviceRequest{VolumeSize: aws.Int32(1), VolumeType: ec2types.VolumeTypeGp3}},
			},
			NetworkInterfaces: []ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{{
				DeviceIndex: aws.Int32(0), AssociatePublicIpAddress: aws.Bool(true), Description: aws.String("front"),
			}},
			MetadataOptions: &ec2types.LaunchTemplateInstanceMetadataOptionsRequest{HttpTokens: ec2types.LaunchTemplateHttpTokensStateRequired, HttpPutResponseHopLimit: aws.Int32(2)},
			Monitoring:      &ec2types.LaunchTemplatesMonitoringRequest{Enabled: aws.Bool(true)},
			TagSpecifications: []ec2types.LaunchTemplateTagSpecificationRequest{
				{ResourceType: ec2types.ResourceTypeInstance, Tags: tagList(map[string]string{"Name": "hello", "Source/CommitId": "01d"})},
			},
		},
	}))(s)
	s.template = *made.LaunchTemplate.LaunchTemplateId
}

func (s *stage) snapshotOf(image string) string {
	out := must(s.compute.DescribeImages(s.Context(), &ec2.DescribeImagesInput{ImageIds: []string{image}}))(s)
	return *out.Images[0].BlockDeviceMappings[0].Ebs.SnapshotId
}

func (s *stage) aTargetGroup() {
	group := must(s.balancer.CreateTargetGroup(s.Context(), &elb.CreateTargetGroupInput{
		Name: aws.String("hello-8080"), Protocol: elbtypes.ProtocolEnumHttp, Port: aws.Int32(8080), VpcId: &s.vpc, HealthCheckIntervalSeconds: aws.Int32(5), HealthCheckTimeoutSeconds: aws.Int32(2),
	}))(s)
	s.targetGroup = *group.TargetGroups[0].TargetGroupArn
}

func (s *stage) listen() {
	balancer := must(s.balancer.CreateLoadBalancer(s.Context(), &elb.CreateLoadBalancerInput{Name: aws.String("hello"), Subnets: strings.Split(s.subnets, ",")}))(s)
	must(s.balancer.CreateListener(s.Context(), &elb.CreateListenerInput{
		LoadBalancerArn: balancer.LoadBalancers[0].LoadBalancerArn, Protocol: elbtypes.ProtocolEnumHttp, Port: aws.Int32(80),
		DefaultActions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: &s.targetGroup}},
	}))(s)
}

func (s *stage) aGroup(name string, template *types.LaunchTemplateSpecification) {
	must(s.scaling.CreateAutoScalingGroup(s.Context(), &autoscaling.CreateAutoScalingGroupInput{
		AutoScalingGroupName: &name, LaunchTemplate: template,
		MinSize: aws.Int32(3), MaxSize: aws.Int32(6), DesiredCapacity: aws.Int32(3), VPCZoneIdentifier: &s.subnets, DefaultInstanceWarmup: aws.Int32(10),
		TargetGroupARNs: []string{s.targetGroup}, HealthCheckType: aws.String("ELB"), HealthCheckGracePeriod: aws.Int32(60),
		Tags: []types.Tag{{Key: aws.String("Team"), Value: aws.String("ours"), PropagateAtLaunch: aws.Bool(true)}},
	}))(s)
}

func (s *stage) group(name string) types.AutoScalingGroup {
	s.Helper()
	out := must(s.scaling.DescribeAutoScalingGroups(s.Context(), &autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{name}}))(s)
	return out.AutoScalingGroups[0]
}

func (s *stage) waitInService() {
	s.Helper()
	err := cloud.Wait(s.Context(), cloud.Until{What: "three instances are in service", First: 20 * time.Millisecond, Deadline: time.Minute},
		func(context.Context) (bool, string, error) {
			group := s.group("hello")
			in := 0
			for _, instance := range group.Instances {
				if instance.LifecycleState == types.LifecycleStateInService {
					in++
				}
			}
			return in == 3, fmt.Sprintf("%d are", in), nil
		})
	if err != nil {
		s.Fatal(err)
	}
}

func (s *stage) version(number string) ec2types.ResponseLaunchTemplateData {
	s.Helper()
	out := must(s.compute.DescribeLaunchTemplateVersions(s.Context(), &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &s.template, Versions: []string{number}}))(s)
	return *out.LaunchTemplateVersions[0].LaunchTemplateData
}

// hearing does something when a line with a text in it is said.
type hearing struct {
	said
	text string
	do   func()
}

func (h *hearing) Say(line string) {
	h.said.Say(line)
	if h.text != "" && strings.Contains(line, h.text) {
		h.text = ""
		h.do()
	}
}

func (s *stage) rollout(ui Reporter) Rollout {
	r := Rollout{
		Group: "hello", Region: "eu-west-1", Image: s.new, Prefix: "Source/",
		AutoScaling: s.scaling, EC2: s.compute, Balancers: s.balancer, Ui: ui,
	}
	if errs := r.Preferences.Prepare(); len(errs) > 0 {
		s.Fatal(errs)
	}
	return r
}

func TestASandboxGroupIsRolledOut(t *testing.T) {
	s := aStage(t)
	s.listen()
	s.waitInService()
	ui := &said{}
	r := s.rollout(ui)
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("told:\n%s", strings.Join(*ui, "\n"))

	group := s.group("hello")
	if version := *group.LaunchTemplate.Version; version != "2" {
		t.Errorf("the group has saved version %s of its launch template", version)
	}
	if in := inventory(s.new, see(s.new, types.InstanceRefresh{}, group, s.images(), nil)); !strings.HasPrefix(in, "3 on "+s.new) {
		t.Errorf("the group has %s", in)
	}

	t.Run("nothing of the template is lost", func(t *testing.T) {
		want := s.version("1")
		want.ImageId = &s.new
		want.BlockDeviceMappings[0].Ebs.SnapshotId = nil
		commit := map[string]string{"Source/CommitId": "c0ffee", "Source/BranchName": "main"}
		want.TagSpecifications = []ec2types.LaunchTemplateTagSpecification{
			{ResourceType: ec2types.ResourceTypeInstance, Tags: tagList(map[string]string{"Name": "hello", "Source/CommitId": "c0ffee", "Source/BranchName": "main"})},
			{ResourceType: ec2types.ResourceTypeVolume, Tags: tagList(commit)},
		}
		sorted := cmpopts.SortSlices(func(a, b ec2types.Tag) bool { return *a.Key < *b.Key })
		if diff := cmp.Diff(want, s.version("2"), sdk, sorted); diff != "" {
			t.Errorf("version 2 differs from version 1 with the image in it:\n%s", diff)
		}
	})
	t.Run("instances and volumes bear the commit", func(t *testing.T) {
		out := must(s.compute.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{*group.Instances[0].InstanceId}}))(s)
		instance := out.Reservations[0].Instances[0]
		for what, tags := range map[string][]ec2types.Tag{"instance": instance.Tags, "volume": s.volumeTags(*instance.BlockDeviceMappings[0].Ebs.VolumeId)} {
			if !slices.ContainsFunc(tags, func(tag ec2types.Tag) bool { return *tag.Key == "Source/CommitId" && *tag.Value == "c0ffee" }) {
				t.Errorf("the %s has no Source/CommitId", what)
			}
		}
	})
	t.Run("another run has nothing to do", func(t *testing.T) {
		ui := &said{}
		if err := s.rollout(ui).Run(t.Context()); err != nil || !ui.has("nothing to roll out") {
			t.Errorf("error %v, told %q", err, *ui)
		}
	})
}

func (s *stage) images() map[string]string {
	s.Helper()
	return must(s.rollout(&said{}).running(s.Context(), s.group("hello").Instances, nil))(s)
}

func (s *stage) volumeTags(id string) []ec2types.Tag {
	s.Helper()
	out := must(s.compute.DescribeVolumes(s.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{id}}))(s)
	return out.Volumes[0].Tags
}

// The image disappears while the refresh runs, so that no instance can launch
// any more.
func TestASandboxRefreshThatFailsIsRolledBackAndFailsTheBuild(t *testing.T) {
	s := aStage(t)
	s.listen()
	s.waitInService()
	ui := &hearing{text: "Started instance refresh", do: func() {
		must(s.compute.DeregisterImage(t.Context(), &ec2.DeregisterImageInput{ImageId: &s.new}))(s)
	}}
	err := s.rollout(ui).Run(t.Context())
	t.Logf("told:\n%s\nerror: %v", strings.Join(ui.said, "\n"), err)
	wants(t, err, "ended RollbackSuccessful", "Failed: Launching a new EC2 instance", s.old, "version 1")
	if version := *s.group("hello").LaunchTemplate.Version; version != "1" {
		t.Errorf("the group has saved version %s of its launch template", version)
	}
}

func TestASandboxRefreshIsCancelledByAnInterrupt(t *testing.T) {
	s := aStage(t)
	s.listen()
	s.waitInService()
	ctx, interrupt := context.WithCancel(t.Context())
	ui := &hearing{text: "InProgress", do: interrupt}
	r := s.rollout(ui)
	r.Preferences.InstanceWarmup = new(30 * 60 * time.Second)
	err := r.Run(ctx)
	t.Logf("told:\n%s\nerror: %v", strings.Join(ui.said, "\n"), err)
	wants(t, err, "interrupted", "ended Cancelled", s.old, "version 1")
	if !errors.Is(err, context.Canceled) {
		t.Error("the error is no cancellation")
	}
}

func TestASandboxRefreshThatWasLeftAloneIsJoined(t *testing.T) {
	s := aStage(t)
	s.listen()
	s.waitInService()
	r := s.rollout(&said{})
	state, err := r.describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	plan, err := makePlan(state, r.Prefix, r.Preferences)
	if err != nil {
		t.Fatal(err)
	}
	id, err := r.carryOut(t.Context(), plan) // and then the process is killed
	if err != nil {
		t.Fatal(err)
	}
	ui := &said{}
	if err := s.rollout(ui).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !ui.has("Instance refresh "+id) || !ui.has("joining it") {
		t.Errorf("told:\n%s", strings.Join(*ui, "\n"))
	}
}

func TestASandboxGroupThatCannotBeRolledOutIsLeftAsItIs(t *testing.T) {
	s := aStage(t)
	wants(t, s.rollout(&said{}).Run(t.Context()), `target group "hello-8080" has no listener rule`)

	s.listen()
	s.aGroup("latest", &types.LaunchTemplateSpecification{LaunchTemplateId: &s.template, Version: aws.String("$Latest")})
	r := s.rollout(&said{})
	r.Group = "latest"
	wants(t, r.Run(t.Context()), `auto_scaling_group "latest"`, "$Latest", "Version=1")

	r.Group = "gone"
	wants(t, r.Run(t.Context()), `auto_scaling_group "gone"`, "no group of that name in region eu-west-1")

	versions := must(s.compute.DescribeLaunchTemplateVersions(t.Context(), &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &s.template}))(s)
	if n := len(versions.LaunchTemplateVersions); n != 1 {
		t.Errorf("the launch template has %d versions", n)
	}
}
