package disk

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"golang.org/x/sys/unix"
)

// Extent is a stretch of a sparse file that holds data, in bytes.
type Extent struct {
	Start, Size int64
}

// Extents goes through the data of a sparse file, first to last, leaving out
// its holes. A filesystem that does not know of holes gives one extent. After
// an error there is nothing more. The file's offset is moved.
func Extents(f *os.File) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			yield(Extent{}, err)
			return
		}
		for at := int64(0); at < size; {
			start, err := f.Seek(at, unix.SEEK_DATA)
			if errors.Is(err, unix.ENXIO) {
				return // a hole up to the end
			}
			if errors.Is(err, unix.EINVAL) {
				yield(Extent{at, size - at}, nil)
				return
			}
			if err != nil {
				yield(Extent{}, fmt.Errorf("find data: %w", err))
				return
			}
			end, err := f.Seek(start, unix.SEEK_HOLE)
			if err != nil {
				yield(Extent{}, fmt.Errorf("find a hole: %w", err))
				return
			}
			if !yield(Extent{start, end - start}, nil) {
				return
			}
			at = end
		}
	}
}

// Data is how many bytes of a sparse file are not in holes.
func Data(f *os.File) (bytes int64, err error) {
	for e, err := range Extents(f) {
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f.Name(), err)
		}
		bytes += e.Size
	}
	return bytes, nil
}
