package ec2

import (
	"fmt"
	"slices"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
)

// instanceStatusItem is the outcome of the status checks of an instance.
type instanceStatusItem struct {
	AttachedEbsStatus  statusSummary
	AvailabilityZone   string
	AvailabilityZoneId string
	InstanceId         string
	InstanceState      instanceState
	InstanceStatus     statusSummary
	SystemStatus       statusSummary
}

type statusSummary struct {
	Details []statusDetail
	Status  string
}

type statusDetail struct{ Name, Status string }

type describeInstanceStatusInput struct {
	paging
	Filters             []filter `wire:"Filter"`
	IncludeAllInstances bool
	InstanceIds         []string `wire:"InstanceId"`
}

type describeInstanceStatusOutput struct {
	InstanceStatuses []instanceStatusItem `wire:",instanceStatusSet"`
	NextToken        string
}

var instanceStatusFilters = filterable[instanceStatusItem]{values: map[string]func(instanceStatusItem) []string{
	"attached-ebs-status.status":   func(s instanceStatusItem) []string { return []string{s.AttachedEbsStatus.Status} },
	"availability-zone-id":         func(s instanceStatusItem) []string { return one(s.AvailabilityZoneId) },
	"availability-zone":            func(s instanceStatusItem) []string { return []string{s.AvailabilityZone} },
	"instance-state-code":          func(s instanceStatusItem) []string { return []string{fmt.Sprint(s.InstanceState.Code)} },
	"instance-state-name":          func(s instanceStatusItem) []string { return []string{s.InstanceState.Name} },
	"instance-status.status":       func(s instanceStatusItem) []string { return []string{s.InstanceStatus.Status} },
	"instance-status.reachability": func(s instanceStatusItem) []string { return s.InstanceStatus.reachability() },
	"system-status.status":         func(s instanceStatusItem) []string { return []string{s.SystemStatus.Status} },
	"system-status.reachability":   func(s instanceStatusItem) []string { return s.SystemStatus.reachability() },
}}

func (s statusSummary) reachability() []string {
	var values []string
	for _, detail := range s.Details {
		values = append(values, detail.Status)
	}
	return values
}

func (r *region) statusItem(i *instance) instanceStatusItem {
	summary := statusSummary{Status: "not-applicable"}
	if i.State == Running {
		summary = statusSummary{[]statusDetail{{"reachability", "initializing"}}, "initializing"}
		if r.now().Sub(i.Ready) >= r.service.clock.Transition(clock.StatusChecks) {
			summary = statusSummary{[]statusDetail{{"reachability", "passed"}}, "ok"}
		}
	}
	it := instanceStatusItem{
		AttachedEbsStatus: summary, AvailabilityZone: i.Zone, InstanceId: i.Id, InstanceState: i.State.item(),
		InstanceStatus: summary, SystemStatus: summary,
	}
	if s := r.Subnets[i.SubnetId]; s != nil {
		it.AvailabilityZoneId = s.ZoneId
	}
	return it
}

// maxStatuses is how many instances one call may name (DescribeInstanceStatus).
const maxStatuses = 100

func (r *region) describeInstanceStatus(_ *api.Call, in *describeInstanceStatusInput) (*describeInstanceStatusOutput, error) {
	if err := in.noPageWith(in.InstanceIds, "instancesSet"); err != nil {
		return nil, err
	}
	if len(in.InstanceIds) > maxStatuses {
		return nil, fail("InvalidParameterValue", "At most %d instances can be named in one call.", maxStatuses)
	}
	if _, err := r.instances(in.InstanceIds); err != nil {
		return nil, err
	}
	candidates := slices.DeleteFunc(ordered(r.Instances), func(i *instance) bool { return i.State != Running && !in.IncludeAllInstances })
	found, next, err := describe(candidates, in.InstanceIds, r.statusItem, instanceStatusFilters, in.Filters, in.paging, pageRange{5, 1000})
	return &describeInstanceStatusOutput{found, next}, err
}
