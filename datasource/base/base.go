// Package base is the immutable-base data source: the clean Amazon Linux that a
// build begins with.
package base

//go:generate go tool packer-sdc struct-markdown
//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config,DatasourceOutput

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/hcl2helper"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/zclconf/go-cty/cty"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
)

// Config of the immutable-base data source.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`
	cloud.Access        `mapstructure:",squash"`

	// `al2023` (the default) or `al2`.
	Distribution string `mapstructure:"distribution" required:"false"`
	// `standard` (the default) or `minimal`. A minimal image lacks the SSM
	// agent and EC2 Instance Connect.
	Variant string `mapstructure:"variant" required:"false"`
	// The kernel line: `6.1`, `6.12` or `6.18` of AL2023, `5.10` of AL2, or
	// `default`, the default: whichever AWS recommends, which changes.
	Kernel string `mapstructure:"kernel" required:"false"`
	// `x86_64` or `arm64`. Default: that of this machine.
	Architecture string `mapstructure:"architecture" required:"false"`
	// An SSM parameter that holds the ID of a base of your own, in place of
	// Amazon Linux.
	SourceSsmParameter string `mapstructure:"source_ssm_parameter" required:"false"`
	// How old the base may be, such as `"720h"` for 30 days; the build fails
	// where it is older. Default: any age.
	MaxAge time.Duration `mapstructure:"max_age" required:"false"`

	parameter string // the SSM parameter that holds the base's ID
	option    string // and by which option it is chosen, for errors
}

// DatasourceOutput is what the data source gives. What is not known is empty.
type DatasourceOutput struct {
	// The ID of the AMI.
	ID string `mapstructure:"id"`
	// The name of the AMI.
	Name string `mapstructure:"name"`
	// The account that owns the AMI.
	Owner string `mapstructure:"owner"`
	// When the AMI was created, as RFC 3339 in UTC.
	CreationDate string `mapstructure:"creation_date"`
	// The ID of the root volume's snapshot.
	RootSnapshot string `mapstructure:"root_snapshot"`
	// `x86_64` or `arm64`.
	Architecture string `mapstructure:"architecture"`
	// `legacy-bios`, `uefi` or `uefi-preferred`; empty where the instance type
	// decides.
	BootMode string `mapstructure:"boot_mode"`
	// The release of Amazon Linux, such as `2023.9.20251105.0`, by the AMI's
	// name.
	Release string `mapstructure:"release"`
	// The kernel line, such as `6.12`, by the AMI's name.
	Kernel string `mapstructure:"kernel"`
	// The region that the AMI is in.
	Region string `mapstructure:"region"`
}

// Datasource is the immutable-base data source.
type Datasource struct {
	config Config
	now    func() time.Time // time.Now if it is nil
}

// ConfigSpec is the shape of Config in HCL.
func (d *Datasource) ConfigSpec() hcldec.ObjectSpec { return d.config.FlatMapstructure().HCL2Spec() }

// OutputSpec is the shape of DatasourceOutput in HCL.
func (d *Datasource) OutputSpec() hcldec.ObjectSpec {
	return (&DatasourceOutput{}).FlatMapstructure().HCL2Spec()
}

// Configure sets the defaults and checks the rest.
func (d *Datasource) Configure(raws ...any) error {
	c := &d.config
	if err := config.Decode(c, nil, raws...); err != nil {
		return err
	}
	// A secret must not get into a log, nor from there into another build.
	packersdk.LogSecretFilter.Set(c.Secrets()...)

	errs := c.Prepare()
	if c.MaxAge < 0 {
		errs = append(errs, fmt.Errorf("max_age is %s; it can't be negative", c.MaxAge))
	}
	errs = append(errs, c.prepareSource()...)
	if len(errs) > 0 {
		return &packersdk.MultiError{Errors: errs}
	}
	return nil
}

func (c *Config) prepareSource() []error {
	if c.SourceSsmParameter != "" {
		c.option, c.parameter = "source_ssm_parameter", c.SourceSsmParameter
		if c.Distribution+c.Variant+c.Kernel+c.Architecture != "" {
			return []error{fmt.Errorf("source_ssm_parameter is given together with distribution, variant, kernel or architecture, which choose an Amazon Linux; keep the one or the others")}
		}
		return nil
	}
	l := image.AmazonLinux{Distribution: c.Distribution, Variant: c.Variant, Kernel: c.Kernel, Architecture: c.Architecture}
	if l.Architecture == "" {
		l.Architecture = "x86_64"
		if runtime.GOARCH == "arm64" {
			l.Architecture = "arm64"
		}
	}
	errs := l.Prepare()
	c.option, c.parameter = "the public SSM parameter", l.Parameter()
	return errs
}

// Execute looks the base up.
func (d *Datasource) Execute() (cty.Value, error) {
	output, err := d.find(context.Background())
	if err != nil {
		return cty.NullVal(cty.EmptyObject), err
	}
	return hcl2helper.HCL2ValueFromConfig(output, d.OutputSpec()), nil
}

func (d *Datasource) find(ctx context.Context) (DatasourceOutput, error) {
	c := d.config
	cfg, err := c.Load(ctx)
	if err != nil {
		return DatasourceOutput{}, err
	}
	found, err := image.ByParameter(ctx, ec2.NewFromConfig(cfg), ssm.NewFromConfig(cfg), c.option, c.parameter)
	if err == nil {
		err = image.Finished(found)
	}
	if err != nil {
		return DatasourceOutput{}, err
	}
	now := time.Now
	if d.now != nil {
		now = d.now
	}
	if err := stale(found, c.MaxAge, now()); err != nil {
		return DatasourceOutput{}, err
	}
	return describe(found, cfg.Region), nil
}

// stale gives an error for a base that is older than it may be.
func stale(base types.Image, maxAge time.Duration, now time.Time) error {
	if maxAge == 0 {
		return nil
	}
	created, err := time.Parse(time.RFC3339, aws.ToString(base.CreationDate))
	if err != nil {
		return fmt.Errorf("the base %s does not tell its age: its creation date is %q; leave max_age out, or choose another base", aws.ToString(base.ImageId), aws.ToString(base.CreationDate))
	}
	if age := now.Sub(created); age > maxAge {
		return fmt.Errorf("the base %s (%s) was created %s, %s ago, and max_age is %s; renew the base, choose another, or allow for its age",
			aws.ToString(base.ImageId), aws.ToString(base.Name), aws.ToString(base.CreationDate), age.Truncate(time.Hour), maxAge)
	}
	return nil
}

func describe(base types.Image, region string) DatasourceOutput {
	name := aws.ToString(base.Name)
	output := DatasourceOutput{
		ID:           aws.ToString(base.ImageId),
		Name:         name,
		Owner:        aws.ToString(base.OwnerId),
		CreationDate: aws.ToString(base.CreationDate),
		Architecture: string(base.Architecture),
		BootMode:     string(base.BootMode),
		Release:      image.Release(name),
		Kernel:       image.Kernel(name),
		Region:       region,
	}
	if snapshots := image.Snapshots(base); len(snapshots) > 0 {
		output.RootSnapshot = snapshots[0]
	}
	return output
}
