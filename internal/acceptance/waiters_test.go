package acceptance

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// waiting is a test in which waiters of the Go SDK wait.
type waiting struct {
	*testing.T
	box *rehearsal.Sandbox

	compute   *ec2.Client
	direct    *ebs.Client
	scaling   *autoscaling.Client
	balancing *elb.Client

	ami string
}

// pace is how often waiters ask, and enough is more than any wait takes.
const (
	pace   = 20 * time.Millisecond
	enough = time.Minute
)

// polls counts the calls of a waiter. What it waits for is begun after the
// second, so that the waiting is seen too.
type polls struct {
	mu    sync.Mutex
	count int
	begin func() error
	err   error
}

// RoundTrip implements http.RoundTripper.
func (p *polls) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := http.DefaultTransport.RoundTrip(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count++; p.count == 2 {
		p.err = p.begin()
	}
	return answer, err
}

// waits begins something while a waiter, whose client has the given
// configuration, is waiting for it already. It returns how the wait ended.
func (w *waiting) waits(begin func() error, wait func(context.Context, aws.Config) error) error {
	w.Helper()
	p := &polls{begin: begin}
	config := w.box.Config()
	config.HTTPClient = &http.Client{Transport: p}
	err := wait(w.Context(), config)
	if p.err != nil {
		w.Fatal(p.err)
	}
	if p.count < 3 {
		w.Errorf("the waiter asked %d times: it did not wait", p.count)
	}
	return err
}

// until fails unless the wait comes to its end.
func (w *waiting) until(begin func() error, wait func(context.Context, aws.Config) error) {
	w.Helper()
	if err := w.waits(begin, wait); err != nil {
		w.Fatal(err)
	}
}

// fails fails unless the waiter finds out that what it waits for can't come.
func (w *waiting) fails(begin func() error, wait func(context.Context, aws.Config) error) {
	w.Helper()
	if err := w.waits(begin, wait); err == nil || !strings.Contains(err.Error(), "waiter state transitioned to Failure") {
		w.Errorf("the wait ended with %v, want a failure", err)
	}
}

// TestWaiters lets the Go SDK's own waiters see the transitions of the typical
// profile: each waits, and each comes to its end.
func TestWaiters(t *testing.T) {
	t.Parallel()
	_, box := states(t, "typical", "0.01")
	config := box.Config()
	whole := waiting{
		T: t, box: box,
		compute: ec2.NewFromConfig(config), direct: ebs.NewFromConfig(config),
		scaling: autoscaling.NewFromConfig(config), balancing: elb.NewFromConfig(config),
	}
	whole.ami = whole.image()
	for name, test := range map[string]func(*waiting){
		"a snapshot that fails": (*waiting).failedSnapshot,
		"instances":             (*waiting).instances,
		"volumes":               (*waiting).volumes,
		"keys and firewalls":    (*waiting).names,
		"groups":                (*waiting).groups,
		"targets":               (*waiting).targets,
		"load balancers":        (*waiting).balancers,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := whole
			w.T = t
			test(&w)
		})
	}
}

func tagged(kind ec2types.ResourceType, name string) []ec2types.TagSpecification {
	return []ec2types.TagSpecification{{ResourceType: kind, Tags: []ec2types.Tag{{Key: aws.String("Name"), Value: &name}}}}
}

func filter(name, value string) []ec2types.Filter {
	return []ec2types.Filter{{Name: &name, Values: []string{value}}}
}

// startSnapshot starts one and waits until EC2 shows it: the waiter for its
// completion takes what is not shown yet for an error.
func (w *waiting) startSnapshot() *string {
	w.Helper()
	started, err := w.direct.StartSnapshot(w.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), Timeout: aws.Int32(10)})
	if err != nil {
		w.Fatal(err)
	}
	for {
		found, err := w.compute.DescribeSnapshots(w.Context(), &ec2.DescribeSnapshotsInput{Filters: filter("snapshot-id", *started.SnapshotId)})
		if err != nil {
			w.Fatal(err)
		}
		if len(found.Snapshots) == 1 {
			return started.SnapshotId
		}
	}
}

func snapshotCompleted(snapshot *string) func(context.Context, aws.Config) error {
	return func(ctx context.Context, config aws.Config) error {
		return ec2.NewSnapshotCompletedWaiter(ec2.NewFromConfig(config), func(o *ec2.SnapshotCompletedWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*snapshot}}, enough)
	}
}

// image waits for a snapshot, and for an image of it.
func (w *waiting) image() (ami string) {
	snapshot := w.startSnapshot()
	w.until(func() error {
		_, err := w.direct.CompleteSnapshot(w.Context(), &ebs.CompleteSnapshotInput{SnapshotId: snapshot, ChangedBlocksCount: aws.Int32(0)})
		return err
	}, snapshotCompleted(snapshot))

	register := func(name string) func() error {
		return func() error {
			registered, err := w.compute.RegisterImage(w.Context(), &ec2.RegisterImageInput{
				Name: &name, Architecture: ec2types.ArchitectureValuesX8664, VirtualizationType: aws.String("hvm"), EnaSupport: aws.Bool(true),
				RootDeviceName: aws.String("/dev/xvda"),
				BlockDeviceMappings: []ec2types.BlockDeviceMapping{{
					DeviceName: aws.String("/dev/xvda"), Ebs: &ec2types.EbsBlockDevice{SnapshotId: snapshot},
				}},
			})
			if err == nil {
				ami = *registered.ImageId
			}
			return err
		}
	}
	w.until(register("exists"), func(ctx context.Context, config aws.Config) error {
		return ec2.NewImageExistsWaiter(ec2.NewFromConfig(config), func(o *ec2.ImageExistsWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &ec2.DescribeImagesInput{Filters: filter("name", "exists")}, enough)
	})
	w.until(register("available"), func(ctx context.Context, config aws.Config) error {
		return ec2.NewImageAvailableWaiter(ec2.NewFromConfig(config), func(o *ec2.ImageAvailableWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &ec2.DescribeImagesInput{Filters: filter("name", "available")}, enough)
	})
	return ami
}

// failedSnapshot is one that nobody completes in its time.
func (w *waiting) failedSnapshot() {
	w.fails(func() error { return nil }, snapshotCompleted(w.startSnapshot()))
}

func (w *waiting) run(name string) func() error {
	return func() error {
		_, err := w.compute.RunInstances(w.Context(), &ec2.RunInstancesInput{
			ImageId: &w.ami, InstanceType: ec2types.InstanceTypeT3Micro, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
			TagSpecifications: tagged(ec2types.ResourceTypeInstance, name),
		})
		return err
	}
}

func instanceRunning(in ec2.DescribeInstancesInput) func(context.Context, aws.Config) error {
	return func(ctx context.Context, config aws.Config) error {
		return ec2.NewInstanceRunningWaiter(ec2.NewFromConfig(config), func(o *ec2.InstanceRunningWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &in, enough)
	}
}

// running runs an instance and waits for it.
func (w *waiting) running(name string) (id string) {
	w.Helper()
	in := ec2.DescribeInstancesInput{Filters: filter("tag:Name", name)}
	w.until(w.run(name), instanceRunning(in))
	described, err := w.compute.DescribeInstances(w.Context(), &in)
	if err != nil {
		w.Fatal(err)
	}
	return *described.Reservations[0].Instances[0].InstanceId
}

func (w *waiting) instances() {
	w.until(w.run("exists"), func(ctx context.Context, config aws.Config) error {
		return ec2.NewInstanceExistsWaiter(ec2.NewFromConfig(config), func(o *ec2.InstanceExistsWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &ec2.DescribeInstancesInput{Filters: filter("tag:Name", "exists")}, enough)
	})
	ids := []string{w.running("running")}
	in := ec2.DescribeInstancesInput{InstanceIds: ids}
	w.until(func() error {
		_, err := w.compute.StopInstances(w.Context(), &ec2.StopInstancesInput{InstanceIds: ids})
		return err
	}, func(ctx context.Context, config aws.Config) error {
		return ec2.NewInstanceStoppedWaiter(ec2.NewFromConfig(config), func(o *ec2.InstanceStoppedWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &in, enough)
	})
	start := func() error {
		_, err := w.compute.StartInstances(w.Context(), &ec2.StartInstancesInput{InstanceIds: ids})
		return err
	}
	w.until(start, func(ctx context.Context, config aws.Config) error {
		return ec2.NewInstanceStatusOkWaiter(ec2.NewFromConfig(config), func(o *ec2.InstanceStatusOkWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &ec2.DescribeInstanceStatusInput{InstanceIds: ids}, enough)
	})
	terminate := func() error {
		_, err := w.compute.TerminateInstances(w.Context(), &ec2.TerminateInstancesInput{InstanceIds: ids})
		return err
	}
	w.until(terminate, func(ctx context.Context, config aws.Config) error {
		return ec2.NewInstanceTerminatedWaiter(ec2.NewFromConfig(config), func(o *ec2.InstanceTerminatedWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &in, enough)
	})

	// An instance that is terminated does not come to run.
	ids[0] = w.running("stopped")
	if _, err := w.compute.StopInstances(w.Context(), &ec2.StopInstancesInput{InstanceIds: ids}); err != nil {
		w.Fatal(err)
	}
	stopped := ec2.NewInstanceStoppedWaiter(w.compute, func(o *ec2.InstanceStoppedWaiterOptions) { o.MinDelay, o.MaxDelay = pace, pace })
	if err := stopped.Wait(w.Context(), &in, enough); err != nil {
		w.Fatal(err)
	}
	w.fails(terminate, instanceRunning(in))
}

func (w *waiting) volumes() {
	instance := w.running("with a volume")
	described, err := w.compute.DescribeInstances(w.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{instance}})
	if err != nil {
		w.Fatal(err)
	}
	in := ec2.DescribeVolumesInput{Filters: filter("tag:Name", "waiters")}
	var volume *string
	available := func(ctx context.Context, config aws.Config) error {
		return ec2.NewVolumeAvailableWaiter(ec2.NewFromConfig(config), func(o *ec2.VolumeAvailableWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &in, enough)
	}
	w.until(func() error {
		created, err := w.compute.CreateVolume(w.Context(), &ec2.CreateVolumeInput{
			AvailabilityZone: described.Reservations[0].Instances[0].Placement.AvailabilityZone, Size: aws.Int32(1),
			TagSpecifications: tagged(ec2types.ResourceTypeVolume, "waiters"),
		})
		if err == nil {
			volume = created.VolumeId
		}
		return err
	}, available)
	w.until(func() error {
		_, err := w.compute.AttachVolume(w.Context(), &ec2.AttachVolumeInput{VolumeId: volume, InstanceId: &instance, Device: aws.String("/dev/sdf")})
		return err
	}, func(ctx context.Context, config aws.Config) error {
		return ec2.NewVolumeInUseWaiter(ec2.NewFromConfig(config), func(o *ec2.VolumeInUseWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &in, enough)
	})
	w.until(func() error {
		_, err := w.compute.DetachVolume(w.Context(), &ec2.DetachVolumeInput{VolumeId: volume})
		return err
	}, available)
	w.until(func() error {
		_, err := w.compute.DeleteVolume(w.Context(), &ec2.DeleteVolumeInput{VolumeId: volume})
		return err
	}, func(ctx context.Context, config aws.Config) error {
		return ec2.NewVolumeDeletedWaiter(ec2.NewFromConfig(config), func(o *ec2.VolumeDeletedWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{*volume}}, enough)
	})
}

func (w *waiting) names() {
	const name = "waiters"
	w.until(func() error {
		_, err := w.compute.CreateKeyPair(w.Context(), &ec2.CreateKeyPairInput{KeyName: aws.String(name), KeyType: ec2types.KeyTypeEd25519})
		return err
	}, func(ctx context.Context, config aws.Config) error {
		return ec2.NewKeyPairExistsWaiter(ec2.NewFromConfig(config), func(o *ec2.KeyPairExistsWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &ec2.DescribeKeyPairsInput{KeyNames: []string{name}}, enough)
	})
	w.until(func() error {
		_, err := w.compute.CreateSecurityGroup(w.Context(), &ec2.CreateSecurityGroupInput{GroupName: aws.String(name), Description: aws.String(name)})
		return err
	}, func(ctx context.Context, config aws.Config) error {
		return ec2.NewSecurityGroupExistsWaiter(ec2.NewFromConfig(config), func(o *ec2.SecurityGroupExistsWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &ec2.DescribeSecurityGroupsInput{GroupNames: []string{name}}, enough)
	})
}

func (w *waiting) groups() {
	name := aws.String("waiters")
	in := autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{*name}}
	template, err := w.compute.CreateLaunchTemplate(w.Context(), &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: name,
		LaunchTemplateData: &ec2types.RequestLaunchTemplateData{ImageId: &w.ami, InstanceType: ec2types.InstanceTypeT3Micro},
	})
	if err != nil {
		w.Fatal(err)
	}
	w.until(func() error {
		_, err := w.scaling.CreateAutoScalingGroup(w.Context(), &autoscaling.CreateAutoScalingGroupInput{
			AutoScalingGroupName: name, MinSize: aws.Int32(0), MaxSize: aws.Int32(2), AvailabilityZones: []string{rehearsal.Region + "a"},
			LaunchTemplate: &autoscalingtypes.LaunchTemplateSpecification{LaunchTemplateId: template.LaunchTemplate.LaunchTemplateId, Version: aws.String("1")},
		})
		return err
	}, func(ctx context.Context, config aws.Config) error {
		return autoscaling.NewGroupExistsWaiter(autoscaling.NewFromConfig(config), func(o *autoscaling.GroupExistsWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &in, enough)
	})

	// The group lacks its instances until it may launch them.
	launch := []string{"Launch"}
	_, err = w.scaling.SuspendProcesses(w.Context(), &autoscaling.SuspendProcessesInput{AutoScalingGroupName: name, ScalingProcesses: launch})
	if err != nil {
		w.Fatal(err)
	}
	_, err = w.scaling.UpdateAutoScalingGroup(w.Context(), &autoscaling.UpdateAutoScalingGroupInput{AutoScalingGroupName: name, MinSize: aws.Int32(2)})
	if err != nil {
		w.Fatal(err)
	}
	w.until(func() error {
		_, err := w.scaling.ResumeProcesses(w.Context(), &autoscaling.ResumeProcessesInput{AutoScalingGroupName: name, ScalingProcesses: launch})
		return err
	}, func(ctx context.Context, config aws.Config) error {
		return autoscaling.NewGroupInServiceWaiter(autoscaling.NewFromConfig(config), func(o *autoscaling.GroupInServiceWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &in, enough)
	})
	w.until(func() error {
		_, err := w.scaling.DeleteAutoScalingGroup(w.Context(), &autoscaling.DeleteAutoScalingGroupInput{AutoScalingGroupName: name, ForceDelete: aws.Bool(true)})
		return err
	}, func(ctx context.Context, config aws.Config) error {
		return autoscaling.NewGroupNotExistsWaiter(autoscaling.NewFromConfig(config), func(o *autoscaling.GroupNotExistsWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &in, enough)
	})
}

// balancer makes a load balancer in the default VPC.
func (w *waiting) balancer(name string) (arn string, err error) {
	subnets, err := w.compute.DescribeSubnets(w.Context(), &ec2.DescribeSubnetsInput{Filters: filter("default-for-az", "true")})
	if err != nil {
		return "", err
	}
	var ids []string
	for _, subnet := range subnets.Subnets {
		ids = append(ids, *subnet.SubnetId)
	}
	created, err := w.balancing.CreateLoadBalancer(w.Context(), &elb.CreateLoadBalancerInput{Name: &name, Subnets: ids})
	if err != nil {
		return "", err
	}
	return *created.LoadBalancers[0].LoadBalancerArn, nil
}

func (w *waiting) targets() {
	balancer, err := w.balancer("targets")
	if err != nil {
		w.Fatal(err)
	}
	vpcs, err := w.compute.DescribeVpcs(w.Context(), &ec2.DescribeVpcsInput{})
	if err != nil {
		w.Fatal(err)
	}
	created, err := w.balancing.CreateTargetGroup(w.Context(), &elb.CreateTargetGroupInput{
		Name: aws.String("targets"), Protocol: elbtypes.ProtocolEnumHttp, Port: aws.Int32(80), VpcId: vpcs.Vpcs[0].VpcId,
	})
	if err != nil {
		w.Fatal(err)
	}
	group := created.TargetGroups[0].TargetGroupArn
	_, err = w.balancing.CreateListener(w.Context(), &elb.CreateListenerInput{
		LoadBalancerArn: &balancer, Protocol: elbtypes.ProtocolEnumHttp, Port: aws.Int32(80),
		DefaultActions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: group}},
	})
	if err != nil {
		w.Fatal(err)
	}
	targets := []elbtypes.TargetDescription{{Id: aws.String(w.running("target"))}}
	in := elb.DescribeTargetHealthInput{TargetGroupArn: group, Targets: targets}
	w.until(func() error {
		_, err := w.balancing.RegisterTargets(w.Context(), &elb.RegisterTargetsInput{TargetGroupArn: group, Targets: targets})
		return err
	}, func(ctx context.Context, config aws.Config) error {
		return elb.NewTargetInServiceWaiter(elb.NewFromConfig(config), func(o *elb.TargetInServiceWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &in, enough)
	})
	w.until(func() error {
		_, err := w.balancing.DeregisterTargets(w.Context(), &elb.DeregisterTargetsInput{TargetGroupArn: group, Targets: targets})
		return err
	}, func(ctx context.Context, config aws.Config) error {
		return elb.NewTargetDeregisteredWaiter(elb.NewFromConfig(config), func(o *elb.TargetDeregisteredWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &in, enough)
	})
}

func (w *waiting) balancers() {
	var arn string
	create := func(name string) func() error {
		return func() (err error) {
			arn, err = w.balancer(name)
			return err
		}
	}
	w.until(create("exists"), func(ctx context.Context, config aws.Config) error {
		return elb.NewLoadBalancerExistsWaiter(elb.NewFromConfig(config), func(o *elb.LoadBalancerExistsWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &elb.DescribeLoadBalancersInput{Names: []string{"exists"}}, enough)
	})
	w.until(create("available"), func(ctx context.Context, config aws.Config) error {
		return elb.NewLoadBalancerAvailableWaiter(elb.NewFromConfig(config), func(o *elb.LoadBalancerAvailableWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &elb.DescribeLoadBalancersInput{Names: []string{"available"}}, enough)
	})
	w.until(func() error {
		_, err := w.balancing.DeleteLoadBalancer(w.Context(), &elb.DeleteLoadBalancerInput{LoadBalancerArn: &arn})
		return err
	}, func(ctx context.Context, config aws.Config) error {
		return elb.NewLoadBalancersDeletedWaiter(elb.NewFromConfig(config), func(o *elb.LoadBalancersDeletedWaiterOptions) {
			o.MinDelay, o.MaxDelay = pace, pace
		}).Wait(ctx, &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{arn}}, enough)
	})
}
