package storage

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/block"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
)

const region = "eu-west-1"

var now = time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)

func openStore(t *testing.T, dir string) (*Store, *state.Books) {
	t.Helper()
	books, err := state.Open(dir, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = books.Close() })
	s, err := Open(books)
	if err != nil {
		t.Fatal(err)
	}
	return s, books
}

func closeStore(t *testing.T, s *Store, books *state.Books) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := books.Close(); err != nil {
		t.Fatal(err)
	}
}

// disk writes a sparse disk with a byte in each of the given blocks.
func disk(t *testing.T, blocks map[int]byte) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(gib); err != nil {
		t.Fatal(err)
	}
	for index, b := range blocks {
		if _, err := f.WriteAt([]byte{b}, int64(index)*block.Size+777); err != nil {
			t.Fatal(err)
		}
	}
	return f.Name()
}

// sameDisk compares two disks where either has data.
func sameDisk(t *testing.T, a, b string) {
	t.Helper()
	bufA, bufB := make([]byte, block.Size), make([]byte, block.Size)
	fa, fb := openDisk(t, a), openDisk(t, b)
	for index := range maps.Keys(data(t, fa, fb)) {
		n, errA := fa.ReadAt(bufA, index*block.Size)
		m, errB := fb.ReadAt(bufB, index*block.Size)
		if errors.Join(errA, errB) != nil || n != m || !bytes.Equal(bufA, bufB) {
			t.Fatalf("block %d of %s and %s differ (%v, %v)", index, a, b, errA, errB)
		}
	}
}

func openDisk(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// data gives the blocks in which any of the files has data.
func data(t *testing.T, files ...*os.File) map[int64]bool {
	t.Helper()
	blocks := map[int64]bool{}
	for _, f := range files {
		for offset := int64(0); ; {
			from, to, err := block.NextData(f, offset)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for offset = from / block.Size * block.Size; offset < to; offset += block.Size {
				blocks[offset/block.Size] = true
			}
		}
	}
	return blocks
}

func importDisk(t *testing.T, s *Store, books *state.Books, blocks map[int]byte) (*Snapshot, string) {
	t.Helper()
	path := disk(t, blocks)
	imported, err := s.Import(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	snapshot := NewSnapshot(now, 1)
	books.Do(func() {
		s.Add(region, snapshot, imported)
		if err := s.Complete(region, snapshot, nil, now); err != nil {
			t.Fatal(err)
		}
	})
	return snapshot, path
}

func TestAVolumeHasItsSnapshotsContents(t *testing.T) {
	s, books := openStore(t, t.TempDir())
	snapshot, path := importDisk(t, s, books, map[int]byte{0: 1, 7: 2, 2047: 3})
	if got := snapshot.Indexes(); len(got) != 3 {
		t.Errorf("blocks %v of the snapshot, want three", got)
	}
	volume, err := s.CreateVolume(t.Context(), region, "vol-1", 1, snapshot.Blocks())
	if err != nil {
		t.Fatal(err)
	}
	sameDisk(t, path, volume)

	scanned, err := s.ScanVolume(t.Context(), region, "vol-1")
	if err != nil {
		t.Fatal(err)
	}
	if scanned.Len() != 3 || s.StoredBlocks() != 3 {
		t.Errorf("%d blocks found in the volume, %d stored in all, want 3 and 3", scanned.Len(), s.StoredBlocks())
	}
}

func TestSnapshotsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	s, books := openStore(t, dir)
	snapshot, path := importDisk(t, s, books, map[int]byte{0: 1, 7: 2})
	closeStore(t, s, books)

	s, books = openStore(t, dir)
	again := s.In(region).Snapshots[snapshot.Id]
	if again == nil || again.State != Completed {
		t.Fatalf("after a restart the snapshot is %+v", again)
	}
	volume, err := s.CreateVolume(t.Context(), region, "vol-1", 1, again.Blocks())
	if err != nil {
		t.Fatal(err)
	}
	sameDisk(t, path, volume)
	closeStore(t, s, books)
}

func TestDeletingASnapshotFreesOnlyItsOwnBlocks(t *testing.T) {
	s, books := openStore(t, t.TempDir())
	first, _ := importDisk(t, s, books, map[int]byte{0: 1, 1: 2})
	second, path := importDisk(t, s, books, map[int]byte{0: 1, 1: 3})
	books.Do(func() {
		if err := s.Remove(region, first.Id); err != nil {
			t.Error(err)
		}
	})
	if s.StoredBlocks() != 2 {
		t.Errorf("%d blocks stored, want the two of the second snapshot", s.StoredBlocks())
	}
	volume, err := s.CreateVolume(t.Context(), region, "vol-1", 1, second.Blocks())
	if err != nil {
		t.Fatal(err)
	}
	sameDisk(t, path, volume)
}

func TestAPendingWriteIsTakenUpAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s, books := openStore(t, dir)
	parent, _ := importDisk(t, s, books, map[int]byte{0: 1})
	snapshot := NewSnapshot(now, 1)
	snapshot.Write = &Write{ParentId: parent.Id}
	contents := bytes.Repeat([]byte{9}, block.Size)
	if err := s.PutBlock(block.Sum(contents), contents); err != nil {
		t.Fatal(err)
	}
	books.Do(func() {
		s.Add(region, snapshot, parent.Blocks())
		snapshot.Put(5, block.Sum(contents))
	})
	closeStore(t, s, books)

	s, books = openStore(t, dir)
	again := s.In(region).Snapshots[snapshot.Id]
	if again.State != Pending || len(again.Written()) != 1 || len(again.Indexes()) != 2 {
		t.Errorf("after a restart: state %s, written %v, blocks %v", again.State, again.Written(), again.Indexes())
	}
	closeStore(t, s, books)
}

func TestWhatWasPendingWhenKilledHasFailed(t *testing.T) {
	dir := t.TempDir()
	s, books := openStore(t, dir)
	snapshot := NewSnapshot(now, 1)
	books.Do(func() { s.Add(region, snapshot, nil) })
	if err := books.Close(); err != nil { // but not the store
		t.Fatal(err)
	}
	s, _ = openStore(t, dir)
	if again := s.In(region).Snapshots[snapshot.Id]; again.State != Failed || again.StateMessage == "" {
		t.Errorf("the snapshot is %s (%s), want error with a message", again.State, again.StateMessage)
	}
}

func TestNeverWrittenBlocksReadAsNoise(t *testing.T) {
	s, books := openStore(t, t.TempDir())
	snapshot, _ := importDisk(t, s, books, map[int]byte{0: 1})
	snapshot.Noise = true
	read := func(id string) []byte {
		volume, err := s.CreateVolume(t.Context(), region, id, 1, snapshot.Blocks())
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 2*block.Size)
		if _, err := io.ReadFull(openDisk(t, volume), buf); err != nil {
			t.Fatal(err)
		}
		return buf
	}
	first := read("vol-1")
	if !block.IsZero(first[:700]) {
		t.Error("a written block has noise")
	}
	if block.IsZero(first[block.Size:]) {
		t.Error("a block that was never written reads as zeros")
	}
	if !bytes.Equal(first, read("vol-2")) {
		t.Error("the noise is another each time")
	}
}
