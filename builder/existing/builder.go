// Package existing is the immutable-existing builder: it builds nothing, but
// finds an AMI that exists and hands it on, so that promotion and rollback are
// a `packer build` too.
package existing

import (
	"context"
	"errors"
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
		AMIs:  map[string]string{},
		Found: true,
		// Nothing was built, so nothing is destroyed when the build fails.
		Delete: func(context.Context, string, string) error { return nil },
	}
	var errs []error
	for i, access := range b.config.accesses {
		found, err := b.find(ctx, ui, access)
		if err != nil {
			errs = append(errs, fmt.Errorf("region %s: %w", access.Region, err))
			continue
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
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return artifact, nil
}

func (b *Builder) find(ctx context.Context, ui packersdk.Ui, access cloud.Access) (types.Image, error) {
	cfg, err := access.Load(ctx)
	if err != nil {
		return types.Image{}, err
	}
	found, err := b.look(ctx, ui, cfg)
	if err == nil {
		err = image.Finished(found)
	}
	return found, err
}

func (b *Builder) look(ctx context.Context, ui packersdk.Ui, cfg aws.Config) (types.Image, error) {
	c, api := b.config, ec2.NewFromConfig(cfg)
	switch {
	case c.AmiID != "":
		found, err := image.Describe(ctx, api, c.AmiID)
		if missing := (*image.NotFoundError)(nil); errors.As(err, &missing) {
			err = fmt.Errorf("ami_id: %w; correct the ID or the region", err)
		}
		return found, err
	case c.SsmParameter != "":
		return image.ByParameter(ctx, api, ssm.NewFromConfig(cfg), "ssm_parameter", c.SsmParameter)
	case c.byTags():
		return image.Tagged{Tags: c.wanted(), Owners: c.Owners, Architecture: c.Architecture, MostRecent: c.MostRecent}.Find(ctx, api)
	}
	return b.ofGroup(ctx, ui, cfg, api)
}

// ofGroup finds by what a group runs, or has run.
func (b *Builder) ofGroup(ctx context.Context, ui packersdk.Ui, cfg aws.Config, api *ec2.Client) (types.Image, error) {
	option, group := "current_of", b.config.CurrentOf
	ask := rollout.Rollout.Current
	if group == "" {
		option, group, ask = "previous_of", b.config.PreviousOf, rollout.Rollout.Previous
	}
	id, err := ask(rollout.Rollout{Group: group, Region: cfg.Region, AutoScaling: autoscaling.NewFromConfig(cfg), EC2: api, Ui: ui}, ctx)
	if err != nil {
		return types.Image{}, fmt.Errorf("%s: %w", option, err)
	}
	found, err := image.Describe(ctx, api, id)
	if err != nil {
		return types.Image{}, fmt.Errorf("%s: find the image of group %q: %w", option, group, err)
	}
	return found, nil
}
