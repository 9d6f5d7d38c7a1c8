package clock

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestProfilesAndScale(t *testing.T) {
	for _, test := range []struct {
		profile              Profile
		scale                float64
		transition, interval time.Duration
	}{
		{Instant, 1, 0, time.Minute},
		{Instant, 0.1, 0, 6 * time.Second},
		{Typical, 1, time.Minute, time.Minute},
		{Typical, 0.5, 30 * time.Second, 30 * time.Second},
	} {
		c, err := New(test.profile, test.scale)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Transition(time.Minute); got != test.transition {
			t.Errorf("%s at %v: a minute's transition takes %v, want %v", test.profile, test.scale, got, test.transition)
		}
		if got := c.Interval(time.Minute); got != test.interval {
			t.Errorf("%s at %v: a minute's interval takes %v, want %v", test.profile, test.scale, got, test.interval)
		}
	}
}

func TestNewRefusesWhatIsNoTime(t *testing.T) {
	if _, err := New("slow", 1); err == nil {
		t.Error("an unknown profile was accepted")
	}
	if _, err := New(Instant, 0); err == nil {
		t.Error("a scale of 0 was accepted")
	}
}

func TestAfterRunsOnceItsTimeHasCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := New(Instant, 1)
		var ran atomic.Int32
		c.After(time.Minute, func() { ran.Add(1) })
		cancel := c.After(time.Minute, func() { t.Error("ran after it was cancelled") })
		cancel()
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if ran.Load() != 0 {
			t.Error("ran too early")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if ran.Load() != 1 {
			t.Errorf("ran %d times, want once", ran.Load())
		}
	})
}

func TestStopDropsWhatWaitsAndAwaitsWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := New(Instant, 1)
		ended := false
		c.After(0, func() { time.Sleep(time.Hour); ended = true })
		c.After(time.Minute, func() { t.Error("ran after Stop") })
		synctest.Wait()
		c.Stop()
		if !ended {
			t.Error("Stop returned while a function was running")
		}
		c.After(0, func() { t.Error("ran though begun after Stop") })
		time.Sleep(time.Hour)
	})
}

func TestSleepEndsWithItsContext(t *testing.T) {
	c, _ := New(Instant, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("Sleep gave %v", err)
	}
}
