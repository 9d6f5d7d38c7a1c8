package direct

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/blocks"
	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
)

// stepRegister makes an AMI of the snapshot.
type stepRegister struct{ *build }

func (s *stepRegister) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	defer s.work.Took.Start("register")()
	if err := s.run(ctx); err != nil {
		return base.Fail(state, err)
	}
	return multistep.ActionContinue
}

// Cleanup does nothing: stepAccess's does.
func (s *stepRegister) Cleanup(multistep.StateBag) {}

func (s *stepRegister) run(ctx context.Context) error {
	// A retried step may have its AMI already.
	if s.ami == "" {
		if err := s.makeRoom(ctx); err != nil {
			return err
		}
		if err := s.register(ctx); err != nil {
			return err
		}
	}
	if _, err := image.Wait(ctx, s.ec2, s.ami, s.born); err != nil {
		return err
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	if err := image.Finish(ctx, s.ec2, s.ami, s.snapshot); err != nil {
		return err
	}
	s.ui.Say(fmt.Sprintf("AMI %s (%s) is available", s.ami, s.config.AmiName))
	if s.replaced != nil && s.config.ForceDeleteSnapshot {
		s.deleteSnapshots(ctx, *s.replaced)
	}
	return nil
}

// deleteSnapshots ends the AMI that was replaced. If it can't, that is no reason
// to undo the new one as well.
func (s *stepRegister) deleteSnapshots(ctx context.Context, old types.Image) {
	s.ui.Say("Deleting the snapshots of " + aws.ToString(old.ImageId) + "...")
	if err := image.DeleteSnapshots(ctx, s.ec2, old); err != nil {
		s.ui.Error(fmt.Sprintf("%s; delete it by hand", err))
	}
}

// makeRoom frees the AMI's name, if that is wanted or if it is that of an AMI
// which a killed build left: at the last moment, because two AMIs can't have one
// name. Otherwise it looks once more whether the name is free.
func (s *stepRegister) makeRoom(ctx context.Context) error {
	old, found, err := image.Named(ctx, s.ec2, s.config.AmiName)
	if err != nil || !found {
		return err
	}
	if s.leftBehind(old) {
		s.ui.Say("Removing " + s.unfinished + ", which a killed build has left with the name " + s.config.AmiName + "...")
		return image.Delete(ctx, s.ec2, s.unfinished)
	}
	if err := s.replaceable(ctx, old); err != nil {
		return err
	}
	s.ui.Say("Deregistering " + aws.ToString(old.ImageId) + ", which has the name " + s.config.AmiName + "...")
	s.replaced = &old
	return image.Deregister(ctx, s.ec2, aws.ToString(old.ImageId), nil)
}

func (s *stepRegister) register(ctx context.Context) error {
	c := s.config
	s.ui.Say("Registering AMI " + c.AmiName + "...")
	disk, err := os.Stat(s.work.Disk)
	if err != nil {
		return err
	}
	s.ami, err = image.Register(ctx, s.ec2, image.Registration{
		Name:         c.AmiName,
		Description:  s.texts.description,
		Base:         s.work.Base.Image,
		Architecture: c.Architecture,
		Snapshot:     s.snapshot,
		Size:         blocks.Volume(disk.Size()),
		Volume: image.Volume{
			Size:       int32(c.VolumeSize),
			Type:       c.VolumeType,
			IOPS:       c.Iops,
			Throughput: c.Throughput,
		},
		BootMode: c.BootMode,
		IMDSv2:   c.ImdsSupport == "v2.0",
		Tags:     s.work.Wish.Run.Tags(s.texts.tags),
	})
	if err != nil {
		return err
	}
	s.born = cloud.Born()
	s.begun.Add("deregister AMI "+s.ami, func(ctx context.Context) error { return image.Deregister(ctx, s.ec2, s.ami, s.born) })
	return nil
}

// open lets others at the AMI.
func (s *stepRegister) open(ctx context.Context) error {
	c := s.config
	if err := image.Share(ctx, s.ec2, s.ami, c.AmiUsers, c.AmiOrgArns, c.AmiOuArns); err != nil {
		return err
	}
	if err := image.ShareSnapshot(ctx, s.ec2, s.snapshot, c.SnapshotUsers); err != nil {
		return err
	}
	if c.deprecateAt.IsZero() {
		return nil
	}
	return image.Deprecate(ctx, s.ec2, s.ami, c.deprecateAt)
}
