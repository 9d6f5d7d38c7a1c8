package disk

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

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
	return full(path, need)
}

// full is the FullError of a filesystem that was just found full.
func full(path string, need int64) error {
	free, err := Free(path)
	if err != nil {
		return err
	}
	return &FullError{Path: path, Need: need, Free: free}
}
