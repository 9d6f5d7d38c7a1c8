package autoscaling_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	as "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling/fleettest"
)

// says checks an error's code and a part of its message.
func says(t *testing.T, what string, err error, want, part string) {
	t.Helper()
	if code(err) != want || !strings.Contains(err.Error(), part) {
		t.Errorf("%s: %v, want %s with %q", what, err, want, part)
	}
}

// update changes the group and gives the error.
func (s *scaling) update(t *testing.T, change func(*as.UpdateAutoScalingGroupInput)) error {
	t.Helper()
	in := &as.UpdateAutoScalingGroupInput{AutoScalingGroupName: new(name)}
	change(in)
	_, err := s.UpdateAutoScalingGroup(t.Context(), in)
	return err
}

func mixed(v string, overrides ...types.LaunchTemplateOverrides) *types.MixedInstancesPolicy {
	return &types.MixedInstancesPolicy{LaunchTemplate: &types.LaunchTemplate{LaunchTemplateSpecification: version(v), Overrides: overrides}}
}

// TestRulesOfTheRefreshAPI has one test for each rule of the operations that no
// other test is about.
func TestRulesOfTheRefreshAPI(t *testing.T) {
	by := new(name)
	for rule, test := range map[string]func(*testing.T, *scaling){
		"what is derived from the desired configuration can't be updated meanwhile": func(t *testing.T, s *scaling) {
			s.group(t, 2)
			s.start(t, nil)
			for what, change := range map[string]func(*as.UpdateAutoScalingGroupInput){
				"a launch template":        func(in *as.UpdateAutoScalingGroupInput) { in.LaunchTemplate = version("1") },
				"a mixed instances policy": func(in *as.UpdateAutoScalingGroupInput) { in.MixedInstancesPolicy = mixed("1") },
				"a launch configuration":   func(in *as.UpdateAutoScalingGroupInput) { in.LaunchConfigurationName = new("old") },
			} {
				says(t, what, s.update(t, change), "ValidationError", "An active instance refresh with a desired configuration exists. All configuration options derived from the desired configuration are not available for update while the instance refresh is active.")
			}
			if err := s.update(t, func(in *as.UpdateAutoScalingGroupInput) { in.MaxSize = new(int32(9)) }); err != nil {
				t.Errorf("the size: %v", err)
			}
		},
		"without a desired configuration the template can be updated meanwhile": func(t *testing.T, s *scaling) {
			s.group(t, 2)
			must(s.StartInstanceRefresh(t.Context(), &as.StartInstanceRefreshInput{AutoScalingGroupName: by}))(t)
			if err := s.update(t, func(in *as.UpdateAutoScalingGroupInput) { in.LaunchTemplate = version("2") }); err != nil {
				t.Error(err)
			}
		},
		"target groups can't be attached meanwhile, but detached": func(t *testing.T, s *scaling) {
			tg := s.balanced(t)
			s.group(t, 1, func(in *as.CreateAutoScalingGroupInput) { in.TargetGroupARNs = []string{tg} })
			s.start(t, nil)
			ctx := t.Context()
			_, err := s.AttachLoadBalancerTargetGroups(ctx, &as.AttachLoadBalancerTargetGroupsInput{AutoScalingGroupName: by, TargetGroupARNs: []string{tg}})
			says(t, "target groups", err, "InstanceRefreshInProgress", "")
			_, err = s.AttachTrafficSources(ctx, &as.AttachTrafficSourcesInput{AutoScalingGroupName: by, TrafficSources: []types.TrafficSourceIdentifier{{Identifier: &tg}}})
			says(t, "traffic sources", err, "InstanceRefreshInProgress", "")
			must(s.DetachTrafficSources(ctx, &as.DetachTrafficSourcesInput{AutoScalingGroupName: by, TrafficSources: []types.TrafficSourceIdentifier{{Identifier: &tg}}}))(t)
		},
		"what can't be rolled back": func(t *testing.T, s *scaling) {
			s.group(t, 1)
			s.fleet.Change(func(f *fleettest.Fleet) { f.Latest, f.SSM = 3, 3 })
			rollback := func() error {
				_, err := s.RollbackInstanceRefresh(t.Context(), &as.RollbackInstanceRefreshInput{AutoScalingGroupName: by})
				return err
			}
			cancel := func() {
				must(s.CancelInstanceRefresh(t.Context(), &as.CancelInstanceRefreshInput{AutoScalingGroupName: by, WaitForTransitioningInstances: new(false)}))(t)
			}
			says(t, "nothing", rollback(), "ActiveInstanceRefreshNotFound", "")
			must(s.StartInstanceRefresh(t.Context(), &as.StartInstanceRefreshInput{AutoScalingGroupName: by}))(t)
			says(t, "a refresh to nothing else", rollback(), "IrreversibleInstanceRefresh", "no desired configuration")
			cancel()
			says(t, "a refresh that is over", rollback(), "ActiveInstanceRefreshNotFound", "")
			for v, want := range map[string]string{"$Latest": "$Latest or $Default", "$Default": "$Latest or $Default", "3": "Systems Manager"} {
				if err := s.update(t, func(in *as.UpdateAutoScalingGroupInput) { in.LaunchTemplate = version(v) }); err != nil {
					t.Fatal(err)
				}
				_, err := s.StartInstanceRefresh(t.Context(), &as.StartInstanceRefreshInput{
					AutoScalingGroupName: by, DesiredConfiguration: &types.DesiredConfiguration{LaunchTemplate: version("2")}, Preferences: &types.RefreshPreferences{AutoRollback: new(true)},
				})
				says(t, "auto rollback to "+v, err, "ValidationError", want)
				s.start(t, nil)
				says(t, "rollback to "+v, rollback(), "IrreversibleInstanceRefresh", want)
				cancel()
			}
		},
		"a rollback can't be rolled back, and is not finished by a success": func(t *testing.T, s *scaling) {
			s.group(t, 2)
			s.start(t, &types.RefreshPreferences{MinHealthyPercentage: new(int32(50)), InstanceWarmup: new(int32(60))})
			time.Sleep(90 * time.Second)
			must(s.RollbackInstanceRefresh(t.Context(), &as.RollbackInstanceRefreshInput{AutoScalingGroupName: by}))(t)
			_, err := s.RollbackInstanceRefresh(t.Context(), &as.RollbackInstanceRefreshInput{AutoScalingGroupName: by})
			says(t, "once more", err, "IrreversibleInstanceRefresh", "already")
			last := int32(100)
			r := s.ended(t, func(r types.InstanceRefresh) {
				if r.Status != types.InstanceRefreshStatusRollbackInProgress || *r.PercentageComplete > last {
					t.Errorf("%s at %d%% after %d%%, want RollbackInProgress, falling", r.Status, *r.PercentageComplete, last)
				}
				last = *r.PercentageComplete
			})
			d := r.RollbackDetails
			if r.Status != types.InstanceRefreshStatusRollbackSuccessful || *r.PercentageComplete != 0 || *d.PercentageCompleteOnRollback != 50 || *d.InstancesToUpdateOnRollback != 1 || d.RollbackStartTime == nil || *d.RollbackReason == "" {
				t.Errorf("refresh = %s %d%%, rollback %+v; want RollbackSuccessful 0%% from 50%%", r.Status, *r.PercentageComplete, *d)
			}
		},
		"a launch template can take the place of a launch configuration": func(t *testing.T, s *scaling) {
			must(s.CreateLaunchConfiguration(t.Context(), &as.CreateLaunchConfigurationInput{LaunchConfigurationName: new("old"), ImageId: new("ami-1"), InstanceType: new("t3.micro")}))(t)
			s.group(t, 0, func(in *as.CreateAutoScalingGroupInput) {
				in.LaunchTemplate, in.LaunchConfigurationName = nil, new("old")
			})
			_, err := s.StartInstanceRefresh(t.Context(), &as.StartInstanceRefreshInput{AutoScalingGroupName: by, Preferences: &types.RefreshPreferences{SkipMatching: new(true)}})
			says(t, "skip matching with a launch configuration", err, "ValidationError", "SkipMatching")
			s.start(t, nil)
			if r := s.ended(t, nothing); r.Status != types.InstanceRefreshStatusSuccessful {
				t.Errorf("refresh = %s", r.Status)
			}
			if g := s.describe(t); g.LaunchConfigurationName != nil || *g.LaunchTemplate.Version != "2" {
				t.Errorf("group = %s %+v, want version 2 and no launch configuration", aws.ToString(g.LaunchConfigurationName), g.LaunchTemplate)
			}
		},
		"a mixed instances policy can be desired": func(t *testing.T, s *scaling) {
			s.group(t, 2)
			desired := mixed("2", types.LaunchTemplateOverrides{InstanceType: new("m7g.large")}, types.LaunchTemplateOverrides{InstanceType: new("t4g.small"), LaunchTemplateSpecification: version("1")})
			must(s.StartInstanceRefresh(t.Context(), &as.StartInstanceRefreshInput{AutoScalingGroupName: by, DesiredConfiguration: &types.DesiredConfiguration{MixedInstancesPolicy: desired}}))(t)
			r := s.ended(t, nothing)
			if got := r.DesiredConfiguration.MixedInstancesPolicy.LaunchTemplate.Overrides; r.Status != types.InstanceRefreshStatusSuccessful || len(got) != 2 || *got[1].LaunchTemplateSpecification.Version != "1" {
				t.Errorf("refresh = %s with overrides %+v", r.Status, got)
			}
			if g := s.describe(t); g.LaunchTemplate != nil || g.MixedInstancesPolicy == nil || *g.Instances[0].InstanceType != "m7g.large" {
				t.Errorf("group = %+v, want the policy in place of the template", g)
			}
		},
		"refreshes are listed latest first, in pages, and for six weeks": func(t *testing.T, s *scaling) {
			s.group(t, 0)
			var ids []string
			for range 5 {
				ids = append(ids, s.start(t, nil))
				s.ended(t, nothing)
			}
			slices.Reverse(ids)
			list := func(in *as.DescribeInstanceRefreshesInput) []string {
				in.AutoScalingGroupName, in.MaxRecords = by, new(int32(2))
				var got []string
				for pages := as.NewDescribeInstanceRefreshesPaginator(s, in); pages.HasMorePages(); {
					for _, r := range must(pages.NextPage(t.Context()))(t).InstanceRefreshes {
						got = append(got, *r.InstanceRefreshId)
					}
				}
				return got
			}
			if got := list(&as.DescribeInstanceRefreshesInput{}); !slices.Equal(got, ids) {
				t.Errorf("all = %v, want %v", got, ids)
			}
			if got := list(&as.DescribeInstanceRefreshesInput{InstanceRefreshIds: []string{ids[3], ids[1]}}); !slices.Equal(got, []string{ids[1], ids[3]}) {
				t.Errorf("two by their ids = %v", got)
			}
			time.Sleep(7 * 7 * 24 * time.Hour)
			if got := list(&as.DescribeInstanceRefreshesInput{}); len(got) != 0 {
				t.Errorf("after seven weeks = %v, want none", got)
			}
			_, err := s.DescribeInstanceRefreshes(t.Context(), &as.DescribeInstanceRefreshesInput{AutoScalingGroupName: by, MaxRecords: new(int32(101))})
			says(t, "101 a page", err, "ValidationError", "between 1 and 100")
			_, err = s.DescribeInstanceRefreshes(t.Context(), &as.DescribeInstanceRefreshesInput{AutoScalingGroupName: by, NextToken: new("?")})
			says(t, "a token that is none", err, "InvalidNextToken", "")
		},
		"pages go on where instances have gone meanwhile": func(t *testing.T, s *scaling) {
			s.group(t, 3)
			page := func(token *string) *as.DescribeAutoScalingInstancesOutput {
				return must(s.DescribeAutoScalingInstances(t.Context(), &as.DescribeAutoScalingInstancesInput{MaxRecords: new(int32(1)), NextToken: token}))(t)
			}
			first := page(nil)
			second := page(first.NextToken)
			must(s.TerminateInstanceInAutoScalingGroup(t.Context(), &as.TerminateInstanceInAutoScalingGroupInput{
				InstanceId: first.AutoScalingInstances[0].InstanceId, ShouldDecrementDesiredCapacity: new(true)}))(t)
			time.Sleep(time.Hour)
			if n := len(s.describe(t).Instances); n != 2 {
				t.Fatalf("%d instances, want the terminated one gone", n)
			}
			if again := page(first.NextToken); *again.AutoScalingInstances[0].InstanceId != *second.AutoScalingInstances[0].InstanceId {
				t.Errorf("the second page is of %s now, want %s", *again.AutoScalingInstances[0].InstanceId, *second.AutoScalingInstances[0].InstanceId)
			}
		},
		"filters that there are not are refused, also by an account that has no group": func(t *testing.T, s *scaling) {
			wrong := []types.Filter{{Name: new("colour"), Values: []string{"blue"}}}
			_, err := s.DescribeAutoScalingGroups(t.Context(), &as.DescribeAutoScalingGroupsInput{Filters: wrong})
			says(t, "groups", err, "ValidationError", "tag-key tag-value tag:<key>")
			_, err = s.DescribeTags(t.Context(), &as.DescribeTagsInput{Filters: wrong})
			says(t, "tags", err, "ValidationError", "auto-scaling-group key value")
		},
		"a suspended refresh does not go on": func(t *testing.T, s *scaling) {
			s.group(t, 2)
			must(s.SuspendProcesses(t.Context(), &as.SuspendProcessesInput{AutoScalingGroupName: by, ScalingProcesses: []string{"InstanceRefresh"}}))(t)
			s.start(t, nil)
			time.Sleep(2 * time.Hour)
			if r := s.refresh(t); r.Status != types.InstanceRefreshStatusInProgress || *r.PercentageComplete != 0 {
				t.Errorf("refresh = %s at %d%%, want InProgress at 0%%", r.Status, *r.PercentageComplete)
			}
			must(s.ResumeProcesses(t.Context(), &as.ResumeProcessesInput{AutoScalingGroupName: by}))(t)
			if r := s.ended(t, nothing); r.Status != types.InstanceRefreshStatusSuccessful {
				t.Errorf("refresh = %s", r.Status)
			}
		},
		"what is not there is refused by name": func(t *testing.T, s *scaling) {
			s.group(t, 0)
			ctx := t.Context()
			_, err := s.StartInstanceRefresh(ctx, &as.StartInstanceRefreshInput{AutoScalingGroupName: by, Strategy: types.RefreshStrategyReplaceRootVolume})
			says(t, "the other strategy", err, "ValidationError", "ReplaceRootVolume")
			_, err = s.PutWarmPool(ctx, &as.PutWarmPoolInput{AutoScalingGroupName: by})
			says(t, "warm pools", err, "InvalidAction", "PutWarmPool")
			_, err = s.PutLifecycleHook(ctx, &as.PutLifecycleHookInput{AutoScalingGroupName: by, LifecycleHookName: new("h")})
			says(t, "lifecycle hooks", err, "InvalidAction", "PutLifecycleHook")
			override := types.LaunchTemplateOverrides{InstanceRequirements: &types.InstanceRequirements{MemoryMiB: &types.MemoryMiBRequest{Min: new(int32(1))}, VCpuCount: &types.VCpuCountRequest{Min: new(int32(1))}}}
			says(t, "attribute based selection", s.update(t, func(in *as.UpdateAutoScalingGroupInput) { in.MixedInstancesPolicy = mixed("1", override) }), "ValidationError", "InstanceRequirements")
			override = types.LaunchTemplateOverrides{InstanceType: new("t3.micro"), ImageId: new("ami-1")}
			says(t, "images of overrides", s.update(t, func(in *as.UpdateAutoScalingGroupInput) { in.MixedInstancesPolicy = mixed("1", override) }), "ValidationError", "ImageId")
		},
	} {
		t.Run(rule, func(t *testing.T) { serve(t, test) })
	}
}

// TestThePreferencesByDefault is the table of
// https://docs.aws.amazon.com/autoscaling/ec2/userguide/understand-instance-refresh-default-values.html.
func TestThePreferencesByDefault(t *testing.T) {
	policy := func(in *as.CreateAutoScalingGroupInput) {
		in.InstanceMaintenancePolicy = &types.InstanceMaintenancePolicy{MinHealthyPercentage: new(int32(95)), MaxHealthyPercentage: new(int32(150))}
	}
	for _, tc := range []struct {
		name   string
		group  func(*as.CreateAutoScalingGroupInput)
		in     types.RefreshPreferences
		least  int32
		most   int32 // 0 when there is none
		warmup int32
	}{
		{"nothing", func(*as.CreateAutoScalingGroupInput) {}, types.RefreshPreferences{}, 90, 0, 0},
		{"a grace period", func(in *as.CreateAutoScalingGroupInput) { in.HealthCheckGracePeriod = new(int32(120)) }, types.RefreshPreferences{}, 90, 0, 120},
		{"a warm-up", func(in *as.CreateAutoScalingGroupInput) {
			in.HealthCheckGracePeriod, in.DefaultInstanceWarmup = new(int32(120)), new(int32(30))
		}, types.RefreshPreferences{}, 90, 0, 30},
		{"a maintenance policy", policy, types.RefreshPreferences{}, 95, 150, 0},
		{"a maintenance policy, and a minimum", policy, types.RefreshPreferences{MinHealthyPercentage: new(int32(60))}, 60, 150, 0},
		{"all given", policy, types.RefreshPreferences{MinHealthyPercentage: new(int32(60)), MaxHealthyPercentage: new(int32(100)), InstanceWarmup: new(int32(5))}, 60, 100, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *scaling) {
				s.group(t, 0, tc.group)
				s.start(t, &tc.in)
				p := s.refresh(t).Preferences
				if *p.MinHealthyPercentage != tc.least || aws.ToInt32(p.MaxHealthyPercentage) != tc.most || *p.InstanceWarmup != tc.warmup {
					t.Errorf("%d to %d, warm-up %d; want %d to %d, %d", *p.MinHealthyPercentage, aws.ToInt32(p.MaxHealthyPercentage), *p.InstanceWarmup, tc.least, tc.most, tc.warmup)
				}
				if *p.SkipMatching || *p.AutoRollback || *p.BakeTime != 0 || p.ScaleInProtectedInstances != types.ScaleInProtectedInstancesWait || p.StandbyInstances != types.StandbyInstancesWait || p.CheckpointPercentages != nil || p.AlarmSpecification != nil {
					t.Errorf("preferences = %+v, want no skip matching, no rollback, no bake time, no checkpoints, no alarms and Wait", *p)
				}
			})
		})
	}
}
