package block

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

func filled(b byte) []byte { return bytes.Repeat([]byte{b}, Size) }

func openStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(t *testing.T, s *Store, block []byte) Digest {
	t.Helper()
	digest := Sum(block)
	if err := s.Put(digest, block); err != nil {
		t.Fatal(err)
	}
	return digest
}

// allocated is what the data file takes on the disk.
func allocated(t *testing.T, dir string) int64 {
	t.Helper()
	var stat syscall.Stat_t
	if err := syscall.Stat(filepath.Join(dir, "data"), &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Blocks * 512
}

func TestABlockIsStoredOnceAndReadBack(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() { put(t, s, filled('a')) })
	}
	group.Wait()
	put(t, s, filled('b'))
	if s.Count() != 2 {
		t.Errorf("%d blocks are stored, want 2", s.Count())
	}
	got := make([]byte, Size)
	if err := s.Get(Sum(filled('a')), got); err != nil || !bytes.Equal(got, filled('a')) {
		t.Errorf("another block was read back (%v)", err)
	}
}

func TestZerosAreNotStored(t *testing.T) {
	s := openStore(t, t.TempDir())
	digest := put(t, s, make([]byte, Size))
	if s.Count() != 0 {
		t.Errorf("%d blocks are stored, want none", s.Count())
	}
	got := filled('a')
	if err := s.Get(digest, got); err != nil || !IsZero(got) {
		t.Errorf("zeros are not read back (%v)", err)
	}
}

func TestABlockIsFreedWithItsLastReference(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	a := put(t, s, filled('a'))
	put(t, s, filled('a'))
	s.Release(a)
	if err := s.Get(a, make([]byte, Size)); err != nil {
		t.Errorf("freed while referenced: %v", err)
	}
	s.Release(a)
	if err := s.Get(a, make([]byte, Size)); err == nil {
		t.Error("read though freed")
	}
	put(t, s, filled('b'))
	s.Release(Sum(filled('b')))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := allocated(t, dir); n != 0 {
		t.Errorf("%d bytes are still taken", n)
	}
	if info, err := os.Stat(filepath.Join(dir, "data")); err != nil || info.Size() != Size {
		t.Errorf("the slot was not used again (%v)", err)
	}
}

func TestTheStoreIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	a, b, c := put(t, s, filled('a')), put(t, s, filled('b')), put(t, s, filled('c'))
	s.Release(b)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = openStore(t, dir)
	if !s.Retain(c) || s.Retain(b) {
		t.Error("the store does not hold what it held")
	}
	s.Sweep()
	if s.Retain(a) {
		t.Error("a block without references was not swept")
	}
	got := make([]byte, Size)
	if err := s.Get(c, got); err != nil || !bytes.Equal(got, filled('c')) {
		t.Errorf("another block was read back (%v)", err)
	}
}

func TestCopyToLeavesHolesForZeros(t *testing.T) {
	s := openStore(t, t.TempDir())
	a := put(t, s, filled('a'))
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(3 * Size); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.CopyTo(f, Size, a), s.CopyTo(f, 0, Zero)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if want := append(append(make([]byte, Size), filled('a')...), make([]byte, Size)...); !bytes.Equal(got, want) {
		t.Error("the file has other contents")
	}
	if from, to, err := NextData(f, 0); err != nil || from != Size || to != 2*Size {
		t.Errorf("data from %d to %d (%v), want the second block only", from, to, err)
	}
}
