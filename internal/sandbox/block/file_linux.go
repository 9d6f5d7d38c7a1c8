package block

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// writer writes a file past the kernel's cache, where the filesystem can: in a
// virtual machine whose host takes back free memory, a page that the cache has to
// get first costs many times what writing to it does.
//
// A disk may be slower than those who send blocks. So only few write past the
// cache at once, and what comes while they do goes into the cache.
type writer struct {
	cached, direct *os.File // the same file; direct is nil where it cannot be had
	writing        chan struct{}

	mu   sync.Mutex
	room int64 // up to where the file has room on the disk
}

// atOnce is how many blocks are written past the cache at once: enough to keep a
// fast disk busy.
const atOnce = 32

// ahead is how much room on the disk a file is given in advance, because writes
// that lengthen a file wait for each other.
const ahead = 64 << 20

func newWriter(f *os.File) *writer {
	w := &writer{cached: f, writing: make(chan struct{}, atOnce)}
	info, err := f.Stat()
	if err != nil {
		return w
	}
	w.room = info.Size()
	if direct, err := os.OpenFile(f.Name(), os.O_WRONLY|unix.O_DIRECT, 0); err == nil {
		w.direct = direct
	}
	return w
}

func (w *writer) writeAt(data []byte, offset int64) error {
	if w.direct != nil {
		select {
		case w.writing <- struct{}{}:
			w.makeRoom(offset + int64(len(data)))
			_, err := w.direct.WriteAt(data, offset)
			<-w.writing
			if !errors.Is(err, unix.EINVAL) { // which means that data is not aligned in memory
				return err
			}
		default:
		}
	}
	_, err := w.cached.WriteAt(data, offset)
	return err
}

// makeRoom gives the file room up to an offset, and some more. Where that cannot
// be had, writes are slower, or fail by themselves.
func (w *writer) makeRoom(end int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if end <= w.room {
		return
	}
	if size := end + ahead; unix.Fallocate(int(w.cached.Fd()), 0, w.room, size-w.room) == nil {
		w.room = size
	}
}

// close ends the writing of a file, and the file at an offset.
func (w *writer) close(end int64) error {
	if w.direct == nil {
		return nil
	}
	return errors.Join(w.direct.Close(), w.cached.Truncate(end))
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
