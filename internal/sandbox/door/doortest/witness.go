package doortest

import (
	"crypto/sha256"
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
)

// witness is a guard that permits everything, but sees to it that whatever it
// would have refused, the books would have been as they were: handlers note all
// that they need before they change anything.
type witness struct {
	t     testing.TB
	books *state.Books
}

func (w witness) Enter(string) func(action, resource string) error {
	before := w.digests()
	return func(action, resource string) error {
		now := w.digests()
		for page, digest := range before { // pages that are new are as they are made
			if now[page] != digest {
				w.t.Errorf("%s had changed when %s on %s was noted; handlers note what they need before they change anything", page, action, resource)
			}
		}
		return nil
	}
}

func (w witness) digests() map[string][sha256.Size]byte {
	digests, err := w.books.Digests()
	if err != nil {
		w.t.Error(err)
	}
	return digests
}
