package direct

//go:generate go tool packer-sdc struct-markdown
//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config

import (
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/immutable-server/packer-plugin-immutable/builder/ami"
	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// Config is what `source "immutable-direct"` takes.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`
	base.Config         `mapstructure:",squash"`
	ami.Options         `mapstructure:",squash"`
	cloud.Access        `mapstructure:",squash"`
}

// ConfigSpec is the HCL of Config.
func (b *Builder) ConfigSpec() hcldec.ObjectSpec { return b.config.FlatMapstructure().HCL2Spec() }

// Prepare checks the options, without a call to AWS.
func (b *Builder) Prepare(raws ...any) (generated, warnings []string, err error) {
	c := &b.config
	err = config.Decode(c, c.Decoding("immutable-direct"), raws...)
	if err != nil {
		return nil, nil, err
	}
	// A secret must not get into a log, nor from there into another build.
	packer.LogSecretFilter.Set(c.Secrets()...)

	errs := c.Config.Prepare()
	errs = append(errs, c.Access.Prepare()...)
	errs = append(errs, c.Options.Prepare(ami.Source{Architecture: c.Architecture, Local: !c.FromAWS()})...)
	if len(errs) > 0 {
		return nil, nil, packer.MultiErrorAppend(nil, errs...)
	}
	return base.GeneratedNames, nil, nil
}
