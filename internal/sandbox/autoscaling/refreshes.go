package autoscaling

import (
	"context"
	"slices"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling/group"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

type refreshPreferences struct {
	MinHealthyPercentage      *int
	MaxHealthyPercentage      *int
	InstanceWarmup            *int
	SkipMatching              *bool
	AutoRollback              *bool
	ScaleInProtectedInstances string
	StandbyInstances          string
	CheckpointPercentages     []int
	CheckpointDelay           *int
	BakeTime                  *int
	AlarmSpecification        *alarmSpecification
}

type alarmSpecification struct{ Alarms []string }

type desiredConfiguration struct {
	LaunchTemplate       *launchTemplateSpecification
	MixedInstancesPolicy *mixedInstancesPolicy
}

type startInstanceRefreshInput struct {
	AutoScalingGroupName string `wire:",,required"`
	Strategy             string
	DesiredConfiguration *desiredConfiguration
	Preferences          *refreshPreferences
}

type instanceRefreshOutput struct{ InstanceRefreshId string }

func (s *Service) startInstanceRefresh(_ context.Context, c *api.Call, in *startInstanceRefreshInput) (*instanceRefreshOutput, error) {
	r, g, err := s.find(c, in.AutoScalingGroupName)
	if err != nil {
		return nil, err
	}
	if in.Strategy != "" && in.Strategy != "Rolling" {
		return nil, invalid("The sandbox does not know the strategy %s; it knows Rolling", in.Strategy)
	}
	if g.Active() != nil {
		return nil, refreshInProgress()
	}
	if in.Preferences == nil {
		in.Preferences = &refreshPreferences{}
	}
	preferences, err := preferencesOf(g, in.Preferences)
	if err != nil {
		return nil, err
	}
	var desired *group.Configuration
	if d := in.DesiredConfiguration; d != nil && (d.LaunchTemplate != nil || d.MixedInstancesPolicy != nil) {
		conf, err := r.configuration(c, d.LaunchTemplate, d.MixedInstancesPolicy)
		if err != nil {
			return nil, err
		}
		desired = &conf
	}
	if err := r.startable(g, desired, preferences); err != nil {
		return nil, err
	}
	refresh := g.StartRefresh(desired, preferences, c.Now)
	s.soon(r, g)
	return &instanceRefreshOutput{refresh.ID}, nil
}

// startable checks what a configuration excludes.
func (r *region) startable(g *group.Group, desired *group.Configuration, p group.Preferences) error {
	target := g.Saved
	if desired != nil {
		target = *desired
	}
	if alarm, state := group.CheckAlarms(r.world.Alarms, p.Alarms); alarm != "" {
		if state == "" {
			return invalid("The request isn't valid. The CloudWatch alarm %s does not exist.", alarm)
		}
		return invalid("The request isn't valid. The CloudWatch alarm %s is in the %s state. An instance refresh can start only when all of its alarms are in the OK state.", alarm, state)
	}
	switch {
	case g.Saved.LaunchConfiguration != "" && desired == nil && p.SkipMatching:
		return invalid("The request isn't valid. SkipMatching needs a launch template, and the group '%s' uses a launch configuration.", g.Name)
	case (desired != nil || p.SkipMatching) && r.fromSSM(target):
		return invalid("The request isn't valid. A launch template that uses a Systems Manager parameter for its AMI ID is supported neither as a desired configuration nor with SkipMatching.")
	case !p.AutoRollback:
		return nil
	case desired == nil:
		return invalid("The request isn't valid. The AutoRollback parameter cannot be set to true when the DesiredConfiguration parameter is empty. Set AutoRollback to false or specify a desired configuration and try again.")
	case g.Saved.Floating():
		return invalid("The request isn't valid. The AutoRollback parameter cannot be set to true when the Auto Scaling group uses the $Latest or $Default version of its launch template. Set AutoRollback to false, or update the group to a numbered version, and try again.")
	case r.fromSSM(g.Saved):
		return invalid("The request isn't valid. The AutoRollback parameter cannot be set to true when the launch template of the Auto Scaling group uses a Systems Manager parameter for its AMI ID.")
	}
	return nil
}

// The longest waits, in seconds.
const maxDelay = 172800

// preferencesOf checks preferences and fills AWS's defaults in
// (https://docs.aws.amazon.com/autoscaling/ec2/userguide/understand-instance-refresh-default-values.html).
func preferencesOf(g *group.Group, in *refreshPreferences) (group.Preferences, error) {
	p := group.Preferences{
		MinHealthy:      90,
		MaxHealthy:      in.MaxHealthyPercentage,
		Warmup:          in.InstanceWarmup,
		Checkpoints:     in.CheckpointPercentages,
		CheckpointDelay: 3600,
		ProtectedWay:    group.WayWait,
		StandbyWay:      group.WayWait,
	}
	set(&p.SkipMatching, in.SkipMatching)
	set(&p.AutoRollback, in.AutoRollback)
	set(&p.CheckpointDelay, in.CheckpointDelay)
	set(&p.BakeTime, in.BakeTime)

	if in.MaxHealthyPercentage != nil && in.MinHealthyPercentage == nil {
		return p, invalid("The request isn't valid. If you specify MaxHealthyPercentage, you must also specify MinHealthyPercentage.")
	}
	if m := g.Maintenance; m != nil {
		p.MinHealthy = m.Min
		if in.MaxHealthyPercentage == nil {
			p.MaxHealthy = new(m.Max)
		}
	}
	set(&p.MinHealthy, in.MinHealthyPercentage)
	if err := checkBounds(p.MinHealthy, p.MaxHealthy); err != nil {
		return p, err
	}
	switch {
	case p.Warmup == nil && g.Warmup != nil:
		p.Warmup = new(*g.Warmup)
	case p.Warmup == nil:
		p.Warmup = new(g.Grace)
	case *p.Warmup < 0:
		return p, invalid("InstanceWarmup is %d, but must not be negative.", *p.Warmup)
	}
	if in.CheckpointDelay != nil && len(in.CheckpointPercentages) == 0 {
		return p, invalid("The request isn't valid. If you specify CheckpointDelay, you must also specify CheckpointPercentages.")
	}
	for name, seconds := range map[string]int{"CheckpointDelay": p.CheckpointDelay, "BakeTime": p.BakeTime} {
		if seconds < 0 || seconds > maxDelay {
			return p, invalid("%s is %d, but must be between 0 and %d.", name, seconds, maxDelay)
		}
	}
	for i, percent := range p.Checkpoints {
		if percent < 1 || percent > 100 || i > 0 && percent <= p.Checkpoints[i-1] {
			return p, invalid("CheckpointPercentages must be between 1 and 100, unique and in ascending order.")
		}
	}
	var err error
	if p.ProtectedWay, err = wayOf("ScaleInProtectedInstances", in.ScaleInProtectedInstances, "Refresh"); err != nil {
		return p, err
	}
	if p.StandbyWay, err = wayOf("StandbyInstances", in.StandbyInstances, "Terminate"); err != nil {
		return p, err
	}
	p.Alarms, err = alarmsOf(in.AlarmSpecification)
	return p, err
}

// maxAlarms is how many alarms a refresh may have
// (https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_AlarmSpecification.html).
const maxAlarms = 10

func alarmsOf(in *alarmSpecification) ([]string, error) {
	if in == nil {
		return nil, nil
	}
	if n := len(in.Alarms); n > maxAlarms {
		return nil, invalid("AlarmSpecification has %d alarms, but may have at most %d.", n, maxAlarms)
	}
	for i, name := range in.Alarms {
		if name == "" || len(name) > 255 || slices.Contains(in.Alarms[:i], name) {
			return nil, invalid("AlarmSpecification has the alarm name '%s', which is given twice or has not between 1 and 255 characters.", name)
		}
	}
	return in.Alarms, nil
}

func wayOf(preference, value, take string) (group.Way, error) {
	switch value {
	case "", string(group.WayWait):
		return group.WayWait, nil
	case string(group.WayIgnore):
		return group.WayIgnore, nil
	case take:
		return group.WayTake, nil
	}
	return "", invalid("%s is %s, but must be %s, Ignore or Wait.", preference, value, take)
}

func refreshInProgress() error {
	return wire.Errorf("InstanceRefreshInProgress", "An Instance Refresh is already in progress and blocks the execution of this Instance Refresh.")
}

type cancelInstanceRefreshInput struct {
	AutoScalingGroupName          string `wire:",,required"`
	WaitForTransitioningInstances *bool
}

func (s *Service) cancelInstanceRefresh(_ context.Context, c *api.Call, in *cancelInstanceRefreshInput) (*instanceRefreshOutput, error) {
	r, g, err := s.find(c, in.AutoScalingGroupName)
	if err != nil {
		return nil, err
	}
	refresh := g.Active()
	if refresh == nil {
		return nil, noActiveRefresh(g)
	}
	g.CancelRefresh(in.WaitForTransitioningInstances == nil || *in.WaitForTransitioningInstances, c.Now)
	s.soon(r, g)
	return &instanceRefreshOutput{refresh.ID}, nil
}

type rollbackInstanceRefreshInput struct {
	AutoScalingGroupName string `wire:",,required"`
}

func (s *Service) rollbackInstanceRefresh(_ context.Context, c *api.Call, in *rollbackInstanceRefreshInput) (*instanceRefreshOutput, error) {
	r, g, err := s.find(c, in.AutoScalingGroupName)
	if err != nil {
		return nil, err
	}
	refresh := g.Active()
	irreversible := func(why string) error {
		return wire.Errorf("IrreversibleInstanceRefresh", "The instance refresh cannot be rolled back: %s", why)
	}
	switch {
	case refresh == nil || refresh.Status == group.RefreshCancelling:
		return nil, noActiveRefresh(g)
	case refresh.Rollback != nil:
		return nil, irreversible("it is being rolled back already.")
	case refresh.Desired == nil:
		return nil, irreversible("it has no desired configuration.")
	case g.Saved.Floating():
		return nil, irreversible("the Auto Scaling group uses the $Latest or $Default version of its launch template.")
	case r.fromSSM(g.Saved):
		return nil, irreversible("the launch template of the Auto Scaling group uses a Systems Manager parameter for its AMI ID.")
	}
	g.StartRollback("Rolling back due to user request.", c.Now)
	s.soon(r, g)
	return &instanceRefreshOutput{refresh.ID}, nil
}

func noActiveRefresh(g *group.Group) error {
	return wire.Errorf("ActiveInstanceRefreshNotFound", "No in progress or pending Instance Refresh found for Auto Scaling group %s", g.Name)
}

type describeInstanceRefreshesInput struct {
	paging
	AutoScalingGroupName string `wire:",,required"`
	InstanceRefreshIds   []string
}

type describeInstanceRefreshesOutput struct {
	InstanceRefreshes []instanceRefresh
	NextToken         string
}

type instanceRefresh struct {
	InstanceRefreshId    string
	AutoScalingGroupName string
	Status               string
	StatusReason         string
	StartTime            time.Time
	EndTime              time.Time
	PercentageComplete   *int
	InstancesToUpdate    *int
	Preferences          refreshPreferences
	DesiredConfiguration *desiredConfiguration
	RollbackDetails      *rollbackDetails
	Strategy             string
}

type rollbackDetails struct {
	RollbackReason               string
	RollbackStartTime            time.Time
	PercentageCompleteOnRollback int
	InstancesToUpdateOnRollback  int
}

// describeInstanceRefreshes lists the latest first.
func (s *Service) describeInstanceRefreshes(_ context.Context, c *api.Call, in *describeInstanceRefreshesInput) (*describeInstanceRefreshesOutput, error) {
	g, err := s.in(c.Region).group(in.AutoScalingGroupName)
	if err != nil {
		return nil, err
	}
	type nth struct {
		*group.Refresh
		n int
	}
	var all []nth
	for n, refresh := range slices.Backward(g.Refreshes) {
		if len(in.InstanceRefreshIds) == 0 || slices.Contains(in.InstanceRefreshIds, refresh.ID) {
			all = append(all, nth{refresh, n})
		}
	}
	all, token, err := cut(all, in.paging, 50, 100, func(r nth) string { return latestFirst(r.Start, r.n) })
	if err != nil {
		return nil, err
	}
	out := &describeInstanceRefreshesOutput{NextToken: token}
	for _, refresh := range all {
		out.InstanceRefreshes = append(out.InstanceRefreshes, describeRefresh(g, refresh.Refresh))
	}
	return out, nil
}

func describeRefresh(g *group.Group, r *group.Refresh) instanceRefresh {
	out := instanceRefresh{
		InstanceRefreshId:    r.ID,
		AutoScalingGroupName: g.Name,
		Status:               string(r.Status),
		StatusReason:         r.Reason,
		EndTime:              r.End,
		Preferences:          preferencesOut(r.Preferences),
		Strategy:             "Rolling",
	}
	if r.Status != group.RefreshPending {
		out.StartTime = r.Start
		out.PercentageComplete, out.InstancesToUpdate = new(r.Percentage), new(r.Remaining)
	}
	if d := r.Desired; d != nil {
		out.DesiredConfiguration = &desiredConfiguration{templateOut(d.Template), mixedOut(d.Mixed)}
	}
	if b := r.Rollback; b != nil {
		out.RollbackDetails = &rollbackDetails{b.Reason, b.Start, b.Percentage, b.Remaining}
	}
	return out
}

func preferencesOut(p group.Preferences) refreshPreferences {
	out := refreshPreferences{
		MinHealthyPercentage:      new(p.MinHealthy),
		InstanceWarmup:            new(*p.Warmup),
		SkipMatching:              new(p.SkipMatching),
		AutoRollback:              new(p.AutoRollback),
		ScaleInProtectedInstances: string(p.ProtectedWay),
		StandbyInstances:          string(p.StandbyWay),
		BakeTime:                  new(p.BakeTime),
	}
	if p.MaxHealthy != nil {
		out.MaxHealthyPercentage = new(*p.MaxHealthy)
	}
	if p.ProtectedWay == group.WayTake {
		out.ScaleInProtectedInstances = "Refresh"
	}
	if p.StandbyWay == group.WayTake {
		out.StandbyInstances = "Terminate"
	}
	if len(p.Alarms) > 0 {
		out.AlarmSpecification = &alarmSpecification{slices.Clone(p.Alarms)}
	}
	if len(p.Checkpoints) > 0 {
		out.CheckpointPercentages = slices.Clone(p.Checkpoints)
		out.CheckpointDelay = new(p.CheckpointDelay)
	}
	return out
}
