// Package state keeps what the sandbox knows, in memory and in a directory.
//
// All of it is the books: one ledger for each service, with one page for each
// region. There is one lock for all the books, which makes every operation
// atomic and every rule simple to state: hold the books while reading or
// changing a page, and never for long. Reading a body, hashing, copying a
// volume, booting or stopping a machine are done outside (Outside), after
// which everything must be looked up anew, because the books may have changed.
//
// A service declares its ledger once, with the type of a page:
//
//	type page struct{ Images map[string]*Image }
//	images, err := state.Declare(books, "images", func(region string) *page { … })
//	…
//	images.In("eu-west-1").Images[id] = image // books held
//
// A page is saved as JSON in DIR/REGION/LEDGER.json a moment after a change,
// and on Close. Its exported fields are what is saved. Handlers of package
// api run with the books held; everything else uses Do or Read.
package state

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// leastPause is how long after a change it is saved at the earliest, so that
// changes that come together are saved together.
const leastPause = time.Second

// Books are all ledgers of one sandbox.
type Books struct {
	dir    string
	lock   *os.File // held so that no other process uses the directory
	report func(error)

	mu      sync.Mutex
	ledgers map[string]ledger
	saving  *time.Timer // set while a save is due
	closed  bool        // no save becomes due any more

	lastWrite time.Duration // what it took to write all pages

	writing sync.Mutex                   // held while files are written
	ended   bool                         // the last save is done; the directory may be another sandbox's
	written map[string][sha256.Size]byte // the digests of what the files hold
}

// ledger is a Ledger of any type, as Books sees it: its pages by region.
type ledger interface {
	pages() map[string]any
}

// Open opens the books in dir, which must exist and which no other sandbox may
// use meanwhile. Errors of saves in the
// background are given to report.
func Open(dir string, report func(error)) (*Books, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("open the sandbox's state: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("open the sandbox's state: %s is not a directory", dir)
	}
	lock, err := lockFile(lockPath(dir), os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("open the sandbox's state in %s: %w", dir, err)
	}
	return &Books{dir: dir, lock: lock, report: report, ledgers: map[string]ledger{}, written: map[string][sha256.Size]byte{}}, nil
}

// Do runs f with the books held; f may change them.
func (b *Books) Do(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.changed() // last, because f may let go of the books and a save come between
	f()
}

// Read runs f with the books held; f must not change them.
func (b *Books) Read(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// Outside lets go of the books while f runs. It is called with the books
// held; what was read before must be looked up anew afterwards.
func (b *Books) Outside(f func()) {
	b.mu.Unlock()
	defer b.mu.Lock()
	f()
}

// pause is how long changes are gathered before a save: long enough that
// saving a large state takes a small part of the time.
func (b *Books) pause() time.Duration { return max(leastPause, 20*b.lastWrite) }

// changed makes sure that a save is due.
func (b *Books) changed() {
	if b.saving != nil || b.closed {
		return
	}
	b.saving = time.AfterFunc(b.pause(), func() {
		if err := b.Save(); err != nil {
			b.report(err)
		}
	})
}

// Dir makes sure of the folder of the given name for a region's own files,
// such as volumes, and gives its path.
func (b *Books) Dir(region, name string) (string, error) {
	dir := filepath.Join(b.dir, region, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a folder in the sandbox's state: %w", err)
	}
	return dir, nil
}

// Save writes the pages that have changed, until the books are closed.
func (b *Books) Save() error {
	b.writing.Lock()
	defer b.writing.Unlock()
	return b.save()
}

func (b *Books) save() error {
	if b.ended {
		return nil
	}
	files, err := b.write()
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(files)) {
		// A file takes the other's place at once, so that a reader sees the old
		// contents or the new.
		replace := os.Rename
		if b.written[path] == files[path] || err != nil {
			replace = func(fresh, _ string) error { return os.Remove(fresh) }
		}
		if err := replace(path+fresh, path); err != nil {
			errs = append(errs, fmt.Errorf("save the sandbox's state: %w", err))
			continue
		}
		if err == nil {
			b.written[path] = files[path]
		}
	}
	return errors.Join(append(errs, err)...)
}

// fresh is the end of the name of a file that is to take another's place.
const fresh = ".new"

// write writes all pages, as they are at one moment, beside their files, and
// gives the digest of each.
func (b *Books) write() (map[string][sha256.Size]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.saving != nil {
		b.saving.Stop()
		b.saving = nil
	}
	begun := time.Now()
	defer func() { b.lastWrite = time.Since(begun) }()
	files := map[string][sha256.Size]byte{}
	for name, ledger := range b.ledgers {
		for region, page := range ledger.pages() {
			dir := filepath.Join(b.dir, region)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return files, fmt.Errorf("save the sandbox's state: %w", err)
			}
			path := filepath.Join(dir, name+".json")
			digest := sha256.New()
			if err := writePage(path+fresh, page, digest); err != nil {
				return files, err
			}
			files[path] = [sha256.Size]byte(digest.Sum(nil))
		}
	}
	return files, nil
}

// Close saves what has changed. What changes afterwards is not saved, also not by
// a save that was due.
func (b *Books) Close() error {
	b.Read(func() { b.closed = true })
	b.writing.Lock()
	defer b.writing.Unlock()
	err := b.save()
	b.ended = true
	return errors.Join(err, b.lock.Close())
}

// Digests tell whether the books have changed: a digest of each page, by the
// names of region and ledger. The books must be held.
func (b *Books) Digests() (map[string][sha256.Size]byte, error) {
	digests := map[string][sha256.Size]byte{}
	for name, ledger := range b.ledgers {
		for region, page := range ledger.pages() {
			digest := sha256.New()
			if err := encodePage(digest, page); err != nil {
				return nil, fmt.Errorf("digest %s of %s: %w", name, region, err)
			}
			digests[region+" "+name] = [sha256.Size]byte(digest.Sum(nil))
		}
	}
	return digests, nil
}
