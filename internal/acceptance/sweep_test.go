package acceptance

import (
	"encoding/json"
	"errors"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
	"github.com/immutable-server/packer-plugin-immutable/internal/sweep"
)

// TestSweep has three builds' worth of resources of every kind in one region:
// one whose time has passed, one that may be running, and one that has ended
// well. Only the first is listed, and only it is removed.
func TestSweep(t *testing.T) {
	stage := newStage(t, t.TempDir())
	box, err := stage.Start(t.Context(), "--machines", "none")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := box.Stop(); err != nil {
			t.Error(err)
		}
	}()
	past, future := time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	dead := everyKind(t, box, "dead", &past)
	living := everyKind(t, box, "living", &future)
	done := everyKind(t, box, "done", nil)

	for _, moment := range []struct {
		name  string
		args  []string
		wants map[string]string
	}{
		{"another region", []string{"--region", "eu-north-1", "--yes"}, nil},
		{"a listing", nil, dead},
		{"a run that is dead", []string{"--run", "living"}, living},
		{"a run that nobody knows", []string{"--run", "nobody", "--yes"}, nil},
		{"removal", []string{"--region", "eu-north-1," + rehearsal.Region, "--yes"}, dead},
		{"afterwards", nil, nil},
	} {
		found := map[string]string{}
		for _, l := range runSweep(t, stage, box, moment.args...) {
			found[l.ID] = l.Kind
			if l.Removed != slices.Contains(moment.args, "--yes") || l.Kept != "" || l.Region != rehearsal.Region {
				t.Errorf("%s: %+v", moment.name, l)
			}
		}
		if !maps.Equal(found, moment.wants) {
			t.Errorf("%s: sweep %v gave %v, want %v", moment.name, moment.args, found, moment.wants)
		}
	}
	for id := range maps.Keys(dead) {
		if there(t, box, id) {
			t.Errorf("%s is still there", id)
		}
	}
	for _, kept := range []map[string]string{living, done} {
		for id := range kept {
			if !there(t, box, id) {
				t.Errorf("%s is gone", id)
			}
		}
	}
}

// TestSweepKeepsVersionsThatWereRolledOut has four launch template versions that
// immutable-rollout made: the one that the group uses now, one that it used
// before, one that an instance was launched from by hand, and one that a killed
// run left. Only the last is swept, and only once its time has passed.
func TestSweepKeepsVersionsThatWereRolledOut(t *testing.T) {
	stage := newStage(t, t.TempDir())
	box, err := stage.Start(t.Context(), "--machines", "none")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := box.Stop(); err != nil {
			t.Error(err)
		}
	}()
	ctx, compute, scaling := t.Context(), ec2.NewFromConfig(box.Config()), autoscaling.NewFromConfig(box.Config())
	ami := registered(t, box, "hello", nil)
	template, err := compute.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: aws.String("hello"),
		LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: &ami, InstanceType: types.InstanceTypeT3Small},
	})
	if err != nil {
		t.Fatal(err)
	}
	id := template.LaunchTemplate.LaunchTemplateId
	for range 4 {
		if _, err := compute.CreateLaunchTemplateVersion(ctx, &ec2.CreateLaunchTemplateVersionInput{
			LaunchTemplateId: id, SourceVersion: aws.String("1"),
			VersionDescription: aws.String("immutable-rollout: " + ami + ", made from version 1 (0123456789abcdef) in run dead"),
			LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: &ami},
		}); err != nil {
			t.Fatal(err)
		}
	}
	zones, err := compute.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := scaling.CreateAutoScalingGroup(ctx, &autoscaling.CreateAutoScalingGroupInput{
		AutoScalingGroupName: aws.String("hello"), AvailabilityZones: []string{*zones.AvailabilityZones[0].ZoneName},
		MinSize: aws.Int32(0), MaxSize: aws.Int32(1), DesiredCapacity: aws.Int32(0),
		LaunchTemplate: &autoscalingtypes.LaunchTemplateSpecification{LaunchTemplateId: id, Version: aws.String("1")},
	}); err != nil {
		t.Fatal(err)
	}
	for _, number := range []string{"2", "3"} {
		refreshTo(t, scaling, "hello", *id, number)
	}
	if _, err := compute.RunInstances(ctx, &ec2.RunInstancesInput{
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateId: id, Version: aws.String("4")},
	}); err != nil {
		t.Fatal(err)
	}

	if found := runSweep(t, stage, box); len(found) > 0 {
		t.Errorf("found before its time: %+v", found)
	}
	s := sweep.Sweep{Region: rehearsal.Region, EC2: compute, AutoScaling: scaling, Now: time.Now().Add(25 * time.Hour)}
	found, err := s.Find(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].ID != *id+":5" || found[0].Run != "dead" {
		t.Fatalf("a day later %+v is found, want version 5 of %s alone", found, *id)
	}
	if err := s.Remove(ctx, found); err != nil || !found[0].Removed {
		t.Errorf("removed: %+v, %v", found, err)
	}
	versions, err := compute.DescribeLaunchTemplateVersions(ctx, &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: id})
	if err != nil || len(versions.LaunchTemplateVersions) != 4 {
		t.Errorf("%d versions are left, want 4 (%v)", len(versions.LaunchTemplateVersions), err)
	}
}

// TestSweepBesideABuild sweeps all the time that a build runs in a region where
// nothing was built before. The build does not notice.
func TestSweepBesideABuild(t *testing.T) {
	t.Parallel()
	h := newTheatre(t)
	built := make(chan struct{})
	swept := make(chan int)
	go func() {
		sweeps := 0
		defer func() { swept <- sweeps }()
		for {
			select {
			case <-built:
				return
			default:
			}
			command := exec.CommandContext(t.Context(), h.Plugin, "sweep", "--yes", "--json")
			command.Env = h.box.Environ("AKIASWEEP")
			if out, err := command.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "[]" {
				t.Errorf("a sweep beside the build found %s (%v)", out, err)
				return
			}
			sweeps++
		}
	}()
	h.bake(t, []string{"build", "-var", "name=beside", templateFile(t, bakeNoise)})
	close(built)
	if sweeps := <-swept; sweeps == 0 {
		t.Error("there was no sweep beside the build")
	}
}

// TestSweepKeepsWhatIsUsed has an instance that is protected, an image that an
// instance runs on, and a snapshot of an image that is finished. They stay, and
// all else goes.
func TestSweepKeepsWhatIsUsed(t *testing.T) {
	t.Parallel()
	stage := newStage(t, t.TempDir())
	box, err := stage.Start(t.Context(), "--machines", "none")
	must(t, err)
	defer func() {
		if err := box.Stop(); err != nil {
			t.Error(err)
		}
	}()
	past := time.Now().Add(-time.Minute)
	ctx, compute, dead := t.Context(), ec2.NewFromConfig(box.Config()), everyKind(t, box, "dead", &past)
	tags := map[string]string{"immutable:run": "dead", "immutable:expires": past.UTC().Format(time.RFC3339)}
	launch := func(in ec2.RunInstancesInput) string {
		in.MinCount, in.MaxCount, in.InstanceType = aws.Int32(1), aws.Int32(1), types.InstanceTypeT3Small
		made, err := compute.RunInstances(ctx, &in)
		must(t, err)
		return *made.Instances[0].InstanceId
	}
	base, used := registered(t, box, "base", nil), registered(t, box, "used", tags)
	user := launch(ec2.RunInstancesInput{ImageId: &used})
	protected := launch(ec2.RunInstancesInput{ImageId: &base, DisableApiTermination: aws.Bool(true), TagSpecifications: []types.TagSpecification{
		{ResourceType: types.ResourceTypeInstance, Tags: tagsOf(tags)},
	}})
	finished, err := box.RootSnapshot(ctx, base)
	must(t, err)
	_, err = compute.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{finished}, Tags: tagsOf(tags)})
	must(t, err)

	kept := map[string]string{used: "instances of AMI " + used + " exist: " + user, protected: "OperationNotPermitted", finished: "InvalidSnapshot.InUse"}
	command := exec.CommandContext(ctx, stage.Plugin, "sweep", "--yes", "--json")
	command.Env = box.Environ("AKIASWEEP")
	out, err := command.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the sweep ended with %v", err)
	}
	var found []sweep.Leftover
	must(t, json.Unmarshal(out, &found))
	for _, l := range found {
		why, keep := kept[l.ID]
		if l.Removed == keep || !strings.Contains(l.Kept, why) || there(t, box, l.ID) != keep {
			t.Errorf("%s: removed %v, kept because %q; want %q", l, l.Removed, l.Kept, why)
		}
		if keep && !strings.Contains(string(exit.Stderr), l.ID) {
			t.Errorf("%s is not told of: %s", l, exit.Stderr)
		}
	}
	if len(found) != len(dead)+len(kept) {
		t.Errorf("%d are found, want %d", len(found), len(dead)+len(kept))
	}
}

// TestSweepOnABadDay has many of its calls throttled, and many answers lost.
func TestSweepOnABadDay(t *testing.T) {
	t.Parallel()
	stage := newStage(t, t.TempDir())
	box, err := stage.Start(t.Context(), "--machines", "none", "--seed", strconv.FormatUint(*seed, 10),
		"--fault", "ec2:De*,kind=throttle,rate=0.1", "--fault", "ec2:TerminateInstances,kind=error,when=after,rate=0.3",
		"--fault", "ec2:De*,kind=error,when=after,rate=0.1", "--fault", "ec2:De*,kind=reset,rate=0.1")
	must(t, err)
	defer func() {
		if err := box.Stop(); err != nil {
			t.Error(err)
		}
	}()
	past := time.Now().Add(-time.Minute)
	dead := everyKind(t, box, "dead", &past)
	if found := runSweep(t, stage, box, "--yes"); len(found) != len(dead) {
		t.Errorf("%d are found, want %d: %v", len(found), len(dead), found)
	}
	if found := runSweep(t, stage, box); len(found) > 0 {
		t.Errorf("there is left: %v", found)
	}
}

// refreshTo rolls an empty group onto a version of its template.
func refreshTo(t *testing.T, scaling *autoscaling.Client, group, template, version string) {
	t.Helper()
	if _, err := scaling.StartInstanceRefresh(t.Context(), &autoscaling.StartInstanceRefreshInput{
		AutoScalingGroupName: &group,
		DesiredConfiguration: &autoscalingtypes.DesiredConfiguration{
			LaunchTemplate: &autoscalingtypes.LaunchTemplateSpecification{LaunchTemplateId: &template, Version: &version},
		},
	}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		out, err := scaling.DescribeInstanceRefreshes(t.Context(), &autoscaling.DescribeInstanceRefreshesInput{AutoScalingGroupName: &group})
		if err != nil {
			t.Fatal(err)
		}
		if status := out.InstanceRefreshes[0].Status; status == autoscalingtypes.InstanceRefreshStatusSuccessful {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("the refresh to version %s is %s", version, status)
		}
	}
}

func runSweep(t *testing.T, stage *rehearsal.Stage, box *rehearsal.Sandbox, args ...string) (found []sweep.Leftover) {
	t.Helper()
	command := exec.CommandContext(t.Context(), stage.Plugin, append([]string{"sweep", "--json"}, args...)...)
	command.Env = box.Environ("AKIASWEEP")
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("sweep %v: %v\n%s", args, err, &stderr)
	}
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatalf("sweep %v printed %s: %v", args, out, err)
	}
	return found
}

// everyKind makes one resource of each kind that builds make, tagged as that of
// a run that expires then, or that has ended well where expires is nil.
func everyKind(t *testing.T, box *rehearsal.Sandbox, run string, expires *time.Time) map[string]string {
	t.Helper()
	tags := map[string]string{"immutable:run": run, "Name": run}
	if expires != nil {
		tags["immutable:expires"] = expires.UTC().Format(time.RFC3339)
	}
	ctx, compute := t.Context(), ec2.NewFromConfig(box.Config())
	on := func(kind types.ResourceType) []types.TagSpecification {
		return []types.TagSpecification{{ResourceType: kind, Tags: tagsOf(tags)}}
	}
	made := map[string]string{}
	made[registered(t, box, run, tags)] = sweep.Image

	volume := emptyVolume(t, compute, on(types.ResourceTypeVolume))
	made[volume] = sweep.Volume
	snapshot, err := compute.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: &volume, TagSpecifications: on(types.ResourceTypeSnapshot)})
	if err != nil {
		t.Fatal(err)
	}
	made[*snapshot.SnapshotId] = sweep.Snapshot
	group, err := compute.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
		GroupName: &run, Description: aws.String("made by a build"), TagSpecifications: on(types.ResourceTypeSecurityGroup),
	})
	if err != nil {
		t.Fatal(err)
	}
	made[*group.GroupId] = sweep.SecurityGroup
	key, err := compute.CreateKeyPair(ctx, &ec2.CreateKeyPairInput{KeyName: &run, KeyType: types.KeyTypeEd25519, TagSpecifications: on(types.ResourceTypeKeyPair)})
	if err != nil {
		t.Fatal(err)
	}
	made[*key.KeyPairId] = sweep.KeyPair
	base := registered(t, box, run+"-base", nil)
	template, err := compute.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: &run, TagSpecifications: on(types.ResourceTypeLaunchTemplate),
		LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: &base, InstanceType: types.InstanceTypeT3Small},
	})
	if err != nil {
		t.Fatal(err)
	}
	made[*template.LaunchTemplate.LaunchTemplateId] = sweep.LaunchTemplate
	instances, err := compute.RunInstances(ctx, &ec2.RunInstancesInput{
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1), KeyName: &run, SecurityGroupIds: []string{*group.GroupId},
		LaunchTemplate:    &types.LaunchTemplateSpecification{LaunchTemplateId: template.LaunchTemplate.LaunchTemplateId},
		TagSpecifications: on(types.ResourceTypeInstance),
	})
	if err != nil {
		t.Fatal(err)
	}
	made[*instances.Instances[0].InstanceId] = sweep.Instance
	return made
}

// registered registers an AMI from a snapshot of an empty volume, which has the
// same tags.
func registered(t *testing.T, box *rehearsal.Sandbox, name string, tags map[string]string) string {
	t.Helper()
	ctx, compute := t.Context(), ec2.NewFromConfig(box.Config())
	volume := emptyVolume(t, compute, nil)
	snapshot, err := compute.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: &volume})
	if err != nil {
		t.Fatal(err)
	}
	if err := ec2.NewSnapshotCompletedWaiter(compute).Wait(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*snapshot.SnapshotId}}, time.Minute); err != nil {
		t.Fatal(err)
	}
	in := &ec2.RegisterImageInput{
		Name: &name, Architecture: types.ArchitectureValuesX8664, VirtualizationType: aws.String("hvm"), EnaSupport: aws.Bool(true),
		RootDeviceName: aws.String("/dev/xvda"),
		BlockDeviceMappings: []types.BlockDeviceMapping{{
			DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: snapshot.SnapshotId},
		}},
	}
	if len(tags) > 0 {
		in.TagSpecifications = []types.TagSpecification{{ResourceType: types.ResourceTypeImage, Tags: tagsOf(tags)}}
	}
	image, err := compute.RegisterImage(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	return *image.ImageId
}

// emptyVolume makes a volume that can be used.
func emptyVolume(t *testing.T, compute *ec2.Client, tags []types.TagSpecification) string {
	t.Helper()
	made, err := compute.CreateVolume(t.Context(), &ec2.CreateVolumeInput{
		AvailabilityZone: aws.String(rehearsal.Region + "a"), Size: aws.Int32(1), TagSpecifications: tags,
	})
	must(t, err)
	waiter := ec2.NewVolumeAvailableWaiter(compute, func(o *ec2.VolumeAvailableWaiterOptions) { o.MinDelay = 10 * time.Millisecond })
	must(t, waiter.Wait(t.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{*made.VolumeId}}, time.Minute))
	return *made.VolumeId
}

func tagsOf(from map[string]string) []types.Tag {
	var list []types.Tag
	for key, value := range from {
		list = append(list, types.Tag{Key: &key, Value: &value})
	}
	return list
}

// there tells whether a resource exists, by its tags: those of an instance that
// was terminated stay for a while.
func there(t *testing.T, box *rehearsal.Sandbox, id string) bool {
	t.Helper()
	compute := ec2.NewFromConfig(box.Config())
	if strings.HasPrefix(id, "i-") {
		out, err := compute.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
		return err == nil && out.Reservations[0].Instances[0].State.Name == types.InstanceStateNameRunning
	}
	out, err := compute.DescribeTags(t.Context(), &ec2.DescribeTagsInput{Filters: []types.Filter{{Name: aws.String("resource-id"), Values: []string{id}}}})
	if err != nil {
		t.Fatal(err)
	}
	return len(out.Tags) > 0
}
