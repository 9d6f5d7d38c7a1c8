package autoscaling

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling/group"
)

type describeScalingActivitiesInput struct {
	paging
	AutoScalingGroupName string
	ActivityIds          []string
}

type describeScalingActivitiesOutput struct {
	Activities []activity
	NextToken  string
}

type activity struct {
	ActivityId           string
	AutoScalingGroupName string
	AutoScalingGroupARN  string
	Description          string
	Cause                string
	StartTime            time.Time
	EndTime              time.Time
	StatusCode           string
	StatusMessage        string
	Progress             int
	Details              string
}

// describeScalingActivities lists the latest first. Groups that were deleted
// have none.
func (s *Service) describeScalingActivities(_ context.Context, c *api.Call, in *describeScalingActivitiesInput) (*describeScalingActivitiesOutput, error) {
	r := s.in(c.Region)
	type found struct {
		*group.Activity
		group *group.Group
		n     int
	}
	groups := slices.Collect(maps.Values(r.Groups))
	if name := in.AutoScalingGroupName; name != "" {
		g, ok := r.Groups[name]
		if !ok {
			return nil, invalid("AutoScalingGroup name not found - AutoScalingGroup '%s' not found", name)
		}
		groups = []*group.Group{g}
	}
	var all []found
	for _, g := range groups {
		for n, a := range slices.Backward(g.Activities) {
			if len(in.ActivityIds) == 0 || slices.Contains(in.ActivityIds, a.ID) {
				all = append(all, found{a, g, n})
			}
		}
	}
	if len(groups) > 1 {
		slices.SortFunc(all, func(a, b found) int {
			return cmp.Or(b.Start.Compare(a.Start), b.n-a.n, cmp.Compare(a.group.Name, b.group.Name))
		})
	}
	all, token, err := cut(all, in.paging, 100, 100, func(f found) string { return latestFirst(f.Start, f.n) + " " + f.group.Name })
	if err != nil {
		return nil, err
	}
	out := &describeScalingActivitiesOutput{NextToken: token}
	for _, f := range all {
		out.Activities = append(out.Activities, describeActivity(f.group, f.Activity))
	}
	return out, nil
}

func describeActivity(g *group.Group, a *group.Activity) activity {
	return activity{
		ActivityId:           a.ID,
		AutoScalingGroupName: g.Name,
		AutoScalingGroupARN:  g.ARN,
		Description:          a.Description,
		Cause:                a.Cause,
		StartTime:            a.Start,
		EndTime:              a.End,
		StatusCode:           string(a.Status),
		StatusMessage:        a.StatusMessage,
		Progress:             a.Progress,
		Details:              fmt.Sprintf(`{"Subnet ID":%q,"Availability Zone":%q}`, a.Subnet, a.Zone),
	}
}
