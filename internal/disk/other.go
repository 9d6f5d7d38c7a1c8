//go:build !linux

package disk

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"os/exec"
)

var errLinux = errors.New("working with sparse disk images needs Linux")

// Extent is a stretch of a sparse file that holds data, in bytes.
type Extent struct{ Start, Size int64 }

// Extents fails: it needs Linux.
func Extents(*os.File) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) { yield(Extent{}, errLinux) }
}

// Copy fails: it needs Linux.
func Copy(context.Context, *os.File, *os.File) error { return errLinux }

// Reader reads a sparse file; there is none but on Linux.
type Reader struct{ io.ReadCloser }

// NewReader fails: it needs Linux.
func NewReader(*os.File) (*Reader, error) { return nil, errLinux }

// Room fails: it needs Linux.
func Room(string, int64) error { return errLinux }

func full(string, int64) error { return errLinux }

func endWithParent(*exec.Cmd) {}
