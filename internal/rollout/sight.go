package rollout

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
)

// sight is what was seen of a refresh and its group at one time. Before the
// refresh was seen, its status is empty.
type sight struct {
	refresh   types.InstanceRefresh
	status    types.InstanceRefreshStatus
	image     string // what is rolled out
	desired   int    // instances that the group is to have
	balanced  int    // target groups that each of them is to be in
	instances map[string]member
}

// member is one instance of the group.
type member struct {
	image     string
	zone      string
	lifecycle types.LifecycleState
	health    string // as Auto Scaling has it: Healthy, Unhealthy
	targets   []target
}

func see(image string, refresh types.InstanceRefresh, group types.AutoScalingGroup, images map[string]string, targets map[string][]target) sight {
	s := sight{
		refresh: refresh, status: refresh.Status, image: image,
		desired: int(aws.ToInt32(group.DesiredCapacity)), balanced: len(targetGroupARNs(group)), instances: map[string]member{},
	}
	for _, instance := range group.Instances {
		id := aws.ToString(instance.InstanceId)
		s.instances[id] = member{
			image:     images[id],
			zone:      aws.ToString(instance.AvailabilityZone),
			lifecycle: instance.LifecycleState,
			health:    aws.ToString(instance.HealthStatus),
			targets:   targets[id],
		}
	}
	return s
}

func (s sight) same(other sight) bool { return reflect.DeepEqual(s, other) }

func (s sight) images() map[string]string {
	images := map[string]string{}
	for id, m := range s.instances {
		if m.image != "" {
			images[id] = m.image
		}
	}
	return images
}

// The target states of Elastic Load Balancing that say something of health.
const (
	healthy   = "healthy"
	unhealthy = "unhealthy"
)

// isHealthy tells that the instance is in service, healthy as Auto Scaling has
// it, and in each of so many target groups too.
func (m member) isHealthy(balanced int) bool {
	if m.lifecycle != types.LifecycleStateInService || len(m.targets) < balanced {
		return false
	}
	for _, t := range m.targets {
		if t.State != healthy {
			return false
		}
	}
	return strings.EqualFold(m.health, healthy)
}

// isUnhealthy is not the contrary: an instance that is just being registered,
// or drained, is neither.
func (m member) isUnhealthy() bool {
	for _, t := range m.targets {
		if strings.HasPrefix(t.State, unhealthy) {
			return true
		}
	}
	return strings.EqualFold(m.health, unhealthy)
}

// news are the lines that tell what has changed between two sights.
func news(last, next sight) []string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }

	if next.status != last.status || aws.ToString(next.refresh.StatusReason) != aws.ToString(last.refresh.StatusReason) {
		line := fmt.Sprintf("Instance refresh %s: %s", aws.ToString(next.refresh.InstanceRefreshId), next.status)
		if reason := statusReason(next.refresh); reason != "" {
			line += ": " + reason
		}
		lines = append(lines, line)
	}
	if next.refresh.RollbackDetails != nil && last.refresh.RollbackDetails == nil {
		say("AWS rolls the group back to its former launch template: %s", rollbackReason(next.refresh))
	}
	for _, id := range slices.Sorted(maps.Keys(next.instances)) {
		before, known := last.instances[id]
		lines = append(lines, changes(id, before, next.instances[id], known)...)
	}
	for _, id := range slices.Sorted(maps.Keys(last.instances)) {
		if _, still := next.instances[id]; !still {
			say("%s (%s) has left the group", id, last.instances[id].image)
		}
	}
	if bar := next.bar(); bar != last.bar() {
		lines = append(lines, bar)
	}
	return lines
}

func changes(id string, before, now member, known bool) []string {
	var lines []string
	who := fmt.Sprintf("%s (%s)", id, cmp.Or(now.image, "image not known yet"))
	if !known {
		who += " in " + now.zone
	}
	if now.lifecycle != before.lifecycle {
		lines = append(lines, fmt.Sprintf("%s: %s", who, now.lifecycle))
	}
	if now.health != before.health && known {
		lines = append(lines, fmt.Sprintf("%s: Auto Scaling finds it %s", who, now.health))
	}
	for _, t := range now.targets {
		if slices.Contains(before.targets, t) {
			continue
		}
		line := fmt.Sprintf("%s: %s in target group %s", who, t.State, t.Group)
		if t.Reason != "" {
			line += " (" + t.Reason + ")"
		}
		lines = append(lines, line)
	}
	return lines
}

const barWidth = 20

// bar shows how far the refresh is:
//
//	[======>             ]  33%  1 of 3 instances replaced, 1 in warm-up, 4 healthy, 0 unhealthy
//
// or its rollback, in which AWS counts only the instances to bring back:
//
//	[======>             ]  33%  rolled back, 2 instances to go, 3 healthy, 0 unhealthy
func (s sight) bar() string {
	if s.status == "" {
		return ""
	}
	serving, fine, ill := 0, 0, 0
	for _, m := range s.instances {
		if m.image == s.image && m.lifecycle == types.LifecycleStateInService {
			serving++
		}
		if m.isHealthy(s.balanced) {
			fine++
		}
		if m.isUnhealthy() {
			ill++
		}
	}
	health := fmt.Sprintf("%d healthy, %d unhealthy", fine, ill)
	if back := s.refresh.RollbackDetails; back != nil {
		percent := aws.ToInt32(back.PercentageCompleteOnRollback)
		return fmt.Sprintf("%s %3d%%  rolled back, %d instances to go, %s", drawn(int(percent)), percent, aws.ToInt32(back.InstancesToUpdateOnRollback), health)
	}
	percent, left := aws.ToInt32(s.refresh.PercentageComplete), int(aws.ToInt32(s.refresh.InstancesToUpdate))
	if s.refresh.InstancesToUpdate == nil && percent == 0 {
		left = s.desired // AWS has not counted yet
	}
	replaced := max(0, s.desired-left)
	// An instance counts as replaced when its warm-up is over.
	warming := max(0, serving-replaced)
	return fmt.Sprintf("%s %3d%%  %d of %d instances replaced, %d in warm-up, %s", drawn(int(percent)), percent, replaced, s.desired, warming, health)
}

func drawn(percent int) string {
	full := min(max(percent, 0), 100) * barWidth / 100
	bar := strings.Repeat("=", full)
	if full < barWidth {
		bar += ">"
	}
	return fmt.Sprintf("[%-*s]", barWidth, bar)
}
