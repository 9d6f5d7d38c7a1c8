package ebs

import (
	"context"
	"encoding/base64"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/block"
)

type getSnapshotBlockInput struct {
	SnapshotId string `path:"SnapshotId"`
	BlockIndex int    `path:"BlockIndex"`
	BlockToken string `query:"blockToken" wire:",,required"`
}

type getSnapshotBlockOutput struct {
	DataLength        int    `header:"x-amz-Data-Length"`
	Checksum          string `header:"x-amz-Checksum"`
	ChecksumAlgorithm string `header:"x-amz-Checksum-Algorithm"`
	BlockData         []byte `body:"raw"`

	buffer *[block.Size]byte // of BlockData
}

// Release gives the buffer back once the block is sent.
func (out *getSnapshotBlockOutput) Release() { block.Recycle(out.buffer) }

func (s *Service) getSnapshotBlock(_ context.Context, c *api.Call, in *getSnapshotBlockInput) (*getSnapshotBlockOutput, error) {
	snapshot, err := s.readable(c, in.SnapshotId)
	if err != nil {
		return nil, err
	}
	if snapshot.Encrypted {
		s.noteKey(c, snapshot.KmsKeyId, "Decrypt")
	}
	if err := checkIndex(snapshot, in.BlockIndex); err != nil {
		return nil, err
	}
	index, valid := s.tokens.In(c.Region).open(in.BlockToken, blockOf(in.SnapshotId), c.Now)
	digest, written := snapshot.At(in.BlockIndex)
	if !valid || index != in.BlockIndex || !written {
		return nil, invalid(invalidBlockToken, "The block token is not that of block %d of the snapshot '%s', or has expired", in.BlockIndex, in.SnapshotId)
	}
	s.store.RetainBlock(digest)
	defer s.store.ReleaseBlock(digest)
	data := block.Buffer()
	c.Outside(func() { err = s.store.ReadBlock(digest, data[:]) })
	if err != nil {
		block.Recycle(data)
		return nil, err
	}
	return &getSnapshotBlockOutput{block.Size, base64.StdEncoding.EncodeToString(digest[:]), sha256Name, data[:], data}, nil
}
