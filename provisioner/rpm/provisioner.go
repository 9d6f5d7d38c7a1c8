package rpm

import (
	"context"
	"fmt"

	"github.com/hashicorp/hcl/v2/hcldec"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/immutable-server/packer-plugin-immutable/internal/communicator"
	"github.com/immutable-server/packer-plugin-immutable/internal/record"
)

// Provisioner is immutable-rpm.
type Provisioner struct{ config Config }

var _ packersdk.Provisioner = (*Provisioner)(nil)

// ConfigSpec implements packersdk.Provisioner.
func (p *Provisioner) ConfigSpec() hcldec.ObjectSpec { return p.config.FlatMapstructure().HCL2Spec() }

// Prepare implements packersdk.Provisioner.
func (p *Provisioner) Prepare(raws ...any) error {
	err := config.Decode(&p.config, &config.DecodeOpts{
		PluginType:         "immutable-rpm",
		Interpolate:        true,
		InterpolateContext: &interpolate.Context{},
	}, raws...)
	if err != nil {
		return err
	}
	// A secret must not get into a log, nor from there into another build.
	packersdk.LogSecretFilter.Set(p.config.Secrets()...)

	if errs := p.config.prepare(); len(errs) > 0 {
		return packersdk.MultiErrorAppend(nil, errs...)
	}
	return nil
}

// Provision implements packersdk.Provisioner.
func (p *Provisioner) Provision(ctx context.Context, ui packersdk.Ui, comm packersdk.Communicator, _ map[string]any) error {
	installed, err := p.config.plan().Run(ctx, communicator.Guest(comm), ui)
	if err != nil {
		return err
	}
	build := record.Key{Builder: p.config.PackerBuilderType, Build: p.config.PackerBuildName}
	if err := record.Hand(build, installed); err != nil {
		return err
	}
	ui.Say(fmt.Sprintf("Recorded %d packages in %s", len(installed.Packages), record.Path))
	return nil
}
