package direct

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/snapshot"
)

// stepAccess proves that AWS can be reached and will take the AMI, before
// anything is created. Its clean-up is the last of all and undoes in AWS what a
// failed build has begun.
type stepAccess struct{ *build }

func (s *stepAccess) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	if err := s.run(ctx); err != nil {
		return base.Fail(state, err)
	}
	return multistep.ActionContinue
}

func (s *stepAccess) run(ctx context.Context) error {
	cfg, err := s.config.Load(ctx)
	if err != nil {
		return err
	}
	s.ec2, s.ebs = ec2.NewFromConfig(cfg), snapshot.NewClient(cfg)
	s.work.Wish = base.Wish{
		AWS:        cfg,
		Run:        cloud.ThisRun(),
		Encryption: image.Encryption{Wanted: s.config.EncryptBoot.ToBoolPointer(), Key: s.config.KmsKeyID},
	}
	if err := s.checkName(ctx); err != nil {
		return err
	}
	return s.work.Wish.Encryption.AskDefault(ctx, s.ec2)
}

func (s *stepAccess) checkName(ctx context.Context) error {
	taken, found, err := image.Named(ctx, s.ec2, s.config.AmiName)
	if err != nil || !found {
		return err
	}
	if !image.Unfinished(taken, s.work.Wish.Run) {
		return s.replaceable(ctx, taken)
	}
	s.unfinished = aws.ToString(taken.ImageId)
	s.ui.Say(fmt.Sprintf("The name %s is that of %s, which another build has not finished: if it still has not after this bake, it is removed",
		s.config.AmiName, s.unfinished))
	return nil
}

// leftBehind says whether the AMI that has the name was there before the bake,
// and is as unfinished now as it was then: its build has been killed.
func (b *build) leftBehind(taken types.Image) bool {
	return b.unfinished != "" && b.unfinished == aws.ToString(taken.ImageId) && image.Unfinished(taken, b.work.Wish.Run)
}

// replaceable says whether the AMI that has the name may lose it: only if that
// is wanted, and if no instance runs on it, because whatever replaces instances
// could start none any more.
func (b *build) replaceable(ctx context.Context, taken types.Image) error {
	if !b.config.ForceDeregister {
		return image.TakenError(b.config.AmiName, taken)
	}
	if err := image.Unused(ctx, b.ec2, aws.ToString(taken.ImageId)); err != nil {
		return fmt.Errorf("force_deregister does not remove the AMI that has the ami_name %q: %w; choose another name, best one with a version in it",
			b.config.AmiName, err)
	}
	return nil
}

func (s *stepAccess) Cleanup(state multistep.StateBag) {
	s.err, s.ended = base.Result(state), true
	if s.err == nil {
		s.begun.Keep()
		return
	}
	if s.snapshot != "" {
		s.ui.Say("Removing what was begun in AWS...")
	}
	s.begun.BackOn(context.Background(), &s.err)
}
