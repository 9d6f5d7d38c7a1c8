package disk

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// FullError says that a local filesystem has no room for what is to be written.
type FullError struct {
	// Path is what was to be written.
	Path string
	// Need and Free are in bytes. Need is 0 when it is not known.
	Need, Free int64
}

func (e *FullError) Error() string {
	if e.Need == 0 {
		return fmt.Sprintf("the local filesystem of %s is full: %d bytes are free; make room there, or set PACKER_CACHE_DIR to a directory with more", e.Path, e.Free)
	}
	return fmt.Sprintf("the local filesystem has no room for %s: %d bytes are needed, %d are free; make room there, or set PACKER_CACHE_DIR to a directory with more", e.Path, e.Need, e.Free)
}

// Free is how many bytes the filesystem of path has left for this process.
func Free(path string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, fmt.Errorf("ask %s for its free space: %w", path, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// Room returns a FullError if the filesystem of path, which must exist, has
// less than need bytes left.
func Room(path string, need int64) error {
	free, err := Free(path)
	if err != nil {
		return err
	}
	if free < need {
		return &FullError{Path: path, Need: need, Free: free}
	}
	return nil
}

// explainFull turns a failed write to path into a FullError where it failed
// for want of room.
func explainFull(err error, path string, need int64) error {
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return err
	}
	free, freeErr := Free(path)
	if freeErr != nil {
		return errors.Join(err, freeErr)
	}
	return &FullError{Path: path, Need: need, Free: free}
}
