// Package storage keeps snapshots and the files of volumes, which EC2 and EBS
// direct have in common.
//
// A snapshot's contents are Blocks: the digests of its blocks, which are
// stored once each (package block). A snapshot made on top of a parent begins
// with a copy of the parent's, so that it does not need the parent afterwards.
//
// A volume is a sparse raw file, DIR/REGION/volumes/ID.raw:
//
//	blocks := snapshot.Blocks()                              // books held
//	c.Outside(func() {
//		defer blocks.Release()
//		path, err = store.CreateVolume(ctx, region, id, size, blocks)
//	})
//
// and a snapshot of a volume is made by
//
//	c.Outside(func() { blocks, err = store.ScanVolume(ctx, region, id) })
//	err = store.Complete(region, snapshot, blocks, now)      // books held
package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/block"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
)

// Page is what a region has of snapshots.
type Page struct {
	Snapshots map[string]*Snapshot
}

// Store keeps the snapshots and volumes of a sandbox.
type Store struct {
	books  *state.Books
	pages  *state.Ledger[Page]
	blocks *block.Store
}

// Open opens the storage in the directory of the books.
func Open(books *state.Books) (*Store, error) {
	dir, err := books.Dir("", "blocks")
	if err != nil {
		return nil, err
	}
	blocks, err := block.Open(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{books: books, blocks: blocks}
	s.pages, err = state.Declare(books, "snapshots", func(string) *Page {
		return &Page{Snapshots: map[string]*Snapshot{}}
	})
	if err == nil {
		books.Do(func() { err = s.restore() })
	}
	if err != nil {
		return nil, errors.Join(err, blocks.Close())
	}
	return s, nil
}

// In gives the snapshots of a region. The books must be held.
func (s *Store) In(region string) *Page { return s.pages.In(region) }

// Regions lists the regions that have snapshots, or had. The books must be
// held.
func (s *Store) Regions() []string { return s.pages.Regions() }

// Add adds a pending snapshot with the contents that it begins with; nil
// means none. It takes the blocks over. The books must be held.
func (s *Store) Add(region string, snapshot *Snapshot, blocks *Blocks) {
	if blocks == nil {
		blocks = s.Empty()
	}
	snapshot.blocks = blocks
	if snapshot.Write != nil {
		snapshot.Write.written = map[int]bool{}
	}
	s.In(region).Snapshots[snapshot.Id] = snapshot
}

// Complete completes a pending snapshot. Blocks, which it takes over, are its
// contents; nil leaves it those that it has. If they can't be saved the
// snapshot fails, and so does a snapshot that is gone meanwhile. The books
// must be held.
func (s *Store) Complete(region string, snapshot *Snapshot, blocks *Blocks, now time.Time) error {
	if s.In(region).Snapshots[snapshot.Id] != snapshot {
		if blocks != nil {
			blocks.Release()
		}
		return fmt.Errorf("complete snapshot %s: it was deleted meanwhile", snapshot.Id)
	}
	if blocks != nil {
		snapshot.blocks.Release()
		snapshot.blocks = blocks
		snapshot.Noise = snapshot.Noise || blocks.noise != ""
	}
	if err := s.save(region, snapshot); err != nil {
		s.Fail(snapshot, err.Error())
		return err
	}
	snapshot.State, snapshot.Completed = Completed, now
	return nil
}

// Fail puts a snapshot into the error state and drops its contents. The books
// must be held.
func (s *Store) Fail(snapshot *Snapshot, why string) {
	snapshot.State, snapshot.StateMessage = Failed, why
	snapshot.blocks.Release()
}

// Remove deletes a snapshot and the blocks that no other one has. The books
// must be held.
func (s *Store) Remove(region, id string) error {
	page := s.In(region)
	snapshot, ok := page.Snapshots[id]
	if !ok {
		return nil
	}
	delete(page.Snapshots, id)
	snapshot.blocks.Release()
	path, err := s.contentsPath(region, id)
	if err != nil {
		return err
	}
	return removeFile(path)
}

// PutBlock stores a block and adds a reference to it, which is for
// Snapshot.Put to take over, or for ReleaseBlock to give back. It may be
// called without the books.
func (s *Store) PutBlock(digest block.Digest, contents []byte) error {
	return s.blocks.Put(digest, contents)
}

// ReleaseBlock gives back a reference.
func (s *Store) ReleaseBlock(digest block.Digest) { s.blocks.Release(digest) }

// RetainBlock adds a reference to a block that a snapshot has, so that it can
// be read without the books.
func (s *Store) RetainBlock(digest block.Digest) { s.blocks.Retain(digest) }

// ReadBlock reads a block, to which the caller has a reference.
func (s *Store) ReadBlock(digest block.Digest, buf []byte) error { return s.blocks.Get(digest, buf) }

// StoredBlocks is how many different blocks are stored.
func (s *Store) StoredBlocks() int { return s.blocks.Count() }

// Import stores the contents of a raw disk image.
func (s *Store) Import(ctx context.Context, path string) (*Blocks, error) {
	return s.scan(ctx, path)
}

// Close saves the contents of snapshots that are still being written.
func (s *Store) Close() error {
	var errs []error
	s.books.Do(func() {
		for _, region := range s.pages.Regions() {
			for _, snapshot := range s.In(region).Snapshots {
				if snapshot.State == Pending && snapshot.Write != nil {
					errs = append(errs, s.save(region, snapshot))
				}
			}
		}
	})
	return errors.Join(append(errs, s.blocks.Close())...)
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove a file of the sandbox's state: %w", err)
	}
	return nil
}

func (s *Store) contentsPath(region, id string) (string, error) {
	dir, err := s.books.Dir(region, "snapshots")
	return filepath.Join(dir, id), err
}

func sortedKeys(m map[int]bool) []int { return slices.Sorted(maps.Keys(m)) }
