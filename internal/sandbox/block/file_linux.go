package block

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// writer writes what will hardly be read soon. The kernel is told so: pages of
// the cache are used again as soon as they are on the disk. In a virtual machine
// whose host takes back free memory, a page that was not used for a while costs
// ten times as much as writing to it.
type writer struct {
	cached atomic.Bool // the filesystem knows no other way
}

func (w *writer) writeAt(f *os.File, data []byte, offset int64) error {
	for len(data) > 0 && !w.cached.Load() {
		n, err := unix.Pwritev2(int(f.Fd()), [][]byte{data}, offset, unix.RWF_DONTCACHE)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
			w.cached.Store(true)
		case err != nil:
			return fmt.Errorf("write %s: %w", f.Name(), err)
		default:
			data, offset = data[n:], offset+int64(n)
		}
	}
	if len(data) == 0 {
		return nil
	}
	_, err := f.WriteAt(data, offset)
	return err
}

// punch gives a range of a file back to the filesystem.
func punch(f *os.File, offset, length int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil // the slot is used again as it is
	}
	return err
}

// copyRange copies within the kernel, and shares the extents where the
// filesystem can.
func copyRange(dst *os.File, dstOffset int64, src *os.File, srcOffset, length int64) error {
	for length > 0 {
		n, err := unix.CopyFileRange(int(src.Fd()), &srcOffset, int(dst.Fd()), &dstOffset, int(length), 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
			return copyBytes(dst, dstOffset, src, srcOffset, length)
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("%s ends at byte %d: %w", src.Name(), srcOffset, io.ErrUnexpectedEOF)
		}
		length -= int64(n)
	}
	return nil
}

// NextData gives the next range at or after offset in which a file has data;
// io.EOF when there is none.
func NextData(f *os.File, offset int64) (from, to int64, err error) {
	from, err = unix.Seek(int(f.Fd()), offset, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return 0, 0, io.EOF
	}
	if err != nil {
		return 0, 0, fmt.Errorf("find the data of %s: %w", f.Name(), err)
	}
	if to, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil {
		return 0, 0, fmt.Errorf("find the holes of %s: %w", f.Name(), err)
	}
	return from, to, nil
}
