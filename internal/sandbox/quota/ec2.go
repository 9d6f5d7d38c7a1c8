package quota

import (
	"slices"
	"strconv"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/fault"
)

// The buckets of EC2's operations. Each operation has its own, of the size of
// its category (https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html).
var (
	nonMutating = limit{100, 20}
	unfiltered  = limit{50, 10}
	mutating    = limit{50, 5} // so are the resource-intensive ones

	// uncategorized have buckets of other sizes.
	uncategorized = map[string]limit{
		"CopyImage":                     {100, 1},
		"CreateLaunchTemplateVersion":   {100, 5},
		"CreateSnapshot":                {100, 5},
		"CreateSnapshots":               {100, 5},
		"CreateTags":                    {100, 10},
		"CreateVolume":                  {100, 5},
		"DeleteSnapshot":                {100, 5},
		"DeleteTags":                    {100, 10},
		"DeleteVolume":                  {100, 5},
		"DeregisterImage":               {100, 5},
		"ModifyImageAttribute":          {100, 5},
		"ModifyInstanceMetadataOptions": {100, 5},
		"ModifyLaunchTemplate":          {100, 5},
		"ModifySnapshotAttribute":       {100, 5},
		"RunInstances":                  {5, 2},
		"StartInstances":                {5, 2},
		"TerminateInstances":            {100, 5},
	}

	// byInstance are further buckets, of which every instance costs a token.
	byInstance = map[string]limit{
		"RunInstances":       {1000, 2},
		"StartInstances":     {1000, 2},
		"StopInstances":      {1000, 20},
		"TerminateInstances": {1000, 20},
	}

	// costly have a smaller bucket for calls with neither a filter nor a page.
	costly = []string{
		"DescribeInstances", "DescribeInstanceStatus", "DescribeNetworkInterfaces", "DescribeSecurityGroups",
		"DescribeSnapshots", "DescribeSpotInstanceRequests", "DescribeVolumes",
	}
)

func (c Call) ec2Charges() []charge {
	name, throttled := "ec2:"+c.Operation, fault.Throttled("ec2", fault.ByAccount)
	if slices.Contains(costly, c.Operation) && !c.has("Filter.") && !c.has("MaxResults") {
		return []charge{{name + " unfiltered", unfiltered, 1, throttled}}
	}
	size, special := uncategorized[c.Operation]
	switch {
	case special:
	case api.ReadsOnly(c.Operation):
		size = nonMutating
	default:
		size = mutating
	}
	charges := []charge{{name, size, 1, throttled}}
	if size, ok := byInstance[c.Operation]; ok {
		charges = append(charges, charge{name + " instances", size, c.instances(), throttled})
	}
	return charges
}

// has tells whether the call has a parameter that begins so.
func (c Call) has(prefix string) bool {
	for name := range c.Parameters {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// instances is how many instances the call is about.
func (c Call) instances() float64 {
	if most, err := strconv.Atoi(c.Parameters.Get("MaxCount")); err == nil {
		return float64(most)
	}
	n := 0.0
	for name := range c.Parameters {
		if strings.HasPrefix(name, "InstanceId.") {
			n++
		}
	}
	return n
}
