package existing

//go:generate go tool packer-sdc struct-markdown
//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/common"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/commit"
	"github.com/immutable-server/packer-plugin-immutable/internal/tags"
)

// Config is what `source "immutable-existing"` takes. One of `ami_id`, `commit`,
// `tags`, `ssm_parameter`, `current_of` and `previous_of` says which AMI is
// meant; `commit` and `tags` may be given together.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`
	cloud.Access        `mapstructure:",squash"`

	// The ID of the AMI.
	AmiID string `mapstructure:"ami_id" required:"false"`
	// The full ID of the commit that the AMI was made from, as the
	// immutable-tag post-processor put it on the AMI.
	Commit string `mapstructure:"commit" required:"false"`
	// The `prefix` of immutable-tag, for `commit`. Default `Source/`.
	Prefix string `mapstructure:"prefix" required:"false"`
	// Tags that the AMI has.
	Tags map[string]string `mapstructure:"tags" required:"false"`
	// The SSM parameter that holds the AMI's ID.
	SsmParameter string `mapstructure:"ssm_parameter" required:"false"`
	// An Auto Scaling group: the AMI is the one that it runs now. An error
	// while an instance refresh of the group goes on.
	CurrentOf string `mapstructure:"current_of" required:"false"`
	// An Auto Scaling group: the AMI is the one that it ran before, from the
	// history of its launch template. Rolled out again this is a rollback.
	PreviousOf string `mapstructure:"previous_of" required:"false"`

	// For `commit` and `tags`: who may own the AMI, as account IDs or `self`.
	// Default `["self"]`. Tags are each account's own: on an AMI that another
	// account shares, only those count that this account has put there.
	Owners []string `mapstructure:"owners" required:"false"`
	// For `commit` and `tags`: `x86_64` or `arm64`. Default: any.
	Architecture string `mapstructure:"architecture" required:"false"`
	// For `commit` and `tags`: take the youngest AMI if several match. Default
	// false: several are an error.
	MostRecent bool `mapstructure:"most_recent" required:"false"`

	// Find an AMI in each of these regions, and hand on all of them. Default:
	// in `region` alone.
	Regions []string `mapstructure:"regions" required:"false"`

	accesses []cloud.Access
}

// ConfigSpec is the HCL of Config.
func (b *Builder) ConfigSpec() hcldec.ObjectSpec { return b.config.FlatMapstructure().HCL2Spec() }

// Prepare checks the options, without a call to AWS.
func (b *Builder) Prepare(raws ...any) (generated, warnings []string, err error) {
	c := &b.config
	err = config.Decode(c, &config.DecodeOpts{PluginType: "immutable-existing", Interpolate: true}, raws...)
	if err != nil {
		return nil, nil, err
	}
	// A secret must not get into a log, nor from there into another build.
	packersdk.LogSecretFilter.Set(c.Secrets()...)

	errs := c.prepareChoice()
	errs = append(errs, c.prepareTags()...)
	errs = append(errs, c.prepareRegions()...)
	if len(errs) > 0 {
		return nil, nil, packersdk.MultiErrorAppend(nil, errs...)
	}
	return []string{"BuildRegion", "SourceAMI", "SourceAMIName"}, nil, nil
}

var amiID = regexp.MustCompile(`^ami-([0-9a-f]{8}|[0-9a-f]{17})$`)

func (c *Config) prepareChoice() []error {
	var given []string
	for option, is := range map[string]bool{
		"ami_id":         c.AmiID != "",
		"commit or tags": c.byTags(),
		"ssm_parameter":  c.SsmParameter != "",
		"current_of":     c.CurrentOf != "",
		"previous_of":    c.PreviousOf != "",
	} {
		if is {
			given = append(given, option)
		}
	}
	var errs []error
	switch slices.Sort(given); len(given) {
	case 0:
		errs = append(errs, errors.New("nothing says which AMI is meant; give ami_id, commit, tags, ssm_parameter, current_of or previous_of"))
	case 1:
	default:
		errs = append(errs, fmt.Errorf("%s are given together; keep the one that says which AMI is meant", strings.Join(given, " and ")))
	}
	if c.AmiID != "" && !amiID.MatchString(c.AmiID) {
		errs = append(errs, fmt.Errorf("ami_id is %q, which is not the ID of an AMI; it looks like ami-0123456789abcdef0", c.AmiID))
	}
	return errs
}

func (c *Config) byTags() bool { return c.Commit != "" || len(c.Tags) > 0 }

// commitID is a full SHA-1 or SHA-256 object name of git.
var commitID = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

var ownerID = regexp.MustCompile(`^(self|\d{12})$`)

func (c *Config) prepareTags() []error {
	if !c.byTags() {
		var errs []error
		for _, narrowing := range []struct {
			option string
			given  bool
		}{
			{"prefix", c.Prefix != ""}, {"owners", len(c.Owners) > 0}, {"architecture", c.Architecture != ""}, {"most_recent", c.MostRecent},
		} {
			if narrowing.given {
				errs = append(errs, fmt.Errorf("%s is given without commit or tags, which alone it narrows; take it out", narrowing.option))
			}
		}
		return errs
	}
	errs := tags.Check("tags", c.Tags)
	if c.Commit != "" && !commitID.MatchString(c.Commit) {
		errs = append(errs, fmt.Errorf("commit is %q; give the full ID of the commit, as `git rev-parse HEAD` prints it", c.Commit))
	}
	if c.Prefix != "" && c.Commit == "" {
		errs = append(errs, errors.New("prefix is given without commit; it is that of the commit's tag"))
	}
	if c.Prefix == "" {
		c.Prefix = commit.TagPrefix
	}
	if len(c.Owners) == 0 {
		c.Owners = []string{"self"}
	}
	for _, owner := range c.Owners {
		if !ownerID.MatchString(owner) {
			errs = append(errs, fmt.Errorf("owners has %q; give self, or the 12 digits of an account's ID", owner))
		}
	}
	if c.Architecture != "" && c.Architecture != "x86_64" && c.Architecture != "arm64" {
		errs = append(errs, fmt.Errorf("architecture is %q; it is x86_64 or arm64", c.Architecture))
	}
	return errs
}

// wanted are the tags that the AMI must have.
func (c *Config) wanted() map[string]string {
	wanted := maps.Clone(c.Tags)
	if wanted == nil {
		wanted = map[string]string{}
	}
	if c.Commit != "" {
		wanted[c.Prefix+commit.Keys[0]] = c.Commit
	}
	return wanted
}

func (c *Config) prepareRegions() []error {
	regions := c.Regions
	if len(regions) == 0 {
		regions = []string{c.Region}
	} else if c.Region != "" {
		return []error{fmt.Errorf("region and regions are given together; keep regions, with %q among them if it is meant", c.Region)}
	}
	if len(regions) > 1 && c.AmiID != "" {
		return []error{errors.New("ami_id is given with several regions, and an ID is that of one region's AMI; use commit or tags")}
	}
	var errs []error
	c.accesses = nil
	for _, region := range regions {
		access := c.In(region)
		errs = append(errs, access.Prepare()...)
		if slices.ContainsFunc(c.accesses, func(a cloud.Access) bool { return a.Region == access.Region }) {
			errs = append(errs, fmt.Errorf("regions has %q twice; keep one", access.Region))
		}
		c.accesses = append(c.accesses, access)
	}
	return errs
}
