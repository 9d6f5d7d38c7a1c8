package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// Cache keeps disks in a directory of this machine: for each a sparse file, its
// index, and a lock. A disk without an index is one that was not wholly
// written. Several processes can use the directory at once.
type Cache struct {
	Dir string
}

// Key is a disk to be had from the cache.
type Key struct {
	// Name is that of its files.
	Name string
	// Version tells contents of one name apart. A disk of another version is
	// replaced.
	Version string
}

// Fill writes a disk into an empty file, and gives its index.
type Fill func(ctx context.Context, f *os.File) (*Index, error)

// Snapshot gives the path and the index of a snapshot's disk. It is downloaded
// if it is not there, or is there and is damaged. The file must not be changed.
func (c Cache) Snapshot(ctx context.Context, ui Ui, api Reader, region, id string, started time.Time) (path string, index *Index, err error) {
	// The time is part of it so that not even a service that gives out an id
	// again can make an old disk pass for a new snapshot's.
	key := Key{Name: region + "-" + id, Version: started.UTC().Format(time.RFC3339Nano)}
	return c.Get(ctx, ui, key, func(ctx context.Context, f *os.File) (*Index, error) {
		return download(ctx, ui, api, id, f)
	})
}

// Get gives the path and the index of a disk, which fill writes if it is not
// there, or is there and is damaged. The file must not be changed.
func (c Cache) Get(ctx context.Context, ui Ui, key Key, fill Fill) (path string, index *Index, err error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("make the cache directory: %w; set PACKER_CACHE_DIR to a directory that can be written", err)
	}
	name := filepath.Join(c.Dir, key.Name)
	e := entry{key: key, disk: name + ".raw", index: name + ".index", lock: name + ".lock"}
	unlock, err := e.take(ctx, ui)
	if err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()

	index, err = e.open(ctx, ui)
	if err != nil {
		return "", nil, err
	}
	if index == nil {
		if index, err = e.fetch(ctx, fill); err != nil {
			return "", nil, fmt.Errorf("fetch %s to %s: %w", key.Name, e.disk, err)
		}
	}
	return e.disk, index, nil
}

// entry is one disk in the cache.
type entry struct {
	key               Key
	disk, index, lock string
}

// take waits until no other process works on the entry. The lock file stays:
// removing it would let two processes hold locks on two files of one name.
func (e entry) take(ctx context.Context, ui Ui) (unlock func() error, err error) {
	f, err := os.OpenFile(e.lock, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for told := false; ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f.Close, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", e.lock, err), f.Close())
		}
		if !told {
			ui.Say("Another build is fetching " + e.key.Name + "; waiting for it...")
			told = true
		}
		if err := cloud.Sleep(ctx, 200*time.Millisecond); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
}

// open gives the index if the disk is there and is what the index says.
// Without an index there is nothing that can be used.
func (e entry) open(ctx context.Context, ui Ui) (*Index, error) {
	h, index, err := readIndex(e.index)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, errIndexDamaged) || (err == nil && (h.Key != e.key)) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the cache: %w", err)
	}
	f, err := os.Open(e.disk)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the cache: %w", err)
	}
	intact, err := e.verify(ctx, ui, f, h, index)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("verify the cached disk %s: %w", e.disk, err)
	}
	if !intact {
		return nil, nil
	}
	return index, nil
}

// verify says whether the disk has the blocks of the index. A file that nobody
// has touched since it was last found right need not be read.
func (e entry) verify(ctx context.Context, ui Ui, f *os.File, h header, index *Index) (bool, error) {
	now, err := stampOf(f)
	if err != nil {
		return false, err
	}
	if now == h.File {
		return true, nil
	}
	ui.Say("The cached disk " + e.disk + " is not as it was left; verifying its blocks...")
	if now.Size != h.File.Size {
		ui.Say("It has another size: it is fetched anew.")
		return false, nil
	}
	damaged, err := Diff(ctx, f, index)
	if err != nil {
		return false, err
	}
	if len(damaged) > 0 {
		ui.Say(fmt.Sprintf("%d of its blocks are damaged: it is fetched anew.", len(damaged)))
		return false, nil
	}
	h.File = now
	return true, writeIndex(e.index, h, index)
}

// fetch fills a file of another name, so that at no time there is a
// disk under the right name that is not whole.
func (e entry) fetch(ctx context.Context, fill Fill) (index *Index, err error) {
	part := e.disk + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(err, remove(part))
		}
	}()
	if index, err = fill(ctx, f); err != nil {
		return nil, full(err, part)
	}
	if err := f.Sync(); err != nil {
		return nil, full(err, part)
	}
	if err := os.Rename(part, e.disk); err != nil {
		return nil, err
	}
	stamp, err := stampOf(f)
	if err != nil {
		return nil, err
	}
	h := header{Key: e.key, File: stamp}
	return index, writeIndex(e.index, h, index)
}

func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// full says what can be done where the filesystem has no room left.
func full(err error, path string) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w; make room in %s, or set PACKER_CACHE_DIR to a directory with more", err, filepath.Dir(path))
	}
	return err
}
