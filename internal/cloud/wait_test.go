package cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/smithy-go"
)

func TestWaitAsksEverMoreRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var asked []time.Duration
		err := Wait(t.Context(), Until{What: "it is there", First: time.Second, Every: 3 * time.Second}, func(context.Context) (bool, string, error) {
			asked = append(asked, time.Since(began))
			return len(asked) == 6, "pending", nil
		})
		if err != nil {
			t.Fatal(err)
		}
		want := []time.Duration{0, time.Second, 2500 * time.Millisecond, 4750 * time.Millisecond, 7750 * time.Millisecond, 10750 * time.Millisecond}
		if !slices.Equal(asked, want) {
			t.Errorf("asked at %v, want %v", asked, want)
		}
	})
}

// looks are when a wait asks, if every look but the last goes as the probe says.
func looks(t *testing.T, until Until, count int, probe func(look int) error) (asked []time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := Wait(t.Context(), until, func(context.Context) (bool, string, error) {
			asked = append(asked, time.Since(began))
			if len(asked) == count {
				return true, "", nil
			}
			return false, "pending", probe(len(asked))
		})
		if err != nil {
			t.Error(err)
		}
	})
	return asked
}

func TestWaitLooksFirstWhenItCouldBeDone(t *testing.T) {
	asked := looks(t, Until{Least: 3 * time.Second, First: time.Second}, 3, func(int) error { return nil })
	if want := []time.Duration{3 * time.Second, 4 * time.Second, 5500 * time.Millisecond}; !slices.Equal(asked, want) {
		t.Errorf("asked at %v, want %v", asked, want)
	}
}

func TestWaitLooksWhenAWSWillBeDone(t *testing.T) {
	left := []time.Duration{0, 7 * time.Second, time.Millisecond, time.Hour}
	look := 0
	until := Until{First: time.Second, Every: 10 * time.Second, Left: func() time.Duration { look++; return left[look-1] }}
	asked := looks(t, until, 5, func(int) error { return nil })
	if want := []time.Duration{0, time.Second, 8 * time.Second, 9 * time.Second, 19 * time.Second}; !slices.Equal(asked, want) {
		t.Errorf("asked at %v, want %v", asked, want)
	}
}

func TestWaitGoesOnMoreSlowlyWhenThrottled(t *testing.T) {
	throttle := &smithy.GenericAPIError{Code: "RequestLimitExceeded", Message: "Request limit exceeded."}
	asked := looks(t, Until{First: time.Second, Every: 3 * time.Second}, 6, func(look int) error {
		if look == 2 || look == 3 {
			return fmt.Errorf("ec2:DescribeInstances: %w", throttle)
		}
		return nil
	})
	if want := []time.Duration{0, time.Second, 4 * time.Second, 13 * time.Second, 25 * time.Second, 37 * time.Second}; !slices.Equal(asked, want) {
		t.Errorf("asked at %v, want %v", asked, want)
	}
}

func TestWaitThatIsThrottledToTheEndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := Wait(t.Context(), Until{What: "it is there", Deadline: time.Minute}, func(context.Context) (bool, string, error) {
			return false, "", &smithy.GenericAPIError{Code: "RequestLimitExceeded", Message: "Request limit exceeded."}
		})
		if err == nil || !strings.Contains(err.Error(), "not after 1m0s") || !strings.Contains(err.Error(), "RequestLimitExceeded") {
			t.Errorf("Wait gave %v", err)
		}
	})
}

func TestWaitGivesUpAtTheDeadlineWithTheLastState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := Wait(t.Context(), Until{What: "the AMI is available", Deadline: time.Minute}, func(context.Context) (bool, string, error) {
			return false, "pending: copying", nil
		})
		if err == nil || !strings.Contains(err.Error(), "wait until the AMI is available: not after 1m0s; AWS says: pending: copying") {
			t.Errorf("Wait gave %v", err)
		}
	})
}

func TestWaitEndsWithTheFirstError(t *testing.T) {
	failure := errors.New("it failed")
	err := Wait(t.Context(), Until{What: "it is there"}, func(context.Context) (bool, string, error) { return false, "", failure })
	if !errors.Is(err, failure) {
		t.Errorf("Wait gave %v", err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		interrupt := errors.New("interrupt")
		err := Wait(ctx, Until{What: "it is there"}, func(context.Context) (bool, string, error) {
			cancel(interrupt)
			return false, "", nil
		})
		if !errors.Is(err, interrupt) {
			t.Errorf("Wait gave %v", err)
		}
	})
}

func TestRunTags(t *testing.T) {
	t.Setenv("PACKER_RUN_UUID", "the-run")
	run := ThisRun()
	tags := run.Tags(map[string]string{"Name": "hello", TagRun: "not this"}, map[string]string{"Name": "root"})
	if tags["Name"] != "root" || tags[TagRun] != "the-run" {
		t.Errorf("tags are %v", tags)
	}
	if at, err := time.Parse(time.RFC3339, tags[TagExpires]); err != nil || at.Before(time.Now()) {
		t.Errorf("it expires at %v, %v", at, err)
	}
}
