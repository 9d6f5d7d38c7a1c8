package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/block"
)

// A snapshot's file has a record for each block: its index (4 bytes, big
// endian), 1 if it was written into this snapshot rather than inherited, and
// its digest.
const (
	writtenAt    = 4
	digestAt     = 5
	recordLength = digestAt + len(block.Digest{})
)

// save writes a snapshot's contents to its file.
func (s *Store) save(region string, snapshot *Snapshot) error {
	path, err := s.contentsPath(region, snapshot.Id)
	if err != nil {
		return err
	}
	contents := make([]byte, 0, snapshot.blocks.Len()*recordLength)
	for _, index := range snapshot.Indexes() {
		written := byte(0)
		if snapshot.Write != nil && snapshot.Write.written[index] {
			written = 1
		}
		digest := snapshot.blocks.digests[index]
		contents = binary.BigEndian.AppendUint32(contents, uint32(index))
		contents = append(append(contents, written), digest[:]...)
	}
	if err := os.WriteFile(path+".new", contents, 0o600); err != nil {
		return fmt.Errorf("save snapshot %s: %w", snapshot.Id, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("save snapshot %s: %w", snapshot.Id, err)
	}
	return nil
}

// load reads a snapshot's contents from its file.
func (s *Store) load(region string, snapshot *Snapshot) error {
	path, err := s.contentsPath(region, snapshot.Id)
	if err != nil {
		return err
	}
	contents, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for record := range slices.Chunk(contents, recordLength) {
		if len(record) < recordLength {
			return fmt.Errorf("%s is cut off", path)
		}
		index, digest := int(binary.BigEndian.Uint32(record)), block.Digest(record[digestAt:])
		if !s.blocks.Retain(digest) {
			return fmt.Errorf("block %d is not stored", index)
		}
		snapshot.blocks.Set(index, digest)
		if snapshot.Write != nil && record[writtenAt] == 1 {
			snapshot.Write.written[index] = true
		}
	}
	return nil
}

// restore takes up the snapshots of a sandbox that was closed, or killed. Of a
// killed one, snapshots that were pending have lost what they held, and fail.
func (s *Store) restore() error {
	for _, region := range s.pages.Regions() {
		for _, snapshot := range s.In(region).Snapshots {
			s.restoreSnapshot(region, snapshot)
		}
		if err := s.sweepContents(region); err != nil {
			return err
		}
	}
	s.blocks.Sweep()
	return nil
}

func (s *Store) restoreSnapshot(region string, snapshot *Snapshot) {
	snapshot.blocks = s.Empty()
	if snapshot.Write != nil {
		snapshot.Write.written = map[int]bool{}
	}
	if snapshot.State == Failed {
		return
	}
	err := s.load(region, snapshot)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && snapshot.State == Pending && snapshot.Write == nil:
		s.Fail(snapshot, "The sandbox ended while the snapshot was pending")
	case err != nil:
		s.Fail(snapshot, "The contents are damaged: "+err.Error())
	}
}

// sweepContents removes files of snapshots that are not known.
func (s *Store) sweepContents(region string) error {
	dir, err := s.books.Dir(region, "snapshots")
	if err != nil {
		return err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list the snapshots' files: %w", err)
	}
	for _, file := range files {
		if _, known := s.In(region).Snapshots[file.Name()]; !known {
			if err := removeFile(filepath.Join(dir, file.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
