package disk

//go:generate go tool packer-sdc struct-markdown
//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
)

// Config is what `source "immutable-disk"` takes. The options of AWS access
// matter only where the base is an AMI.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`
	base.Config         `mapstructure:",squash"`
	cloud.Access        `mapstructure:",squash"`

	// The size of the disk in GiB. The root filesystem is grown with it, which
	// needs the root partition to be the last on the disk. Default: the size
	// of the base's disk, which is also the least.
	VolumeSize int64 `mapstructure:"volume_size" required:"false"`
	// The file to write. Beside it, `<output_path>.sha256` has its checksum as
	// `sha256sum -c` reads it. A file that exists is an error, but with
	// `packer build -force` it is replaced at the end of the build. Default
	// `output-<build name>/<build name>.<format>`.
	OutputPath string `mapstructure:"output_path" required:"false"`
	// The format of the file: `raw` (the default), a sparse file, or `qcow2`,
	// which needs qemu-img.
	Format string `mapstructure:"format" required:"false"`

	ctx interpolate.Context
}

// ConfigSpec is the HCL of Config.
func (b *Builder) ConfigSpec() hcldec.ObjectSpec { return b.config.FlatMapstructure().HCL2Spec() }

// Prepare checks the options, without touching anything.
func (b *Builder) Prepare(raws ...any) (generated, warnings []string, err error) {
	c := &b.config
	err = config.Decode(c, &config.DecodeOpts{
		PluginType:         "immutable-disk",
		Interpolate:        true,
		InterpolateContext: &c.ctx,
	}, raws...)
	if err != nil {
		return nil, nil, err
	}
	// A secret must not get into a log, nor from there into another build.
	packer.LogSecretFilter.Set(c.Secrets()...)

	errs := c.Config.Prepare()
	if c.FromAWS() {
		errs = append(errs, c.Access.Prepare()...)
	}
	errs = append(errs, c.prepareOutput()...)
	if len(errs) > 0 {
		return nil, nil, packer.MultiErrorAppend(nil, errs...)
	}
	return base.GeneratedNames, nil, nil
}

func (c *Config) prepareOutput() []error {
	var errs []error
	if c.VolumeSize < 0 || c.VolumeSize > 64<<10 {
		errs = append(errs, fmt.Errorf("volume_size is %d; give the size of the disk in GiB, from 1 to 65536", c.VolumeSize))
	}
	if c.Format == "" {
		c.Format = disk.Raw
	}
	if !slices.Contains(disk.Formats, c.Format) {
		errs = append(errs, fmt.Errorf("format is %q; it is one of %q", c.Format, disk.Formats))
	}
	if c.Format == disk.Qcow2 {
		if err := disk.FindQemuImg(); err != nil {
			errs = append(errs, fmt.Errorf("format is %q: %w", c.Format, err))
		}
	}
	if c.OutputPath == "" {
		c.OutputPath = filepath.Join("output-"+c.PackerBuildName, c.PackerBuildName+"."+c.Format)
	}
	for _, path := range []string{c.OutputPath, checksumPath(c.OutputPath)} {
		switch info, err := os.Lstat(path); {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			errs = append(errs, fmt.Errorf("output_path: %w", err))
		case info.IsDir():
			errs = append(errs, fmt.Errorf("output_path: %s is a directory; give the path of the file to write", path))
		case !c.PackerForce:
			errs = append(errs, fmt.Errorf("output_path: %s exists; remove it, or replace it with packer build -force", path))
		}
	}
	return errs
}
