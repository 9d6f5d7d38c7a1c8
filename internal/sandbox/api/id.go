package api

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// NewID makes the id of a resource, such as ami-0123456789abcdef0.
func NewID(kind string) string {
	return kind + "-0" + hex.EncodeToString(random(8))
}

// NewUUID makes an id in the form of a UUID, as requests and instance
// refreshes have it.
func NewUUID() string {
	b := random(16)
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
