package cloud

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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
