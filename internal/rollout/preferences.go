package rollout

//go:generate go tool packer-sdc struct-markdown

import (
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
)

// Preferences are those of an instance refresh. Their names and ranges are
// Amazon EC2 Auto Scaling's own, their defaults those of a careful operator: no
// capacity is ever lost, and what fails is taken back.
type Preferences struct {
	// How much of the group's desired capacity must be in service and healthy
	// at any time, in percent (0 to 100). Default 100: an instance is ended
	// only when its replacement serves.
	MinHealthyPercentage *int `mapstructure:"min_healthy_percentage" required:"false"`
	// How far the group may grow over its desired capacity meanwhile, in
	// percent of it (100 to 200, and at most 100 more than
	// `min_healthy_percentage`). It decides how many instances are replaced at
	// a time; at least one is. Default 110.
	MaxHealthyPercentage *int `mapstructure:"max_healthy_percentage" required:"false"`
	// How long an instance must have been in service before it counts as
	// replaced, such as `"2m"`. By default the group's own warm-up, or else its
	// health check's grace period.
	InstanceWarmup *time.Duration `mapstructure:"instance_warmup" required:"false"`
	// Percentages of the group at which the refresh pauses for
	// `checkpoint_delay`, ascending, such as `[20, 50, 100]`. Where the last
	// is less than 100, the refresh ends there, and so does the build: with
	// success, and with both images in the group.
	CheckpointPercentages []int `mapstructure:"checkpoint_percentages" required:"false"`
	// How long the refresh pauses at each checkpoint (up to `"48h"`).
	// Default `"1h"`.
	CheckpointDelay *time.Duration `mapstructure:"checkpoint_delay" required:"false"`
	// How long all new instances must stand the alarms and health checks at
	// the end, before the refresh is a success (up to `"48h"`). Default none.
	BakeTime time.Duration `mapstructure:"bake_time" required:"false"`
	// Leave instances alone that already run the launch template version that
	// is rolled out. Default true: what an earlier run replaced is not
	// replaced again.
	SkipMatching config.Trilean `mapstructure:"skip_matching" required:"false"`
	// Have AWS bring back the group's former launch template version when the
	// refresh fails or an alarm goes off. The build fails also then. Default
	// true.
	AutoRollback config.Trilean `mapstructure:"auto_rollback" required:"false"`
	// What becomes of instances that are protected from scale-in: `Refresh`
	// replaces them, `Ignore` leaves them as they are, `Wait` waits an hour
	// for the protection to be taken off and fails then. Default `Wait`.
	ScaleInProtectedInstances string `mapstructure:"scale_in_protected_instances" required:"false"`
	// What becomes of instances on standby: `Terminate`, `Ignore`, or `Wait`
	// as above. Default `Wait`.
	StandbyInstances string `mapstructure:"standby_instances" required:"false"`
	// CloudWatch alarms, up to ten. The refresh fails when one of them goes
	// off, and does not start while one is in the state `ALARM` or
	// `INSUFFICIENT_DATA`.
	Alarms []string `mapstructure:"alarms" required:"false"`
}

// The bounds of StartInstanceRefresh's preferences.
const (
	longestDelay = 48 * time.Hour
	mostAlarms   = 10

	defaultMinHealthy = 100
	defaultMaxHealthy = 110
	widestHealthy     = 100 // between the two
)

// Prepare sets the defaults and checks the ranges, without a call to AWS.
func (p *Preferences) Prepare() []error {
	var errs []error
	say := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if p.MinHealthyPercentage == nil {
		p.MinHealthyPercentage = new(defaultMinHealthy)
	}
	least := *p.MinHealthyPercentage
	if p.MaxHealthyPercentage == nil {
		p.MaxHealthyPercentage = new(min(defaultMaxHealthy, least+widestHealthy))
	}
	most := *p.MaxHealthyPercentage
	switch {
	case least < 0 || least > 100:
		say("min_healthy_percentage is %d; AWS allows 0 to 100", least)
	case most < 100 || most > 200:
		say("max_healthy_percentage is %d; AWS allows 100 to 200", most)
	case most-least > widestHealthy:
		say("max_healthy_percentage is %d and min_healthy_percentage %d; AWS allows a difference of at most %d, so set max_healthy_percentage to %d or less",
			most, least, widestHealthy, least+widestHealthy)
	}

	if p.InstanceWarmup != nil {
		errs = append(errs, duration("instance_warmup", *p.InstanceWarmup, 0)...)
	}
	errs = append(errs, duration("bake_time", p.BakeTime, longestDelay)...)
	errs = append(errs, p.checkpoints()...)

	errs = append(errs, oneOf("scale_in_protected_instances", p.ScaleInProtectedInstances, types.ScaleInProtectedInstances("").Values())...)
	errs = append(errs, oneOf("standby_instances", p.StandbyInstances, types.StandbyInstances("").Values())...)

	if n := len(p.Alarms); n > mostAlarms {
		say("alarms has %d names; AWS allows %d, so combine some in a composite alarm", n, mostAlarms)
	}
	if slices.Contains(p.Alarms, "") {
		say("alarms has an empty name; remove it")
	}
	return errs
}

func (p *Preferences) checkpoints() []error {
	var errs []error
	for i, percent := range p.CheckpointPercentages {
		if percent < 1 || percent > 100 {
			errs = append(errs, fmt.Errorf("checkpoint_percentages has %d; AWS allows 1 to 100", percent))
		}
		if i > 0 && percent <= p.CheckpointPercentages[i-1] {
			errs = append(errs, fmt.Errorf("checkpoint_percentages has %d after %d; they must ascend", percent, p.CheckpointPercentages[i-1]))
		}
	}
	if p.CheckpointDelay != nil {
		errs = append(errs, duration("checkpoint_delay", *p.CheckpointDelay, longestDelay)...)
		if len(p.CheckpointPercentages) == 0 {
			errs = append(errs, fmt.Errorf("checkpoint_delay is %s without checkpoint_percentages; set these, or remove it", *p.CheckpointDelay))
		}
	}
	return errs
}

// Partial tells that the refresh is to end before the whole group is replaced,
// and at which percentage.
func (p Preferences) Partial() (percent int, partial bool) {
	n := len(p.CheckpointPercentages)
	if n == 0 || p.CheckpointPercentages[n-1] == 100 {
		return 100, false
	}
	return p.CheckpointPercentages[n-1], true
}

func (p Preferences) autoRollback() bool { return !p.AutoRollback.False() }

// refresh gives the preferences as StartInstanceRefresh takes them. Both
// percentages are always given: AWS ends and starts instances at the same time
// where the upper one is left out.
func (p Preferences) refresh() *types.RefreshPreferences {
	r := &types.RefreshPreferences{
		MinHealthyPercentage:      aws.Int32(int32(*p.MinHealthyPercentage)),
		MaxHealthyPercentage:      aws.Int32(int32(*p.MaxHealthyPercentage)),
		SkipMatching:              aws.Bool(!p.SkipMatching.False()),
		AutoRollback:              aws.Bool(p.autoRollback()),
		ScaleInProtectedInstances: types.ScaleInProtectedInstances(p.ScaleInProtectedInstances),
		StandbyInstances:          types.StandbyInstances(p.StandbyInstances),
	}
	if p.InstanceWarmup != nil {
		r.InstanceWarmup = seconds(*p.InstanceWarmup)
	}
	for _, percent := range p.CheckpointPercentages {
		r.CheckpointPercentages = append(r.CheckpointPercentages, int32(percent))
	}
	if p.CheckpointDelay != nil {
		r.CheckpointDelay = seconds(*p.CheckpointDelay)
	}
	if p.BakeTime > 0 {
		r.BakeTime = seconds(p.BakeTime)
	}
	if len(p.Alarms) > 0 {
		r.AlarmSpecification = &types.AlarmSpecification{Alarms: p.Alarms}
	}
	return r
}

func seconds(d time.Duration) *int32 { return aws.Int32(int32(d / time.Second)) }

// duration checks one; a longest of 0 is none but what AWS's 32 bits hold.
func duration(option string, d, longest time.Duration) []error {
	if longest == 0 {
		longest = (1<<31 - 1) * time.Second
	}
	switch {
	case d < 0:
		return []error{fmt.Errorf("%s is %s; it can't be negative", option, d)}
	case d > longest:
		return []error{fmt.Errorf("%s is %s; AWS allows at most %s", option, d, longest)}
	case d%time.Second != 0:
		return []error{fmt.Errorf("%s is %s; AWS counts in whole seconds", option, d)}
	}
	return nil
}

func oneOf[T ~string](option, value string, allowed []T) []error {
	if value == "" || slices.Contains(allowed, T(value)) {
		return nil
	}
	return []error{fmt.Errorf("%s is %q; it can be one of %q", option, value, allowed)}
}
