package snapshot

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"golang.org/x/sync/errgroup"

	"github.com/immutable-server/packer-plugin-immutable/internal/blocks"
	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
)

// pageSize is the most that ListSnapshotBlocks gives at once.
const pageSize = 10_000

// download writes the blocks of a completed snapshot into a sparse file, each
// verified by its checksum, and makes the file as large as the volume.
func download(ctx context.Context, ui Ui, api Reader, id string, f *os.File) (*Index, error) {
	d := &downloading{api: api, snapshot: id, born: cloud.Born(), file: f, gate: newGate()}
	page, err := d.list(ctx, nil)
	if err != nil {
		return nil, err
	}
	if size := aws.ToInt32(page.BlockSize); size != blocks.Size {
		return nil, fmt.Errorf("snapshot %s has blocks of %d bytes; this plugin knows blocks of %d", id, size, blocks.Size)
	}
	volume := aws.ToInt64(page.VolumeSize) * blocks.GiB
	if err := f.Truncate(volume); err != nil {
		return nil, err
	}
	// With more than one page nobody knows yet how many blocks there will be.
	total := volume
	if page.NextToken == nil {
		total = int64(len(page.Blocks)) * blocks.Size
		if err := disk.Room(f.Name(), total); err != nil {
			return nil, err
		}
	}
	d.progress = track(ui, "download "+id, total)
	defer d.progress.Close()

	if err := d.run(ctx, page); err != nil {
		return nil, err
	}
	order(d.index.Blocks)
	return &d.index, nil
}

type downloading struct {
	api      Reader
	snapshot string
	born     *cloud.Newborn // it may be a copy that was just made
	file     *os.File
	gate     *gate
	progress *progress

	mu    sync.Mutex
	index Index
}

// run hands the blocks of page after page to workers; no more than a page of
// block tokens is held at a time, however large the snapshot.
func (d *downloading) run(ctx context.Context, page *ebs.ListSnapshotBlocksOutput) error {
	group, ctx := errgroup.WithContext(ctx)
	todo := make(chan types.Block)
	group.Go(func() error {
		defer close(todo)
		for {
			for _, b := range page.Blocks {
				select {
				case todo <- b:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			if page.NextToken == nil {
				return nil
			}
			var err error
			if page, err = d.list(ctx, page.NextToken); err != nil {
				return err
			}
		}
	})
	for range workers {
		group.Go(func() error {
			var buffer []byte
			for b := range todo {
				if buffer == nil {
					buffer = make([]byte, blocks.Size)
				}
				if err := d.block(ctx, b, buffer); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (d *downloading) list(ctx context.Context, next *string) (page *ebs.ListSnapshotBlocksOutput, err error) {
	err = persist(ctx, d.gate, unseen(d.born), func(ctx context.Context) error {
		page, err = d.api.ListSnapshotBlocks(ctx, &ebs.ListSnapshotBlocksInput{
			SnapshotId: &d.snapshot,
			MaxResults: aws.Int32(pageSize),
			NextToken:  next,
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the blocks of snapshot %s: %w", d.snapshot, err)
	}
	return page, nil
}

func (d *downloading) block(ctx context.Context, b types.Block, buffer []byte) error {
	index := aws.ToInt32(b.BlockIndex)
	var digest blocks.Digest
	err := persist(ctx, d.gate, unseen(d.born), func(ctx context.Context) error {
		var err error
		digest, err = d.get(ctx, b, buffer)
		return err
	})
	if err != nil {
		return fmt.Errorf("read block %d of snapshot %s: %w", index, d.snapshot, err)
	}
	if digest != blocks.Zero {
		if _, err := d.file.WriteAt(buffer, int64(index)*blocks.Size); err != nil {
			return err
		}
	}
	d.mu.Lock()
	d.index.Blocks = append(d.index.Blocks, blocks.Block{Index: index, Digest: digest})
	d.mu.Unlock()
	d.progress.Add(blocks.Size)
	return nil
}

// get reads a block into the buffer and compares it with its checksum.
func (d *downloading) get(ctx context.Context, b types.Block, buffer []byte) (blocks.Digest, error) {
	got, err := d.api.GetSnapshotBlock(ctx, &ebs.GetSnapshotBlockInput{
		SnapshotId: &d.snapshot,
		BlockIndex: b.BlockIndex,
		BlockToken: b.BlockToken,
	})
	if err != nil {
		return blocks.Digest{}, err
	}
	_, err = io.ReadFull(got.BlockData, buffer)
	// The rest of the body must be empty, and is read so that the connection
	// can be used again.
	extra, _ := io.Copy(io.Discard, io.LimitReader(got.BlockData, 1))
	_ = got.BlockData.Close()
	if err != nil {
		return blocks.Digest{}, err
	}
	if length := aws.ToInt32(got.DataLength); length != blocks.Size || extra != 0 {
		return blocks.Digest{}, &corruptError{fmt.Sprintf("%d bytes and %d more arrived; a block has %d", length, extra, blocks.Size)}
	}
	digest := blocks.Sum(buffer)
	if sum := base64.StdEncoding.EncodeToString(digest[:]); sum != aws.ToString(got.Checksum) {
		return blocks.Digest{}, &corruptError{fmt.Sprintf("its checksum is %s; EBS names %s", sum, aws.ToString(got.Checksum))}
	}
	return digest, nil
}
