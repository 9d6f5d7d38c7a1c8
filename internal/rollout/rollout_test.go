package rollout

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"
)

// wants tells that err has each of the parts in it.
func wants(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error has no %q in it:\n%v", part, err)
		}
	}
}

func TestRolloutTellsEachChangeUntilTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.toTheEnd()
		r, ui := f.rollout()
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []string{
			"Made launch template lt-0001 version 4 from version 3, with image " + newImage,
			`Started instance refresh refresh-1 of group "hello"`,
			"Instance refresh refresh-1: InProgress",
			"[>                   ]   0%  0 of 2 instances replaced, 0 in warm-up, 2 healthy, 0 unhealthy",
			"i-3 (" + newImage + ") in eu-west-1a: Pending",
			"i-3 (" + newImage + ") in eu-west-1a: initial in target group hello-8080 (Elb.InitialHealthChecking)",
			"i-3 (" + newImage + "): InService",
			"i-3 (" + newImage + "): healthy in target group hello-8080",
			"[>                   ]   0%  0 of 2 instances replaced, 1 in warm-up, 3 healthy, 0 unhealthy",
			"i-1 (" + oldImage + ") has left the group",
			"[==========>         ]  50%  1 of 2 instances replaced, 0 in warm-up, 2 healthy, 0 unhealthy",
			"Instance refresh refresh-1: Successful",
			"i-4 (" + newImage + ") in eu-west-1a: InService",
			"i-4 (" + newImage + ") in eu-west-1a: healthy in target group hello-8080",
			"i-2 (" + oldImage + ") has left the group",
			"[====================] 100%  2 of 2 instances replaced, 0 in warm-up, 2 healthy, 0 unhealthy",
			`Group "hello" is on ` + newImage + ": 2 on " + newImage + " (i-3, i-4)",
		}
		if diff := cmp.Diff(want, []string(*ui)); diff != "" {
			t.Errorf("what was told:\n%s", diff)
		}
	})
}

func TestTheRefreshIsStartedWithTheNewVersionAndThePreferences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.toTheEnd()
		r, _ := f.rollout()
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		in := f.started[0]
		if in.Strategy != types.RefreshStrategyRolling {
			t.Errorf("strategy is %s", in.Strategy)
		}
		if got := *in.DesiredConfiguration.LaunchTemplate; *got.LaunchTemplateId != template || *got.Version != "4" {
			t.Errorf("desired is version %s of %s", *got.Version, *got.LaunchTemplateId)
		}
		p := in.Preferences
		if *p.MinHealthyPercentage != 100 || *p.MaxHealthyPercentage != 110 || !*p.AutoRollback || !*p.SkipMatching {
			t.Errorf("preferences are %+v", p)
		}
	})
}

// A second run, after the first was cut off anywhere.
func TestASecondRunTakesUpTheFirst(t *testing.T) {
	for name, test := range map[string]struct {
		cut             func(f *fakeAWS, r Rollout) // what the first run came to
		versions, start int
		says            string
	}{
		"nothing was done": {
			func(*fakeAWS, Rollout) {}, 1, 1, "Made launch template",
		},
		"the version was made": {
			func(f *fakeAWS, r Rollout) {
				f.toTheEnd()
				run(f.t, r)
				// As though the first run had never come to start its refresh.
				*f = *restored(f)
			}, 0, 1, "from an earlier run",
		},
		"the refresh was started": {
			func(f *fakeAWS, r Rollout) {
				f.toTheEnd()
				run(f.t, r)
				*f = *restored(f)
				f.runs("refresh-0", "4")
			}, 0, 0, "joining it",
		},
		"the refresh has ended": {
			func(f *fakeAWS, r Rollout) {
				f.toTheEnd()
				run(f.t, r)
			}, 0, 0, "nothing to roll out",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				r, ui := f.rollout()
				test.cut(f, r)
				f.created, f.started, *ui = nil, nil, nil
				f.toTheEnd()
				if err := r.Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				if len(f.created) != test.versions || len(f.started) != test.start {
					t.Errorf("made %d versions and started %d refreshes, want %d and %d", len(f.created), len(f.started), test.versions, test.start)
				}
				if !ui.has(test.says) {
					t.Errorf("did not tell %q, but:\n%s", test.says, strings.Join(*ui, "\n"))
				}
			})
		})
	}
}

func run(t *testing.T, r Rollout) {
	t.Helper()
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// restored is the group as it was before, but with the versions that were made.
func restored(f *fakeAWS) *fakeAWS {
	g := newFake(f.t)
	g.versions = f.versions
	return g
}

func TestARefreshThatCannotStartLeavesNoVersionBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.fail["StartInstanceRefresh"] = func(int) error { return apiError("ValidationError") }
		r, _ := f.rollout()
		wants(t, r.Run(t.Context()), `roll out `+newImage+` to auto_scaling_group "hello"`, "start the instance refresh", "ValidationError")
		if len(f.versions) != 1 {
			t.Errorf("versions are left: %d", len(f.versions))
		}
	})
}

func TestARefreshWhoseStartWasNotAnsweredIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.toTheEnd()
		f.fail["StartInstanceRefresh"] = func(int) error {
			f.runs("refresh-1", "4")
			return apiError("InstanceRefreshInProgress") // to the SDK's second try
		}
		r, ui := f.rollout()
		run(t, r)
		if !ui.has("refresh-1 of group \"hello\" has been started") || len(f.versions) != 2 {
			t.Errorf("told:\n%s", strings.Join(*ui, "\n"))
		}
	})
}

func TestARefreshThatIsSeenLateIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.toTheEnd()
		f.fail["StartInstanceRefresh"] = func(int) error {
			f.runsIn(2*time.Minute, "refresh-1", "4")
			return apiError("InstanceRefreshInProgress") // to the SDK's second try
		}
		r, ui := f.rollout()
		run(t, r)
		if !ui.has("refresh-1 of group \"hello\" has been started") || len(f.versions) != 2 {
			t.Errorf("told:\n%s", strings.Join(*ui, "\n"))
		}
	})
}

func TestTheVersionOfARefreshThatIsNotSeenIsKept(t *testing.T) {
	for _, code := range []string{"InstanceRefreshInProgress", "Throttling"} {
		t.Run(code, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.fail["StartInstanceRefresh"] = func(int) error { return apiError(code) }
				r, _ := f.rollout()
				wants(t, r.Run(t.Context()), code, "not known whether AWS started it", "run the build again")
				if len(f.versions) != 2 {
					t.Errorf("there are %d versions, want the new one kept", len(f.versions))
				}
			})
		})
	}
}

func TestARefreshThatSomebodyElseStartedMeanwhileIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.fail["StartInstanceRefresh"] = func(int) error {
			f.runs("refresh-9", "3")
			return apiError("InstanceRefreshInProgress")
		}
		r, _ := f.rollout()
		wants(t, r.Run(t.Context()), "InstanceRefreshInProgress", "refresh-9", "towards something else")
		if len(f.versions) != 1 {
			t.Errorf("versions are left: %d", len(f.versions))
		}
	})
}

func TestAnyEndButSuccessfulFailsWithAWSsReasons(t *testing.T) {
	for status, remedy := range map[types.InstanceRefreshStatus]string{
		types.InstanceRefreshStatusFailed:             "take the group back",
		types.InstanceRefreshStatusCancelled:          "take the group back",
		types.InstanceRefreshStatusRollbackFailed:     "neither forward nor back",
		types.InstanceRefreshStatusRollbackSuccessful: "serves as it did before",
	} {
		t.Run(string(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.activities = []types.Activity{
					{StartTime: aws.Time(time.Now().Add(-time.Hour)), StatusCode: "Failed", Description: aws.String("long ago")},
					{StartTime: aws.Time(time.Now().Add(2 * time.Second)), StatusCode: "Successful", Description: aws.String("Launching i-3"), Cause: aws.String("a refresh")},
					{StartTime: aws.Time(time.Now().Add(time.Second)), StatusCode: "Failed", Description: aws.String("Launching a new instance"), StatusMessage: aws.String("no capacity")},
				}
				f.steps = []func(*fakeAWS){func(f *fakeAWS) {
					f.becomes(status, "It did not work out.", 0, 2)
					f.refreshes[0].RollbackDetails = &types.RollbackDetails{RollbackReason: aws.String("An alarm went off.")}
					f.join("i-3", newImage)
					f.health["i-3"] = elbtypes.TargetHealth{
						State: elbtypes.TargetHealthStateEnumUnhealthy, Reason: elbtypes.TargetHealthReasonEnumResponseCodeMismatch,
						Description: aws.String("Health checks failed with these codes: [500]"),
					}
				}}
				r, _ := f.rollout()
				err := r.Run(t.Context())
				wants(t, err,
					"refresh-1 ended "+string(status)+": It did not work out.", "An alarm went off.",
					"Failed: Launching a new instance (no capacity)", "Launching i-3",
					"the group now has 1 on "+newImage+" (i-3) and 2 on "+oldImage+" (i-1, i-2)", "launch template lt-0001 version 3",
					"i-3 ("+newImage+"): unhealthy in target group hello-8080 (Target.ResponseCodeMismatch: Health checks failed with these codes: [500])",
					remedy)
				if strings.Contains(err.Error(), "long ago") {
					t.Error("an activity from before the refresh is told")
				}
				if failed, other := strings.Index(err.Error(), "no capacity"), strings.Index(err.Error(), "Launching i-3"); failed > other {
					t.Error("the failed activity is not the first")
				}
			})
		})
	}
}

func TestInterruptCancelsTheRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		ctx, interrupt := context.WithCancel(t.Context())
		f.steps = []func(*fakeAWS){
			func(f *fakeAWS) {
				f.becomes(types.InstanceRefreshStatusInProgress, "", 0, 2)
				f.join("i-3", newImage)
				time.AfterFunc(time.Minute, interrupt)
			},
		}
		r, ui := f.rollout()
		err := r.Run(ctx)
		wants(t, err, "interrupted", "refresh-1 ended Cancelled", "1 on "+newImage+" (i-3) and 2 on "+oldImage)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error is no cancellation: %v", err)
		}
		if f.calls["CancelInstanceRefresh"] != 1 || !ui.has("Cancelling instance refresh refresh-1") {
			t.Errorf("calls %v, told:\n%s", f.calls, strings.Join(*ui, "\n"))
		}
		if len(f.versions) != 2 {
			t.Error("the version that instances run is gone")
		}
	})
}

func TestTimeoutCancelsTheRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		r, _ := f.rollout()
		r.Timeout = time.Hour
		wants(t, r.Run(t.Context()), `timeout = "1h0m0s"`, "refresh-1 ended Cancelled")
	})
}

func TestAnInterruptDoesNotStopARollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		ctx, interrupt := context.WithCancel(t.Context())
		f.steps = []func(*fakeAWS){func(f *fakeAWS) {
			f.becomes(types.InstanceRefreshStatusRollbackInProgress, "", 0, 2)
			f.refreshes[0].RollbackDetails = &types.RollbackDetails{RollbackReason: aws.String("An alarm went off.")}
			time.AfterFunc(time.Minute, interrupt)
		}}
		r, _ := f.rollout()
		wants(t, r.Run(ctx), "rolling back (An alarm went off.)")
		if f.calls["CancelInstanceRefresh"] != 0 {
			t.Error("the rollback was cancelled")
		}
	})
}

func TestAnInterruptBetweenVersionAndRefreshLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		ctx, interrupt := context.WithCancel(t.Context())
		f.fail["CreateLaunchTemplateVersion"] = func(int) error {
			interrupt()
			return nil
		}
		r, _ := f.rollout()
		if err := r.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if len(f.versions) != 1 || len(f.started) != 0 {
			t.Errorf("%d versions are left, and %d refreshes were started", len(f.versions), len(f.started))
		}
	})
}

func TestAnInterruptWhileTheRefreshStartsCancelsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		ctx, interrupt := context.WithCancel(t.Context())
		f.fail["StartInstanceRefresh"] = func(int) error {
			interrupt()
			return nil
		}
		r, ui := f.rollout()
		wants(t, r.Run(ctx), "interrupted", "refresh-1 ended Cancelled")
		if f.calls["CancelInstanceRefresh"] != 1 || !ui.has("Started instance refresh refresh-1") {
			t.Errorf("calls %v, told:\n%s", f.calls, strings.Join(*ui, "\n"))
		}
		if len(f.versions) != 2 {
			t.Error("the version of the refresh is gone")
		}
	})
}

func TestARefreshThatIsSeenLongAfterItsUnansweredStartIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.toTheEnd()
		f.fail["StartInstanceRefresh"] = func(int) error {
			f.runsIn(5*time.Second, "refresh-1", "4")
			return errors.New("connection reset by peer")
		}
		r, ui := f.rollout()
		run(t, r)
		if !ui.has("refresh-1 of group \"hello\" has been started") || len(f.versions) != 2 {
			t.Errorf("%d versions, told:\n%s", len(f.versions), strings.Join(*ui, "\n"))
		}
	})
}

func TestTheVersionOfARefreshThatMayHaveStartedIsKept(t *testing.T) {
	for name, describe := range map[string]error{
		"no refresh is seen":  nil,
		"nothing is answered": errors.New("network is unreachable"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.fail["StartInstanceRefresh"] = func(int) error {
					f.fail["DescribeInstanceRefreshes"] = func(int) error { return describe }
					return errors.New("connection reset by peer")
				}
				r, _ := f.rollout()
				wants(t, r.Run(t.Context()), "connection reset by peer", "not known whether AWS started it", "is kept", "run the build again")
				if len(f.versions) != 2 {
					t.Errorf("there are %d versions, want the new one kept", len(f.versions))
				}

				clear(f.fail)
				f.created = nil
				f.toTheEnd()
				if run(t, r); len(f.created) != 0 {
					t.Error("the next run made a version of its own")
				}
			})
		})
	}
}

func TestAWSMayFailToAnswerForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.toTheEnd()
		f.fail["DescribeTargetHealth"] = func(call int) error {
			if call > 2 && call < 8 {
				return apiError("Throttling")
			}
			return nil
		}
		r, ui := f.rollout()
		run(t, r)
		if !ui.has("AWS does not answer") || !ui.has("AWS answers again") {
			t.Errorf("told:\n%s", strings.Join(*ui, "\n"))
		}
	})
}

func TestAWSThatNeverAnswersIsNotWaitedForForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.fail["DescribeTargetHealth"] = func(call int) error {
			if call > 1 {
				return apiError("ExpiredToken")
			}
			return nil
		}
		r, _ := f.rollout()
		wants(t, r.Run(t.Context()), "lost sight", "refresh-1", "goes on in AWS", "run the build again", "ExpiredToken")
		if f.calls["CancelInstanceRefresh"] != 0 {
			t.Error("the refresh was cancelled")
		}
	})
}

// Ten hours in which nothing changes must not use up the account's requests.
func TestALongRefreshIsAskedAboutRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.fail["DescribeInstanceRefreshes"] = func(int) error {
			if len(f.refreshes) > 0 && time.Since(*f.refreshes[0].StartTime) > 10*time.Hour {
				f.becomes(types.InstanceRefreshStatusSuccessful, "", 100, 0)
			}
			return nil
		}
		r, _ := f.rollout()
		run(t, r)
		if n := f.calls["DescribeInstanceRefreshes"]; n > 10*3600/15+20 {
			t.Errorf("asked %d times", n)
		}
		if n := f.calls["DescribeInstances"]; n > 3 {
			t.Errorf("asked %d times for images of instances that are known", n)
		}
	})
}

// Nor must ten hours in which something changes all the time.
func TestALargeRefreshIsAskedAboutMoreRarelyTheLongerItTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.fail["DescribeInstanceRefreshes"] = func(call int) error {
			switch {
			case len(f.refreshes) == 0:
			case time.Since(*f.refreshes[0].StartTime) > 10*time.Hour:
				f.becomes(types.InstanceRefreshStatusSuccessful, "", 100, 0)
			default:
				f.becomes(types.InstanceRefreshStatusInProgress, "", int32(call%100), 2)
			}
			return nil
		}
		r, _ := f.rollout()
		run(t, r)
		if n := f.calls["DescribeInstanceRefreshes"]; n > 10*3600/15+200 {
			t.Errorf("asked %d times", n)
		}
	})
}
