package direct

import (
	"context"
	"fmt"
	"os"

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
		if err := s.name.Free(ctx); err != nil {
			return err
		}
		if err := s.register(ctx); err != nil {
			return err
		}
	}
	if _, err := image.Wait(ctx, s.ec2, s.ami, s.born); err != nil {
		return err
	}
	if err := s.config.Open(ctx, s.ec2, s.ami, s.snapshot); err != nil {
		return err
	}
	if err := image.Finish(ctx, s.ec2, s.ami, s.snapshot); err != nil {
		return err
	}
	s.ui.Say(fmt.Sprintf("AMI %s (%s) is available", s.ami, s.config.AmiName))
	s.name.DeleteReplaced(ctx)
	return nil
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
		Description:  s.texts.Description,
		Base:         s.work.Base.Image,
		Architecture: c.Architecture,
		Snapshot:     s.snapshot,
		Size:         blocks.Volume(disk.Size()),
		Volume:       c.Volume(),
		BootMode:     c.BootMode,
		IMDSv2:       c.IMDSv2(),
		Tags:         s.work.Wish.Run.Tags(s.texts.Tags),
	})
	if err != nil {
		return err
	}
	s.born = cloud.Born()
	s.begun.Add("deregister AMI "+s.ami, func(ctx context.Context) error { return image.Deregister(ctx, s.ec2, s.ami, s.born) })
	return nil
}
