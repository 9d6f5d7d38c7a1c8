package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// afterwards bounds what is still asked of AWS when ctx has ended.
const afterwards = time.Minute

// errMaybeStarted says that the launch template version must stay: there may
// be a refresh that launches it.
var errMaybeStarted = errors.New("it is not known whether AWS started it, so the launch template version is kept; run the build again to join the refresh, or to start it with that version")

// start starts the refresh and gives its id. An interrupt does not cut the call
// short, so that there is no refresh that nobody knows of. AWS has no token
// that would make the call safe to repeat. So an error is believed only if the
// group has no refresh towards the same configuration: one may have been
// started by a call whose answer was lost. The error is errMaybeStarted if that
// can't be told.
func (r Rollout) start(ctx context.Context, desired *types.DesiredConfiguration) (id string, err error) {
	if ctx.Err() != nil {
		return "", fmt.Errorf("start the instance refresh: %w", context.Cause(ctx))
	}
	starting, stopStarting := context.WithTimeout(context.WithoutCancel(ctx), 2*cloud.AttemptTimeout)
	defer stopStarting()
	out, err := r.AutoScaling.StartInstanceRefresh(starting, &autoscaling.StartInstanceRefreshInput{
		AutoScalingGroupName: &r.Group,
		Strategy:             types.RefreshStrategyRolling,
		DesiredConfiguration: desired,
		Preferences:          r.Preferences.refresh(),
	})
	if err == nil {
		id = aws.ToString(out.InstanceRefreshId)
		r.Ui.Say(fmt.Sprintf("Started instance refresh %s of group %q", id, r.Group))
		return id, nil
	}
	err = fmt.Errorf("start the instance refresh: %w", err)
	asking, stop := context.WithTimeout(context.WithoutCancel(ctx), cloud.Visibility+afterwards)
	defer stop()
	active, lookErr := r.started(asking, err)
	switch {
	case lookErr != nil:
		return "", fmt.Errorf("%w: %w: %w", err, errMaybeStarted, lookErr)
	case active == nil:
		return "", err
	case !sameTemplates(active.DesiredConfiguration, desired):
		return "", fmt.Errorf("%w; instance refresh %s of the group is %s, towards something else: wait for its end and run the build again",
			err, aws.ToString(active.InstanceRefreshId), active.Status)
	}
	id = aws.ToString(active.InstanceRefreshId)
	r.Ui.Say(fmt.Sprintf("Instance refresh %s of group %q has been started", id, r.Group))
	return id, nil
}

// started gives the refresh that is active after an error at the start. Where
// AWS has refused to start one, a look tells. Where it says that there is one, or
// where no such answer came, the refresh may be seen only later, and that there
// is none yet proves nothing.
func (r Rollout) started(ctx context.Context, startErr error) (active *types.InstanceRefresh, err error) {
	if cloud.Refused(startErr) && cloud.Code(startErr) != "InstanceRefreshInProgress" {
		return r.active(ctx)
	}
	err = cloud.Wait(ctx, cloud.Until{What: "the instance refresh is seen", First: soonest, Deadline: cloud.Visibility},
		func(ctx context.Context) (bool, string, error) {
			var lookErr error
			if active, lookErr = r.active(ctx); lookErr != nil {
				return false, lookErr.Error(), nil
			}
			return active != nil, "no refresh is active", nil
		})
	return active, err
}

func sameTemplates(a, b *types.DesiredConfiguration) bool {
	if a == nil || b == nil {
		return false
	}
	return slices.Equal(templatesOf(a.LaunchTemplate, a.MixedInstancesPolicy), templatesOf(b.LaunchTemplate, b.MixedInstancesPolicy))
}

// refresh describes one refresh.
func (r Rollout) refresh(ctx context.Context, id string) (types.InstanceRefresh, error) {
	out, err := r.AutoScaling.DescribeInstanceRefreshes(ctx, &autoscaling.DescribeInstanceRefreshesInput{
		AutoScalingGroupName: &r.Group,
		InstanceRefreshIds:   []string{id},
	})
	if err != nil {
		return types.InstanceRefresh{}, fmt.Errorf("describe instance refresh %s: %w", id, err)
	}
	if len(out.InstanceRefreshes) == 0 {
		return types.InstanceRefresh{}, fmt.Errorf("describe instance refresh %s: it is not there", id)
	}
	return out.InstanceRefreshes[0], nil
}

// cancelling is how long AWS gets to cancel: it first finishes what it has
// begun, which is to launch an instance, or to drain and end one.
const cancelling = 10 * time.Minute

// cancel asks AWS to cancel the refresh, waits until it has, and gives an error
// with the cause that also says in which state the group is left. A rollback is
// not cancelled: it is the way back to one image.
func (r Rollout) cancel(ctx context.Context, id string, cause error) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelling)
	defer stop()

	now, err := r.refresh(ctx, id)
	if err == nil && now.Status == types.InstanceRefreshStatusRollbackInProgress {
		return errors.Join(
			fmt.Errorf("%w: instance refresh %s is rolling back (%s), and AWS goes on with that", cause, id, rollbackReason(now)),
			r.standing(ctx))
	}
	if err == nil && !ended(now.Status) {
		r.Ui.Say(fmt.Sprintf("Cancelling instance refresh %s: %v. AWS finishes what it has begun first", id, cause))
		now, err = r.cancelled(ctx, id)
	}
	asking, stopAsking := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
	defer stopAsking()
	if err != nil {
		return errors.Join(
			fmt.Errorf("%w: cancel instance refresh %s: %w; it may go on in AWS: look with aws autoscaling describe-instance-refreshes --region %s --auto-scaling-group-name %q, or run the build again to join it",
				cause, id, err, r.Region, r.Group),
			r.standing(asking))
	}
	return errors.Join(fmt.Errorf("%w: instance refresh %s ended %s", cause, id, now.Status), r.standing(asking), remedy(now.Status))
}

// cancelled cancels and waits for the refresh's end. AWS cancels whichever
// refresh of the group is active, so it must be known to be this one.
func (r Rollout) cancelled(ctx context.Context, id string) (now types.InstanceRefresh, err error) {
	_, err = r.AutoScaling.CancelInstanceRefresh(ctx, &autoscaling.CancelInstanceRefreshInput{AutoScalingGroupName: &r.Group})
	// It may have ended by itself just now, or be in cancellation already.
	if err != nil && cloud.Code(err) != "ActiveInstanceRefreshNotFound" {
		return now, err
	}
	err = cloud.Wait(ctx, cloud.Until{What: "it has ended", First: soonest, Every: latest},
		func(ctx context.Context) (bool, string, error) {
			now, err = r.refresh(ctx, id)
			return ended(now.Status), string(now.Status), err
		})
	return now, err
}
