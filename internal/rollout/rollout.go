// Package rollout replaces the instances of an Auto Scaling group by ones of a
// new image, with an instance refresh.
//
// It works in three steps. What AWS says of the group is read (describe.go). A
// pure function makes it a plan, or finds the reasons why it can't work
// (preflight.go, plan.go, template.go). The plan is carried out: a launch
// template version is made, the refresh is started with it and watched until
// its end (version.go, refresh.go, watch.go, end.go).
//
// The group itself is never touched. The refresh has the new version as its
// desired configuration, and Auto Scaling saves that in the group only on
// success. What the group has saved is what AWS rolls back to, so to write the
// new version there first would make the rollback one to the new version.
//
// Nothing of a rollout is kept on this machine. A second run finds the version
// that a first one made, and the refresh that it started, in AWS.
package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/ladder"
)

// Reporter is told, line by line, how the rollout goes.
type Reporter interface {
	Say(line string)
}

// Rollout is one image to be rolled out to one group.
type Rollout struct {
	// Group is the name of the Auto Scaling group, in Region.
	Group, Region string
	// Image is the id of the AMI, in the same region.
	Image string
	// Prefix stands before the keys of the commit's tags, on the AMI and then
	// on instances and volumes.
	Prefix string
	// Preferences must have been prepared.
	Preferences Preferences
	// Timeout is how long the refresh may take; 0 is as long as AWS lets it.
	// It is cancelled then.
	Timeout time.Duration

	AutoScaling AutoScaling
	EC2         EC2
	Balancers   Balancers
	Ui          Reporter
}

// Run rolls out and returns when the refresh has ended. The error of a refresh
// that did not succeed has AWS's reasons and says in which state the group is.
// When ctx ends, the refresh is cancelled before Run returns.
func (r Rollout) Run(ctx context.Context) error {
	if err := r.run(ctx); err != nil {
		return fmt.Errorf("roll out %s to auto_scaling_group %q: %w", r.Image, r.Group, err)
	}
	return nil
}

func (r Rollout) run(ctx context.Context) error {
	state, err := r.describe(ctx)
	if err != nil {
		return err
	}
	plan, err := makePlan(state, r.Prefix, r.Preferences)
	if err != nil {
		return err
	}
	for _, note := range plan.Notes {
		r.Ui.Say(note)
	}
	switch {
	case plan.Done:
		r.Ui.Say(fmt.Sprintf("Group %q has %s in its launch template and on all of its %d instances: there is nothing to roll out", r.Group, r.Image, len(state.Group.Instances)))
		return nil
	case plan.Join != "":
		r.Ui.Say(fmt.Sprintf("Instance refresh %s of group %q is already rolling out %s: joining it", plan.Join, r.Group, r.Image))
		return r.follow(ctx, plan.Join, state)
	}
	id, err := r.carryOut(ctx, plan)
	if err != nil {
		return err
	}
	return r.follow(ctx, id, state)
}

// carryOut makes the versions and starts the refresh. When it can't start,
// what was made is removed, unless it may have started all the same.
func (r Rollout) carryOut(ctx context.Context, plan Plan) (id string, err error) {
	var l ladder.Ladder
	defer l.BackOn(ctx, &err)

	made := map[reference]string{}
	for _, version := range plan.Versions {
		if made[version.Of], err = r.version(ctx, &l, version); err != nil {
			return "", err
		}
	}
	if id, err = r.start(ctx, plan.desired(made)); errors.Is(err, errMaybeStarted) {
		l.Keep()
	}
	return id, err
}

// follow watches a refresh to its end, or cancels it. Before is how the group
// was when nobody watched yet.
func (r Rollout) follow(ctx context.Context, id string, before State) error {
	watching := ctx
	if r.Timeout > 0 {
		var stop context.CancelFunc
		watching, stop = context.WithTimeoutCause(ctx, r.Timeout, fmt.Errorf("it took longer than timeout = %q", r.Timeout))
		defer stop()
	}
	last, err := r.watch(watching, id, see(r.Image, types.InstanceRefresh{}, before.Group, before.Running, before.Targets))
	switch {
	case errors.Is(err, errLostSight):
		return err
	case watching.Err() != nil:
		cause := context.Cause(watching)
		if ctx.Err() != nil {
			cause = fmt.Errorf("interrupted (%w)", cause)
		}
		return r.cancel(ctx, id, cause)
	case err != nil:
		return err
	}
	return r.end(ctx, last)
}
