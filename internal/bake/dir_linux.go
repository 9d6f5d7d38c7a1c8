package bake

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is a private work directory, held by a lock that the kernel frees
// however this process ends.
type Dir struct {
	path string
	lock *os.File
}

const (
	dirPrefix = "bake-"
	lockName  = "lock"
)

// OpenDir makes a work directory under parent, which is made if need be, and
// first removes those whose runs have died.
func OpenDir(parent string) (_ *Dir, err error) {
	parent, err = filepath.Abs(parent)
	if err != nil {
		return nil, fmt.Errorf("make a work directory: %w", err)
	}
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, fmt.Errorf("make a work directory: %w; set PACKER_CACHE_DIR to a directory that can be written", err)
	}
	door, err := enter(parent)
	if err != nil {
		return nil, fmt.Errorf("make a work directory: %w", err)
	}
	defer func() { err = errors.Join(err, door.Close()) }()
	if err := sweep(parent); err != nil {
		return nil, fmt.Errorf("remove the work directory of a run that died: %w", err)
	}
	path, err := os.MkdirTemp(parent, dirPrefix)
	if err != nil {
		return nil, fmt.Errorf("make a work directory: %w", err)
	}
	held, err := lock(filepath.Join(path, lockName), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return nil, fmt.Errorf("make a work directory: %w", err)
	}
	return &Dir{path: path, lock: held}, nil
}

// enter waits for its turn to make or remove work directories. A directory
// whose lock is not held yet, or no more, looks like that of a dead run.
func enter(parent string) (*os.File, error) {
	return lock(filepath.Join(parent, lockName), unix.LOCK_EX)
}

// sweep removes the directories that nobody holds.
func sweep(parent string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), dirPrefix) {
			continue
		}
		path := filepath.Join(parent, e.Name())
		held, err := lock(filepath.Join(path, lockName), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(remove(path), held.Close()); err != nil {
			return err
		}
	}
	return nil
}

// lock opens a file, made if need be, and locks it. Child processes do not
// inherit the lock.
func lock(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
	}
}

// remove removes a work directory, and the control groups of its container.
func remove(path string) error {
	groups, err := readControlGroups(path)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(groups.remove(ctx), os.RemoveAll(path))
}

// Path is the path of the directory or, with name, of a file in it.
func (d *Dir) Path(name ...string) string {
	return filepath.Join(append([]string{d.path}, name...)...)
}

// Close removes the directory and all that is in it.
func (d *Dir) Close() error {
	door, err := enter(filepath.Dir(d.path))
	if err == nil {
		err = errors.Join(remove(d.path), d.lock.Close(), door.Close())
	}
	if err != nil {
		return fmt.Errorf("remove the work directory: %w", err)
	}
	return nil
}
