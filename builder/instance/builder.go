// Package instance is the immutable-instance builder: it bakes an AMI on an EC2
// instance, over SSH.
package instance

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/hashicorp/packer-plugin-sdk/multistep"
	"github.com/hashicorp/packer-plugin-sdk/multistep/commonsteps"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/builder/ami"
	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/instance"
	"github.com/immutable-server/packer-plugin-immutable/internal/ladder"
)

// Builder bakes an AMI.
type Builder struct {
	config Config
}

// build is what the steps of one build have in common.
type build struct {
	config *Config
	ui     packersdk.Ui

	aws    aws.Config
	ec2    *ec2.Client
	bakery instance.Bakery
	name   ami.Name
	base   types.Image
	texts  ami.Texts

	// machine is what exists only while the build runs: the instance and the
	// ways to it. It is undone in any case.
	machine ladder.Ladder
	// begun is the snapshot and the AMI, until they are finished.
	begun ladder.Ladder
	// ended says that what was begun is undone or kept, and err with which
	// error the build ended.
	ended bool
	err   error

	place    instance.Place
	instance types.Instance
	over     bool // the instance is not needed any more
	ami      string
}

// Run bakes.
func (b *Builder) Run(ctx context.Context, ui packersdk.Ui, hook packersdk.Hook) (packersdk.Artifact, error) {
	if reused, err := b.reuse(ctx, ui); err != nil || reused != nil {
		return reused, err
	}
	state := new(multistep.BasicStateBag)
	state.Put("ui", ui)
	state.Put("hook", hook)

	build := &build{config: &b.config, ui: ui}
	steps := []multistep.Step{
		&stepAccess{build},
		&stepLaunch{build},
		&stepConnect{build: build},
		// Packer's -on-error knows this step by its type.
		new(commonsteps.StepProvision),
		&commonsteps.StepCleanupTempKeys{Comm: &b.config.Comm},
		&stepImage{build: build},
	}
	commonsteps.NewRunner(steps, b.config.PackerConfig, ui).Run(ctx, state)
	if err := build.result(state); err != nil {
		return nil, err
	}
	return &image.Artifact{
		AMIs: map[string]string{build.aws.Region: build.ami},
		Data: map[string]any{"generated_data": state.Get("generated_data")},
		Delete: func(ctx context.Context, _, ami string) error {
			if err := image.Unused(ctx, build.ec2, ami); err != nil {
				return fmt.Errorf("it is kept, because %w; deregister it once none is left", err)
			}
			return image.Delete(ctx, build.ec2, ami)
		},
	}, nil
}

// result is the error that the build ended with. It is asked for when what was
// begun is undone or kept, and after: an interrupt in between must not make a
// build fail whose AMI was kept.
func (b *build) result(state multistep.StateBag) error {
	if b.ended {
		return b.err
	}
	return base.Result(state)
}

// reuse gives the AMI of an earlier build that is the same; nil if there is none.
func (b *Builder) reuse(ctx context.Context, ui packersdk.Ui) (packersdk.Artifact, error) {
	c := &b.config
	if err := c.ReadReuseFiles(); err != nil || !c.Reusing() || c.PackerForce {
		return nil, err
	}
	cfg, err := c.Load(ctx)
	if err != nil {
		return nil, err
	}
	reused, err := c.Reused(ctx, ui, cfg, c.Source, c.Architecture)
	if err != nil || reused == nil {
		return nil, err
	}
	return reused, nil
}
