package ebs

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// How long tokens can be used.
const (
	blockTokenLife = 7 * 24 * time.Hour
	pageTokenLife  = time.Hour
)

// tokenKey is the key of a region's tokens.
type tokenKey struct{ Secret []byte }

// A token says until when it can be used for what: a nonce, which makes it
// another in each listing, the time, an index, and a code over these and the
// subject, which is not in the token.
const (
	nonceLength = 8
	claimLength = nonceLength + 8 + 4
)

// listing makes the tokens of one listing.
type listing struct {
	key   *tokenKey
	nonce [nonceLength]byte
	now   time.Time
}

func (k *tokenKey) listing(now time.Time) *listing {
	l := &listing{key: k, now: now}
	_, _ = rand.Read(l.nonce[:]) // never fails
	return l
}

// token makes a token for the index of a subject.
func (l *listing) token(subject string, index int, life time.Duration) string {
	claim := make([]byte, 0, claimLength+sha256.Size)
	claim = append(claim, l.nonce[:]...)
	claim = binary.BigEndian.AppendUint64(claim, uint64(l.now.Add(life).Unix()))
	claim = binary.BigEndian.AppendUint32(claim, uint32(index))
	return base64.StdEncoding.EncodeToString(l.key.sign(claim, subject))
}

// sign appends the code to a claim.
func (k *tokenKey) sign(claim []byte, subject string) []byte {
	code := hmac.New(sha256.New, k.Secret)
	code.Write(claim)
	code.Write([]byte(subject))
	return code.Sum(claim)
}

// open gives the index of a token that was made for the subject and is not
// expired.
func (k *tokenKey) open(token, subject string, now time.Time) (index int, ok bool) {
	signed, err := base64.StdEncoding.DecodeString(token)
	if err != nil || len(signed) != claimLength+sha256.Size {
		return 0, false
	}
	claim := signed[:claimLength:claimLength]
	if !hmac.Equal(k.sign(claim, subject), signed) {
		return 0, false
	}
	expiry := int64(binary.BigEndian.Uint64(claim[nonceLength:]))
	return int(binary.BigEndian.Uint32(claim[nonceLength+8:])), now.Unix() <= expiry
}
