package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
)

// end judges a refresh that has ended. Only Successful is a success: when AWS
// rolled back successfully, the image was not rolled out.
func (r Rollout) end(ctx context.Context, last sight) error {
	id := aws.ToString(last.refresh.InstanceRefreshId)
	if last.status == types.InstanceRefreshStatusSuccessful {
		r.Ui.Say(fmt.Sprintf("Group %q is on %s: %s", r.Group, r.Image, inventory(r.Image, last)))
		return nil
	}
	reason := fmt.Sprintf("instance refresh %s ended %s", id, last.status)
	if text := statusReason(last.refresh); text != "" {
		reason += ": " + text
	}
	if back := rollbackReason(last.refresh); last.refresh.RollbackDetails != nil && back != statusReason(last.refresh) {
		reason += "; it was rolled back: " + back
	}
	return errors.Join(errors.New(reason), r.activities(ctx, last.refresh), r.standing(ctx), remedy(last.status))
}

// AWS leaves spaces at the ends of its sentences.
func statusReason(refresh types.InstanceRefresh) string {
	return strings.TrimSpace(aws.ToString(refresh.StatusReason))
}

func rollbackReason(refresh types.InstanceRefresh) string {
	if refresh.RollbackDetails == nil {
		return "no reason given"
	}
	return cmp.Or(strings.TrimSpace(aws.ToString(refresh.RollbackDetails.RollbackReason)), "no reason given")
}

// remedy says what to do after a refresh has ended so.
func remedy(status types.InstanceRefreshStatus) error {
	switch status {
	case types.InstanceRefreshStatusSuccessful:
		return nil
	case types.InstanceRefreshStatusCancelled:
		return errors.New("build again to go on, or take the group back to its own launch template: aws autoscaling start-instance-refresh")
	case types.InstanceRefreshStatusRollbackSuccessful:
		return errors.New("the group serves as it did before; correct the cause and build again")
	case types.InstanceRefreshStatusRollbackFailed:
		return errors.New("the group was brought neither forward nor back; correct the cause, then build again, or refresh the group with its own launch template: aws autoscaling start-instance-refresh")
	default:
		return errors.New("correct the cause and build again, or take the group back to its own launch template: aws autoscaling start-instance-refresh")
	}
}

const mostActivities = 5

// activities gives the scaling activities since the refresh began, as an error
// of several lines: failed ones first, then the newest. AWS repeats what fails,
// so that of those that read the same the newest stands for all.
func (r Rollout) activities(ctx context.Context, refresh types.InstanceRefresh) error {
	out, err := r.AutoScaling.DescribeScalingActivities(ctx, &autoscaling.DescribeScalingActivitiesInput{
		AutoScalingGroupName: &r.Group,
		MaxRecords:           aws.Int32(100),
	})
	if err != nil {
		return fmt.Errorf("describe the group's scaling activities: %w", err)
	}
	all := slices.DeleteFunc(out.Activities, func(a types.Activity) bool {
		return refresh.StartTime == nil || aws.ToTime(a.StartTime).Before(*refresh.StartTime)
	})
	slices.SortStableFunc(all, func(a, b types.Activity) int {
		return cmp.Or(rank(a)-rank(b), aws.ToTime(b.StartTime).Compare(aws.ToTime(a.StartTime)))
	})
	var lines []string
	told := map[string]bool{}
	for _, a := range all {
		text := activity(a)
		if told[text] || len(told) == mostActivities {
			continue
		}
		told[text] = true
		lines = append(lines, fmt.Sprintf("  %s %s", aws.ToTime(a.StartTime).UTC().Format(time.RFC3339), text))
	}
	if len(lines) == 0 {
		return nil
	}
	return fmt.Errorf("the group's last scaling activities:\n%s", strings.Join(lines, "\n"))
}

// activity is one with its reason, which AWS often has in the description too.
func activity(a types.Activity) string {
	text := fmt.Sprintf("%s: %s", a.StatusCode, strings.TrimSpace(aws.ToString(a.Description)))
	why := strings.TrimSpace(cmp.Or(aws.ToString(a.StatusMessage), aws.ToString(a.Cause)))
	if why != "" && !strings.Contains(text, why) {
		text += " (" + why + ")"
	}
	return text
}

func rank(a types.Activity) int {
	switch a.StatusCode {
	case types.ScalingActivityStatusCodeFailed:
		return 0
	case types.ScalingActivityStatusCodeCancelled:
		return 1
	}
	return 2
}

// standing looks at the group once more and gives what it is left with, as an
// error to stand beside the one that says why.
func (r Rollout) standing(ctx context.Context) error {
	group, err := r.group(ctx)
	if err != nil {
		return err
	}
	images, err := r.running(ctx, group.Instances, nil)
	if err != nil {
		return err
	}
	targets, err := r.targets(ctx, group)
	if err != nil {
		return err
	}
	now := see(r.Image, types.InstanceRefresh{}, group, images, targets)
	lines := []string{fmt.Sprintf("the group now has %s; what it launches is %s", inventory(r.Image, now), launches(group))}
	for _, id := range slices.Sorted(maps.Keys(now.instances)) {
		m := now.instances[id]
		for _, t := range m.targets {
			if strings.HasPrefix(t.State, unhealthy) {
				lines = append(lines, fmt.Sprintf("  %s (%s): %s in target group %s (%s)", id, m.image, t.State, t.Group, t.Reason))
			}
		}
	}
	return errors.New(strings.Join(lines, "\n"))
}

func launches(group types.AutoScalingGroup) string {
	var names []string
	for _, ref := range templatesOf(group.LaunchTemplate, group.MixedInstancesPolicy) {
		names = append(names, "launch template "+ref.String())
	}
	return strings.Join(names, ", ")
}

// inventory counts the instances by image, the one rolled out first.
func inventory(image string, s sight) string {
	if len(s.instances) == 0 {
		return "no instances"
	}
	ids := map[string][]string{}
	for id, m := range s.instances {
		ids[m.image] = append(ids[m.image], id)
	}
	images := slices.SortedFunc(maps.Keys(ids), func(a, b string) int {
		if (a == image) != (b == image) {
			if a == image {
				return -1
			}
			return 1
		}
		return cmp.Compare(a, b)
	})
	var parts []string
	for _, image := range images {
		slices.Sort(ids[image])
		parts = append(parts, fmt.Sprintf("%d on %s (%s)", len(ids[image]), cmp.Or(image, "an image not known"), strings.Join(ids[image], ", ")))
	}
	return strings.Join(parts, " and ")
}

// targetGroupName is the name within
// arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/hello/73e2d6bc24d8a067.
func targetGroupName(arn string) string {
	if parts := strings.Split(arn, "/"); len(parts) == 3 {
		return parts[1]
	}
	return arn
}
