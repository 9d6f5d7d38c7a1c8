// Package base is what the builders that bake a local disk have in common: the
// options that name the base, and how its disk comes to this machine.
package base

//go:generate go tool packer-sdc struct-markdown

import (
	"fmt"
	"net/url"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/bake"
)

// Config names the base that is baked on, and the machine that it becomes
// meanwhile. At most one of `source_image`, `source_ami`, `source_ami_filter`
// and `source_ssm_parameter` is given; without any, the base is the newest
// Amazon Linux 2023 of the wanted architecture.
type Config struct {
	// A local disk image, or the `https://` or `http://` URL of one, to bake on:
	// raw or qcow2, possibly compressed with gzip, zstd or xz. The file is not
	// changed. A URL may hold secrets, as a presigned one does: its user and
	// query are never shown.
	SourceImage string `mapstructure:"source_image" required:"false"`
	// The SHA-256 of `source_image`, as `sha256:<64 hex digits>` or the digits
	// alone. Required where `source_image` is a URL.
	SourceChecksum string `mapstructure:"source_checksum" required:"false"`
	Source         `mapstructure:",squash"`

	// The architecture that the base must have: `x86_64` or `arm64`. Default:
	// that of the machine that runs Packer, which is also the only one it can
	// run programs of without further set-up.
	Architecture string `mapstructure:"architecture" required:"false"`

	// How the disk is entered: `chroot` (the default), in which no service
	// runs, or `container`, in which the disk's own systemd does, so that
	// services can be started and checked. `container` needs systemd-nspawn.
	Machine string `mapstructure:"machine" required:"false"`
}

var digits = regexp.MustCompile(`^(sha256:)?[0-9a-fA-F]{64}$`)

// FromAWS says whether the base is an AMI, so that AWS is needed to get it.
func (c Config) FromAWS() bool { return c.SourceImage == "" }

// Prepare checks the options, without a call to AWS, and fills in defaults.
func (c *Config) Prepare() []error {
	if c.Architecture == "" {
		c.Architecture = host()
	}
	if c.Machine == "" {
		c.Machine = bake.Chroot
	}
	errs := checkArchitecture(c.Architecture)
	if !slices.Contains(bake.Kinds, c.Machine) {
		errs = append(errs, fmt.Errorf("machine is %q; it must be one of %s", c.Machine, strings.Join(bake.Kinds, ", ")))
	} else {
		errs = append(errs, bake.Check(c.Machine)...)
	}
	errs = append(errs, c.prepareSource()...)
	return errs
}

func (c *Config) prepareSource() []error {
	errs := c.prepare(c.Architecture, map[string]bool{"source_image": c.SourceImage != ""})
	if c.SourceChecksum != "" && c.SourceImage == "" {
		errs = append(errs, fmt.Errorf("source_checksum is given without source_image; it is the checksum of that file"))
	}
	if c.SourceChecksum != "" && !digits.MatchString(c.SourceChecksum) {
		errs = append(errs, fmt.Errorf("source_checksum is %q; give the SHA-256 of source_image as sha256:<64 hex digits>", c.SourceChecksum))
	}
	if c.SourceImage != "" {
		if err := c.prepareImage(); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func (c *Config) prepareImage() error {
	if scheme, _, ok := strings.Cut(c.SourceImage, "://"); ok {
		if _, err := url.Parse(c.SourceImage); err != nil || (scheme != "https" && scheme != "http") {
			return fmt.Errorf("source_image is %q; give the path of a file, or an https:// URL", shown(c.SourceImage))
		}
		if c.SourceChecksum == "" {
			return fmt.Errorf("source_image is the URL %s, and source_checksum is not given; give the SHA-256 that its publisher names, so that what is baked on is what was meant", shown(c.SourceImage))
		}
		return nil
	}
	info, err := os.Stat(c.SourceImage)
	if err != nil {
		return fmt.Errorf("source_image: %w; give the path of a raw or qcow2 disk image", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("source_image %s is not a regular file; give the path of a raw or qcow2 disk image", c.SourceImage)
	}
	return nil
}

// host is the architecture of this machine by EC2's name.
func host() string {
	if runtime.GOARCH == "arm64" {
		return "arm64"
	}
	return "x86_64"
}
