// Package existing is the immutable-existing builder: it builds nothing, but
// finds an AMI that exists and hands it on, so that promotion and rollback are
// a `packer build` too.
package existing

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/rollout"
)

// Builder finds an AMI.
type Builder struct {
	config Config
}

// Run finds the AMI in each region. No machine is there for provisioners, so
// none is run.
func (b *Builder) Run(ctx context.Context, ui packersdk.Ui, _ packersdk.Hook) (packersdk.Artifact, error) {
	artifact := &image.Artifact{
		AMIs: map[string]string{},
		// Nothing was built, so nothing is destroyed when the build fails.
		Delete: func(context.Context, string, string) error { return nil },
	}
	for i, access := range b.config.accesses {
		found, err := b.find(ctx, ui, access)
		if err != nil {
			return nil, fmt.Errorf("region %s: %w", access.Region, err)
		}
		id := aws.ToString(found.ImageId)
		ui.Say(fmt.Sprintf("%s: %s (%s), created %s", access.Region, id, aws.ToString(found.Name), aws.ToString(found.CreationDate)))
		artifact.AMIs[access.Region] = id
		if i == 0 {
			artifact.Data = map[string]any{"generated_data": map[string]any{
				"BuildRegion": access.Region, "SourceAMI": id, "SourceAMIName": aws.ToString(found.Name),
			}}
		}
	}
	return artifact, nil
}

func (b *Builder) find(ctx context.Context, ui packersdk.Ui, access cloud.Access) (types.Image, error) {
	cfg, err := access.Load(ctx)
	if err != nil {
		return types.Image{}, err
	}
	found, err := b.look(ctx, ui, cfg)
	if err != nil {
		return types.Image{}, err
	}
	if found.State != types.ImageStateAvailable {
		return types.Image{}, fmt.Errorf("AMI %s (%s) is %s; only an available one can be handed on", aws.ToString(found.ImageId), aws.ToString(found.Name), found.State)
	}
	return found, nil
}

func (b *Builder) look(ctx context.Context, ui packersdk.Ui, cfg aws.Config) (types.Image, error) {
	c, api := b.config, ec2.NewFromConfig(cfg)
	groups := rollout.Rollout{Region: cfg.Region, AutoScaling: autoscaling.NewFromConfig(cfg), EC2: api, Ui: ui}
	var id string
	var err error
	switch {
	case c.AmiID != "":
		id = c.AmiID
	case c.SsmParameter != "":
		return image.ByParameter(ctx, api, ssm.NewFromConfig(cfg), "ssm_parameter", c.SsmParameter)
	case c.CurrentOf != "":
		groups.Group = c.CurrentOf
		id, err = groups.Current(ctx)
	case c.PreviousOf != "":
		groups.Group = c.PreviousOf
		id, err = groups.Previous(ctx)
	default:
		return image.Tagged{Tags: c.wanted(), Owners: c.Owners, Architecture: c.Architecture, MostRecent: c.MostRecent}.Find(ctx, api)
	}
	if err != nil {
		return types.Image{}, err
	}
	return image.Describe(ctx, api, id)
}
