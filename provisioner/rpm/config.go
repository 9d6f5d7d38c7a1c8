// Package rpm is the provisioner immutable-rpm.
package rpm

//go:generate go tool packer-sdc struct-markdown
//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config,Repository

import (
	"slices"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/install"
)

// Config is what immutable-rpm is told.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`
	cloud.Access        `mapstructure:",squash"`

	// What to install, all in one transaction. Each entry is one of:
	//
	// - a file on the machine that runs Packer, such as
	//   `dist/hello-1.0-1.x86_64.rpm`, or a pattern for such files, such as
	//   `dist/*.rpm`. They are read and verified by `packer validate`, so they
	//   must be there before `packer build` begins, and a pattern must match;
	// - an `https://` URL, or an `s3://bucket/key` object. It is fetched and
	//   verified by the machine that runs Packer, before anything is done to
	//   the machine that is baked;
	// - a name that the machine's package manager looks for in its
	//   repositories, in any form that it knows: `nginx`, `nginx-1.24*`,
	//   `@development-tools`.
	//
	// What has a slash in it or ends in `.rpm` is a file. Required unless
	// `update` or `services` give the provisioner something to do.
	Packages []string `mapstructure:"packages" required:"false"`
	// The SHA-256 of package files, by the entry exactly as in `packages`, or
	// by the path of a file that a pattern there matches:
	//
	// ```hcl
	//
	//	checksums = {
	//	  "https://example.com/hello-1.0-1.x86_64.rpm" = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	//	}
	//
	// ```
	Checksums map[string]string `mapstructure:"checksums" required:"false"`
	// Files with OpenPGP public keys, on the machine that runs Packer. The
	// signatures of package files are checked against them; they are not
	// imported into the image.
	GPGKeys []string `mapstructure:"gpg_keys" required:"false"`
	// Refuse package files that are not signed by one of `gpg_keys`, and have
	// the package manager check the signature of everything that it fetches
	// from repositories, whatever their own `gpgcheck` says. Defaults to true
	// if `gpg_keys` is given.
	//
	// A bad signature by one of `gpg_keys` is always refused.
	RequireSignature config.Trilean `mapstructure:"require_signature" required:"false"`
	// Repositories for this installation. See
	// [Repositories](#repositories).
	Repositories []Repository `mapstructure:"repositories" required:"false"`
	// The release to install from and to update to, as in `dnf --releasever`:
	// `2023.6.20250107`, or `latest`. Amazon Linux 2023 is otherwise locked to
	// the release of the base, so that `update` finds nothing to do.
	ReleaseVersion string `mapstructure:"release_version" required:"false"`
	// What to update before the packages are installed: `none` (the default),
	// `security`, which takes what the repositories mark as security updates,
	// or `all`.
	Update string `mapstructure:"update" required:"false"`
	// Units to enable, such as `hello.service`. Where systemd runs (on an
	// instance, or with `machine = "container"`), they are also started, and
	// must still be active two seconds later.
	Services []string `mapstructure:"services" required:"false"`
	// Check the result: that exactly the builds in the package files are
	// installed, and that `rpm -V` finds the packages intact. Changes of
	// configuration files are allowed. Defaults to true.
	Verify config.Trilean `mapstructure:"verify" required:"false"`
	// Remove the package manager's caches afterwards. Defaults to true.
	Clean config.Trilean `mapstructure:"clean" required:"false"`
}

// Repository is a repository of packages. It is written to
// `/etc/yum.repos.d`, used, and removed again:
//
// ```hcl
//
//	repositories {
//	  id      = "internal"
//	  baseurl = ["https://repo.example.com/al2023/$basearch"]
//	  gpgkey  = ["https://repo.example.com/RPM-GPG-KEY"]
//	}
//
// ```
//
// One that can't be reached fails the build. Addresses are the machine's: a
// `file://` URL names a file in it. A key that the package manager imported
// stays in the machine's rpm database.
type Repository struct {
	// The id, which the record of the image gives as the source of packages.
	ID string `mapstructure:"id" required:"true"`
	// The name in words. Defaults to `id`.
	Name string `mapstructure:"name" required:"false"`
	// The URLs of the repository, tried in this order. Required unless
	// `mirrorlist` is given.
	BaseURL []string `mapstructure:"baseurl" required:"false"`
	// The URL of a list of mirrors, instead of `baseurl`.
	MirrorList string `mapstructure:"mirrorlist" required:"false"`
	// The URLs of the keys that sign its packages. Required unless `gpgcheck`
	// is false.
	GPGKey []string `mapstructure:"gpgkey" required:"false"`
	// Check the signatures of its packages. Defaults to true.
	GPGCheck config.Trilean `mapstructure:"gpgcheck" required:"false"`
	// Use it now, and, with `keep`, also later. Defaults to true.
	Enabled config.Trilean `mapstructure:"enabled" required:"false"`
	// Which repository wins where several have a package: 1 before 99, which
	// is the package manager's default.
	Priority int `mapstructure:"priority" required:"false"`
	// Leave the repository in the image. Defaults to false.
	Keep bool `mapstructure:"keep" required:"false"`
}

// prepare fills in the defaults and checks everything, local files included.
func (c *Config) prepare() []error {
	if c.Update == "" {
		c.Update = install.UpdateNone
	}
	var errs []error
	if c.readsObjects() {
		errs = c.Prepare()
	}
	return append(errs, c.plan().Check()...)
}

// readsObjects tells whether AWS is needed at all.
func (c *Config) readsObjects() bool {
	return slices.ContainsFunc(c.Packages, func(entry string) bool { return strings.HasPrefix(entry, "s3://") })
}

func (c *Config) plan() *install.Plan {
	p := &install.Plan{
		Packages:         c.Packages,
		Checksums:        c.Checksums,
		GPGKeys:          c.GPGKeys,
		RequireSignature: c.RequireSignature.True() || (!c.RequireSignature.False() && len(c.GPGKeys) > 0),
		ReleaseVersion:   c.ReleaseVersion,
		Update:           c.Update,
		Services:         c.Services,
		Verify:           !c.Verify.False(),
		Clean:            !c.Clean.False(),
		Objects:          c.objects(),
	}
	for _, r := range c.Repositories {
		p.Repositories = append(p.Repositories, install.Repository{
			ID:       r.ID,
			Name:     r.Name,
			BaseURL:  r.BaseURL,
			Mirrors:  r.MirrorList,
			GPGKey:   r.GPGKey,
			GPGCheck: !r.GPGCheck.False(),
			Enabled:  !r.Enabled.False(),
			Priority: r.Priority,
			Keep:     r.Keep,
		})
	}
	return p
}
