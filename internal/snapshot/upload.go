package snapshot

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"golang.org/x/sync/errgroup"

	"github.com/immutable-server/packer-plugin-immutable/internal/blocks"
	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// lifespan is how many minutes AWS keeps a snapshot that is being written
// before it gives it up.
const lifespan = 24 * 60

// Plan describes a snapshot that is to be written.
type Plan struct {
	// Size of the disk in bytes; the snapshot's is the next whole GiB.
	Size int64
	// Parent is the snapshot that all blocks not written are taken from; "" for
	// none. The new snapshot is encrypted as it is.
	Parent string
	// Encrypted and Key, the ARN of a KMS key or "" for the account's default,
	// are for a snapshot without a parent: AWS refuses them with one.
	Encrypted bool
	Key       string
	// Description has at most 255 characters.
	Description string
	Tags        map[string]string
	// Token makes the start happen once, however often it is asked for.
	Token string
}

// Upload is a snapshot that is being written.
type Upload struct {
	// ID of the snapshot.
	ID string
	// Written is how many blocks AWS has taken.
	Written atomic.Int32

	api  Writer
	born *cloud.Newborn
}

// Start begins a snapshot. An attempt that is under way is not cut off by an
// interrupt, so that there is never a snapshot that nobody knows of.
func Start(ctx context.Context, api Writer, plan Plan) (*Upload, error) {
	request := &ebs.StartSnapshotInput{
		VolumeSize:  aws.Int64(int64(blocks.Volume(plan.Size))),
		ClientToken: &plan.Token,
		Description: &plan.Description,
		Timeout:     aws.Int32(lifespan),
	}
	if plan.Parent != "" {
		request.ParentSnapshotId = &plan.Parent
	} else if plan.Encrypted {
		request.Encrypted = aws.Bool(true)
		if plan.Key != "" {
			request.KmsKeyArn = &plan.Key
		}
	}
	for _, key := range slices.Sorted(maps.Keys(plan.Tags)) {
		request.Tags = append(request.Tags, types.Tag{Key: new(key), Value: new(plan.Tags[key])})
	}
	u := &Upload{api: api}
	err := persist(ctx, newGate(), never, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cloud.AttemptTimeout)
		defer cancel()
		began, err := api.StartSnapshot(ctx, request)
		if err != nil {
			return err
		}
		u.ID, u.born = aws.ToString(began.SnapshotId), cloud.Born()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("start a snapshot (ebs:StartSnapshot): %w", err)
	}
	return u, nil
}

// Write writes blocks of a disk, whose digests are those of the changed.
func (u *Upload) Write(ctx context.Context, ui Ui, disk io.ReaderAt, changed []blocks.Block) error {
	if len(changed) == 0 {
		return nil
	}
	shown := track(ui, "upload "+u.ID, int64(len(changed))*blocks.Size)
	defer shown.Close()

	gate := newGate()
	group, ctx := errgroup.WithContext(ctx)
	todo := make(chan blocks.Block)
	group.Go(func() error {
		defer close(todo)
		for _, b := range changed {
			select {
			case todo <- b:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	for range min(workers, len(changed)) {
		group.Go(func() error {
			buffer := make([]byte, blocks.Size)
			for b := range todo {
				if err := blocks.Read(disk, b.Index, buffer); err != nil {
					return fmt.Errorf("read block %d of the disk: %w", b.Index, err)
				}
				if err := u.put(ctx, gate, b, buffer); err != nil {
					return fmt.Errorf("write block %d of snapshot %s (ebs:PutSnapshotBlock): %w", b.Index, u.ID, err)
				}
				u.Written.Add(1)
				shown.Add(blocks.Size)
			}
			return nil
		})
	}
	return group.Wait()
}

// put sends the digest that the block had when it was compared: if the disk
// has changed since, AWS refuses it.
func (u *Upload) put(ctx context.Context, gate *gate, b blocks.Block, data []byte) error {
	return persist(ctx, gate, unseen(u.born), func(ctx context.Context) error {
		_, err := u.api.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
			SnapshotId:        &u.ID,
			BlockIndex:        &b.Index,
			BlockData:         bytes.NewReader(data),
			DataLength:        aws.Int32(blocks.Size),
			Checksum:          aws.String(base64.StdEncoding.EncodeToString(b.Digest[:])),
			ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256,
		})
		return err
	})
}

// Complete says that these blocks, in order, are all that was written. Then AWS
// takes a while, which Wait waits. When the answer to an attempt was lost, and
// AWS then finds that the snapshot can't be completed (any more), the attempt is
// taken to have done it: Wait will tell.
func (u *Upload) Complete(ctx context.Context, changed []blocks.Block) error {
	request := &ebs.CompleteSnapshotInput{
		SnapshotId:         &u.ID,
		ChangedBlocksCount: aws.Int32(int32(len(changed))),
	}
	if len(changed) > 0 {
		sum := blocks.Linear(slices.Values(changed))
		request.Checksum = aws.String(base64.StdEncoding.EncodeToString(sum[:]))
		request.ChecksumAlgorithm = types.ChecksumAlgorithmChecksumAlgorithmSha256
		request.ChecksumAggregationMethod = types.ChecksumAggregationMethodChecksumAggregationLinear
	}
	lost := false
	err := persist(ctx, newGate(), unseen(u.born), func(ctx context.Context) error {
		_, err := u.api.CompleteSnapshot(ctx, request)
		if lost && notPending(err) {
			return nil
		}
		lost = lost || passes(err)
		return err
	})
	if err != nil {
		return fmt.Errorf("complete snapshot %s with %d changed blocks (ebs:CompleteSnapshot): %w", u.ID, len(changed), err)
	}
	return nil
}

// notPending says that AWS refuses the snapshot itself, and not the request.
func notPending(err error) bool {
	invalid := (*types.ValidationException)(nil)
	return errors.As(err, &invalid) && invalid.Reason == types.ValidationExceptionReasonInvalidSnapshotId
}
