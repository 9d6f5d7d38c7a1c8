// Package rpm reads RPM files and verifies them: their structure, all of their
// own digests, and their OpenPGP signatures.
//
// The format is that of rpm's documentation, "RPM v4 Package format": a lead
// of 96 bytes, which only says that this is an RPM; the signature header, with
// digests and signatures of what follows; the header, with everything about
// the package and the digest of the payload; the payload.
package rpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
)

// Tags of the header.
const (
	tagName              = 1000
	tagVersion           = 1001
	tagRelease           = 1002
	tagEpoch             = 1003
	tagArch              = 1022
	tagSourcePackage     = 1106
	tagPayloadDigest     = 5092
	tagPayloadDigestAlgo = 5093
)

// ErrNotRPM says that a file does not even begin like an RPM.
var ErrNotRPM = errors.New("it is not an RPM file")

// File is an RPM file whose digests have been verified. Close it after use.
type File struct {
	Name    string
	Epoch   int
	Version string
	Release string
	Arch    string // "x86_64", "aarch64", "noarch" …
	// Digest is "sha256:" and the hexadecimal digest of the whole file.
	Digest string

	file      *os.File
	size      int64
	start     int64 // of the header
	signature *header
	header    *header
}

// legal are the characters that rpm allows in names, versions and releases.
// Everything that comes from a header is checked against it before it is used
// in a file name or a command.
var legal = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~^-]*$`)

// Open reads an RPM file and verifies all of its digests. The errors of the
// file system apart, each error says what is wrong with the file.
func Open(path string) (_ *File, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f := &File{file: file}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()

	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, ErrNotRPM
	}
	f.size = info.Size()

	if err := f.readHeaders(); err != nil {
		return nil, err
	}
	if err := f.verifyDigests(); err != nil {
		return nil, err
	}
	if err := f.identify(); err != nil {
		return nil, err
	}
	return f, nil
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// Reader reads the whole file from its beginning.
func (f *File) Reader() *io.SectionReader { return io.NewSectionReader(f.file, 0, f.size) }

// NEVRA is the package as rpm writes it, with the epoch only where there is one.
func (f *File) NEVRA() string {
	evr := f.Version + "-" + f.Release
	if f.Epoch != 0 {
		evr = fmt.Sprintf("%d:%s", f.Epoch, evr)
	}
	return f.Name + "-" + evr + "." + f.Arch
}

// FileName is the name that rpmbuild gives the file of such a package. It is
// safe as the name of a file.
func (f *File) FileName() string {
	return fmt.Sprintf("%s-%s-%s.%s.rpm", f.Name, f.Version, f.Release, f.Arch)
}

func (f *File) readHeaders() error {
	r := f.Reader()
	if err := readLead(r); err != nil {
		return err
	}
	var err error
	if f.signature, err = readHeader(r, "signature header"); err != nil {
		return damaged(err)
	}
	// The signature header is padded to a multiple of eight bytes.
	if _, err := io.CopyN(io.Discard, r, int64(-len(f.signature.raw)&7)); err != nil {
		return damaged(errors.New("it ends within the signature header"))
	}
	if f.start, err = r.Seek(0, io.SeekCurrent); err != nil {
		return err
	}
	if f.header, err = readHeader(r, "header"); err != nil {
		return damaged(err)
	}
	return nil
}

// readLead checks what rpm itself does of the lead (lib/rpmlead.c). The rest
// of it is not used by anyone any more.
func readLead(r io.Reader) error {
	lead := make([]byte, 96)
	n, err := io.ReadFull(r, lead)
	if !bytes.HasPrefix(lead, []byte{0xed, 0xab, 0xee, 0xdb}) {
		return fmt.Errorf("%w: it begins with %x", ErrNotRPM, lead[:min(n, 4)])
	}
	if err != nil {
		return damaged(errors.New("it ends within the lead"))
	}
	if major := lead[4]; major != 3 && major != 4 {
		return damaged(fmt.Errorf("the lead has version %d", major))
	}
	if kind := binary.BigEndian.Uint16(lead[78:]); kind != 5 {
		return damaged(fmt.Errorf("the lead has signature type %d", kind))
	}
	return nil
}

func (f *File) identify() error {
	f.Name, f.Version, f.Release, f.Arch = f.header.string(tagName), f.header.string(tagVersion), f.header.string(tagRelease), f.header.string(tagArch)
	for _, part := range []struct{ what, value string }{
		{"name", f.Name}, {"version", f.Version}, {"release", f.Release}, {"architecture", f.Arch},
	} {
		if !legal.MatchString(part.value) {
			return fmt.Errorf("the package's %s is %q, which rpm does not allow", part.what, part.value)
		}
	}
	if epoch, ok := f.header.int32(tagEpoch); ok {
		if epoch > math.MaxInt32 {
			return fmt.Errorf("the package's epoch is %d, which rpm does not allow", epoch)
		}
		f.Epoch = int(epoch)
	}
	if _, source := f.header.int32(tagSourcePackage); source {
		return errors.New("it is a source package; give the binary package that was built of it")
	}
	return nil
}

func damaged(err error) error { return fmt.Errorf("it is damaged: %w", err) }
