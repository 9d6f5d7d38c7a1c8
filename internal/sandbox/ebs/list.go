package ebs

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/block"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

// The range of MaxResults; it is the greatest when absent.
const (
	minResults = 100
	maxResults = 10000
)

// paging is what both listings take.
type paging struct {
	NextToken          string `query:"pageToken"`
	MaxResults         *int   `query:"maxResults"`
	StartingBlockIndex int    `query:"startingBlockIndex"`
}

// pageHead is what both listings answer.
type pageHead struct {
	ExpiryTime time.Time // of the block tokens
	VolumeSize int       // GiB
	BlockSize  int       // bytes
	NextToken  string
}

type listSnapshotBlocksInput struct {
	SnapshotId string `path:"SnapshotId"`
	paging
}

type blockEntry struct {
	BlockIndex int
	BlockToken string
}

type listSnapshotBlocksOutput struct {
	Blocks []blockEntry
	pageHead
}

func (s *Service) listSnapshotBlocks(_ context.Context, c *api.Call, in *listSnapshotBlocksInput) (*listSnapshotBlocksOutput, error) {
	snapshot, err := s.readable(c, in.SnapshotId)
	if err != nil {
		return nil, err
	}
	tokens := s.tokens.In(c.Region).listing(c.Now)
	subject := pageOf("", in.SnapshotId)
	page, next, err := in.cut(tokens, subject, snapshot.Indexes())
	if err != nil {
		return nil, err
	}
	out := &listSnapshotBlocksOutput{pageHead: head(tokens, snapshot, subject, next)}
	for _, index := range page {
		out.Blocks = append(out.Blocks, blockEntry{index, tokens.block(snapshot, index)})
	}
	return out, nil
}

type listChangedBlocksInput struct {
	FirstSnapshotId  string `query:"firstSnapshotId"`
	SecondSnapshotId string `path:"SecondSnapshotId"`
	paging
}

type changedBlock struct {
	BlockIndex       int
	FirstBlockToken  string
	SecondBlockToken string
}

type listChangedBlocksOutput struct {
	ChangedBlocks []changedBlock
	pageHead
}

// listChangedBlocks compares a page of the blocks that either snapshot has. So
// a page may be short, or empty, and yet not be the last, as with AWS. Without
// a first snapshot, all of the second one's blocks have changed.
func (s *Service) listChangedBlocks(_ context.Context, c *api.Call, in *listChangedBlocksInput) (*listChangedBlocksOutput, error) {
	second, err := s.readable(c, in.SecondSnapshotId)
	if err != nil {
		return nil, err
	}
	first := &storage.Snapshot{}
	if in.FirstSnapshotId != "" {
		if first, err = s.readable(c, in.FirstSnapshotId); err != nil {
			return nil, err
		}
		if first.Lineage != second.Lineage {
			return nil, invalid(unrelated, "The snapshots '%s' and '%s' are not related: neither descends from the other", in.FirstSnapshotId, in.SecondSnapshotId)
		}
	}
	tokens := s.tokens.In(c.Region).listing(c.Now)
	subject := pageOf(in.FirstSnapshotId, in.SecondSnapshotId)
	page, next, err := in.cut(tokens, subject, union(first.Indexes(), second.Indexes()))
	if err != nil {
		return nil, err
	}
	out := &listChangedBlocksOutput{pageHead: head(tokens, second, subject, next)}
	for _, index := range page {
		if changed, differ := tokens.compare(first, second, index); differ {
			out.ChangedBlocks = append(out.ChangedBlocks, changed)
		}
	}
	return out, nil
}

func (l *listing) compare(first, second *storage.Snapshot, index int) (changed changedBlock, differ bool) {
	before, hadBefore := first.At(index)
	after, hasAfter := second.At(index)
	changed.BlockIndex = index
	if hadBefore {
		changed.FirstBlockToken = l.block(first, index)
	}
	if hasAfter {
		changed.SecondBlockToken = l.block(second, index)
	}
	return changed, hadBefore != hasAfter || before != after
}

func union(a, b []int) []int {
	all := make(map[int]bool, max(len(a), len(b)))
	for _, index := range a {
		all[index] = true
	}
	for _, index := range b {
		all[index] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// cut gives the page of indexes that is asked for, and where the next one
// begins; -1 when there is none.
func (in *paging) cut(tokens *listing, subject string, indexes []int) (page []int, next int, err error) {
	from, length := in.StartingBlockIndex, maxResults
	if from < 0 {
		return nil, 0, invalid(invalidParameter, "startingBlockIndex must not be negative")
	}
	if in.MaxResults != nil {
		if length = *in.MaxResults; length < minResults || length > maxResults {
			return nil, 0, invalid(invalidParameter, "maxResults must be from %d to %d, not %d", minResults, maxResults, length)
		}
	}
	if in.NextToken != "" {
		var ok bool
		if from, ok = tokens.key.open(in.NextToken, subject, tokens.now); !ok {
			return nil, 0, invalid(invalidPageToken, "The page token is none of this listing, or has expired")
		}
	}
	begin, _ := slices.BinarySearch(indexes, from)
	indexes = indexes[begin:]
	if len(indexes) <= length {
		return indexes, -1, nil
	}
	return indexes[:length], indexes[length], nil
}

func head(tokens *listing, snapshot *storage.Snapshot, subject string, next int) pageHead {
	h := pageHead{ExpiryTime: tokens.now.Add(blockTokenLife), VolumeSize: snapshot.VolumeSize, BlockSize: block.Size}
	if next >= 0 {
		h.NextToken = tokens.token(subject, next, pageTokenLife)
	}
	return h
}

// pageOf is the subject of the page tokens of a listing.
func pageOf(first, second string) string { return "page of " + first + " " + second }

// blockOf is the subject of a snapshot's block tokens.
func blockOf(snapshotID string) string { return "block of " + snapshotID }

func (l *listing) block(snapshot *storage.Snapshot, index int) string {
	return l.token(blockOf(snapshot.Id), index, blockTokenLife)
}
