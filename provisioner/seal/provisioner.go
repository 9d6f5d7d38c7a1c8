package seal

import (
	"context"
	"strings"

	"github.com/hashicorp/hcl/v2/hcldec"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/immutable-server/packer-plugin-immutable/internal/communicator"
	"github.com/immutable-server/packer-plugin-immutable/internal/seal"
)

// Provisioner is immutable-seal.
type Provisioner struct{ config Config }

var _ packersdk.Provisioner = (*Provisioner)(nil)

// ConfigSpec implements packersdk.Provisioner.
func (p *Provisioner) ConfigSpec() hcldec.ObjectSpec { return p.config.FlatMapstructure().HCL2Spec() }

// Prepare implements packersdk.Provisioner.
func (p *Provisioner) Prepare(raws ...any) error {
	err := config.Decode(&p.config, &config.DecodeOpts{
		PluginType:         "immutable-seal",
		Interpolate:        true,
		InterpolateContext: &interpolate.Context{},
	}, raws...)
	if err != nil {
		return err
	}
	if errs := seal.Check(p.config.Keep); len(errs) > 0 {
		return packersdk.MultiErrorAppend(nil, errs...)
	}
	return nil
}

// Provision implements packersdk.Provisioner.
func (p *Provisioner) Provision(ctx context.Context, ui packersdk.Ui, comm packersdk.Communicator, _ map[string]any) error {
	line := "Sealing the machine"
	if len(p.config.Keep) > 0 {
		line += ", keeping " + strings.Join(p.config.Keep, ", ")
	}
	ui.Say(line)
	return seal.Run(ctx, communicator.Guest(comm), p.config.Keep)
}
