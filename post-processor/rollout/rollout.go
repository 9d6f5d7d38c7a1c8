// Package rollout is the immutable-rollout post-processor: it rolls an Auto
// Scaling group onto the AMI and waits for the end.
package rollout

//go:generate go tool packer-sdc struct-markdown
//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/common"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/commit"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/rollout"
)

// Config of the immutable-rollout post-processor.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`
	cloud.Access        `mapstructure:",squash"`
	rollout.Preferences `mapstructure:",squash"`

	// The name of the Auto Scaling group. It must have a launch template of a
	// numbered version.
	AutoScalingGroup string `mapstructure:"auto_scaling_group" required:"true"`
	// What stands before the keys of the commit's tags on the image: the
	// `prefix` of immutable-tag. Instances and volumes get the same tags.
	// Default `Source/`.
	Prefix string `mapstructure:"prefix" required:"false"`
	// How long the rollout may take before it is cancelled, such as `"45m"`.
	// By default as long as AWS lets it: an hour without progress, and 14 days
	// in all.
	Timeout time.Duration `mapstructure:"timeout" required:"false"`

	ctx interpolate.Context
}

// PostProcessor is the immutable-rollout post-processor.
type PostProcessor struct {
	config Config
}

// ConfigSpec is the shape of Config in HCL.
func (p *PostProcessor) ConfigSpec() hcldec.ObjectSpec { return p.config.FlatMapstructure().HCL2Spec() }

// longestName is Auto Scaling's limit on a group's name.
const longestName = 255

// Configure checks all that can be known without AWS.
func (p *PostProcessor) Configure(raws ...any) error {
	err := config.Decode(&p.config, &config.DecodeOpts{
		PluginType:         "immutable-rollout",
		Interpolate:        true,
		InterpolateContext: &p.config.ctx,
	}, raws...)
	if err != nil {
		return err
	}
	c := &p.config
	// A secret must not get into a log, nor from there into another build.
	packersdk.LogSecretFilter.Set(c.Secrets()...)

	if c.Prefix == "" {
		c.Prefix = commit.TagPrefix
	}
	var errs []error
	switch n := len(c.AutoScalingGroup); {
	case n == 0:
		errs = append(errs, errors.New("auto_scaling_group is not set; name the group to roll out to"))
	case n > longestName:
		errs = append(errs, fmt.Errorf("auto_scaling_group has %d characters; AWS allows %d", n, longestName))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout is %s; it can't be negative", c.Timeout))
	}
	errs = append(errs, c.Preferences.Prepare()...)
	errs = append(errs, c.CheckAccess()...)
	if len(errs) > 0 {
		return &packersdk.MultiError{Errors: errs}
	}
	return nil
}

// PostProcess rolls out, and hands the artifact on as it is.
func (p *PostProcessor) PostProcess(ctx context.Context, ui packersdk.Ui, artifact packersdk.Artifact) (packersdk.Artifact, bool, bool, error) {
	if err := p.rollOut(ctx, ui, artifact); err != nil {
		return nil, true, true, err
	}
	return artifact, true, true, nil
}

func (p *PostProcessor) rollOut(ctx context.Context, ui packersdk.Ui, artifact packersdk.Artifact) error {
	amis, err := image.Parse(artifact)
	if err != nil {
		return err
	}
	region, err := p.region(amis)
	if err != nil {
		return err
	}
	aws, err := p.config.In(region).Load(ctx)
	if err != nil {
		return err
	}
	return rollout.Rollout{
		Group:       p.config.AutoScalingGroup,
		Region:      region,
		Image:       amis[region],
		Prefix:      p.config.Prefix,
		Preferences: p.config.Preferences,
		Timeout:     p.config.Timeout,
		AutoScaling: autoscaling.NewFromConfig(aws),
		EC2:         ec2.NewFromConfig(aws),
		Balancers:   elasticloadbalancingv2.NewFromConfig(aws),
		Ui:          ui,
	}.Run(ctx)
}

// region is the one that is given, or else the only one that the artifact has
// an image in, or else the usual one of the environment or the profile.
func (p *PostProcessor) region(amis map[string]string) (string, error) {
	there := slices.Sorted(maps.Keys(amis))
	access := p.config.Access
	if access.Region == "" && len(there) == 1 {
		return there[0], nil
	}
	if errs := access.Prepare(); len(errs) > 0 {
		return "", errors.Join(errs...)
	}
	if _, ok := amis[access.Region]; !ok {
		return "", fmt.Errorf("region is %q, and the artifact has images in %s; set region to one of these, or have the image made in that region too", access.Region, strings.Join(there, ", "))
	}
	return access.Region, nil
}
