package snapshot

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/immutable-server/packer-plugin-immutable/internal/blocks"
	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
)

// Diff finds the blocks in which a disk differs from a snapshot, in order. Only
// the disk's data is read, and hashed on all cores; the snapshot's blocks are
// known by their digests. A block that the snapshot has data in and the disk a
// hole is among them, as a block of zeros: otherwise the snapshot's data would
// show through.
func Diff(ctx context.Context, f *os.File, base *Index) ([]blocks.Block, error) {
	data, err := spans(f)
	if err != nil {
		return nil, err
	}
	changed, err := hash(ctx, f, data, func(b blocks.Block) bool { return b.Digest != base.Digest(b.Index) })
	if err != nil {
		return nil, err
	}
	for _, b := range base.Blocks {
		if b.Digest != blocks.Zero && !data.hold(b.Index) {
			changed = append(changed, blocks.Block{Index: b.Index, Digest: blocks.Zero})
		}
	}
	order(changed)
	return changed, nil
}

// All gives every block of the volume that a disk makes, those of zeros too. A
// snapshot that is encrypted and has no parent needs all of them, because a
// block of it that was never written reads as random bytes
// (awslabs/coldsnap#395).
func All(ctx context.Context, f *os.File) ([]blocks.Block, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data, err := spans(f)
	if err != nil {
		return nil, err
	}
	all, err := hash(ctx, f, data, func(blocks.Block) bool { return true })
	if err != nil {
		return nil, err
	}
	for index := range blocks.Count(int64(blocks.Volume(info.Size())) * blocks.GiB) {
		if !data.hold(index) {
			all = append(all, blocks.Block{Index: index, Digest: blocks.Zero})
		}
	}
	order(all)
	return all, nil
}

// Count is how many blocks of a disk hold data.
func Count(f *os.File) (int, error) {
	data, err := spans(f)
	count := 0
	for _, s := range data {
		count += int(s.last - s.first)
	}
	return count, err
}

func order(list []blocks.Block) {
	slices.SortFunc(list, func(a, b blocks.Block) int { return cmp.Compare(a.Index, b.Index) })
}

// span is a range of blocks, up to before last.
type span struct{ first, last int32 }

// ranges are spans in order that do not touch.
type ranges []span

// hold says whether a block is in one of the spans.
func (r ranges) hold(index int32) bool {
	_, found := slices.BinarySearchFunc(r, index, func(s span, index int32) int {
		switch {
		case s.last <= index:
			return -1
		case s.first > index:
			return 1
		}
		return 0
	})
	return found
}

// spans are the blocks that hold any of a sparse file's data.
func spans(f *os.File) (ranges, error) {
	var r ranges
	for extent, err := range disk.Extents(f) {
		if err != nil {
			return nil, fmt.Errorf("find the data of %s: %w", f.Name(), err)
		}
		first, last := blocks.Span(extent.Start, extent.Size)
		if n := len(r); n > 0 && first <= r[n-1].last {
			r[n-1].last = max(last, r[n-1].last)
		} else {
			r = append(r, span{first, last})
		}
	}
	return r, nil
}

// stride is how many blocks a core takes at a time: enough to read
// sequentially, few enough to share the work evenly.
const stride = 32

// hash gives the blocks of the ranges that keep wants, in no order.
func hash(ctx context.Context, f *os.File, data ranges, keep func(blocks.Block) bool) ([]blocks.Block, error) {
	var (
		mu   sync.Mutex
		kept []blocks.Block
		pool = sync.Pool{New: func() any { return new([blocks.Size]byte) }}
	)
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, s := range data {
		for first := s.first; first < s.last; first += stride {
			if running.Err() != nil {
				break
			}
			group.Go(func() error {
				buffer := pool.Get().(*[blocks.Size]byte)
				defer pool.Put(buffer)
				for index := first; index < min(first+stride, s.last); index++ {
					if running.Err() != nil {
						return context.Cause(running)
					}
					if err := blocks.Read(f, index, buffer[:]); err != nil {
						return fmt.Errorf("read block %d of %s: %w", index, f.Name(), err)
					}
					if b := (blocks.Block{Index: index, Digest: blocks.Sum(buffer[:])}); keep(b) {
						mu.Lock()
						kept = append(kept, b)
						mu.Unlock()
					}
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return kept, context.Cause(ctx)
}
