// Package block stores 512 KiB blocks by the SHA-256 of their contents: each
// once, however many snapshots have it.
//
// All blocks are in one sparse file of equal slots; a second file has the
// digest of the block in each slot, all zeros where the slot is free. So a
// block costs one write and no file of its own, and what the store holds can
// be told from its two files alone. The block of zeros is known and never
// stored.
//
// Blocks are counted by reference. A block without references is freed, and
// its slot given back to the filesystem.
package block

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// Size is the length of a block in bytes, that of EBS snapshots.
const Size = 512 << 10

// Digest is the SHA-256 of a block.
type Digest [sha256.Size]byte

// Sum gives the digest of a block.
func Sum(block []byte) Digest { return sha256.Sum256(block) }

// Zero is the digest of a block of zeros.
var Zero = Sum(make([]byte, Size))

var freeSlot Digest

// Store holds blocks in a directory. It is safe for concurrent use; blocks
// are read and written without any lock.
type Store struct {
	data, index *os.File
	writer      *writer // of data

	mu     sync.Mutex
	blocks map[Digest]*entry
	free   []int64 // slots that are free, below next
	next   int64   // the first slot that was never used
}

type entry struct {
	slot       int64
	references int
	written    chan struct{} // closed when the block is written
	failed     error         // why it is not; read after written is closed
}

// Open opens the store in a directory, and makes it if it is absent. No block
// has references then: Retain those that are wanted, then Sweep.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the block store: %w", err)
	}
	data, err := os.OpenFile(filepath.Join(dir, "data"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the block store: %w", err)
	}
	index, err := os.OpenFile(filepath.Join(dir, "index"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the block store: %w", errors.Join(err, data.Close()))
	}
	s := &Store{data: data, index: index, blocks: map[Digest]*entry{}}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, data.Close(), index.Close())
	}
	s.writer = newWriter(data)
	return s, nil
}

func (s *Store) load() error {
	index, err := io.ReadAll(s.index)
	if err != nil {
		return fmt.Errorf("read the index of the block store: %w", err)
	}
	written := make(chan struct{})
	close(written)
	for s.next = 0; int(s.next+1)*len(freeSlot) <= len(index); s.next++ {
		digest := Digest(index[int(s.next)*len(freeSlot):])
		_, twice := s.blocks[digest] // it was being freed when it was stored anew
		if digest == freeSlot || twice {
			s.free = append(s.free, s.next)
			continue
		}
		s.blocks[digest] = &entry{slot: s.next, written: written}
	}
	return nil
}

// Close closes the store's files.
func (s *Store) Close() error {
	return errors.Join(s.writer.close(s.next*Size), s.data.Close(), s.index.Close())
}

// Count is the number of blocks stored.
func (s *Store) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.blocks)
}

// Put stores a block, unless it is stored already, and adds a reference to it.
// The digest must be the block's: it is not computed again.
func (s *Store) Put(digest Digest, block []byte) error {
	if len(block) != Size {
		return fmt.Errorf("store a block: it has %d bytes, not %d", len(block), Size)
	}
	if digest == Zero {
		return nil
	}
	e, isNew := s.reserve(digest)
	if isNew {
		e.failed = s.write(e.slot, digest, block)
		close(e.written)
	}
	<-e.written
	if e.failed != nil {
		s.Release(digest)
	}
	return e.failed
}

// reserve finds a block's entry or makes one, and adds a reference.
func (s *Store) reserve(digest Digest) (e *entry, isNew bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.blocks[digest]
	if !ok {
		e = &entry{slot: s.slot(), written: make(chan struct{})}
		s.blocks[digest] = e
	}
	e.references++
	return e, !ok
}

// slot takes a slot that is free.
func (s *Store) slot() int64 {
	if last := len(s.free) - 1; last >= 0 {
		slot := s.free[last]
		s.free = s.free[:last]
		return slot
	}
	s.next++
	return s.next - 1
}

func (s *Store) write(slot int64, digest Digest, block []byte) error {
	if err := s.writer.writeAt(block, slot*Size); err != nil {
		return fmt.Errorf("store a block: %w", err)
	}
	return s.mark(slot, digest)
}

func (s *Store) mark(slot int64, digest Digest) error {
	if _, err := s.index.WriteAt(digest[:], slot*int64(len(digest))); err != nil {
		return fmt.Errorf("mark a slot of the block store: %w", err)
	}
	return nil
}

// Get reads a block into buf, which is Size long. The caller must have a
// reference.
func (s *Store) Get(digest Digest, buf []byte) error {
	if digest == Zero {
		clear(buf)
		return nil
	}
	at, err := s.offset(digest)
	if err != nil {
		return err
	}
	if _, err := s.data.ReadAt(buf[:Size], at); err != nil {
		return fmt.Errorf("read block %x: %w", digest, err)
	}
	return nil
}

// CopyTo writes a block into a file at an offset. A block of zeros is not
// written: the file must have a hole there. The caller must have a reference.
func (s *Store) CopyTo(dst *os.File, offset int64, digest Digest) error {
	if digest == Zero {
		return nil
	}
	at, err := s.offset(digest)
	if err != nil {
		return err
	}
	if err := copyRange(dst, offset, s.data, at, Size); err != nil {
		return fmt.Errorf("copy block %x to %s: %w", digest, dst.Name(), err)
	}
	return nil
}

func (s *Store) offset(digest Digest) (int64, error) {
	s.mu.Lock()
	e := s.blocks[digest]
	s.mu.Unlock()
	if e == nil {
		return 0, fmt.Errorf("block %x is not in the store", digest)
	}
	return e.slot * Size, nil
}

// Retain adds a reference to a block; false means that it is not stored.
func (s *Store) Retain(digest Digest) bool {
	if digest == Zero {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.blocks[digest]
	if e != nil {
		e.references++
	}
	return e != nil
}

// Release takes back a reference, and frees a block that has none left.
func (s *Store) Release(digest Digest) {
	if digest == Zero {
		return
	}
	s.mu.Lock()
	e := s.blocks[digest]
	unused := false
	if e != nil {
		e.references--
		unused = e.references == 0
	}
	if unused {
		delete(s.blocks, digest)
	}
	s.mu.Unlock()
	if unused {
		s.vacate(e.slot)
	}
}

// Sweep frees all blocks that have no reference.
func (s *Store) Sweep() {
	var slots []int64
	s.mu.Lock()
	for digest, e := range s.blocks {
		if e.references == 0 {
			delete(s.blocks, digest)
			slots = append(slots, e.slot)
		}
	}
	s.mu.Unlock()
	for _, slot := range slots {
		s.vacate(slot)
	}
}

// vacate frees a slot whose block is gone. Where that fails the slot is lost
// until the store is opened and swept again, which harms nothing.
func (s *Store) vacate(slot int64) {
	if s.mark(slot, freeSlot) != nil || punch(s.data, slot*Size, Size) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, slot)
}

// IsZero tells whether all bytes of a block are zero.
func IsZero(block []byte) bool {
	return len(block) == 0 || block[0] == 0 && bytes.Equal(block[1:], block[:len(block)-1])
}
