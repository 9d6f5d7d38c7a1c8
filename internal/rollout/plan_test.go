package rollout

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
)

// planned makes the plan for the group of the fake, after change.
func planned(t *testing.T, change func(*fakeAWS, *Preferences)) (Plan, error) {
	t.Helper()
	f := newFake(t)
	r, _ := f.rollout()
	if change != nil {
		change(f, &r.Preferences)
	}
	s, err := r.describe(t.Context())
	if err != nil {
		return Plan{}, err
	}
	return makePlan(s, r.Prefix, r.Preferences)
}

func TestPreflightSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	for name, test := range map[string]struct {
		change func(f *fakeAWS, p *Preferences)
		want   []string
	}{
		"no such group": {
			func(f *fakeAWS, _ *Preferences) { f.group.AutoScalingGroupName = aws.String("other") },
			[]string{"no group of that name in region eu-west-1", "correct its name or the region"},
		},
		"a group that is being deleted": {
			func(f *fakeAWS, _ *Preferences) { f.group.Status = aws.String("Delete in progress") },
			[]string{"being deleted"},
		},
		"a launch configuration": {
			func(f *fakeAWS, _ *Preferences) {
				f.group.LaunchTemplate, f.group.LaunchConfigurationName = nil, aws.String("hello-lc")
			},
			[]string{`launch configuration "hello-lc"`, "give the group a launch template"},
		},
		"$Latest": {
			func(f *fakeAWS, p *Preferences) {
				f.group.LaunchTemplate.Version = aws.String("$Latest")
				p.AutoRollback = config.TriFalse
			},
			[]string{"version $Latest of template lt-0001 (now 3)", "update-auto-scaling-group", "LaunchTemplateId=lt-0001,Version=3"},
		},
		"$Default": {
			func(f *fakeAWS, _ *Preferences) { f.group.LaunchTemplate.Version = aws.String("$Default") },
			[]string{"version $Default of template lt-0001 (now 3)", "can't roll back to", "Version=3", "auto_rollback = false"},
		},
		"no version, which is $Default": {
			func(f *fakeAWS, _ *Preferences) { f.group.LaunchTemplate.Version = nil },
			[]string{"version $Default of template lt-0001 (now 3)"},
		},
		"an image by SSM parameter": {
			func(f *fakeAWS, _ *Preferences) {
				f.versions[0].LaunchTemplateData.ImageId = aws.String("resolve:ssm:/images/hello")
			},
			[]string{"SSM parameter /images/hello", "give the group a version with the id of an AMI"},
		},
		"instance types by attributes": {
			func(f *fakeAWS, _ *Preferences) {
				f.versions[0].LaunchTemplateData.InstanceRequirements = &ec2types.InstanceRequirements{}
			},
			[]string{"lt-0001 version 3 chooses instance types by attributes", "list instance types instead"},
		},
		"an image of another architecture": {
			func(f *fakeAWS, _ *Preferences) { f.images[1].Architecture = ec2types.ArchitectureValuesArm64 },
			[]string{"the image is for arm64", oldImage + ", which is for x86_64"},
		},
		"an image that is not there": {
			func(f *fakeAWS, _ *Preferences) { f.images = f.images[:1] },
			[]string{"image " + newImage + " is not there in region eu-west-1"},
		},
		"an image that has failed": {
			func(f *fakeAWS, _ *Preferences) {
				f.images[1].State = ec2types.ImageStateFailed
				f.images[1].StateReason = &ec2types.StateReason{Message: aws.String("no snapshot")}
			},
			[]string{"the image is failed: no snapshot", "must be available"},
		},
		"a target group without a listener": {
			func(f *fakeAWS, _ *Preferences) { f.targets.LoadBalancerArns = nil },
			[]string{`target group "hello-8080" has no listener rule, so its targets can never be healthy; attach it first`},
		},
		"a suspended process": {
			func(f *fakeAWS, _ *Preferences) {
				f.group.SuspendedProcesses = []types.SuspendedProcess{{ProcessName: aws.String("Launch"), SuspensionReason: aws.String("User suspended at noon")}}
			},
			[]string{"process Launch is suspended (User suspended at noon)", "resume-processes"},
		},
		"a refresh towards another image": {
			func(f *fakeAWS, _ *Preferences) { f.runs("refresh-7", "3") },
			[]string{"refresh-7", "towards " + oldImage, "Pending", "cancel-instance-refresh"},
		},
		"a refresh of the group as it is": {
			func(f *fakeAWS, _ *Preferences) {
				f.runs("refresh-7", "")
				f.refreshes[0].DesiredConfiguration = nil
			},
			[]string{"refresh-7", "towards " + oldImage},
		},
		"a refresh that rolls back": {
			func(f *fakeAWS, _ *Preferences) {
				f.runs("refresh-7", "3")
				f.refreshes[0].Status = types.InstanceRefreshStatusRollbackInProgress
			},
			[]string{"refresh-7", "RollbackInProgress", "wait until it has ended"},
		},
		"all at once": {
			func(f *fakeAWS, _ *Preferences) {
				f.targets.LoadBalancerArns = nil
				f.group.LaunchTemplate.Version = aws.String("$Latest")
				f.images[1].Architecture = ec2types.ArchitectureValuesArm64
			},
			[]string{"no listener rule", "$Latest", "arm64"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := planned(t, test.change)
			wants(t, err, test.want...)
		})
	}
}

func TestWhatDoesNotMatterIsNoReasonToRefuse(t *testing.T) {
	for name, change := range map[string]func(f *fakeAWS, p *Preferences){
		"$Default without rollback": func(f *fakeAWS, p *Preferences) {
			f.group.LaunchTemplate.Version = aws.String("$Default")
			p.AutoRollback = config.TriFalse
		},
		"a former image that was deregistered": func(f *fakeAWS, _ *Preferences) { f.images = f.images[1:] },
		"AddToLoadBalancer suspended where there is no load balancer": func(f *fakeAWS, _ *Preferences) {
			f.group.TargetGroupARNs = nil
			f.group.SuspendedProcesses = []types.SuspendedProcess{{ProcessName: aws.String("AddToLoadBalancer")}}
		},
		"AZRebalance suspended": func(f *fakeAWS, _ *Preferences) {
			f.group.SuspendedProcesses = []types.SuspendedProcess{{ProcessName: aws.String("AZRebalance")}}
		},
		"a refresh that has ended": func(f *fakeAWS, _ *Preferences) {
			f.runs("refresh-7", "3")
			f.refreshes[0].Status = types.InstanceRefreshStatusFailed
		},
		"a group without instances": func(f *fakeAWS, _ *Preferences) { f.group.Instances = nil },
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := planned(t, change)
			if err != nil {
				t.Fatal(err)
			}
			if len(plan.Versions) != 1 || *plan.desired(map[reference]string{plan.Versions[0].Of: "4"}).LaunchTemplate.Version != "4" {
				t.Errorf("the plan makes versions %+v", plan.Versions)
			}
		})
	}
}

func TestARefreshTowardsTheSameImageIsJoined(t *testing.T) {
	for _, status := range []types.InstanceRefreshStatus{
		types.InstanceRefreshStatusPending, types.InstanceRefreshStatusInProgress, types.InstanceRefreshStatusBaking,
	} {
		plan, err := planned(t, func(f *fakeAWS, _ *Preferences) {
			f.versions = append(f.versions, ec2types.LaunchTemplateVersion{
				LaunchTemplateId: aws.String(template), VersionNumber: aws.Int64(9),
				LaunchTemplateData: &ec2types.ResponseLaunchTemplateData{ImageId: aws.String(newImage)},
			})
			f.runs("refresh-7", "9")
			f.refreshes[0].Status = status
		})
		if err != nil || plan.Join != "refresh-7" {
			t.Errorf("of a refresh that is %s: joins %q, error %v", status, plan.Join, err)
		}
	}
}

func TestNothingIsToDoWhereAllInstancesHaveTheImage(t *testing.T) {
	onNew := func(f *fakeAWS) {
		f.versions[0].LaunchTemplateData.ImageId = aws.String(newImage)
		f.running["i-1"], f.running["i-2"] = newImage, newImage
	}
	for name, test := range map[string]struct {
		change func(f *fakeAWS)
		done   bool
	}{
		"template and instances":           {func(*fakeAWS) {}, true},
		"no instances":                     {func(f *fakeAWS) { f.group.Instances = nil }, true},
		"one instance of another image":    {func(f *fakeAWS) { f.running["i-2"] = oldImage }, false},
		"one instance nobody knows":        {func(f *fakeAWS) { delete(f.running, "i-2") }, false},
		"another image in the template":    {func(f *fakeAWS) { f.versions[0].LaunchTemplateData.ImageId = aws.String(oldImage) }, false},
		"a warm pool, which can't be seen": {func(f *fakeAWS) { f.group.WarmPoolConfiguration = &types.WarmPoolConfiguration{} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := planned(t, func(f *fakeAWS, _ *Preferences) { onNew(f); test.change(f) })
			if err != nil {
				t.Fatal(err)
			}
			if plan.Done != test.done {
				t.Errorf("done is %v", plan.Done)
			}
		})
	}
}

// The template has the image already, some instance has not: what is saved is
// rolled out, and no version is made.
func TestATemplateThatHasTheImageGetsNoNewVersion(t *testing.T) {
	plan, err := planned(t, func(f *fakeAWS, _ *Preferences) {
		f.versions[0].LaunchTemplateData.ImageId = aws.String(newImage)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := *plan.desired(nil).LaunchTemplate.Version; len(plan.Versions) != 0 || got != "3" {
		t.Errorf("versions %v, desired %s", plan.Versions, got)
	}
}

func TestEveryTemplateOfAMixedInstancesPolicyGetsTheImage(t *testing.T) {
	policy := &types.MixedInstancesPolicy{
		InstancesDistribution: &types.InstancesDistribution{OnDemandBaseCapacity: aws.Int32(1)},
		LaunchTemplate: &types.LaunchTemplate{
			LaunchTemplateSpecification: &types.LaunchTemplateSpecification{LaunchTemplateId: aws.String(template), LaunchTemplateName: aws.String("hello"), Version: aws.String("3")},
			Overrides: []types.LaunchTemplateOverrides{
				{InstanceType: aws.String("c6i.large"), WeightedCapacity: aws.String("2")},
				{InstanceType: aws.String("c7i.large"), LaunchTemplateSpecification: &types.LaunchTemplateSpecification{LaunchTemplateId: aws.String("lt-0002"), Version: aws.String("8")}},
				{InstanceType: aws.String("c8i.large"), ImageId: aws.String(oldImage)},
			},
		},
	}
	plan, err := planned(t, func(f *fakeAWS, _ *Preferences) {
		f.group.LaunchTemplate, f.group.MixedInstancesPolicy = nil, policy
		f.versions = append(f.versions, ec2types.LaunchTemplateVersion{
			LaunchTemplateId: aws.String("lt-0002"), VersionNumber: aws.Int64(8),
			LaunchTemplateData: &ec2types.ResponseLaunchTemplateData{ImageId: aws.String(oldImage)},
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	of := []reference{plan.Versions[0].Of, plan.Versions[1].Of}
	if !slices.Equal(of, []reference{{template, "3"}, {"lt-0002", "8"}}) {
		t.Errorf("versions are made of %v", of)
	}
	got := plan.desired(map[reference]string{of[0]: "4", of[1]: "9"})
	want := &types.DesiredConfiguration{MixedInstancesPolicy: &types.MixedInstancesPolicy{
		InstancesDistribution: policy.InstancesDistribution,
		LaunchTemplate: &types.LaunchTemplate{
			LaunchTemplateSpecification: &types.LaunchTemplateSpecification{LaunchTemplateId: aws.String(template), Version: aws.String("4")},
			Overrides: []types.LaunchTemplateOverrides{
				{InstanceType: aws.String("c6i.large"), WeightedCapacity: aws.String("2")},
				{InstanceType: aws.String("c7i.large"), LaunchTemplateSpecification: &types.LaunchTemplateSpecification{LaunchTemplateId: aws.String("lt-0002"), Version: aws.String("9")}},
				{InstanceType: aws.String("c8i.large"), ImageId: aws.String(newImage)},
			},
		},
	}}
	if diff := cmp.Diff(want, got, sdk); diff != "" {
		t.Errorf("desired configuration:\n%s", diff)
	}
	if *policy.LaunchTemplate.Overrides[2].ImageId != oldImage {
		t.Error("the description of the group was changed")
	}
}

// sdk lets cmp look into the structs of the AWS SDK, which have an unexported
// field.
var sdk = cmp.Exporter(func(reflect.Type) bool { return true })

func TestNotesTellWhatHoldsTheRefreshUp(t *testing.T) {
	hold := func(f *fakeAWS) {
		f.group.Instances[0].ProtectedFromScaleIn = aws.Bool(true)
		f.group.Instances[1].LifecycleState = types.LifecycleStateStandby
	}
	for name, test := range map[string]struct {
		change func(f *fakeAWS, p *Preferences)
		want   []string
	}{
		"nothing": {nil, nil},
		"waits for both": {
			func(f *fakeAWS, _ *Preferences) { hold(f) },
			[]string{"i-1: protected from scale-in. The refresh waits an hour", "i-2: on standby. The refresh waits an hour"},
		},
		"leaves both": {
			func(f *fakeAWS, p *Preferences) {
				hold(f)
				p.ScaleInProtectedInstances, p.StandbyInstances = "Ignore", "Ignore"
			},
			[]string{"By scale_in_protected_instances it keeps its image", "By standby_instances it keeps its image"},
		},
		"replaces both": {
			func(f *fakeAWS, p *Preferences) {
				hold(f)
				p.ScaleInProtectedInstances, p.StandbyInstances = "Refresh", "Terminate"
			}, nil,
		},
		"ends at a checkpoint": {
			func(_ *fakeAWS, p *Preferences) { p.CheckpointPercentages = []int{10, 50} },
			[]string{"The last of checkpoint_percentages is 50"},
		},
		"no tags of a commit": {
			func(f *fakeAWS, _ *Preferences) { f.images[1].Tags = nil },
			[]string{"immutable-tag"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := planned(t, test.change)
			if err != nil {
				t.Fatal(err)
			}
			if len(plan.Notes) != len(test.want) {
				t.Fatalf("notes %q, want %q", plan.Notes, test.want)
			}
			for i, part := range test.want {
				if !strings.Contains(plan.Notes[i], part) {
					t.Errorf("note %q, want %q", plan.Notes[i], part)
				}
			}
		})
	}
}

func TestPreferencesKeepToAWSsRanges(t *testing.T) {
	for name, test := range map[string]struct {
		p    Preferences
		want string
	}{
		"none given":              {Preferences{}, ""},
		"all at once":             {Preferences{MinHealthyPercentage: new(0)}, ""},
		"checkpoints":             {Preferences{CheckpointPercentages: []int{1, 50, 100}, CheckpointDelay: new(48 * time.Hour)}, ""},
		"no warm-up":              {Preferences{InstanceWarmup: new(time.Duration(0))}, ""},
		"min too low":             {Preferences{MinHealthyPercentage: new(-1)}, "min_healthy_percentage is -1"},
		"min too high":            {Preferences{MinHealthyPercentage: new(101)}, "min_healthy_percentage is 101"},
		"max too low":             {Preferences{MaxHealthyPercentage: new(99)}, "max_healthy_percentage is 99"},
		"max too high":            {Preferences{MaxHealthyPercentage: new(201)}, "max_healthy_percentage is 201"},
		"too far apart":           {Preferences{MinHealthyPercentage: new(50), MaxHealthyPercentage: new(151)}, "set max_healthy_percentage to 150 or less"},
		"negative warm-up":        {Preferences{InstanceWarmup: new(-time.Second)}, "instance_warmup is -1s"},
		"half a second":           {Preferences{InstanceWarmup: new(1500 * time.Millisecond)}, "whole seconds"},
		"bake for too long":       {Preferences{BakeTime: 48*time.Hour + time.Second}, "bake_time is 48h0m1s"},
		"checkpoint of 0":         {Preferences{CheckpointPercentages: []int{0, 100}}, "checkpoint_percentages has 0"},
		"checkpoint of 101":       {Preferences{CheckpointPercentages: []int{101}}, "checkpoint_percentages has 101"},
		"descending checkpoints":  {Preferences{CheckpointPercentages: []int{50, 20}}, "20 after 50"},
		"the same twice":          {Preferences{CheckpointPercentages: []int{50, 50}}, "50 after 50"},
		"delay without any":       {Preferences{CheckpointDelay: new(time.Hour)}, "checkpoint_delay is 1h0m0s without checkpoint_percentages"},
		"delay for too long":      {Preferences{CheckpointPercentages: []int{100}, CheckpointDelay: new(49 * time.Hour)}, "checkpoint_delay is 49h0m0s"},
		"unknown word, protected": {Preferences{ScaleInProtectedInstances: "refresh"}, `scale_in_protected_instances is "refresh"; it can be one of ["Refresh" "Ignore" "Wait"]`},
		"unknown word, standby":   {Preferences{StandbyInstances: "Refresh"}, `standby_instances is "Refresh"; it can be one of ["Terminate" "Ignore" "Wait"]`},
		"too many alarms":         {Preferences{Alarms: strings.Split(strings.Repeat("a", 11), "")}, "alarms has 11 names"},
		"an alarm without a name": {Preferences{Alarms: []string{""}}, "alarms has an empty name"},
	} {
		t.Run(name, func(t *testing.T) {
			errs := test.p.Prepare()
			switch {
			case test.want == "" && len(errs) > 0:
				t.Errorf("errors %v", errs)
			case test.want != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), test.want)):
				t.Errorf("errors %v, want one with %q", errs, test.want)
			}
		})
	}
}

func TestEveryPreferenceReachesAWS(t *testing.T) {
	p := Preferences{
		MinHealthyPercentage: new(50), MaxHealthyPercentage: new(150), InstanceWarmup: new(time.Duration(0)),
		CheckpointPercentages: []int{20, 100}, CheckpointDelay: new(10 * time.Minute), BakeTime: time.Hour,
		SkipMatching: config.TriFalse, AutoRollback: config.TriFalse,
		ScaleInProtectedInstances: "Refresh", StandbyInstances: "Terminate", Alarms: []string{"errors"},
	}
	if errs := p.Prepare(); len(errs) > 0 {
		t.Fatal(errs)
	}
	want := &types.RefreshPreferences{
		MinHealthyPercentage: aws.Int32(50), MaxHealthyPercentage: aws.Int32(150), InstanceWarmup: aws.Int32(0),
		CheckpointPercentages: []int32{20, 100}, CheckpointDelay: aws.Int32(600), BakeTime: aws.Int32(3600),
		SkipMatching: aws.Bool(false), AutoRollback: aws.Bool(false),
		ScaleInProtectedInstances: types.ScaleInProtectedInstancesRefresh, StandbyInstances: types.StandbyInstancesTerminate,
		AlarmSpecification: &types.AlarmSpecification{Alarms: []string{"errors"}},
	}
	if diff := cmp.Diff(want, p.refresh(), sdk); diff != "" {
		t.Errorf("preferences:\n%s", diff)
	}
}
