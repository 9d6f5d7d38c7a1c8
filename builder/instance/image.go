package instance

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/hashicorp/packer-plugin-sdk/multistep"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"golang.org/x/sync/errgroup"

	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/instance"
)

// stepImage stops the instance and makes the AMI of its root volume. The
// instance is terminated meanwhile.
type stepImage struct {
	*build
	snapshots []string
	firmware  string
	born      *cloud.Newborn // the AMI
}

func (s *stepImage) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	if err := s.run(ctx, state); err != nil {
		return base.Fail(state, err)
	}
	return multistep.ActionContinue
}

// Cleanup does nothing: stepAccess's does.
func (s *stepImage) Cleanup(multistep.StateBag) {}

func (s *stepImage) run(ctx context.Context, state multistep.StateBag) error {
	// A retried step has the snapshot of the attempt that failed. The instance
	// may be gone by then.
	if err := s.begun.Back(ctx); err != nil {
		return fmt.Errorf("remove the AMI of the attempt before: %w", err)
	}
	if err := s.quiet(ctx, state); err != nil {
		return err
	}
	s.over = true
	making, cancelled := errgroup.WithContext(ctx)
	if s.config.ImageMethod == methodImage {
		making.Go(func() error { return s.create(cancelled) })
	} else {
		making.Go(func() error { return s.register(cancelled, making) })
	}
	if err := making.Wait(); err != nil {
		return err
	}
	if err := s.config.Open(ctx, s.ec2, s.ami, s.snapshots...); err != nil {
		return err
	}
	if err := image.Finish(ctx, s.ec2, append([]string{s.ami}, s.snapshots...)...); err != nil {
		return err
	}
	s.ui.Say(fmt.Sprintf("AMI %s (%s) is available", s.ami, s.config.AmiName))
	s.name.DeleteReplaced(ctx)
	return nil
}

// quiet stops the instance, so that its filesystems are whole on its volumes. A
// Spot Instance can't be stopped: everything is written out, and the journal of
// its root filesystem makes up for what is written after that.
func (s *stepImage) quiet(ctx context.Context, state multistep.StateBag) (err error) {
	if s.firmware, err = s.bakery.Firmware(ctx, s.instance); err != nil {
		return err
	}
	id := aws.ToString(s.instance.InstanceId)
	if !instance.IsSpot(s.instance) {
		s.ui.Say("Stopping " + id + "...")
		stopped, err := s.bakery.Stop(ctx, id)
		if err == nil {
			s.instance = stopped
		}
		return err
	}
	s.ui.Say("Writing out the disks of " + id + ", which as a Spot Instance can't be stopped...")
	communicator, ok := state.Get("communicator").(packersdk.Communicator)
	if !ok {
		return errors.New("there is no connection to the instance to write its disks out by")
	}
	command := &packersdk.RemoteCmd{Command: "sync"}
	if err := command.RunWithUi(ctx, communicator, s.ui); err != nil {
		return fmt.Errorf("write out the disks of %s: %w", id, err)
	}
	if code := command.ExitStatus(); code != 0 {
		return fmt.Errorf("write out the disks of %s: `sync` ended with status %d", id, code)
	}
	return nil
}

// register makes a snapshot of the root volume, and of that an AMI with the
// attributes of the base. Once the snapshot is begun the instance can go: its
// end is looked at when the snapshot, which takes longer, is completed.
func (s *stepImage) register(ctx context.Context, beside *errgroup.Group) error {
	bakery := s.bakery
	bakery.Ladder = &s.begun
	c := s.config
	s.ui.Say("Taking a snapshot of its root volume...")
	made, err := bakery.Snapshot(ctx, s.instance, cmp.Or(s.texts.Description, "Root of AMI "+c.AmiName), s.texts.SnapshotTags)
	if err != nil {
		return err
	}
	s.snapshots = []string{made.ID}
	if err := bakery.End(ctx, aws.ToString(s.instance.InstanceId)); err != nil {
		s.ui.Error(err.Error() + "; it is tried again")
	}
	if err := bakery.Completed(ctx, made); err != nil {
		return err
	}
	beside.Go(func() error { s.endMachine(); return nil })
	if err := s.name.FreeIfTaken(ctx); err != nil {
		return err
	}
	s.ui.Say("Registering AMI " + c.AmiName + "...")
	s.ami, err = image.Register(ctx, s.ec2, image.Registration{
		Name:        c.AmiName,
		Description: s.texts.Description,
		Base:        &s.base,
		Firmware:    &s.firmware,
		Snapshot:    made.ID,
		Size:        made.Size,
		Volume:      c.Volume(),
		BootMode:    c.BootMode,
		IMDSv2:      c.IMDSv2(),
		Tags:        s.bakery.Run.Tags(s.texts.Tags),
	})
	if err != nil {
		return err
	}
	s.born = cloud.Born()
	s.begun.Add("deregister AMI "+s.ami, func(ctx context.Context) error { return image.Deregister(ctx, s.ec2, s.ami, s.born) })
	_, err = image.Wait(ctx, s.ec2, s.ami, s.born)
	return err
}

// create has EC2 make the AMI of the instance, which must stay until then.
func (s *stepImage) create(ctx context.Context) error {
	c := s.config
	if err := s.name.Free(ctx); err != nil {
		return err
	}
	s.ui.Say("Creating AMI " + c.AmiName + "...")
	bakery := s.bakery
	bakery.Ladder = &s.begun
	var err error
	s.ami, s.born, err = bakery.Image(ctx, s.instance, c.AmiName, s.texts.Description, s.texts.Tags, s.texts.SnapshotTags)
	if err != nil {
		return err
	}
	made, err := image.Wait(ctx, s.ec2, s.ami, s.born)
	if err != nil {
		return err
	}
	s.snapshots = image.Snapshots(made)
	if c.IMDSv2() {
		err = image.RequireIMDSv2(ctx, s.ec2, s.ami)
	}
	return err
}
