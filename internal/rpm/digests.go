package rpm

import (
	"crypto"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	_ "crypto/sha512" // for payload digests
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Tags of the signature header.
const (
	sigSHA1     = 269  // of the header, hexadecimal
	sigLongSize = 270  // of header and payload, where it exceeds 32 bits
	sigSHA256   = 273  // of the header, hexadecimal
	sigSize     = 1000 // of header and payload
	sigMD5      = 1004 // of header and payload, binary
)

// hashes are the algorithms of OpenPGP's numbering (RFC 9580, 9.5) that rpm
// uses for payloads.
var hashes = map[uint32]crypto.Hash{
	8:  crypto.SHA256,
	9:  crypto.SHA384,
	10: crypto.SHA512,
}

// digest is one promise of the file about some of its bytes.
type digest struct {
	of   string // what it covers
	name string
	want string // hexadecimal
	hash hash.Hash
}

func (d digest) verify() error {
	if got := hex.EncodeToString(d.hash.Sum(nil)); got != d.want {
		return damaged(fmt.Errorf("the %s of its %s is %s, and should be %s", d.name, d.of, got, d.want))
	}
	return nil
}

// verifyDigests reads the file once and verifies every digest that it has; the
// header and the payload must have one each. It also takes File.Digest.
func (f *File) verifyDigests() error {
	payload := f.start + int64(len(f.header.raw))
	if want, ok := f.signature.int32(sigSize); ok && f.signature.index[sigLongSize].count == 0 && int64(want) != f.size-f.start {
		return damaged(fmt.Errorf("it has %d bytes after its signatures, and should have %d", f.size-f.start, want))
	}

	ofHeader := f.headerDigests()
	for _, d := range ofHeader {
		if _, err := d.hash.Write(f.header.raw); err != nil {
			return err
		}
		if err := d.verify(); err != nil {
			return err
		}
	}

	ofPayload, err := f.payloadDigests()
	if err != nil {
		return err
	}
	ofBoth := f.legacyDigests()
	if len(ofHeader)+len(ofBoth) == 0 || len(ofPayload)+len(ofBoth) == 0 {
		return damaged(errors.New("it has no digest of its header or of its payload"))
	}

	whole := sha256.New()
	if err := f.digest(0, whole); err != nil {
		return err
	}
	f.Digest = "sha256:" + hex.EncodeToString(whole.Sum(nil))
	for _, d := range ofPayload {
		if err := f.digest(payload, d.hash); err != nil {
			return err
		}
	}
	for _, d := range ofBoth {
		if err := f.digest(f.start, d.hash); err != nil {
			return err
		}
	}
	for _, d := range append(ofPayload, ofBoth...) {
		if err := d.verify(); err != nil {
			return err
		}
	}
	return nil
}

// digest hashes the file from an offset to its end.
func (f *File) digest(from int64, h hash.Hash) error {
	_, err := io.Copy(h, io.NewSectionReader(f.file, from, f.size-from))
	return err
}

func (f *File) headerDigests() []digest {
	var all []digest
	if want := f.signature.string(sigSHA256); want != "" {
		all = append(all, digest{"header", "SHA-256", want, sha256.New()})
	}
	if want := f.signature.string(sigSHA1); want != "" {
		all = append(all, digest{"header", "SHA-1", want, sha1.New()})
	}
	return all
}

func (f *File) payloadDigests() ([]digest, error) {
	want := f.header.string(tagPayloadDigest)
	if want == "" {
		return nil, nil
	}
	algorithm, ok := f.header.int32(tagPayloadDigestAlgo)
	if !ok {
		algorithm = 8
	}
	h, known := hashes[algorithm]
	if !known {
		return nil, fmt.Errorf("its payload has a digest of the unknown algorithm %d", algorithm)
	}
	return []digest{{"payload", h.String(), want, h.New()}}, nil
}

func (f *File) legacyDigests() []digest {
	want := f.signature.binary(sigMD5)
	if len(want) == 0 {
		return nil
	}
	return []digest{{"header and payload", "MD5", hex.EncodeToString(want), md5.New()}}
}

// HeaderDigest is the digest by which rpm tells builds of a package apart, and
// the query tag under which it keeps it once the package is installed. All
// versions of rpm know SHA1HEADER, but not all packages have it; SHA256HEADER
// is known since rpm 4.14, so not on Amazon Linux 2.
func (f *File) HeaderDigest() (tag, digest string) {
	if digest = f.signature.string(sigSHA1); digest != "" {
		return "SHA1HEADER", digest
	}
	return "SHA256HEADER", f.signature.string(sigSHA256)
}
