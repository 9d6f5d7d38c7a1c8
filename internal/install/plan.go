// Package install puts packages into a machine being baked: it verifies their
// files on the host, installs them in one transaction, checks the result, and
// records it.
package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/guest"
	"github.com/immutable-server/packer-plugin-immutable/internal/rpm"
)

// The updates that can be made before the packages are installed.
const (
	UpdateNone     = "none"
	UpdateSecurity = "security"
	UpdateAll      = "all"
)

// Plan is what to install. Its fields have the names and the meaning of the
// options of immutable-rpm.
type Plan struct {
	Packages         []string
	Checksums        map[string]string
	GPGKeys          []string
	RequireSignature bool
	Repositories     []Repository
	ReleaseVersion   string
	Update           string
	Services         []string
	Verify           bool
	Clean            bool

	// Objects gives an object of S3 a URL under which it can be fetched.
	Objects func(ctx context.Context, bucket, key string) (string, error)
}

// Ui is told the progress of an installation. packersdk.Ui is one.
type Ui interface {
	Say(line string)
	TrackProgress(source string, current, total int64, stream io.ReadCloser) io.ReadCloser
}

var (
	checksumForm       = regexp.MustCompile(`^(sha256:)?[0-9a-fA-F]{64}$`)
	releaseVersionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
)

// Check finds every mistake that can be found before there is a machine. It
// reads and verifies all local files.
func (p *Plan) Check() []error {
	var errs []error
	if len(p.Packages) == 0 && p.Update == UpdateNone && len(p.Services) == 0 {
		errs = append(errs, errors.New("packages: nothing is to be installed; name at least one package, or set update"))
	}
	if all := []string{UpdateNone, UpdateSecurity, UpdateAll}; !slices.Contains(all, p.Update) {
		errs = append(errs, fmt.Errorf("update is %q; it can be %s", p.Update, strings.Join(all, ", ")))
	}
	if p.ReleaseVersion != "" && !releaseVersionForm.MatchString(p.ReleaseVersion) {
		errs = append(errs, fmt.Errorf("release_version is %q; give a release such as 2023.6.20250107, or latest", p.ReleaseVersion))
	}
	for _, service := range p.Services {
		if !guest.IsUnitName(service) {
			errs = append(errs, fmt.Errorf("services: %q is not the name of a unit, such as hello.service", service))
		}
	}
	errs = append(errs, checkRepositories(p.Repositories, p.RequireSignature)...)
	return append(errs, p.checkPackages()...)
}

func (p *Plan) checkPackages() []error {
	sources, errs := p.sources()
	errs = append(errs, p.checkChecksums(sources)...)
	keys, err := p.keys()
	if err != nil {
		return append(errs, err)
	}
	if p.RequireSignature && len(keys) == 0 && slices.ContainsFunc(sources, func(s source) bool { return s.kind != name }) {
		return append(errs, errors.New("require_signature is on and gpg_keys is empty, so no package file can pass; add the files of the public keys to gpg_keys"))
	}
	var files []*packageFile
	for _, s := range sources {
		if s.kind != file {
			continue
		}
		f, err := p.open(s, s.path, keys)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		files = append(files, f)
		if err := f.Close(); err != nil {
			errs = append(errs, err)
		}
	}
	return append(errs, checkTogether(files)...)
}

// sources are the packages, each one once however often it is named.
func (p *Plan) sources() ([]source, []error) {
	var all []source
	var errs []error
	for _, entry := range p.Packages {
		some, err := parse(entry)
		if err != nil {
			errs = append(errs, err)
		}
		for _, s := range some {
			if !slices.ContainsFunc(all, func(t source) bool { return s.kind == t.kind && s.id() == t.id() }) {
				all = append(all, s)
			}
		}
	}
	return all, errs
}

// id tells sources of one kind apart.
func (s source) id() string {
	if s.kind == file {
		return s.path
	}
	return s.entry
}

// checkChecksums refuses checksums that nothing would be compared with.
func (p *Plan) checkChecksums(sources []source) []error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(p.Checksums)) {
		if !checksumForm.MatchString(p.Checksums[key]) {
			errs = append(errs, fmt.Errorf("checksums: that of %q is %q; write \"sha256:\" and 64 hexadecimal digits", key, p.Checksums[key]))
		}
		switch i := slices.IndexFunc(sources, func(s source) bool { return s.id() == key }); {
		case i < 0:
			errs = append(errs, fmt.Errorf("checksums: %q is not one of the packages; use the path or the URL exactly as in packages, or the path of a file that a pattern there matches", key))
		case sources[i].kind == name:
			errs = append(errs, fmt.Errorf("checksums: %q is fetched by the machine from its repositories, whose own metadata has its checksum; remove it here, or give the package as a file or URL", key))
		}
	}
	return errs
}

func (p *Plan) keys() (rpm.Keys, error) {
	var all rpm.Keys
	for _, path := range p.GPGKeys {
		keys, err := rpm.ReadKeys(path)
		if err != nil {
			return nil, fmt.Errorf("gpg_keys: %w", err)
		}
		all = append(all, keys...)
	}
	return all, nil
}
