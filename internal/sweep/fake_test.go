package sweep

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	astypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// thing is a resource of the fake account.
type thing struct {
	kind string
	tags map[string]string
	// inUse is until when it can't be removed.
	inUse time.Time
}

// account is an account with the calls that a sweep makes. Time is that of a
// synctest bubble.
type account struct {
	things  map[string]*thing
	removed []string         // in their order
	refuses map[string]error // by id, what is answered to its removal
	ending  map[string]time.Time
	running map[string]string // instances by their image
	calls   map[string]int
	fails   map[string]error // by operation
	due     time.Time        // when happens does
	happens func()

	versions  []types.LaunchTemplateVersion
	groups    []astypes.AutoScalingGroup
	refreshes map[string][]astypes.InstanceRefresh
}

func newAccount() *account {
	return &account{
		things: map[string]*thing{}, refuses: map[string]error{}, ending: map[string]time.Time{}, running: map[string]string{},
		calls: map[string]int{}, fails: map[string]error{}, refreshes: map[string][]astypes.InstanceRefresh{},
	}
}

// leave leaves something of a run.
func (a *account) leave(kind, id, run string, expires time.Time) *thing {
	a.things[id] = &thing{kind: kind, tags: map[string]string{
		cloud.TagRun: run, cloud.TagExpires: expires.UTC().Format(time.RFC3339), "Name": run + "'s",
	}}
	return a.things[id]
}

func refuse(code string) error {
	return &smithy.GenericAPIError{Code: code, Message: "AWS says " + code}
}

// in has something happen at the first call after d.
func (a *account) in(d time.Duration, happens func()) { a.due, a.happens = time.Now().Add(d), happens }

func (a *account) call(operation string) error {
	a.calls[operation]++
	if happens := a.happens; happens != nil && !time.Now().Before(a.due) {
		a.happens = nil
		happens()
	}
	return a.fails[operation]
}

func (a *account) remove(operation, id, inUse string) error {
	if err := a.call(operation); err != nil {
		return err
	}
	t := a.things[id]
	switch {
	case a.refuses[id] != nil:
		return a.refuses[id]
	case t != nil && time.Now().Before(t.inUse):
		return refuse(inUse)
	}
	a.removed = append(a.removed, id)
	delete(a.things, id)
	return nil
}

func (a *account) DescribeTags(_ context.Context, in *ec2.DescribeTagsInput, _ ...func(*ec2.Options)) (*ec2.DescribeTagsOutput, error) {
	if err := a.call("DescribeTags"); err != nil {
		return nil, err
	}
	var found []types.TagDescription
	for _, id := range slices.Sorted(maps.Keys(a.things)) {
		for _, key := range slices.Sorted(maps.Keys(a.things[id].tags)) {
			value := a.things[id].tags[key]
			is := map[string]string{"key": key, "resource-id": id}[*in.Filters[0].Name]
			if slices.Contains(in.Filters[0].Values, is) {
				found = append(found, types.TagDescription{Key: &key, Value: &value, ResourceId: &id, ResourceType: types.ResourceType(a.things[id].kind)})
			}
		}
	}
	// A page has two tags.
	from := 0
	if in.NextToken != nil {
		if _, err := fmt.Sscan(*in.NextToken, &from); err != nil {
			return nil, err
		}
	}
	out := &ec2.DescribeTagsOutput{Tags: found[from:min(from+2, len(found))]}
	if from+2 < len(found) {
		out.NextToken = aws.String(fmt.Sprint(from + 2))
	}
	return out, nil
}

func (a *account) DescribeInstances(_ context.Context, in *ec2.DescribeInstancesInput, _ ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
	if err := a.call("DescribeInstances"); err != nil {
		return nil, err
	}
	out := &ec2.DescribeInstancesOutput{}
	add := func(id string, state types.InstanceStateName) {
		out.Reservations = append(out.Reservations, types.Reservation{Instances: []types.Instance{{InstanceId: &id, State: &types.InstanceState{Name: state}}}})
	}
	switch *in.Filters[0].Name {
	case "image-id":
		for id, image := range a.running {
			if slices.Contains(in.Filters[0].Values, image) {
				add(id, types.InstanceStateNameRunning)
			}
		}
	case "instance-id":
		for _, id := range in.Filters[0].Values {
			switch end, ends := a.ending[id]; {
			case a.things[id] == nil: // forgotten
			case ends && !time.Now().Before(end):
				add(id, types.InstanceStateNameTerminated)
			case ends:
				add(id, types.InstanceStateNameShuttingDown)
			default:
				add(id, types.InstanceStateNameRunning)
			}
		}
	default: // by the version that it was launched from
		if a.running[in.Filters[0].Values[0]+":"+in.Filters[1].Values[0]] != "" {
			add("i-launched", types.InstanceStateNameRunning)
		}
	}
	return out, nil
}

func (a *account) TerminateInstances(_ context.Context, in *ec2.TerminateInstancesInput, _ ...func(*ec2.Options)) (*ec2.TerminateInstancesOutput, error) {
	if err := a.call("TerminateInstances"); err != nil {
		return nil, err
	}
	id := in.InstanceIds[0]
	if err := a.refuses[id]; err != nil {
		return nil, err
	}
	a.removed = append(a.removed, id)
	a.ending[id] = time.Now().Add(time.Minute)
	return &ec2.TerminateInstancesOutput{}, nil
}

func (a *account) DescribeImages(context.Context, *ec2.DescribeImagesInput, ...func(*ec2.Options)) (*ec2.DescribeImagesOutput, error) {
	return &ec2.DescribeImagesOutput{}, a.call("DescribeImages")
}

func (a *account) DeregisterImage(_ context.Context, in *ec2.DeregisterImageInput, _ ...func(*ec2.Options)) (*ec2.DeregisterImageOutput, error) {
	return &ec2.DeregisterImageOutput{}, a.remove("DeregisterImage", *in.ImageId, "")
}

func (a *account) DeleteSnapshot(_ context.Context, in *ec2.DeleteSnapshotInput, _ ...func(*ec2.Options)) (*ec2.DeleteSnapshotOutput, error) {
	return &ec2.DeleteSnapshotOutput{}, a.remove("DeleteSnapshot", *in.SnapshotId, "InvalidSnapshot.InUse")
}

func (a *account) DeleteVolume(_ context.Context, in *ec2.DeleteVolumeInput, _ ...func(*ec2.Options)) (*ec2.DeleteVolumeOutput, error) {
	return &ec2.DeleteVolumeOutput{}, a.remove("DeleteVolume", *in.VolumeId, "VolumeInUse")
}

func (a *account) DeleteKeyPair(_ context.Context, in *ec2.DeleteKeyPairInput, _ ...func(*ec2.Options)) (*ec2.DeleteKeyPairOutput, error) {
	return &ec2.DeleteKeyPairOutput{}, a.remove("DeleteKeyPair", *in.KeyPairId, "")
}

func (a *account) DeleteSecurityGroup(_ context.Context, in *ec2.DeleteSecurityGroupInput, _ ...func(*ec2.Options)) (*ec2.DeleteSecurityGroupOutput, error) {
	return &ec2.DeleteSecurityGroupOutput{}, a.remove("DeleteSecurityGroup", *in.GroupId, "DependencyViolation")
}

func (a *account) DeleteLaunchTemplate(_ context.Context, in *ec2.DeleteLaunchTemplateInput, _ ...func(*ec2.Options)) (*ec2.DeleteLaunchTemplateOutput, error) {
	return &ec2.DeleteLaunchTemplateOutput{}, a.remove("DeleteLaunchTemplate", *in.LaunchTemplateId, "")
}

func (a *account) DescribeLaunchTemplates(context.Context, *ec2.DescribeLaunchTemplatesInput, ...func(*ec2.Options)) (*ec2.DescribeLaunchTemplatesOutput, error) {
	out := &ec2.DescribeLaunchTemplatesOutput{}
	if len(a.versions) > 0 {
		out.LaunchTemplates = []types.LaunchTemplate{{LaunchTemplateId: aws.String("lt-1"), LaunchTemplateName: aws.String("web")}}
	}
	return out, a.call("DescribeLaunchTemplates")
}

func (a *account) DescribeLaunchTemplateVersions(context.Context, *ec2.DescribeLaunchTemplateVersionsInput, ...func(*ec2.Options)) (*ec2.DescribeLaunchTemplateVersionsOutput, error) {
	return &ec2.DescribeLaunchTemplateVersionsOutput{LaunchTemplateVersions: slices.Clone(a.versions)}, a.call("DescribeLaunchTemplateVersions")
}

func (a *account) DeleteLaunchTemplateVersions(_ context.Context, in *ec2.DeleteLaunchTemplateVersionsInput, _ ...func(*ec2.Options)) (*ec2.DeleteLaunchTemplateVersionsOutput, error) {
	id := *in.LaunchTemplateId + ":" + in.Versions[0]
	if code := cloud.Code(a.refuses[id]); code != "" {
		return &ec2.DeleteLaunchTemplateVersionsOutput{UnsuccessfullyDeletedLaunchTemplateVersions: []types.DeleteLaunchTemplateVersionsResponseErrorItem{{
			ResponseError: &types.ResponseError{Code: types.LaunchTemplateErrorCode(code), Message: aws.String("AWS says " + code)},
		}}}, nil
	}
	a.versions = slices.DeleteFunc(a.versions, func(v types.LaunchTemplateVersion) bool {
		return strings.HasSuffix(id, fmt.Sprintf(":%d", *v.VersionNumber))
	})
	return &ec2.DeleteLaunchTemplateVersionsOutput{}, a.remove("DeleteLaunchTemplateVersions", id, "")
}

func (a *account) DescribeAutoScalingGroups(context.Context, *autoscaling.DescribeAutoScalingGroupsInput, ...func(*autoscaling.Options)) (*autoscaling.DescribeAutoScalingGroupsOutput, error) {
	return &autoscaling.DescribeAutoScalingGroupsOutput{AutoScalingGroups: a.groups}, a.call("DescribeAutoScalingGroups")
}

func (a *account) DescribeInstanceRefreshes(_ context.Context, in *autoscaling.DescribeInstanceRefreshesInput, _ ...func(*autoscaling.Options)) (*autoscaling.DescribeInstanceRefreshesOutput, error) {
	return &autoscaling.DescribeInstanceRefreshesOutput{InstanceRefreshes: a.refreshes[*in.AutoScalingGroupName]}, a.call("DescribeInstanceRefreshes")
}
