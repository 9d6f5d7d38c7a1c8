package disk

import "fmt"

// FullError says that a local filesystem has no room for what is to be written.
type FullError struct {
	// Path is what was to be written.
	Path string
	// Need and Free are in bytes. Need is 0 when it is not known.
	Need, Free int64
}

func (e *FullError) Error() string {
	if e.Need == 0 {
		return fmt.Sprintf("the local filesystem of %s is full: %d bytes are free; make room there, or set PACKER_CACHE_DIR to a directory with more", e.Path, e.Free)
	}
	return fmt.Sprintf("the local filesystem has no room for %s: %d bytes are needed, %d are free; make room there, or set PACKER_CACHE_DIR to a directory with more", e.Path, e.Need, e.Free)
}
