// Package disk is the immutable-disk builder: it bakes a local disk image.
package disk

import (
	"context"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
	"github.com/hashicorp/packer-plugin-sdk/multistep/commonsteps"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// Builder bakes a local disk image.
type Builder struct {
	config Config
}

// Run bakes.
func (b *Builder) Run(ctx context.Context, ui packersdk.Ui, hook packersdk.Hook) (packersdk.Artifact, error) {
	state := new(multistep.BasicStateBag)
	state.Put("ui", ui)
	state.Put("hook", hook)

	work := &base.Work{Config: b.config.Config, Size: b.config.VolumeSize << 30}
	output := &stepOutput{config: &b.config, work: work}
	var steps []multistep.Step
	if b.config.FromAWS() {
		steps = append(steps, &stepAccess{access: b.config.Access, work: work})
	}
	steps = append(steps, &stepClaim{config: &b.config})
	steps = append(steps, work.Steps()...)
	steps = append(steps, output)

	commonsteps.NewRunner(steps, b.config.PackerConfig, ui).Run(ctx, state)
	if err := base.Result(state); err != nil {
		return nil, err
	}
	output.artifact.data = map[string]any{"generated_data": state.Get("generated_data")}
	return output.artifact, nil
}

// stepAccess proves the credentials for AWS.
type stepAccess struct {
	access cloud.Access
	work   *base.Work
}

func (s *stepAccess) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	aws, err := s.access.Load(ctx)
	if err != nil {
		return base.Fail(state, err)
	}
	s.work.Wish = base.Wish{AWS: aws, Run: cloud.ThisRun()}
	return multistep.ActionContinue
}

func (s *stepAccess) Cleanup(multistep.StateBag) {}
