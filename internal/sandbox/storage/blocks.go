package storage

import (
	"maps"
	"slices"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/block"
)

// Blocks are the contents of a disk: the digest of each block that was ever
// written, by its index. They hold a reference to each of their blocks in the
// store. They are not safe for concurrent use. Nil can be read as no blocks.
type Blocks struct {
	store   *block.Store
	digests map[int]block.Digest
	noise   string // seed of what never written blocks read as; zeros when empty
}

// Empty makes Blocks of which none was written.
func (s *Store) Empty() *Blocks {
	return &Blocks{store: s.blocks, digests: map[int]block.Digest{}}
}

// Set makes the block of the digest the one at index. It takes over the
// reference that storing the block has made.
func (b *Blocks) Set(index int, digest block.Digest) {
	if before, ok := b.digests[index]; ok {
		b.store.Release(before)
	}
	b.digests[index] = digest
}

// At gives the digest of the block at index; false if it was never written.
func (b *Blocks) At(index int) (block.Digest, bool) {
	if b == nil {
		return block.Digest{}, false
	}
	digest, ok := b.digests[index]
	return digest, ok
}

// Len is the number of blocks that were written.
func (b *Blocks) Len() int { return len(b.digests) }

// Indexes lists the blocks that were written, in order.
func (b *Blocks) Indexes() []int {
	if b == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(b.digests))
}

// Clone makes a copy with references of its own.
func (b *Blocks) Clone() *Blocks {
	for _, digest := range b.digests {
		b.store.Retain(digest)
	}
	return &Blocks{store: b.store, digests: maps.Clone(b.digests), noise: b.noise}
}

// Release gives all references back. The Blocks are empty then.
func (b *Blocks) Release() {
	for _, digest := range b.digests {
		b.store.Release(digest)
	}
	clear(b.digests)
}
