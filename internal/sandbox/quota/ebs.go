package quota

import (
	"slices"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/fault"
)

// The rates of EBS direct
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html).
// They have no burst: a bucket holds what a second allows.
const (
	starts          = 10   // also of CompleteSnapshot
	lists           = 50   // of each of the two
	blocks          = 1000 // got from, or put to, one snapshot
	blocksOfAccount = 1000
	blocksOfLarge   = 5000 // in the large regions
)

var largeRegions = []string{"us-east-1", "us-east-2", "us-west-2", "ap-southeast-1", "eu-west-1"}

func (c Call) ebsCharges() []charge {
	account := func(rate float64) charge {
		return charge{"ebs:" + c.Operation, limit{rate, rate}, 1, fault.Throttled("ebs", fault.ByAccount)}
	}
	switch c.Operation {
	case "StartSnapshot", "CompleteSnapshot":
		return []charge{account(starts)}
	case "ListSnapshotBlocks", "ListChangedBlocks":
		return []charge{account(lists)}
	case "GetSnapshotBlock", "PutSnapshotBlock":
		rate := float64(blocksOfAccount)
		if slices.Contains(largeRegions, c.Region) {
			rate = blocksOfLarge
		}
		_, rest, _ := strings.Cut(c.Path, "/snapshots/")
		snapshot, _, _ := strings.Cut(rest, "/")
		return []charge{
			account(rate),
			{"ebs:" + c.Operation + " " + snapshot, limit{blocks, blocks}, 1, fault.Throttled("ebs", fault.ByResource)},
		}
	}
	return nil
}
