package ebs

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

type completeSnapshotInput struct {
	SnapshotId                string `path:"SnapshotId"`
	ChangedBlocksCount        int    `header:"x-amz-ChangedBlocksCount" wire:",,required"`
	Checksum                  string `header:"x-amz-Checksum"`
	ChecksumAlgorithm         string `header:"x-amz-Checksum-Algorithm"`
	ChecksumAggregationMethod string `header:"x-amz-Checksum-Aggregation-Method"`
}

type completeSnapshotOutput struct {
	HTTPStatus int `status:""`
	Status     string
}

func (s *Service) completeSnapshot(_ context.Context, c *api.Call, in *completeSnapshotInput) (*completeSnapshotOutput, error) {
	snapshot, err := s.pending(c, in.SnapshotId)
	if err != nil {
		return nil, err
	}
	written := snapshot.Written()
	if in.ChangedBlocksCount != len(written) {
		return nil, invalid(invalidParameter, "ChangedBlocksCount is %d, but %d blocks were written to the snapshot '%s'", in.ChangedBlocksCount, len(written), in.SnapshotId)
	}
	if err := in.verify(snapshot, written); err != nil {
		return nil, err
	}
	snapshot.Write.Sealed = true
	s.completeLater(c.Region, snapshot)
	return &completeSnapshotOutput{http.StatusAccepted, string(snapshot.State)}, nil
}

// verify compares the checksum, if there is one, with the aggregate of the
// blocks that were written: the SHA-256 of their digests, as bytes, in the
// order of their indexes.
func (in *completeSnapshotInput) verify(snapshot *storage.Snapshot, written []int) error {
	if in.Checksum == "" && in.ChecksumAlgorithm == "" && in.ChecksumAggregationMethod == "" {
		return nil
	}
	if in.Checksum == "" || in.ChecksumAlgorithm != sha256Name || in.ChecksumAggregationMethod != "LINEAR" {
		return invalid(invalidParameter, "A checksum must come with the algorithm SHA256 and the aggregation method LINEAR")
	}
	aggregate := sha256.New()
	for _, index := range written {
		digest, _ := snapshot.At(index)
		aggregate.Write(digest[:])
	}
	if got := base64.StdEncoding.EncodeToString(aggregate.Sum(nil)); got != in.Checksum {
		return invalid(invalidParameter, "The checksum '%s' is not that of the %d blocks that were written, '%s'", in.Checksum, len(written), got)
	}
	return nil
}

// completeLater completes a sealed snapshot when its time has come. The books
// must be held.
func (s *Service) completeLater(region string, snapshot *storage.Snapshot) {
	s.clock.After(s.clock.Transition(clock.DirectSnapshot), func() {
		s.books.Do(func() {
			if s.known(region, snapshot) && snapshot.State == storage.Pending {
				// A failure is shown by the snapshot's own state.
				_ = s.store.Complete(region, snapshot, nil, s.clock.Now())
			}
		})
	})
}
