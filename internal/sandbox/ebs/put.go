package ebs

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/block"
)

const sha256Name = "SHA256"

type putSnapshotBlockInput struct {
	SnapshotId        string    `path:"SnapshotId"`
	BlockIndex        int       `path:"BlockIndex"`
	DataLength        int       `header:"x-amz-Data-Length" wire:",,required"`
	Progress          int       `header:"x-amz-Progress"` // percent
	Checksum          string    `header:"x-amz-Checksum" wire:",,required"`
	ChecksumAlgorithm string    `header:"x-amz-Checksum-Algorithm" wire:",,required"`
	BlockData         io.Reader `body:"raw"`
}

type putSnapshotBlockOutput struct {
	HTTPStatus        int    `status:""`
	Checksum          string `header:"x-amz-Checksum"`
	ChecksumAlgorithm string `header:"x-amz-Checksum-Algorithm"`
}

// putSnapshotBlock reads, hashes and stores a block without the books, so that
// writers do not wait for each other.
func (s *Service) putSnapshotBlock(_ context.Context, c *api.Call, in *putSnapshotBlockInput) (*putSnapshotBlockOutput, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	snapshot, err := s.pending(c, in.SnapshotId)
	if err != nil {
		return nil, err
	}
	if err := checkIndex(snapshot, in.BlockIndex); err != nil {
		return nil, err
	}
	var digest block.Digest
	c.Outside(func() { digest, err = s.receive(in) })
	if err != nil {
		return nil, err
	}
	if snapshot, err = s.pending(c, in.SnapshotId); err != nil {
		s.store.ReleaseBlock(digest)
		return nil, err
	}
	snapshot.Put(in.BlockIndex, digest)
	snapshot.Write.LastUsed = s.clock.Now()
	return &putSnapshotBlockOutput{http.StatusCreated, in.Checksum, sha256Name}, nil
}

func (in *putSnapshotBlockInput) check() error {
	switch {
	case in.ChecksumAlgorithm != sha256Name:
		return invalid(invalidParameter, "The checksum algorithm '%s' is not supported; use SHA256", in.ChecksumAlgorithm)
	case in.DataLength != block.Size:
		return invalid(invalidParameter, "The data length must be %d bytes, not %d", block.Size, in.DataLength)
	case in.Progress < 0 || in.Progress > 100:
		return invalid(invalidParameter, "Progress must be from 0 to 100, not %d", in.Progress)
	}
	return nil
}

// receive reads the block from the request, verifies it and stores it.
func (s *Service) receive(in *putSnapshotBlockInput) (block.Digest, error) {
	buf := block.Buffer()
	defer block.Recycle(buf)
	sum := sha256.New() // as the block comes in, while it is in the processor's cache
	if _, err := io.ReadFull(io.TeeReader(in.BlockData, sum), buf[:]); err != nil {
		// The message is that of the one ValidationException that is worth a retry
		// (https://docs.aws.amazon.com/ebs/latest/userguide/error-retries.html).
		return block.Digest{}, invalid(invalidBlock, "Failed to read block data")
	}
	if n, err := in.BlockData.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		return block.Digest{}, invalid(invalidBlock, "The block has more than %d bytes", block.Size)
	}
	digest := block.Digest(sum.Sum(nil))
	if base64.StdEncoding.EncodeToString(digest[:]) != in.Checksum {
		return block.Digest{}, invalid(invalidBlock, "The checksum '%s' is not that of the data received", in.Checksum)
	}
	return digest, s.store.PutBlock(digest, buf[:])
}
