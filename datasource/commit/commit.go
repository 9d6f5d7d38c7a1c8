// Package commit is the immutable-commit data source: the commit that a build
// is made from, as the immutable-tag post-processor knows it.
package commit

//go:generate go tool packer-sdc struct-markdown
//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config,DatasourceOutput

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/hcl2helper"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/zclconf/go-cty/cty"

	"github.com/immutable-server/packer-plugin-immutable/internal/commit"
)

// Config of the immutable-commit data source.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`

	// A file or a folder of the git work tree. Default `.`, the folder that
	// Packer is run in.
	Path string `mapstructure:"path" required:"false"`
	// What stands before the keys of `tags`. Default `Source/`.
	Prefix string `mapstructure:"prefix" required:"false"`
}

// DatasourceOutput is what the data source gives. What is not known is empty.
type DatasourceOutput struct {
	// The full id of the commit.
	ID string `mapstructure:"id"`
	// The whole message of the commit.
	Message string `mapstructure:"message"`
	// When the change was made, as RFC 3339 in UTC.
	AuthorDate string `mapstructure:"author_date"`
	// When the commit was made, as RFC 3339 in UTC.
	CommitterDate string `mapstructure:"committer_date"`
	// The branch.
	Branch string `mapstructure:"branch"`
	// Host and path of the repository, such as `github.com/org/name`.
	Repository string `mapstructure:"repository"`
	// Whether the work tree differs from the commit; true also where that
	// can't be told.
	Dirty bool `mapstructure:"dirty"`
	// The CI service's page on this build.
	BuildURL string `mapstructure:"build_url"`
	// All of these as the tags that immutable-tag makes of them.
	Tags map[string]string `mapstructure:"tags"`
}

// Datasource is the immutable-commit data source.
type Datasource struct {
	config Config
}

// ConfigSpec is the shape of Config in HCL.
func (d *Datasource) ConfigSpec() hcldec.ObjectSpec { return d.config.FlatMapstructure().HCL2Spec() }

// OutputSpec is the shape of DatasourceOutput in HCL.
func (d *Datasource) OutputSpec() hcldec.ObjectSpec {
	return (&DatasourceOutput{}).FlatMapstructure().HCL2Spec()
}

// Configure sets the defaults.
func (d *Datasource) Configure(raws ...any) error {
	if err := config.Decode(&d.config, nil, raws...); err != nil {
		return err
	}
	if d.config.Path == "" {
		d.config.Path = "."
	}
	if d.config.Prefix == "" {
		d.config.Prefix = commit.TagPrefix
	}
	if errs := commit.CheckPrefix(d.config.Prefix); len(errs) > 0 {
		return &packersdk.MultiError{Errors: errs}
	}
	return nil
}

// Execute reads the commit.
func (d *Datasource) Execute() (cty.Value, error) {
	found, err := commit.Read(context.Background(), d.config.Path, os.Getenv)
	if errors.Is(err, commit.ErrNone) {
		err = fmt.Errorf("%w; set path to the git work tree", err)
	}
	if err != nil {
		return cty.NullVal(cty.EmptyObject), fmt.Errorf("path is %q: %w", d.config.Path, err)
	}
	output := DatasourceOutput{
		ID:            found.ID,
		Message:       found.Message,
		AuthorDate:    date(found.AuthorDate),
		CommitterDate: date(found.CommitterDate),
		Branch:        found.Branch,
		Repository:    found.Repository,
		Dirty:         found.Dirty == nil || *found.Dirty,
		BuildURL:      found.BuildURL,
		Tags:          found.Tags(d.config.Prefix),
	}
	return hcl2helper.HCL2ValueFromConfig(output, d.OutputSpec()), nil
}

func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
