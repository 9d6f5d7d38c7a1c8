package state

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Ledger is what one service knows: a page for each region.
type Ledger[Page any] struct {
	fresh   func(region string) *Page
	regions map[string]*Page
}

// Declare adds a ledger to the books, with the pages that were saved. Fresh
// makes the page of a region that has none; it is called with the books held.
// A ledger is declared before the sandbox serves.
func Declare[Page any](b *Books, name string, fresh func(region string) *Page) (*Ledger[Page], error) {
	l := &Ledger[Page]{fresh: fresh, regions: map[string]*Page{}}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, twice := b.ledgers[name]; twice {
		panic("state: the ledger " + name + " is declared twice")
	}
	regions, err := os.ReadDir(b.dir)
	if err != nil {
		return nil, fmt.Errorf("find saved state: %w", err)
	}
	for _, region := range regions {
		if !region.IsDir() {
			continue
		}
		path := filepath.Join(b.dir, region.Name(), name+".json")
		saved, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read saved state: %w", err)
		}
		if err := l.load(region.Name(), saved); err != nil {
			return nil, fmt.Errorf("read saved state %s: %w; remove the directory to begin anew", path, err)
		}
		b.written[path] = sha256.Sum256(saved)
	}
	b.ledgers[name] = l
	return l, nil
}

// In gives the page of a region, a fresh one if there is none yet. The books
// must be held.
func (l *Ledger[Page]) In(region string) *Page {
	page, ok := l.regions[region]
	if !ok {
		page = l.fresh(region)
		l.regions[region] = page
	}
	return page
}

// Regions lists the regions that have a page, in order. The books must be
// held.
func (l *Ledger[Page]) Regions() []string {
	return slices.Sorted(maps.Keys(l.regions))
}

func (l *Ledger[Page]) load(region string, saved []byte) error {
	page := l.fresh(region)
	if err := json.Unmarshal(saved, page); err != nil {
		return err
	}
	l.regions[region] = page
	return nil
}

func (l *Ledger[Page]) pages() map[string]any {
	pages := make(map[string]any, len(l.regions))
	for region, page := range l.regions {
		pages[region] = page
	}
	return pages
}
