package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// copyStep is how much is copied between two looks at the context.
const copyStep = 32 << 20

// Copy makes dst, an empty file, a copy of src with the same holes. Where the
// filesystem can share blocks (reflink), nothing is copied at all. Otherwise
// free space is checked first, and a full filesystem is a *FullError.
func Copy(ctx context.Context, dst, src *os.File) error {
	err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
	if err == nil {
		return nil
	}
	need, err := Data(src)
	if err != nil {
		return err
	}
	if err := Room(dst.Name(), need); err != nil {
		return err
	}
	if err := copyData(ctx, dst, src); err != nil {
		return fmt.Errorf("copy %s to %s: %w", src.Name(), dst.Name(), explainFull(err, dst.Name(), need))
	}
	return nil
}

func copyData(ctx context.Context, dst, src *os.File) error {
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if err := dst.Truncate(info.Size()); err != nil {
		return err
	}
	for e, err := range Extents(src) {
		if err != nil {
			return err
		}
		for e.Size > 0 {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			n, err := copyRange(dst, src, e.Start, min(e.Size, copyStep))
			if err != nil {
				return err
			}
			e.Start, e.Size = e.Start+n, e.Size-n
		}
	}
	return nil
}

// copyRange copies up to size bytes at off within the kernel, or through this
// process where the two filesystems cannot do so.
func copyRange(dst, src *os.File, off, size int64) (int64, error) {
	in, out := off, off
	n, err := unix.CopyFileRange(int(src.Fd()), &in, int(dst.Fd()), &out, int(size), 0)
	switch {
	case err == nil && n > 0:
		return int64(n), nil
	case err == nil, errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return io.Copy(io.NewOffsetWriter(dst, off), io.NewSectionReader(src, off, size))
	default:
		return 0, err
	}
}
