package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
)

// openBooks opens the books in the directory that was chosen, else in a
// temporary one.
func (s *Sandbox) openBooks(options Options) (err error) {
	if options.StateDir == "" {
		return s.openTemporary(options.Report)
	}
	if err := os.MkdirAll(options.StateDir, 0o700); err != nil {
		return fmt.Errorf("make the directory of the sandbox's state: %w", err)
	}
	s.books, err = state.Open(options.StateDir, options.Report)
	return err
}

// temporary begins the names of temporary directories.
const temporary = "immutable-sandbox-"

// openTemporary opens the books in a new directory, and removes those that
// killed sandboxes have left.
func (s *Sandbox) openTemporary(report func(error)) error {
	if err := sweep(os.TempDir()); err != nil {
		report(fmt.Errorf("remove what a killed sandbox left: %w", err))
	}
	for {
		dir, err := os.MkdirTemp("", temporary)
		if err != nil {
			return fmt.Errorf("make a directory for the sandbox's state: %w", err)
		}
		s.books, err = state.Open(dir, report)
		if err == nil {
			s.onClose(func() error { return os.RemoveAll(dir) })
			return nil
		}
		err = errors.Join(err, os.RemoveAll(dir))
		if !errors.Is(err, state.ErrHeld) { // by the sweep of another sandbox
			return err
		}
	}
}

// sweep removes the temporary directories that no sandbox holds. Those of other
// users, and what only looks like one, are left alone.
func sweep(parent string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), temporary) || !entry.IsDir() {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			continue // it is gone
		}
		if owner, known := info.Sys().(*syscall.Stat_t); known && int(owner.Uid) == os.Geteuid() {
			errs = append(errs, state.Discard(filepath.Join(parent, entry.Name())))
		}
	}
	return errors.Join(errs...)
}
