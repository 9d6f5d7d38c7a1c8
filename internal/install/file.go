package install

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/record"
	"github.com/immutable-server/packer-plugin-immutable/internal/rpm"
)

// packageFile is a package as a verified file on this host.
type packageFile struct {
	*rpm.File
	source source
	signer string // in words, "" if no key given made a signature
}

// open opens the file of a source and verifies everything that is asked of it.
func (p *Plan) open(s source, path string, keys rpm.Keys) (_ *packageFile, err error) {
	f, err := rpm.Open(path)
	if err != nil {
		return nil, fmt.Errorf("packages: %s: %w%s", s.label(), withoutPath(err), remedy(err))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if want := p.Checksums[s.id()]; want != "" && !strings.EqualFold("sha256:"+strings.TrimPrefix(want, "sha256:"), f.Digest) {
		return nil, fmt.Errorf("packages: %s has the checksum %s, and checksums has %s; fetch or build it anew, or correct checksums", s.label(), f.Digest, want)
	}
	signer, err := p.signer(f, keys)
	if err != nil {
		return nil, fmt.Errorf("packages: %s: %w", s.label(), err)
	}
	return &packageFile{File: f, source: s, signer: signer}, nil
}

// signer is what the signatures are checked for. One by a key that is given
// must be good even where none is required.
func (p *Plan) signer(f *rpm.File, keys rpm.Keys) (string, error) {
	if len(keys) == 0 && !p.RequireSignature {
		return "", nil
	}
	signer, err := f.Signer(keys)
	var stranger *rpm.SignerError
	switch {
	case err == nil:
		return signer, nil
	case errors.As(err, &stranger), errors.Is(err, rpm.ErrUnsigned):
		if !p.RequireSignature {
			return "", nil
		}
		return "", fmt.Errorf("%w; sign it with rpmsign, add its key to gpg_keys, or set require_signature = false", err)
	default:
		return "", err
	}
}

// withoutPath leaves out what the message already has.
func withoutPath(err error) error {
	if pathError := (*os.PathError)(nil); errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

func remedy(err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "; build the package first, or correct the path"
	case errors.Is(err, os.ErrPermission):
		return "; make it readable for the user who runs Packer"
	}
	return ""
}

// checkTogether finds files that can't be installed in one machine.
func checkTogether(files []*packageFile) []error {
	var errs []error
	var native *packageFile
	for i, f := range files {
		if f.Arch != "noarch" && native == nil {
			native = f
		}
		if f.Arch != "noarch" && !runsOn(f.Arch, native.Arch) && !runsOn(native.Arch, f.Arch) {
			errs = append(errs, fmt.Errorf("packages: %s is for %s and %s is for %s; one machine can't have both", native.source.label(), native.Arch, f.source.label(), f.Arch))
		}
		for _, g := range files[:i] {
			if f.Name == g.Name && f.Arch == g.Arch {
				errs = append(errs, fmt.Errorf("packages: %s and %s are both the package %s; name the one to install, or make the pattern narrower", g.source.label(), f.source.label(), f.Name))
			}
		}
	}
	return errs
}

// runsOn tells whether a machine of the architecture may have the package. The
// 32-bit packages of x86 are left to the package manager, which knows whether
// the release still has them.
func runsOn(arch, machine string) bool {
	switch arch {
	case "noarch", machine:
		return true
	case "i386", "i486", "i586", "i686":
		return machine == "x86_64"
	}
	return false
}

func (f *packageFile) record() record.Package {
	return record.Package{
		Name: f.Name, Epoch: f.Epoch, Version: f.Version, Release: f.Release, Arch: f.Arch,
		Digest: f.Digest, Source: f.source.String(),
	}
}
