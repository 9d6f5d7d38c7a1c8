package instance

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/hashicorp/packer-plugin-sdk/multistep"
	"github.com/hashicorp/packer-plugin-sdk/packerbuilderdata"
	"github.com/hashicorp/packer-plugin-sdk/random"
	"golang.org/x/sync/errgroup"

	"github.com/immutable-server/packer-plugin-immutable/builder/ami"
	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/instance"
)

// stepAccess proves that AWS can be reached and will take the AMI, and finds the
// base and the subnets, before anything is created. Its clean-up is the last of
// all and undoes in AWS what a failed build has begun.
type stepAccess struct{ *build }

func (s *stepAccess) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	if err := s.run(ctx); err != nil {
		return base.Fail(state, err)
	}
	generated := packerbuilderdata.GeneratedData{State: state}
	for name, value := range (base.Disk{Source: &s.base}).Generated(s.aws.Region) {
		generated.Put(name, value)
	}
	return multistep.ActionContinue
}

func (s *stepAccess) run(ctx context.Context) (err error) {
	c := s.config
	if s.aws, err = c.Load(ctx); err != nil {
		return err
	}
	s.ec2 = ec2.NewFromConfig(s.aws)
	run := cloud.ThisRun()
	s.bakery = instance.Bakery{
		EC2: s.ec2, Region: s.aws.Region, Run: run, ID: run.ID + "-" + random.AlphaNumLower(6), Tags: c.RunTags, Ladder: &s.machine, Say: s.ui.Say,
	}
	s.name = ami.Name{Options: &c.Options, EC2: s.ec2, Run: run, Ui: s.ui}
	if err := s.look(ctx); err != nil {
		return err
	}
	s.ui.Say(fmt.Sprintf("The base is %s (%s)", aws.ToString(s.base.ImageId), aws.ToString(s.base.Name)))
	s.texts, err = c.Render(ami.DataOf(s.aws.Region, &s.base))
	return err
}

// look looks everything up that is there already, side by side.
func (s *stepAccess) look(ctx context.Context) error {
	c := s.config
	looking, ctx := errgroup.WithContext(ctx)
	looking.Go(func() error { return s.name.Check(ctx) })
	looking.Go(func() (err error) {
		s.base, err = c.Find(ctx, s.ec2, ssm.NewFromConfig(s.aws), c.Architecture)
		return err
	})
	looking.Go(func() (err error) {
		s.place, err = s.bakery.Subnets(ctx, c.SubnetIds, c.SubnetFilter.Filters)
		return err
	})
	return looking.Wait()
}

func (s *stepAccess) Cleanup(state multistep.StateBag) {
	s.err, s.ended = base.Result(state), true
	if s.err == nil {
		s.begun.Keep()
		return
	}
	s.begun.BackOn(context.Background(), &s.err)
}
