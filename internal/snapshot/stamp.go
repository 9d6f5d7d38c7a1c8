package snapshot

import (
	"os"

	"golang.org/x/sys/unix"
)

// stamp is what the filesystem knows of a file without reading it. The change
// time and the number of occupied blocks can't be set by a program, so that a
// file whose stamp is the same has been written by nobody.
type stamp struct {
	Size, Allocated  int64
	Modified, Change int64 // in Unix nanoseconds
	Inode            uint64
}

func stampOf(f *os.File) (stamp, error) {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return stamp{}, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return stamp{
		Size:      s.Size,
		Allocated: s.Blocks,
		Modified:  s.Mtim.Nano(),
		Change:    s.Ctim.Nano(),
		Inode:     s.Ino,
	}, nil
}
