package instance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// The deadlines are far beyond what AWS usually takes.
const (
	starting    = 15 * time.Minute
	stopping    = 30 * time.Minute // a clean shutdown may take its time
	terminating = 4 * time.Minute  // less than the ladder's patience
)

// Describe looks an instance up. It is the zero Instance if there is none.
func (b Bakery) Describe(ctx context.Context, id string) (types.Instance, error) {
	out, err := b.EC2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if err = unless(err, "InvalidInstanceID.NotFound"); err != nil {
		return types.Instance{}, fmt.Errorf("look up instance %s (ec2:DescribeInstances): %w", id, err)
	}
	if out == nil || len(out.Reservations) == 0 || len(out.Reservations[0].Instances) == 0 {
		return types.Instance{}, nil
	}
	return out.Reservations[0].Instances[0], nil
}

// Ready waits until an instance has what is wanted, such as an address. An
// instance that ends instead is an error with AWS's reason.
func (b Bakery) Ready(ctx context.Context, id, what string, has func(types.Instance) bool) (found types.Instance, err error) {
	began := time.Now()
	until := cloud.Until{What: fmt.Sprintf("instance %s %s", id, what), First: time.Second, Deadline: starting}
	err = cloud.Wait(ctx, until, func(ctx context.Context) (bool, string, error) {
		if found, err = b.Describe(ctx, id); err != nil {
			return false, "", err
		}
		switch {
		case found.State == nil && time.Since(began) > cloud.Visibility:
			return false, "", errors.New("it can't be found")
		case found.State == nil:
			return false, "it can't be found yet", nil
		case found.State.Name != types.InstanceStateNamePending && found.State.Name != types.InstanceStateNameRunning:
			return false, "", fmt.Errorf("it ended: AWS says: %s", reason(found))
		}
		return has(found), reason(found), nil
	})
	return found, err
}

// Watch returns as soon as an instance has left the states in which it can be
// worked on, with AWS's reason, or nil when ctx ends.
func (b Bakery) Watch(ctx context.Context, id string) error {
	for {
		if cloud.Sleep(ctx, watching) != nil {
			return nil
		}
		found, err := b.Describe(ctx, id)
		switch {
		case err != nil: // whoever works on the instance sees by that whether it is there
			continue
		case found.State == nil, found.State.Name == types.InstanceStateNamePending, found.State.Name == types.InstanceStateNameRunning:
			continue
		}
		return fmt.Errorf("instance %s ended: AWS says: %s", id, reason(found))
	}
}

// Explain adds to an error that an instance has ended, with AWS's reason, if it
// has.
func (b Bakery) Explain(ctx context.Context, id string, err error) error {
	found, missing := b.Describe(ctx, id)
	if missing != nil || found.State == nil || found.State.Name == types.InstanceStateNamePending || found.State.Name == types.InstanceStateNameRunning {
		return err
	}
	return fmt.Errorf("%w; instance %s ended meanwhile: AWS says: %s", err, id, reason(found))
}

// watching is the pause between two looks at an instance that should be there.
const watching = 15 * time.Second

// Stop shuts an instance down and waits until that is done, so that its
// filesystems are whole on its volumes.
func (b Bakery) Stop(ctx context.Context, id string) (stopped types.Instance, err error) {
	if _, err := b.EC2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{id}}); err != nil {
		return stopped, fmt.Errorf("stop instance %s (ec2:StopInstances): %w", id, err)
	}
	until := cloud.Until{What: "instance " + id + " is stopped", Least: 3 * time.Second, First: 1500 * time.Millisecond, Deadline: stopping}
	err = cloud.Wait(ctx, until, func(ctx context.Context) (bool, string, error) {
		if stopped, err = b.Describe(ctx, id); err != nil || stopped.State == nil {
			return false, "it can't be found", err
		}
		switch stopped.State.Name {
		case types.InstanceStateNameStopped:
			return true, "", nil
		case types.InstanceStateNameShuttingDown, types.InstanceStateNameTerminated:
			return false, "", fmt.Errorf("it was terminated: AWS says: %s", reason(stopped))
		}
		return false, reason(stopped), nil
	})
	return stopped, err
}

// IsSpot says whether an instance is a Spot Instance, which EC2 does not stop
// when it was asked for once.
func IsSpot(i types.Instance) bool { return i.InstanceLifecycle == types.InstanceLifecycleTypeSpot }

// End begins to terminate an instance.
func (b Bakery) End(ctx context.Context, id string) error {
	_, err := b.EC2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		return fmt.Errorf("terminate instance %s (ec2:TerminateInstances): %w", id, err)
	}
	return nil
}

// Terminate ends an instance, unless that has begun already, and waits until it
// is gone. One that is gone already is no error.
func (b Bakery) Terminate(ctx context.Context, id string) error {
	began := time.Now()
	until := cloud.Until{What: "instance " + id + " is terminated", First: time.Second, Deadline: terminating}
	return cloud.Wait(ctx, until, func(ctx context.Context) (bool, string, error) {
		found, err := b.Describe(ctx, id)
		switch {
		case err != nil: // what can't be looked up can be ended all the same
			return false, "", errors.Join(err, unless(b.End(ctx, id), "InvalidInstanceID.NotFound"))
		case found.State != nil && found.State.Name == types.InstanceStateNameTerminated:
			return true, "", nil
		case found.State != nil && found.State.Name == types.InstanceStateNameShuttingDown:
			return false, reason(found), nil
		}
		// What was just launched may not be seen yet, and is there all the same.
		err = b.End(ctx, id)
		switch gone := cloud.Code(err) == "InvalidInstanceID.NotFound"; {
		case gone && time.Since(began) < cloud.Visibility:
			return false, "it can't be found yet", nil
		case gone:
			return true, "", nil
		}
		return false, reason(found), err
	})
}

// Address is where an instance is reached by an interface of ssh_interface's
// names; "" while it has none there.
func Address(i types.Instance, by string) string {
	switch by {
	case "public_ip":
		return aws.ToString(i.PublicIpAddress)
	case "private_ip":
		return aws.ToString(i.PrivateIpAddress)
	case "public_dns":
		return aws.ToString(i.PublicDnsName)
	case "private_dns":
		return aws.ToString(i.PrivateDnsName)
	}
	return ""
}
