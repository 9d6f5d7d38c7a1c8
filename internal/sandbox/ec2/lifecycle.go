package ec2

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
)

// rememberTime is how long a terminated instance is shown.
const rememberTime = time.Hour

// become puts an instance into a state and tells who has subscribed.
func (r *region) become(i *instance, state InstanceState, why *stateReason, transition string) {
	from := i.State
	i.State, i.Reason, i.Transition = state, why, transition
	change := StateChange{InstanceID: i.Id, From: from, To: state}
	if why != nil {
		change.Reason = why.Message
	}
	r.service.heralds.tell(r.name, change)
}

// initiated is how DescribeInstances says when and by whom a transition was begun.
func (r *region) initiated(by string) string {
	return fmt.Sprintf("%s initiated (%s GMT)", by, r.now().Format("2006-01-02 15:04:05"))
}

// The reasons for states (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html).
var (
	whilePending = &stateReason{"pending", "pending"}
	byUser       = &stateReason{"Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown"}
	byItself     = &stateReason{"Client.InstanceInitiatedShutdown", "Client.InstanceInitiatedShutdown: Instance initiated shutdown"}
	notLaunched  = "Server.InternalError"
	neverStarted = "Server.InternalError: Internal error on launch: "

	// Of an instance with an encrypted volume whose key is not accessible
	// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html#troubleshooting-launch-internal).
	withoutKey = &stateReason{"Client.InternalError", "Client.InternalError: Client error on launch"}
)

// start begins to start an instance that is pending.
func (r *region) start(i *instance) {
	r.givePublic(i)
	if r.lacksKey(i) {
		r.service.later(r.service.clock.Transition(clock.Launch), r, func(r *region) {
			if i.State == Pending {
				r.terminated(i, withoutKey, withoutKey.Message)
			}
		})
		return
	}
	r.service.runs.begin(r, i)
}

// lacksKey tells whether an instance has a volume that cannot be decrypted.
func (r *region) lacksKey(i *instance) bool {
	return slices.ContainsFunc(i.Volumes, func(id string) bool {
		v := r.Volumes[id]
		return v != nil && !r.decryptable(v)
	})
}

// started ends the start of an instance.
func (r *region) started(i *instance) {
	i.Ready = r.now()
	r.become(i, Running, nil, "")
}

// failed ends the start of an instance that did not succeed: it is terminated,
// as AWS does it.
func (r *region) failed(i *instance, err error) {
	r.service.report(fmt.Errorf("start instance %s: %w", i.Id, err))
	r.terminated(i, &stateReason{notLaunched, neverStarted + err.Error()}, notLaunched)
}

// ceased follows the end of a machine that ended by itself.
func (r *region) ceased(i *instance) {
	if i.State != Running {
		return
	}
	// A Spot Instance of a one-time request cannot be stopped.
	if i.Launch.InstanceInitiatedShutdownBehavior == "terminate" || i.SpotRequest != nil {
		r.terminated(i, byItself, r.initiated("Instance"))
		return
	}
	r.stopped(i, byItself, r.initiated("Instance"))
}

// stopped ends an instance's run.
func (r *region) stopped(i *instance, why *stateReason, transition string) {
	r.releasePublic(i)
	r.become(i, Stopped, why, transition)
}

// terminated ends an instance's life: its address is given back, its volumes
// are deleted or left behind.
func (r *region) terminated(i *instance, why *stateReason, transition string) {
	for _, id := range slices.Clone(i.Volumes) {
		v := r.Volumes[id]
		if v == nil {
			continue
		}
		deleted := v.Attachment != nil && v.Attachment.DeleteOnTermination
		r.detach(v, i)
		switch {
		case deleted:
			r.removeVolume(v)
		case r.service.real && !v.Filled: // the instance was never started
			v.State = volumeCreating
			r.service.background(0, func(ctx context.Context) { r.service.finishVolume(ctx, r.name, v.Id) })
		}
	}
	if s := r.Subnets[i.SubnetId]; s != nil {
		r.service.addresses.release(i.Address, s.Cidr)
	}
	r.releasePublic(i)
	i.Ended = r.now()
	r.become(i, Terminated, why, transition)
	r.forgetLater(i)
}

// forgetLater removes a terminated instance when AWS stops to show it.
func (r *region) forgetLater(i *instance) {
	left := r.service.clock.Interval(rememberTime) - r.now().Sub(i.Ended)
	r.service.later(left, r, func(r *region) {
		delete(r.Instances, i.Id)
		delete(r.service.runs.consoles, i.Id)
	})
}

// stateChangeItem is what becomes of an instance, on the wire.
type stateChangeItem struct {
	CurrentState  instanceState
	InstanceId    string
	PreviousState instanceState
}

type stateChangesOutput struct {
	Instances []stateChangeItem `wire:",instancesSet"`
}

// change carries a transition out for instances that all allow it.
func (r *region) change(c *api.Call, ids []string, allow func(*instance) error, change func(*instance)) (*stateChangesOutput, error) {
	found, err := r.instances(ids)
	if err != nil {
		return nil, err
	}
	for _, i := range found {
		c.On(r.arn("instance", i.Id))
		if err := allow(i); err != nil {
			return nil, err
		}
	}
	out := &stateChangesOutput{}
	for _, i := range found {
		before := i.State
		change(i)
		out.Instances = append(out.Instances, stateChangeItem{i.State.item(), i.Id, before.item()})
	}
	return out, nil
}

type instanceIDsInput struct {
	InstanceIds []string `wire:"InstanceId,,required"`
}

type stopInstancesInput struct {
	instanceIDsInput
	Force          bool
	Hibernate      bool
	SkipOsShutdown bool
}

func (r *region) stopInstances(c *api.Call, in *stopInstancesInput) (*stateChangesOutput, error) {
	return r.change(c, in.InstanceIds, func(i *instance) error {
		switch {
		case in.Hibernate:
			return fail("UnsupportedHibernationConfiguration", "The sandbox's instances cannot be hibernated, as '%s' was to be.", i.Id)
		case i.State != Running && i.State != Stopping && i.State != Stopped:
			return fail("IncorrectInstanceState", "This instance '%s' is not in a state from which it can be stopped.", i.Id)
		case i.SpotRequest != nil: // diodonfrost/terraform-aws-lambda-scheduler-stop-start#8
			return fail("UnsupportedOperation", "You can't stop the Spot Instance '%s' because it is associated with a one-time Spot Instance request. You can only stop Spot Instances associated with persistent Spot Instance requests.", i.Id)
		case i.State == Running && orZero(i.Launch.DisableApiStop):
			return fail("OperationNotPermitted", "The instance '%s' may not be stopped. Modify its 'disableApiStop' instance attribute and try again.", i.Id)
		}
		return nil
	}, func(i *instance) {
		if i.State == Running {
			r.become(i, Stopping, byUser, r.initiated("User"))
			r.service.runs.end(r, i, clock.Stop, in.Force || in.SkipOsShutdown)
		}
	})
}

func (r *region) startInstances(c *api.Call, in *instanceIDsInput) (*stateChangesOutput, error) {
	return r.change(c, in.InstanceIds, func(i *instance) error {
		if !slices.Contains([]InstanceState{Stopped, Pending, Running}, i.State) {
			return fail("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be started.", i.Id)
		}
		if i.State == Stopped && !r.hasRoot(i) {
			return fail("IncorrectInstanceState", "Instance '%s' does not have a volume attached at root (%s)", i.Id, i.RootDeviceName)
		}
		if i.State == Stopped {
			return r.haveRoom(i)
		}
		return nil
	}, func(i *instance) {
		if i.State == Stopped {
			i.Launched = r.now()
			r.become(i, Pending, whilePending, "")
			r.start(i)
		}
	})
}

// haveRoom refuses an instance whose zone has no capacity to start it again.
func (r *region) haveRoom(i *instance) error {
	p := &plan{kind: instanceTypes[i.Type], subnet: r.Subnets[i.SubnetId]}
	p.data = i.Launch
	if _, code := r.service.shortages.ask(r.name, p.pool(), 1, 1); code != "" {
		return r.lacks(code, p, p.pool())
	}
	return nil
}

func (r *region) hasRoot(i *instance) bool { return r.deviceTaken(i, i.RootDeviceName) }

func (r *region) rebootInstances(c *api.Call, in *instanceIDsInput) (*succeeded, error) {
	_, err := r.change(c, in.InstanceIds, func(i *instance) error {
		if i.State != Running {
			return fail("IncorrectState", "The instance '%s' is not in the 'running' state.", i.Id)
		}
		return nil
	}, func(i *instance) { r.service.runs.reboot(r, i) })
	return &succeeded{true}, err
}

type terminateInstancesInput struct {
	instanceIDsInput
	Force          bool // which changes nothing here: a machine that does not shut down is ended in any case
	SkipOsShutdown bool
}

// terminateInstances terminates all instances, or none when one of them is
// unknown. Where some are protected, it fails, and terminates those in the zones
// without one that is protected (TerminateInstances).
func (r *region) terminateInstances(c *api.Call, in *terminateInstancesInput) (*stateChangesOutput, error) {
	found, err := r.instances(in.InstanceIds)
	if err != nil {
		return nil, err
	}
	guarded := map[string]bool{} // zones
	var protected *instance
	for _, i := range found {
		if orZero(i.Launch.DisableApiTermination) && i.State != Terminated {
			guarded[i.Zone] = true
			protected = cmp.Or(protected, i)
		}
	}
	var ids []string
	for _, i := range found {
		c.On(r.arn("instance", i.Id))
		if !guarded[i.Zone] {
			ids = append(ids, i.Id)
		}
	}
	out, err := r.change(c, ids, func(*instance) error { return nil }, func(i *instance) { r.terminate(i, in.SkipOsShutdown) })
	if protected != nil {
		return nil, fail("OperationNotPermitted", "The instance '%s' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.", protected.Id)
	}
	return out, err
}

// terminate begins to terminate an instance, unless that is so already.
func (r *region) terminate(i *instance, hard bool) {
	if i.State == ShuttingDown || i.State == Terminated {
		return
	}
	r.become(i, ShuttingDown, byUser, r.initiated("User"))
	r.service.runs.end(r, i, clock.Terminate, hard)
}

// ended follows the end of a machine that was asked to end.
func (r *region) ended(i *instance) {
	switch i.State {
	case Stopping:
		r.stopped(i, byUser, i.Transition)
	case ShuttingDown:
		r.terminated(i, byUser, i.Transition)
	}
}
