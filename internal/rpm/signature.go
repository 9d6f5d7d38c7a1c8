package rpm

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Tags of the signature header. Those of the header suffice where the header
// has a digest of the payload, as all of rpm 4.14 and later.
const (
	sigDSAHeader = 267
	sigRSAHeader = 268
	sigOpenPGP   = 278 // of the header, base64, any number: rpm 4.20 and later
	sigPGP       = 1002
	sigGPG       = 1005
)

// ErrUnsigned says that a file bears no signature at all.
var ErrUnsigned = errors.New("it is not signed")

// A SignerError says that a file is signed, but by none of the keys.
type SignerError struct {
	// IDs are the keys that did sign, as far as the signatures name them.
	IDs []string
}

func (e *SignerError) Error() string {
	return "it is signed by key " + strings.Join(e.IDs, " and ") + ", which is none of the keys given"
}

type signature struct {
	blob    []byte
	payload bool // covers header and payload, not the header alone
}

// Signer verifies the signatures that were made with one of the keys, and
// returns the first one's signer, in words. A signature by one of the keys
// that does not verify is an error, whatever the others say; an *SignerError
// and ErrUnsigned say that there is none.
//
// A key that has expired since is good, as in rpm; one revoked is not.
func (f *File) Signer(keys Keys) (string, error) {
	signatures, err := f.signatures()
	if err != nil {
		return "", err
	}
	if len(signatures) == 0 {
		return "", ErrUnsigned
	}
	var signer string
	var strangers []string
	for _, s := range signatures {
		name, stranger, err := f.verify(s, keys)
		if err != nil {
			return "", err
		}
		if signer == "" {
			signer = name
		}
		if stranger != "" && !strings.Contains(strings.Join(strangers, " "), stranger) {
			strangers = append(strangers, stranger)
		}
	}
	if signer == "" {
		return "", &SignerError{IDs: strangers}
	}
	return signer, nil
}

// signatures leaves out signatures of the header alone where nothing binds the
// payload to the header.
func (f *File) signatures() ([]signature, error) {
	var all []signature
	bound := f.header.string(tagPayloadDigest) != ""
	for _, tag := range []uint32{sigRSAHeader, sigDSAHeader} {
		if blob := f.signature.binary(tag); bound && len(blob) > 0 {
			all = append(all, signature{blob: blob})
		}
	}
	for _, text := range f.signature.strings(sigOpenPGP) {
		blob, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, damaged(fmt.Errorf("a signature is no base64: %w", err))
		}
		if bound {
			all = append(all, signature{blob: blob})
		}
	}
	for _, tag := range []uint32{sigPGP, sigGPG} {
		if blob := f.signature.binary(tag); len(blob) > 0 {
			all = append(all, signature{blob: blob, payload: true})
		}
	}
	return all, nil
}

// verify returns the signer if it is one of the keys, else the stranger's id.
func (f *File) verify(s signature, keys Keys) (signer, stranger string, err error) {
	signed := f.covered(s)
	old, err := parseV3(s.blob)
	if err != nil {
		return "", "", err
	}
	if old != nil {
		return old.verify(signed, keys)
	}

	parsed, err := packet.Read(bytes.NewReader(s.blob))
	if err != nil {
		return "", "", damaged(fmt.Errorf("a signature can't be read: %w", err))
	}
	sig, ok := parsed.(*packet.Signature)
	if !ok || sig.IssuerKeyId == nil || sig.SigType != packet.SigTypeBinary {
		return "", "", damaged(errors.New("a signature is not an OpenPGP signature that names its key"))
	}
	made := &packet.Config{Time: func() time.Time { return sig.CreationTime }}
	_, entity, err := openpgp.VerifyDetachedSignature(openpgp.EntityList(keys), signed, bytes.NewReader(s.blob), made)
	if errors.Is(err, pgperrors.ErrUnknownIssuer) {
		return "", fmt.Sprintf("%016X", *sig.IssuerKeyId), nil
	}
	if err != nil {
		return "", "", fmt.Errorf("the signature by key %016X is bad: %w", *sig.IssuerKeyId, err)
	}
	return inWords(entity), "", nil
}

func (f *File) covered(s signature) io.Reader {
	if s.payload {
		return io.NewSectionReader(f.file, f.start, f.size-f.start)
	}
	return bytes.NewReader(f.header.raw)
}

func inWords(key *openpgp.Entity) string {
	if identity := key.PrimaryIdentity(); identity != nil {
		return fmt.Sprintf("%s (%016X)", identity.Name, key.PrimaryKey.KeyId)
	}
	return fmt.Sprintf("%016X", key.PrimaryKey.KeyId)
}
