package quota

import (
	"errors"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

func rates(t *testing.T, scale float64) *Rates {
	t.Helper()
	c, err := clock.New(clock.Instant, scale)
	if err != nil {
		t.Fatal(err)
	}
	return New(c)
}

// taken is how many calls are let through, of n at once.
func taken(r *Rates, c Call, n int) (through int) {
	for range n {
		if r.Take(c) == nil {
			through++
		}
	}
	return through
}

func put(snapshot, region string) Call {
	return Call{Service: "ebs", Operation: "PutSnapshotBlock", Region: region, Path: "/snapshots/" + snapshot + "/blocks/7"}
}

func ec2(operation string, parameters ...string) Call {
	c := Call{Service: "ec2", Operation: operation, Region: "eu-west-1", Parameters: url.Values{}}
	for i := 0; i < len(parameters); i += 2 {
		c.Parameters.Set(parameters[i], parameters[i+1])
	}
	return c
}

func TestBurstsAreThoseOfAWS(t *testing.T) {
	for name, test := range map[string]struct {
		call Call
		want int
	}{
		"starts":                   {Call{Service: "ebs", Operation: "StartSnapshot", Region: "eu-west-1"}, 10},
		"completions":              {Call{Service: "ebs", Operation: "CompleteSnapshot", Region: "eu-west-1"}, 10},
		"lists":                    {Call{Service: "ebs", Operation: "ListChangedBlocks", Region: "eu-west-1"}, 50},
		"puts to a snapshot":       {put("snap-1", "eu-west-1"), 1000},
		"describing images":        {ec2("DescribeImages"), 100},
		"describing all instances": {ec2("DescribeInstances"), 50},
		"describing some":          {ec2("DescribeInstances", "Filter.1.Name", "vpc-id", "Filter.1.Value.1", "vpc-1"), 100},
		"describing a page":        {ec2("DescribeInstances", "MaxResults", "5"), 100},
		"running":                  {ec2("RunInstances", "MinCount", "1", "MaxCount", "1"), 5},
		"running many":             {ec2("RunInstances", "MinCount", "1", "MaxCount", "400"), 2},
		"stopping two":             {ec2("StopInstances", "InstanceId.1", "i-1", "InstanceId.2", "i-2"), 50},
		"tagging":                  {ec2("CreateTags"), 100},
		"registering":              {ec2("RegisterImage"), 50},
		"what has no known rate":   {Call{Service: "autoscaling", Operation: "DescribeAutoScalingGroups", Region: "eu-west-1"}, 10000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := taken(rates(t, 1), test.call, 10000); got != test.want {
					t.Errorf("%d calls were let through at once, want %d", got, test.want)
				}
			})
		})
	}
}

func TestBucketsAreRefilledAsTimePasses(t *testing.T) {
	for _, scale := range []float64{1, 0.1} {
		synctest.Test(t, func(t *testing.T) {
			r := rates(t, scale)
			taken(r, ec2("RunInstances"), 5)
			time.Sleep(time.Duration(float64(time.Second) * scale))
			if got := taken(r, ec2("RunInstances"), 5); got != 2 {
				t.Errorf("at the scale %v, %d calls were let through after a second, want 2", scale, got)
			}
			time.Sleep(time.Hour)
			if got := taken(r, ec2("RunInstances"), 10); got != 5 {
				t.Errorf("at the scale %v, %d calls were let through after an hour, want 5", scale, got)
			}
		})
	}
}

func TestTheAccountHasARateOverItsSnapshots(t *testing.T) {
	for region, want := range map[string]int{"eu-west-1": 5000, "eu-north-1": 1000} {
		synctest.Test(t, func(t *testing.T) {
			r, through := rates(t, 1), 0
			for _, snapshot := range []string{"snap-1", "snap-2", "snap-3", "snap-4", "snap-5", "snap-6"} {
				through += taken(r, put(snapshot, region), 1000)
			}
			if through != want {
				t.Errorf("%s: %d puts were let through at once, want %d", region, through, want)
			}
		})
	}
}

func TestThrottlingSaysWhatIsExceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rates(t, 1)
		for reason, call := range map[string]Call{
			"RESOURCE_LEVEL_THROTTLE": put("snap-1", "eu-west-1"),
			"ACCOUNT_THROTTLED":       {Service: "ebs", Operation: "StartSnapshot", Region: "eu-west-1"},
			"":                        ec2("RunInstances"),
		} {
			taken(r, call, 1000)
			if e, ok := errors.AsType[*wire.Error](r.Take(call)); !ok || e.Reason != reason {
				t.Errorf("%s is refused with %v, want the reason %q", call.Operation, e, reason)
			}
		}
	})
}

func TestRegionsHaveBucketsOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rates(t, 1)
		taken(r, put("snap-1", "eu-west-1"), 2000)
		if err := r.Take(put("snap-1", "eu-north-1")); err != nil {
			t.Error(err)
		}
	})
}

func TestFullBucketsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rates(t, 1)
		for i := range 3 * many {
			if err := r.Take(put(string(rune('a'+i)), "eu-west-1")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(r.buckets); n > many {
			t.Errorf("%d buckets are kept, want at most %d", n, many)
		}
	})
}
