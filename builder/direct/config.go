package direct

//go:generate go tool packer-sdc struct-markdown
//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config

import (
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/immutable-server/packer-plugin-immutable/builder/ami"
	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/tags"
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
	errs = append(errs, c.prepareSnapshotTags()...)
	if len(errs) > 0 {
		return nil, nil, packer.MultiErrorAppend(nil, errs...)
	}
	return base.GeneratedNames, nil, nil
}

// What StartSnapshot allows in a tag: one character less than EC2
// (https://docs.aws.amazon.com/ebs/latest/APIReference/API_Tag.html).
const (
	longestKey   = tags.MaxKey - 1
	longestValue = tags.MaxValue - 1
)

// prepareSnapshotTags checks the tags that the snapshot has from its start,
// which are the AMI's too. Options.Prepare has told what is wrong with templates.
func (c *Config) prepareSnapshotTags() []error {
	texts, err := c.Render(ami.Data{})
	if err != nil {
		return nil
	}
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(texts.SnapshotTags)) {
		if n := utf8.RuneCountInString(key); n > longestKey {
			errs = append(errs, fmt.Errorf("tags or snapshot_tags: the key %q has %d characters and a snapshot made by EBS direct allows %d; shorten it", key, n, longestKey))
		}
		if n := utf8.RuneCountInString(texts.SnapshotTags[key]); n > longestValue {
			errs = append(errs, fmt.Errorf("tags or snapshot_tags: tag %q: the value has %d characters and a snapshot made by EBS direct allows %d; shorten it", key, n, longestValue))
		}
	}
	return errs
}
