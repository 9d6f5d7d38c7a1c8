// Package tag is the immutable-tag post-processor: it puts the commit, and what
// was installed, on the AMI and its snapshots.
package tag

//go:generate go tool packer-sdc struct-markdown
//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/common"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/commit"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/record"
	"github.com/immutable-server/packer-plugin-immutable/internal/tags"
)

// Config of the immutable-tag post-processor.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`
	cloud.Access        `mapstructure:",squash"`

	// A file or a folder of the git work tree whose commit the image is made
	// from. Default `.`, the folder that Packer is run in.
	Path string `mapstructure:"path" required:"false"`
	// What stands before the keys of the commit's tags. Default `Source/`.
	Prefix string `mapstructure:"prefix" required:"false"`
	// More tags for the AMI and its snapshots. They go before those of the
	// commit where the keys are the same.
	Tags map[string]string `mapstructure:"tags" required:"false"`
	// Fail where no commit can be found. Default true: an image without one
	// can't be traced back to its source.
	RequireCommit config.Trilean `mapstructure:"require_commit" required:"false"`
	// Fail where the work tree differs from its commit: by a tracked file
	// that was changed, or by one that is neither tracked nor ignored.
	// Default false: there is a warning, and the tag `Source/Dirty`.
	RequireClean bool `mapstructure:"require_clean" required:"false"`

	ctx interpolate.Context
}

// PostProcessor is the immutable-tag post-processor.
type PostProcessor struct {
	config Config
	commit commit.Commit
}

// ConfigSpec is the shape of Config in HCL.
func (p *PostProcessor) ConfigSpec() hcldec.ObjectSpec { return p.config.FlatMapstructure().HCL2Spec() }

// Configure reads the commit already: so a lack of it fails the validation and
// not the finished bake, and a commit that somebody makes during the bake is
// not taken for the one that was built.
func (p *PostProcessor) Configure(raws ...any) error {
	err := config.Decode(&p.config, &config.DecodeOpts{
		PluginType:         "immutable-tag",
		Interpolate:        true,
		InterpolateContext: &p.config.ctx,
	}, raws...)
	if err != nil {
		return err
	}
	c := &p.config
	// A secret must not get into a log, nor from there into another build.
	packersdk.LogSecretFilter.Set(c.Secrets()...)

	if c.Path == "" {
		c.Path = "."
	}
	if c.Prefix == "" {
		c.Prefix = commit.TagPrefix
	}
	var errs []error
	errs = append(errs, c.CheckAccess()...)
	errs = append(errs, commit.CheckPrefix(c.Prefix)...)
	errs = append(errs, tags.Check("tags", c.Tags)...)
	errs = append(errs, p.readCommit()...)
	if len(errs) > 0 {
		return &packersdk.MultiError{Errors: errs}
	}
	return nil
}

func (p *PostProcessor) readCommit() []error {
	c := &p.config
	found, err := commit.Read(context.Background(), c.Path, os.Getenv)
	switch {
	case errors.Is(err, commit.ErrNone) && c.RequireCommit.False():
		return nil
	case errors.Is(err, commit.ErrNone):
		return []error{fmt.Errorf("path is %q: %w; set path to the git work tree, or require_commit = false", c.Path, err)}
	case err != nil:
		return []error{fmt.Errorf("path is %q: %w", c.Path, err)}
	}
	if c.RequireClean && (found.Dirty == nil || *found.Dirty) {
		what := "differs from commit " + found.ID
		if found.Dirty == nil {
			what = "can't be compared with commit " + found.ID
		}
		return []error{fmt.Errorf("require_clean is true, and the work tree of path %q %s; commit or remove what git status shows", c.Path, what)}
	}
	p.commit = found
	return nil
}

// PostProcess tags, and hands the artifact on as it is.
func (p *PostProcessor) PostProcess(ctx context.Context, ui packersdk.Ui, artifact packersdk.Artifact) (packersdk.Artifact, bool, bool, error) {
	if err := p.tag(ctx, ui, artifact); err != nil {
		return nil, true, true, err
	}
	return artifact, true, true, nil
}

func (p *PostProcessor) tag(ctx context.Context, ui packersdk.Ui, artifact packersdk.Artifact) error {
	amis, err := image.Parse(artifact)
	if err != nil {
		return err
	}
	groups, err := p.groups(ui, artifact)
	if err != nil {
		return err
	}
	for _, region := range slices.Sorted(maps.Keys(amis)) {
		if err := p.tagIn(ctx, ui, region, amis[region], groups); err != nil {
			return fmt.Errorf("tag in region %s: %w", region, err)
		}
	}
	return nil
}

// groups are the tags for an artifact, the least important last. An AMI that was
// there before the build is not made from its commit, nor has it what this build
// installs.
func (p *PostProcessor) groups(ui packersdk.Ui, artifact packersdk.Artifact) ([]map[string]string, error) {
	if found, _ := artifact.State(image.StateFound).(bool); found {
		ui.Say("The AMI was there before this build: it keeps the tags of the commit that it is made from, and gets those of the option tags alone")
		return []map[string]string{p.config.Tags}, nil
	}
	if p.commit.Dirty != nil && *p.commit.Dirty {
		ui.Error(fmt.Sprintf("Warning: the work tree differs from commit %s, so that the image is not made from this commit alone", p.commit.ID))
	}
	installed, err := p.installed()
	return []map[string]string{p.config.Tags, p.commit.Tags(p.config.Prefix), installed}, err
}

func (p *PostProcessor) tagIn(ctx context.Context, ui packersdk.Ui, region, ami string, groups []map[string]string) error {
	aws, err := p.config.In(region).Load(ctx)
	if err != nil {
		return err
	}
	put, left, err := image.Annotate(ctx, ec2.NewFromConfig(aws), ami, groups...)
	if err != nil {
		return err
	}
	ui.Say(fmt.Sprintf("Tagged %s and its snapshots in %s:", ami, region))
	for _, key := range slices.Sorted(maps.Keys(put)) {
		ui.Say(fmt.Sprintf("  %s = %s", key, put[key]))
	}
	if len(left) > 0 {
		ui.Error(fmt.Sprintf("Warning: a resource can have %d tags; there was no room for %s", tags.Max, strings.Join(left, ", ")))
	}
	return nil
}

func (p *PostProcessor) installed() (map[string]string, error) {
	if record.Run() == "" {
		return nil, nil
	}
	found, ok, err := record.Find(record.Key{Builder: p.config.PackerBuilderType, Build: p.config.PackerBuildName})
	if err != nil || !ok {
		return nil, err
	}
	return packageTags(found), nil
}
