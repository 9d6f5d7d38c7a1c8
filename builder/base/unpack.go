package base

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// The compressions of disk images, by the bytes that a file begins with.
var magics = map[string]string{
	"\x1f\x8b":         "gzip",
	"\x28\xb5\x2f\xfd": "zstd",
	"\xfd7zXZ\x00":     "xz",
}

// compression tells how a stream is compressed; "" if it is not.
func compression(r io.Reader) (string, error) {
	head := make([]byte, 6)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", err
	}
	for magic, name := range magics {
		if bytes.HasPrefix(head[:n], []byte(magic)) {
			return name, nil
		}
	}
	return "", nil
}

// unpack writes a stream, decompressed if need be, to an empty file, with holes
// in place of zeros.
func unpack(f *os.File, r io.Reader) error {
	buffered := bufio.NewReaderSize(r, 1<<20)
	// What can't be peeked at is too short to be compressed.
	head, _ := buffered.Peek(6)
	name, err := compression(bytes.NewReader(head))
	if err != nil {
		return err
	}
	switch name {
	case "gzip":
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return err
		}
		return sparse(f, z)
	case "zstd":
		z, err := zstd.NewReader(buffered, zstd.WithDecoderMaxMemory(128<<20))
		if err != nil {
			return err
		}
		defer z.Close()
		return sparse(f, z)
	case "xz":
		z, err := xz.NewReader(buffered)
		if err != nil {
			return err
		}
		return sparse(f, z)
	default:
		return sparse(f, buffered)
	}
}

// sparse writes a stream to a file and leaves out what is zeros.
func sparse(f *os.File, r io.Reader) error {
	const step = 64 << 10
	buffer, zeros := make([]byte, step), make([]byte, step)
	for at := int64(0); ; {
		n, err := fill(r, buffer)
		if !bytes.Equal(buffer[:n], zeros[:n]) {
			if _, err := f.WriteAt(buffer[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) {
			return f.Truncate(at)
		}
		if err != nil {
			return err
		}
	}
}

// fill reads until the buffer is full. Unlike io.ReadFull it leaves io.EOF what
// it is, so that it can't be mixed up with the io.ErrUnexpectedEOF of a
// decompressor whose input was cut off.
func fill(r io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var more int
		more, err = r.Read(buffer[n:])
		n += more
	}
	return n, err
}
