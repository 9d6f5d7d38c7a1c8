package direct

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/immutable-server/packer-plugin-immutable/builder/ami"
	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
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
		Encryption: s.config.Encryption(),
	}
	s.name = ami.Name{Options: &s.config.Options, EC2: s.ec2, Run: s.work.Wish.Run, Ui: s.ui}
	if err := s.name.Check(ctx); err != nil {
		return err
	}
	return s.work.Wish.Encryption.AskDefault(ctx, s.ec2)
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
