package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrHeld is that another sandbox has books open.
var ErrHeld = errors.New("another sandbox uses it; give --state another directory, or end that one")

// lockPath is the file that is locked as long as the books of a directory are
// open.
func lockPath(dir string) string { return filepath.Join(dir, "lock") }

// lockFile locks a file until it is closed, or the process ends.
func lockFile(path string, flags int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(file, path); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func lock(file *os.File, path string) error {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrHeld
	}
	if err != nil {
		return err
	}
	locked, err := file.Stat()
	if err != nil {
		return err
	}
	// It may have been discarded before it was locked.
	if there, err := os.Stat(path); err != nil || !os.SameFile(there, locked) {
		return ErrHeld
	}
	return nil
}

// Discard removes a directory with books that no sandbox has open. One whose
// books are open, or that has never had any, is left alone.
func Discard(dir string) error {
	held, err := lockFile(lockPath(dir), 0)
	if errors.Is(err, ErrHeld) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("discard the sandbox's state in %s: %w", dir, err)
	}
	return errors.Join(os.RemoveAll(dir), held.Close()) // held until it is gone
}
