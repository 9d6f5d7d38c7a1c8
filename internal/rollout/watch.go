package rollout

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

const (
	// A refresh is looked at often after a change and ever more rarely while
	// nothing changes, for an account's request rate is shared.
	soonest = time.Second
	latest  = 15 * time.Second
	// One that takes long is looked at more rarely also while it changes all
	// the time: a line comes late by no more than this part of the whole.
	lateness = 60

	// blind is how long AWS may fail to answer. The refresh goes on meanwhile,
	// so that to give up says nothing of its success.
	blind = 5 * time.Minute
)

// errLostSight says that AWS could not be asked any more, and that the refresh
// goes on.
var errLostSight = errors.New("lost sight of the instance refresh")

// watch tells the Ui about each change since last until the refresh has ended,
// and gives what was seen then.
func (r Rollout) watch(ctx context.Context, id string, last sight) (sight, error) {
	w := watcher{Rollout: r, id: id, seen: time.Now()}
	began := time.Now()
	for {
		pause := min(max(time.Since(began)/lateness, soonest), latest)
		next := last
		err := cloud.Wait(ctx, cloud.Until{What: fmt.Sprintf("instance refresh %s changes", id), First: pause, Every: latest},
			func(ctx context.Context) (bool, string, error) {
				var err error
				next, err = w.look(ctx, last)
				return !next.same(last), string(next.status), err
			})
		if err != nil {
			return last, err
		}
		for _, line := range news(last, next) {
			r.Ui.Say(line)
		}
		last = next
		if ended(last.status) {
			return last, nil
		}
		if err := cloud.Sleep(ctx, pause); err != nil {
			return last, err
		}
	}
}

// watcher remembers when AWS last answered.
type watcher struct {
	Rollout
	id      string
	seen    time.Time
	grumble bool // that AWS does not answer has been said
}

// look takes a new sight, or gives the last one again while AWS fails to answer.
func (w *watcher) look(ctx context.Context, last sight) (sight, error) {
	next, err := w.sight(ctx, w.id, last)
	if err == nil {
		if w.grumble {
			w.Ui.Say("AWS answers again")
		}
		w.seen, w.grumble = time.Now(), false
		return next, nil
	}
	if ctx.Err() != nil {
		return last, err
	}
	if time.Since(w.seen) > blind {
		return last, fmt.Errorf("%w %s, which goes on in AWS: %w; run the build again to join it", errLostSight, w.id, err)
	}
	log.Printf("[WARN] watch instance refresh %s: %v", w.id, err)
	if !w.grumble {
		w.grumble = true
		w.Ui.Say(fmt.Sprintf("AWS does not answer, asking again; the instance refresh goes on: %v", err))
	}
	return last, nil
}

// sight asks once for everything that is shown. Images of instances don't
// change, so those known from the last sight are not asked for again.
func (r Rollout) sight(ctx context.Context, id string, last sight) (sight, error) {
	refresh, err := r.refresh(ctx, id)
	if err != nil {
		return sight{}, err
	}
	group, err := r.group(ctx)
	if err != nil {
		return sight{}, err
	}
	images, err := r.running(ctx, group.Instances, last.images())
	if err != nil {
		return sight{}, err
	}
	targets, err := r.targets(ctx, group)
	if err != nil {
		return sight{}, err
	}
	return see(r.Image, refresh, group, images, targets), nil
}

// target is what a load balancer says of an instance.
type target struct {
	Group  string // the target group's name
	State  string
	Reason string
}

// targets asks each target group for the health of its targets, by instance.
func (r Rollout) targets(ctx context.Context, group types.AutoScalingGroup) (map[string][]target, error) {
	found := map[string][]target{}
	for _, arn := range targetGroupARNs(group) {
		out, err := r.Balancers.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &arn})
		if err != nil {
			return nil, fmt.Errorf("describe the health of the targets of %s: %w", arn, err)
		}
		for _, description := range out.TargetHealthDescriptions {
			if description.Target == nil || description.TargetHealth == nil {
				continue
			}
			health := description.TargetHealth
			t := target{Group: targetGroupName(arn), State: string(health.State), Reason: string(health.Reason)}
			if text := aws.ToString(health.Description); text != "" {
				t.Reason += ": " + text
			}
			instance := aws.ToString(description.Target.Id)
			found[instance] = append(found[instance], t)
		}
	}
	return found, nil
}
