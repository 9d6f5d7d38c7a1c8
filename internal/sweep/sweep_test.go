package sweep

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	astypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

func (a *account) sweep() Sweep {
	return Sweep{Region: "eu-west-1", EC2: a, AutoScaling: a, Now: time.Now()}
}

func ids(found []Leftover) (all []string) {
	for _, l := range found {
		all = append(all, l.ID)
	}
	return all
}

func find(t *testing.T, s Sweep) []Leftover {
	t.Helper()
	found, err := s.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// everything leaves one of each kind, the user of another below it.
func (a *account) everything(run string, expires time.Time) (inOrder []string) {
	for _, kind := range []string{SecurityGroup, KeyPair, Snapshot, Image, Volume, Instance, LaunchTemplate} {
		id := kind + "-" + run
		a.leave(kind, id, run, expires)
		inOrder = append(inOrder, id)
	}
	slices.Reverse(inOrder)
	return inOrder
}

func TestFindsWhatHasExpired(t *testing.T) {
	a, now := newAccount(), time.Now()
	dead := a.everything("dead", now.Add(-time.Minute))
	a.everything("living", now.Add(time.Minute))
	a.leave(Snapshot, "snap-done", "done", now.Add(-time.Hour))
	delete(a.things["snap-done"].tags, cloud.TagExpires)
	a.leave(Snapshot, "snap-others", "", now.Add(-time.Hour))
	delete(a.things["snap-others"].tags, cloud.TagRun)
	a.leave(Snapshot, "snap-odd", "odd", now).tags[cloud.TagExpires] = "tomorrow"
	a.leave("fleet", "fleet-dead", "dead", now.Add(-time.Hour))

	found := find(t, a.sweep())
	if !slices.Equal(ids(found), dead) {
		t.Errorf("found %v, want %v", ids(found), dead)
	}
	l := found[0]
	want := Leftover{Region: "eu-west-1", Kind: LaunchTemplate, ID: "launch-template-dead", Name: "dead's", Run: "dead", Expires: now.Add(-time.Minute).UTC().Truncate(time.Second)}
	if l != want {
		t.Errorf("found %+v, want %+v", l, want)
	}

	s := a.sweep()
	s.Run = "living"
	if found := find(t, s); len(found) != len(dead) || found[0].Run != "living" {
		t.Errorf("of the run living %v are found", ids(found))
	}
}

func TestWhereNothingIsLeftOneListOfTagsSaysSo(t *testing.T) {
	a := newAccount()
	if found := find(t, a.sweep()); found != nil || a.calls["DescribeTags"] != 1 || a.calls["DescribeInstances"] != 0 {
		t.Errorf("found %v by the calls %v", found, a.calls)
	}
}

func TestATerminatedInstanceIsNoLeftover(t *testing.T) {
	a, now := newAccount(), time.Now()
	a.leave(Instance, "i-gone", "dead", now.Add(-time.Hour))
	a.ending["i-gone"] = now
	if found := find(t, a.sweep()); len(found) > 0 {
		t.Errorf("found %v", ids(found))
	}
}

func TestRemovesUsersBeforeWhatTheyUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount()
		order := a.everything("dead", time.Now().Add(-time.Minute))
		a.leave(Instance, "instance-zzz", "dead", time.Now().Add(-time.Minute))
		order = slices.Insert(order, 2, "instance-zzz")
		// The group is in use until both instances are gone, and for a while more.
		a.things["security-group-dead"].inUse = time.Now().Add(time.Minute + 20*time.Second)
		found := find(t, a.sweep())
		if err := a.sweep().Remove(t.Context(), found); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a.removed, order) {
			t.Errorf("removed %v, want %v", a.removed, order)
		}
		for _, l := range found {
			if !l.Removed || l.Kept != "" {
				t.Errorf("%+v", l)
			}
		}
	})
}

func TestWhatCannotBeRemovedDoesNotKeepTheRest(t *testing.T) {
	for id, refusal := range map[string]string{
		"launch-template-dead": "UnauthorizedOperation",
		"instance-dead":        "OperationNotPermitted", // it is protected
		"volume-dead":          "UnauthorizedOperation",
		"image-dead":           "OperationNotPermitted",
		"snapshot-dead":        "InvalidSnapshot.InUse", // for good: another image has it
		"key-pair-dead":        "InternalError",
		"security-group-dead":  "DependencyViolation",
	} {
		t.Run(id, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAccount()
				order := a.everything("dead", time.Now().Add(-time.Minute))
				a.refuses[id] = refuse(refusal)
				found, began := find(t, a.sweep()), time.Now()
				err := a.sweep().Remove(t.Context(), found)
				if err == nil || !strings.Contains(err.Error(), id+" in eu-west-1: ") || !strings.Contains(err.Error(), "AWS says "+refusal) {
					t.Errorf("error %v", err)
				}
				for _, l := range found {
					if kept := l.ID == id; l.Removed == kept || strings.Contains(l.Kept, "AWS says "+refusal) != kept {
						t.Errorf("%+v", l)
					}
				}
				if want := slices.DeleteFunc(order, func(o string) bool { return o == id }); !slices.Equal(a.removed, want) {
					t.Errorf("removed %v, want %v", a.removed, want)
				}
				if took := time.Since(began); took > 3*time.Minute {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

func TestAnImageThatRunsIsKept(t *testing.T) {
	a := newAccount()
	a.leave(Image, "ami-1", "dead", time.Now().Add(-time.Minute))
	a.running["i-1"] = "ami-1"
	found := find(t, a.sweep())
	err := a.sweep().Remove(t.Context(), found)
	if err == nil || found[0].Removed || found[0].Kept != "instances of AMI ami-1 exist: i-1" || len(a.removed) > 0 {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestWhatIsGoneIsRemoved(t *testing.T) {
	for kind, code := range map[string]string{
		Instance: "InvalidInstanceID.NotFound", Volume: "InvalidVolume.NotFound", Image: "InvalidAMIID.Unavailable", Snapshot: "InvalidSnapshot.NotFound",
		SecurityGroup: "InvalidGroup.NotFound", KeyPair: "InvalidKeyPair.NotFound", LaunchTemplate: "InvalidLaunchTemplateId.NotFound",
	} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAccount()
				a.leave(kind, "x", "dead", time.Now().Add(-time.Minute))
				a.refuses["x"] = refuse(code)
				if kind == Instance {
					a.ending["x"] = time.Now().Add(time.Second)
				}
				found := find(t, a.sweep())
				if err := a.sweep().Remove(t.Context(), found); err != nil || len(found) != 1 || !found[0].Removed {
					t.Errorf("%+v, %v", found, err)
				}
			})
		})
	}
}

// A build may take over what another has begun, such as the copy of a base, at
// any moment, and finish it.
func TestWhatIsFinishedMeanwhileIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount()
		expired := time.Now().Add(-time.Minute)
		a.leave(Instance, "i-1", "dead", expired)
		a.leave(Image, "ami-1", "dead", expired)
		a.leave(Snapshot, "snap-1", "dead", expired)
		found := find(t, a.sweep())
		a.in(30*time.Second, func() { // while the instance shuts down
			delete(a.things["ami-1"].tags, cloud.TagExpires)
			delete(a.things["snap-1"].tags, cloud.TagExpires)
		})
		if err := a.sweep().Remove(t.Context(), found); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a.removed, []string{"i-1"}) {
			t.Errorf("removed %v", a.removed)
		}
		for _, l := range found[1:] {
			if l.Removed || l.Kept != "it has been finished or removed meanwhile" {
				t.Errorf("%+v", l)
			}
		}
	})
}

func TestThrottlingSlowsTheRemovalDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount()
		a.leave(Snapshot, "snap-1", "dead", time.Now().Add(-time.Minute))
		a.fails["DeleteSnapshot"] = refuse("RequestLimitExceeded")
		a.in(5*time.Minute, func() { delete(a.fails, "DeleteSnapshot") })
		found := find(t, a.sweep())
		if err := a.sweep().Remove(t.Context(), found); err != nil || !found[0].Removed || a.calls["DeleteSnapshot"] > 30 {
			t.Errorf("%+v after %d calls: %v", found, a.calls["DeleteSnapshot"], err)
		}
	})
}

func TestAListThatFailsIsNamed(t *testing.T) {
	for operation, also := range map[string]func(*account){
		"DescribeTags":                   func(*account) {},
		"DescribeInstances":              func(a *account) { a.leave(Instance, "i-1", "dead", time.Now().Add(-time.Hour)) },
		"DescribeLaunchTemplates":        func(*account) {},
		"DescribeLaunchTemplateVersions": func(a *account) { a.roll(time.Now(), 0) },
		"DescribeAutoScalingGroups":      func(a *account) { a.roll(time.Now().Add(-25*time.Hour), 0) },
		"DescribeInstanceRefreshes":      func(a *account) { a.roll(time.Now().Add(-25*time.Hour), 0); a.group("1") },
	} {
		t.Run(operation, func(t *testing.T) {
			a := newAccount()
			also(a)
			a.fails[operation] = refuse("UnauthorizedOperation")
			found, err := a.sweep().Find(t.Context())
			if err == nil || !strings.Contains(err.Error(), operation) || !strings.Contains(err.Error(), "AWS says") || found != nil {
				t.Errorf("found %v, error %v", found, err)
			}
		})
	}
}

// roll makes a version that a rollout puts in place of another.
func (a *account) roll(made time.Time, source int) {
	number := int64(len(a.versions) + 1)
	a.versions = append(a.versions, types.LaunchTemplateVersion{
		LaunchTemplateId: aws.String("lt-1"), LaunchTemplateName: aws.String("web"), VersionNumber: &number, CreateTime: &made,
		VersionDescription: aws.String(fmt.Sprintf("immutable-rollout: ami-%d, made from version %d (0123456789abcdef) in run dead", number, source)),
	})
}

// group makes a group that launches a version.
func (a *account) group(version string) {
	a.groups = append(a.groups, astypes.AutoScalingGroup{AutoScalingGroupName: aws.String("web"), LaunchTemplate: spec(version)})
}

func spec(version string) *astypes.LaunchTemplateSpecification {
	s := &astypes.LaunchTemplateSpecification{LaunchTemplateId: aws.String("lt-1")}
	if version != "" {
		s.Version = &version
	}
	return s
}

func mixed(version, override string) *astypes.MixedInstancesPolicy {
	return &astypes.MixedInstancesPolicy{LaunchTemplate: &astypes.LaunchTemplate{
		LaunchTemplateSpecification: spec(version), Overrides: []astypes.LaunchTemplateOverrides{{LaunchTemplateSpecification: spec(override)}, {}},
	}}
}

func TestOnlyAVersionThatWasNeverRolledOutIsLeftBehind(t *testing.T) {
	const day = 24 * time.Hour
	for name, test := range map[string]struct {
		age   time.Duration
		also  func(*account)
		found bool
	}{
		"nobody's":                          {25 * time.Hour, func(*account) {}, true},
		"a group's of another version":      {25 * time.Hour, func(a *account) { a.group("1") }, true},
		"young":                             {23 * time.Hour, func(*account) {}, false},
		"older than Auto Scaling remembers": {42 * day, func(*account) {}, false},
		"somebody else's":                   {25 * time.Hour, func(a *account) { a.versions[1].VersionDescription = aws.String("by hand") }, false},
		"the default":                       {25 * time.Hour, func(a *account) { a.versions[1].DefaultVersion = aws.Bool(true) }, false},
		"a group's":                         {25 * time.Hour, func(a *account) { a.group("2") }, false},
		"a group's by $Latest":              {25 * time.Hour, func(a *account) { a.group("$Latest") }, false},
		"a group's by $Default":             {25 * time.Hour, func(a *account) { a.group("$Default") }, false},
		"a group's by no name":              {25 * time.Hour, func(a *account) { a.group("") }, false},
		"a mixed group's": {25 * time.Hour, func(a *account) {
			a.groups = []astypes.AutoScalingGroup{{AutoScalingGroupName: aws.String("web"), MixedInstancesPolicy: mixed("2", "1")}}
		}, false},
		"an override's": {25 * time.Hour, func(a *account) {
			a.groups = []astypes.AutoScalingGroup{{AutoScalingGroupName: aws.String("web"), MixedInstancesPolicy: mixed("1", "2")}}
		}, false},
		"a group's instance's": {25 * time.Hour, func(a *account) {
			a.group("1")
			a.groups[0].Instances = []astypes.Instance{{LaunchTemplate: spec("2")}}
		}, false},
		"a refresh's": {25 * time.Hour, func(a *account) {
			a.group("1")
			a.refreshes["web"] = []astypes.InstanceRefresh{{}, {DesiredConfiguration: &astypes.DesiredConfiguration{LaunchTemplate: spec("2")}}}
		}, false},
		"a mixed refresh's": {25 * time.Hour, func(a *account) {
			a.group("1")
			a.refreshes["web"] = []astypes.InstanceRefresh{{DesiredConfiguration: &astypes.DesiredConfiguration{MixedInstancesPolicy: mixed("1", "2")}}}
		}, false},
		"an instance's":                         {25 * time.Hour, func(a *account) { a.running["lt-1:2"] = "ami-2" }, false},
		"what a later rollout found in a group": {25 * time.Hour, func(a *account) { a.roll(time.Now(), 2) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccount()
			a.roll(time.Now().Add(-50*day), 1)
			a.versions[0].VersionDescription = nil
			a.roll(time.Now().Add(-test.age), 1)
			test.also(a)
			found := find(t, a.sweep())
			if test.found != slices.Equal(ids(found), []string{"lt-1:2"}) || !test.found && len(found) > 0 {
				t.Errorf("found %v, want version 2: %v", ids(found), test.found)
			}
			if test.found && (found[0].Run != "dead" || found[0].Name != "web" || found[0].Kind != Version) {
				t.Errorf("found %+v", found[0])
			}
		})
	}
}

func TestAVersionOfADeadRunIsFoundAtOnce(t *testing.T) {
	a := newAccount()
	a.roll(time.Now(), 0)
	s := a.sweep()
	s.Run = "dead"
	if found := find(t, s); !slices.Equal(ids(found), []string{"lt-1:1"}) {
		t.Errorf("found %v", ids(found))
	}
	s.Run = "living"
	if found := find(t, s); len(found) > 0 {
		t.Errorf("found %v", ids(found))
	}
}

func TestAVersionThatCannotBeDeletedIsKept(t *testing.T) {
	for code, kept := range map[types.LaunchTemplateErrorCode]string{
		"":                                  "",
		"unexpectedError":                   "unexpectedError: AWS says unexpectedError",
		"launchTemplateVersionDoesNotExist": "",
	} {
		t.Run(string(code), func(t *testing.T) {
			a := newAccount()
			a.roll(time.Now().Add(-25*time.Hour), 0)
			if code != "" {
				a.refuses["lt-1:1"] = refuse(string(code))
			}
			found := find(t, a.sweep())
			err := a.sweep().Remove(t.Context(), found)
			if (err != nil) != (kept != "") || found[0].Kept != kept || found[0].Removed != (kept == "") {
				t.Errorf("%+v, %v", found, err)
			}
		})
	}
}
