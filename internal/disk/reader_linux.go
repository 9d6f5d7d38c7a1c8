package disk

import (
	"io"
	"os"
)

// Reader reads all of a sparse file, which must not change meanwhile. What is
// in a hole is not read: that would fill the kernel's cache with zeros.
type Reader struct {
	file *os.File
	at   int64
	data []Extent // what is not behind at
	size int64
}

// NewReader starts at the beginning of f.
func NewReader(f *os.File) (*Reader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r := &Reader{file: f, size: info.Size()}
	for e, err := range Extents(f) {
		if err != nil {
			return nil, err
		}
		r.data = append(r.data, e)
	}
	return r, nil
}

// Read implements io.Reader.
func (r *Reader) Read(b []byte) (n int, err error) {
	if r.at == r.size {
		return 0, io.EOF
	}
	for len(r.data) > 0 && r.data[0].Start+r.data[0].Size <= r.at {
		r.data = r.data[1:]
	}
	next := r.size // where the hole that at is in ends
	if len(r.data) > 0 {
		next = r.data[0].Start
	}
	if next > r.at {
		n = int(min(int64(len(b)), next-r.at))
		clear(b[:n])
	} else {
		left := r.data[0].Start + r.data[0].Size - r.at
		n, err = r.file.ReadAt(b[:min(int64(len(b)), left)], r.at)
	}
	r.at += int64(n)
	return n, err
}

// Close closes the file.
func (r *Reader) Close() error { return r.file.Close() }
