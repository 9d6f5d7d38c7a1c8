// Package direct is the immutable-direct builder: it bakes an AMI without an
// instance. The base's disk is brought to this machine, baked on here, and the
// blocks that differ become a snapshot and an AMI.
package direct

import (
	"context"
	"fmt"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
	"github.com/hashicorp/packer-plugin-sdk/multistep/commonsteps"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
)

// Builder bakes an AMI.
type Builder struct {
	config Config
}

// StateStats is the artifact's state with the figures of the build.
const StateStats = "immutable.stats"

// Run bakes.
func (b *Builder) Run(ctx context.Context, ui packersdk.Ui, hook packersdk.Hook) (packersdk.Artifact, error) {
	if reused, err := b.reuse(ctx, ui); err != nil || reused != nil {
		return reused, err
	}
	state := new(multistep.BasicStateBag)
	state.Put("ui", ui)
	state.Put("hook", hook)

	build := &build{
		config: &b.config,
		ui:     ui,
		work:   &base.Work{Config: b.config.Config, Size: b.config.VolumeSize << 30},
	}
	steps := []multistep.Step{&stepAccess{build}}
	steps = append(steps, build.work.Steps()...)
	steps = append(steps, &stepUpload{build}, &stepRegister{build})

	commonsteps.NewRunner(steps, b.config.PackerConfig, ui).Run(ctx, state)
	if err := build.result(state); err != nil {
		return nil, err
	}
	ui.Say(build.timing())
	region := build.work.Wish.AWS.Region
	return &image.Artifact{
		AMIs: map[string]string{region: build.ami},
		Data: map[string]any{
			"generated_data": state.Get("generated_data"),
			StateStats:       build.stats(),
		},
		Delete: func(ctx context.Context, _, ami string) error {
			if err := image.Unused(ctx, build.ec2, ami); err != nil {
				return fmt.Errorf("it is kept, because %w; deregister it once none is left", err)
			}
			return image.Delete(ctx, build.ec2, ami)
		},
	}, nil
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
