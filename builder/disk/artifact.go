package disk

import (
	"errors"
	"fmt"
	"os"
)

// BuilderID is the artifact's BuilderId.
const BuilderID = "immutable.disk"

// artifact is a disk image and its checksum.
type artifact struct {
	path, format, sum string
	data              map[string]any
}

// BuilderId is BuilderID.
func (*artifact) BuilderId() string { return BuilderID }

// Files lists the image and its checksum's file.
func (a *artifact) Files() []string { return []string{a.path, checksumPath(a.path)} }

// Id is the path of the image.
func (a *artifact) Id() string { return a.path }

func (a *artifact) String() string {
	return fmt.Sprintf("A disk image was written: %s (%s, sha256:%s)", a.path, a.format, a.sum)
}

// State gives "generated_data".
func (a *artifact) State(name string) any { return a.data[name] }

// Destroy removes the files.
func (a *artifact) Destroy() error {
	var errs []error
	for _, file := range a.Files() {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("destroy the disk image: %w", err))
		}
	}
	return errors.Join(errs...)
}
