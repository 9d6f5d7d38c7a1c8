//go:build !linux

package block

import (
	"fmt"
	"io"
	"os"
)

// writer writes a file in the usual way.
type writer struct{ file *os.File }

func newWriter(f *os.File) *writer { return &writer{f} }

func (w *writer) writeAt(data []byte, offset int64) error {
	_, err := w.file.WriteAt(data, offset)
	return err
}

func (*writer) close(int64) error { return nil }

// punch does nothing: the slot is used again as it is.
func punch(*os.File, int64, int64) error { return nil }

func copyRange(dst *os.File, dstOffset int64, src *os.File, srcOffset, length int64) error {
	return copyBytes(dst, dstOffset, src, srcOffset, length)
}

// NextData gives the next range at or after offset in which a file has data;
// io.EOF when there is none. Here a file is taken to have data throughout.
func NextData(f *os.File, offset int64) (from, to int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, 0, fmt.Errorf("find the data of %s: %w", f.Name(), err)
	}
	if offset >= info.Size() {
		return 0, 0, io.EOF
	}
	return offset, info.Size(), nil
}
