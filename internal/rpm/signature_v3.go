package rpm

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// signatureV3 is a signature of version 3 (RFC 4880, 5.2.2), which today's
// libraries no longer read, but which the rpmsign of Amazon Linux 2 makes by
// its default of --force-v3-sigs.
type signatureV3 struct {
	trailer []byte // type and time, hashed after the content
	key     uint64
	hash    crypto.Hash
	value   []byte
}

// parseV3 returns nil if the blob is a packet of another kind or version.
func parseV3(blob []byte) (*signatureV3, error) {
	p, err := packet.NewOpaqueReader(bytes.NewReader(blob)).Next()
	if err != nil {
		return nil, damaged(fmt.Errorf("a signature can't be read: %w", err))
	}
	body := p.Contents
	if p.Tag != 2 || len(body) == 0 || body[0] != 3 {
		return nil, nil
	}
	// version, 5, type, time (4), key id (8), public key and hash algorithm,
	// two bytes of the hash, and a number with its length in bits
	if len(body) < 21 || body[1] != 5 || body[2] != byte(packet.SigTypeBinary) {
		return nil, damaged(errors.New("a signature of version 3 is malformed"))
	}
	hash, ok := hashes[uint32(body[16])]
	if rsaSign := body[15] == byte(packet.PubKeyAlgoRSA) || body[15] == byte(packet.PubKeyAlgoRSASignOnly); !ok || !rsaSign {
		return nil, fmt.Errorf("a signature of version 3 has algorithms %d and %d, and only RSA with SHA-2 is supported; sign the package anew with rpmsign --resign", body[15], body[16])
	}
	return &signatureV3{
		trailer: body[2:7],
		key:     binary.BigEndian.Uint64(body[7:]),
		hash:    hash,
		value:   body[21:],
	}, nil
}

func (s *signatureV3) verify(signed io.Reader, keys Keys) (signer, stranger string, err error) {
	h := s.hash.New()
	if _, err := io.Copy(h, signed); err != nil {
		return "", "", err
	}
	if _, err := h.Write(s.trailer); err != nil {
		return "", "", err
	}
	sum := h.Sum(nil)

	for _, key := range openpgp.EntityList(keys).KeysByIdUsage(s.key, packet.KeyFlagSign) {
		public, ok := key.PublicKey.PublicKey.(*rsa.PublicKey)
		if !ok {
			continue
		}
		made := time.Unix(int64(binary.BigEndian.Uint32(s.trailer[1:])), 0)
		if key.Entity.Revoked(made) || key.Revoked(made) {
			return "", "", fmt.Errorf("the signature by key %016X is bad: %w", s.key, pgperrors.ErrKeyRevoked)
		}
		value := make([]byte, max(public.Size(), len(s.value)))
		copy(value[len(value)-len(s.value):], s.value)
		if err := rsa.VerifyPKCS1v15(public, s.hash, sum, value); err != nil {
			return "", "", fmt.Errorf("the signature by key %016X is bad: %w", s.key, err)
		}
		return inWords(key.Entity), "", nil
	}
	return "", fmt.Sprintf("%016X", s.key), nil
}
