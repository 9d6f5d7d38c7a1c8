package rollout

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/smithy-go"
)

const (
	oldImage = "ami-0000000000000001"
	newImage = "ami-0000000000000002"
	template = "lt-0001"
	targets  = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/hello-8080/73e2d6bc24d8a067"
)

// fakeAWS is a group of two instances behind a target group, on version 3 of a
// launch template. A step is what happens in AWS between one look at the
// refresh and the next. Fail makes calls of an operation fail.
type fakeAWS struct {
	t *testing.T

	group      types.AutoScalingGroup
	refreshes  []types.InstanceRefresh
	activities []types.Activity
	versions   []ec2types.LaunchTemplateVersion
	images     []ec2types.Image
	running    map[string]string
	health     map[string]elbtypes.TargetHealth
	targets    elbtypes.TargetGroup

	steps []func(*fakeAWS)
	fail  map[string]func(call int) error

	calls   map[string]int
	started []*autoscaling.StartInstanceRefreshInput
	created []*ec2.CreateLaunchTemplateVersionInput
}

func newFake(t *testing.T) *fakeAWS {
	f := &fakeAWS{
		t: t,
		group: types.AutoScalingGroup{
			AutoScalingGroupName: aws.String("hello"),
			DesiredCapacity:      aws.Int32(2),
			LaunchTemplate:       &types.LaunchTemplateSpecification{LaunchTemplateId: aws.String(template), Version: aws.String("3")},
			TargetGroupARNs:      []string{targets},
		},
		versions: []ec2types.LaunchTemplateVersion{{
			LaunchTemplateId: aws.String(template),
			VersionNumber:    aws.Int64(3),
			LaunchTemplateData: &ec2types.ResponseLaunchTemplateData{
				ImageId: aws.String(oldImage),
			},
		}},
		images:  []ec2types.Image{anImage(oldImage, "/dev/xvda", 8), anImage(newImage, "/dev/xvda", 8)},
		running: map[string]string{},
		health:  map[string]elbtypes.TargetHealth{},
		targets: elbtypes.TargetGroup{
			TargetGroupArn: aws.String(targets), TargetGroupName: aws.String("hello-8080"), LoadBalancerArns: []string{"arn:lb"},
		},
		fail:  map[string]func(int) error{},
		calls: map[string]int{},
	}
	f.images[1].Tags = []ec2types.Tag{
		{Key: aws.String("Source/CommitId"), Value: aws.String("c0ffee")},
		{Key: aws.String("Source/BranchName"), Value: aws.String("main")},
		{Key: aws.String("Owner"), Value: aws.String("nobody")},
	}
	f.join("i-1", oldImage)
	f.join("i-2", oldImage)
	return f
}

func anImage(id, root string, size int32) ec2types.Image {
	return ec2types.Image{
		ImageId: aws.String(id), State: ec2types.ImageStateAvailable, Architecture: ec2types.ArchitectureValuesX8664,
		RootDeviceName: aws.String(root),
		BlockDeviceMappings: []ec2types.BlockDeviceMapping{{
			DeviceName: aws.String(root),
			Ebs:        &ec2types.EbsBlockDevice{SnapshotId: aws.String("snap-of-" + id), VolumeSize: aws.Int32(size)},
		}},
	}
}

// join puts an instance in service; leave takes one out.
func (f *fakeAWS) join(id, image string) {
	f.group.Instances = append(f.group.Instances, types.Instance{
		InstanceId: aws.String(id), AvailabilityZone: aws.String("eu-west-1a"),
		LifecycleState: types.LifecycleStateInService, HealthStatus: aws.String("Healthy"),
	})
	f.running[id] = image
	f.health[id] = elbtypes.TargetHealth{State: elbtypes.TargetHealthStateEnumHealthy}
}

func (f *fakeAWS) leave(id string) {
	f.group.Instances = slices.DeleteFunc(f.group.Instances, func(i types.Instance) bool { return *i.InstanceId == id })
	delete(f.health, id)
}

func (f *fakeAWS) becomes(status types.InstanceRefreshStatus, reason string, percent, left int32) {
	r := &f.refreshes[0]
	r.Status, r.StatusReason = status, aws.String(reason)
	r.PercentageComplete, r.InstancesToUpdate = aws.Int32(percent), aws.Int32(left)
}

// runsIn has a refresh seen only when some time has passed.
func (f *fakeAWS) runsIn(d time.Duration, id, version string) {
	due := time.Now().Add(d)
	f.fail["DescribeInstanceRefreshes"] = func(int) error {
		if len(f.refreshes) == 0 && !time.Now().Before(due) {
			f.runs(id, version)
		}
		return nil
	}
}

// runs begins a refresh towards a version of the template.
func (f *fakeAWS) runs(id, version string) {
	f.refreshes = append([]types.InstanceRefresh{{
		InstanceRefreshId: aws.String(id), AutoScalingGroupName: f.group.AutoScalingGroupName,
		Status: types.InstanceRefreshStatusPending, StartTime: aws.Time(time.Now()),
		DesiredConfiguration: &types.DesiredConfiguration{LaunchTemplate: &types.LaunchTemplateSpecification{
			LaunchTemplateId: aws.String(template), Version: aws.String(version),
		}},
	}}, f.refreshes...)
}

func (f *fakeAWS) called(ctx context.Context, operation string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.calls[operation]++
	if fail := f.fail[operation]; fail != nil {
		return fail(f.calls[operation])
	}
	return nil
}

func apiError(code string) error { return &smithy.GenericAPIError{Code: code, Message: "as " + code} }

func (f *fakeAWS) DescribeAutoScalingGroups(ctx context.Context, in *autoscaling.DescribeAutoScalingGroupsInput, _ ...func(*autoscaling.Options)) (*autoscaling.DescribeAutoScalingGroupsOutput, error) {
	out := &autoscaling.DescribeAutoScalingGroupsOutput{}
	if slices.Contains(in.AutoScalingGroupNames, *f.group.AutoScalingGroupName) {
		group := f.group
		group.Instances = slices.Clone(group.Instances)
		out.AutoScalingGroups = append(out.AutoScalingGroups, group)
	}
	return out, f.called(ctx, "DescribeAutoScalingGroups")
}

func (f *fakeAWS) DescribeScalingActivities(ctx context.Context, _ *autoscaling.DescribeScalingActivitiesInput, _ ...func(*autoscaling.Options)) (*autoscaling.DescribeScalingActivitiesOutput, error) {
	return &autoscaling.DescribeScalingActivitiesOutput{Activities: slices.Clone(f.activities)}, f.called(ctx, "DescribeScalingActivities")
}

func (f *fakeAWS) DescribeInstanceRefreshes(ctx context.Context, in *autoscaling.DescribeInstanceRefreshesInput, _ ...func(*autoscaling.Options)) (*autoscaling.DescribeInstanceRefreshesOutput, error) {
	if err := f.called(ctx, "DescribeInstanceRefreshes"); err != nil {
		return nil, err
	}
	if len(in.InstanceRefreshIds) > 0 && len(f.steps) > 0 {
		step := f.steps[0]
		f.steps = f.steps[1:]
		step(f)
	}
	out := &autoscaling.DescribeInstanceRefreshesOutput{}
	for _, r := range f.refreshes {
		if len(in.InstanceRefreshIds) == 0 || slices.Contains(in.InstanceRefreshIds, *r.InstanceRefreshId) {
			out.InstanceRefreshes = append(out.InstanceRefreshes, r)
		}
	}
	return out, nil
}

func (f *fakeAWS) StartInstanceRefresh(ctx context.Context, in *autoscaling.StartInstanceRefreshInput, _ ...func(*autoscaling.Options)) (*autoscaling.StartInstanceRefreshOutput, error) {
	if err := f.called(ctx, "StartInstanceRefresh"); err != nil {
		return nil, err
	}
	f.started = append(f.started, in)
	f.runs("refresh-1", "")
	f.refreshes[0].DesiredConfiguration = in.DesiredConfiguration
	// AWS does its part also where nobody waits for the answer any more.
	return &autoscaling.StartInstanceRefreshOutput{InstanceRefreshId: aws.String("refresh-1")}, ctx.Err()
}

func (f *fakeAWS) CancelInstanceRefresh(ctx context.Context, _ *autoscaling.CancelInstanceRefreshInput, _ ...func(*autoscaling.Options)) (*autoscaling.CancelInstanceRefreshOutput, error) {
	if err := f.called(ctx, "CancelInstanceRefresh"); err != nil {
		return nil, err
	}
	f.refreshes[0].Status = types.InstanceRefreshStatusCancelling
	f.steps = []func(*fakeAWS){
		func(*fakeAWS) {},
		func(f *fakeAWS) { f.refreshes[0].Status = types.InstanceRefreshStatusCancelled },
	}
	return &autoscaling.CancelInstanceRefreshOutput{InstanceRefreshId: f.refreshes[0].InstanceRefreshId}, nil
}

func (f *fakeAWS) DescribeImages(ctx context.Context, in *ec2.DescribeImagesInput, _ ...func(*ec2.Options)) (*ec2.DescribeImagesOutput, error) {
	out := &ec2.DescribeImagesOutput{}
	for _, image := range f.images {
		if slices.Contains(in.Filters[0].Values, *image.ImageId) {
			out.Images = append(out.Images, image)
		}
	}
	return out, f.called(ctx, "DescribeImages")
}

func (f *fakeAWS) DescribeInstances(ctx context.Context, in *ec2.DescribeInstancesInput, _ ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
	out := &ec2.DescribeInstancesOutput{}
	for _, id := range in.Filters[0].Values {
		if image, ok := f.running[id]; ok {
			out.Reservations = append(out.Reservations, ec2types.Reservation{Instances: []ec2types.Instance{{InstanceId: aws.String(id), ImageId: aws.String(image)}}})
		}
	}
	return out, f.called(ctx, "DescribeInstances")
}

func (f *fakeAWS) DescribeLaunchTemplateVersions(ctx context.Context, in *ec2.DescribeLaunchTemplateVersionsInput, _ ...func(*ec2.Options)) (*ec2.DescribeLaunchTemplateVersionsOutput, error) {
	out := &ec2.DescribeLaunchTemplateVersionsOutput{}
	for _, v := range f.versions {
		number := strconv.FormatInt(*v.VersionNumber, 10)
		wanted := len(in.Versions) == 0 || slices.Contains(in.Versions, number) || strings.HasPrefix(in.Versions[0], "$")
		if wanted && *v.LaunchTemplateId == *in.LaunchTemplateId {
			out.LaunchTemplateVersions = append(out.LaunchTemplateVersions, v)
		}
	}
	return out, f.called(ctx, "DescribeLaunchTemplateVersions")
}

func (f *fakeAWS) CreateLaunchTemplateVersion(ctx context.Context, in *ec2.CreateLaunchTemplateVersionInput, _ ...func(*ec2.Options)) (*ec2.CreateLaunchTemplateVersionOutput, error) {
	if err := f.called(ctx, "CreateLaunchTemplateVersion"); err != nil {
		return nil, err
	}
	f.created = append(f.created, in)
	var latest int64
	for _, v := range f.versions {
		latest = max(latest, *v.VersionNumber)
	}
	made := ec2types.LaunchTemplateVersion{
		LaunchTemplateId: in.LaunchTemplateId, VersionNumber: aws.Int64(latest + 1), VersionDescription: in.VersionDescription,
		LaunchTemplateData: &ec2types.ResponseLaunchTemplateData{ImageId: in.LaunchTemplateData.ImageId},
	}
	f.versions = append(f.versions, made)
	return &ec2.CreateLaunchTemplateVersionOutput{LaunchTemplateVersion: &made}, ctx.Err()
}

func (f *fakeAWS) DeleteLaunchTemplateVersions(ctx context.Context, in *ec2.DeleteLaunchTemplateVersionsInput, _ ...func(*ec2.Options)) (*ec2.DeleteLaunchTemplateVersionsOutput, error) {
	f.versions = slices.DeleteFunc(f.versions, func(v ec2types.LaunchTemplateVersion) bool {
		return *v.LaunchTemplateId == *in.LaunchTemplateId && slices.Contains(in.Versions, strconv.FormatInt(*v.VersionNumber, 10))
	})
	return &ec2.DeleteLaunchTemplateVersionsOutput{}, f.called(ctx, "DeleteLaunchTemplateVersions")
}

func (f *fakeAWS) DescribeTargetGroups(ctx context.Context, _ *elb.DescribeTargetGroupsInput, _ ...func(*elb.Options)) (*elb.DescribeTargetGroupsOutput, error) {
	return &elb.DescribeTargetGroupsOutput{TargetGroups: []elbtypes.TargetGroup{f.targets}}, f.called(ctx, "DescribeTargetGroups")
}

func (f *fakeAWS) DescribeTargetHealth(ctx context.Context, _ *elb.DescribeTargetHealthInput, _ ...func(*elb.Options)) (*elb.DescribeTargetHealthOutput, error) {
	out := &elb.DescribeTargetHealthOutput{}
	for id, health := range f.health {
		out.TargetHealthDescriptions = append(out.TargetHealthDescriptions, elbtypes.TargetHealthDescription{
			Target: &elbtypes.TargetDescription{Id: aws.String(id)}, TargetHealth: &health,
		})
	}
	return out, f.called(ctx, "DescribeTargetHealth")
}

// said keeps what the Ui was told.
type said []string

func (s *said) Say(line string) { *s = append(*s, line) }

func (s *said) has(part string) bool {
	return slices.ContainsFunc(*s, func(line string) bool { return strings.Contains(line, part) })
}

// rollout is that of the new image to the fake's group.
func (f *fakeAWS) rollout() (Rollout, *said) {
	ui := &said{}
	r := Rollout{
		Group: "hello", Region: "eu-west-1", Image: newImage, Prefix: "Source/",
		AutoScaling: f, EC2: f, Balancers: f, Ui: ui,
	}
	if errs := r.Preferences.Prepare(); len(errs) > 0 {
		f.t.Fatal(errs)
	}
	return r, ui
}

// toTheEnd is what a refresh that goes well does.
func (f *fakeAWS) toTheEnd() {
	f.steps = []func(*fakeAWS){
		func(f *fakeAWS) { f.becomes(types.InstanceRefreshStatusInProgress, "", 0, 2) },
		func(f *fakeAWS) {
			f.join("i-3", newImage)
			f.group.Instances[2].LifecycleState = types.LifecycleStatePending
			f.health["i-3"] = elbtypes.TargetHealth{State: elbtypes.TargetHealthStateEnumInitial, Reason: elbtypes.TargetHealthReasonEnumInitialHealthChecking}
		},
		func(f *fakeAWS) {
			f.group.Instances[2].LifecycleState = types.LifecycleStateInService
			f.health["i-3"] = elbtypes.TargetHealth{State: elbtypes.TargetHealthStateEnumHealthy}
		},
		func(f *fakeAWS) {
			f.leave("i-1")
			f.becomes(types.InstanceRefreshStatusInProgress, "", 50, 1)
		},
		func(*fakeAWS) {},
		func(f *fakeAWS) {
			f.join("i-4", newImage)
			f.leave("i-2")
			f.becomes(types.InstanceRefreshStatusSuccessful, "", 100, 0)
			f.group.LaunchTemplate = f.refreshes[0].DesiredConfiguration.LaunchTemplate
		},
	}
}

func (f *fakeAWS) String() string { return fmt.Sprint(f.calls) }
