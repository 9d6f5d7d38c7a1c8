package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
)

const blockSize = 524288

var zeros = make([]byte, blockSize)

// service is EBS as far as these tests need it, with AWS's checks.
type service struct {
	t *testing.T

	mu        sync.Mutex
	snapshots map[string]*stored
	calls     map[string]int

	// trouble, if set, may fail an attempt; n counts the attempts at the
	// operation from 1.
	trouble func(ctx context.Context, operation string, n int) error
	// lost is how many answers to CompleteSnapshot don't arrive.
	lost int
	// page is how many blocks ListSnapshotBlocks gives at once; 0 for all.
	page int
}

type stored struct {
	gib       int64
	parent    string
	encrypted bool
	completed bool
	written   map[int32][]byte
}

func newService(t *testing.T) *service {
	return &service{t: t, snapshots: map[string]*stored{}, calls: map[string]int{}}
}

func (s *service) call(ctx context.Context, operation string) error {
	s.mu.Lock()
	s.calls[operation]++
	n := s.calls[operation]
	s.mu.Unlock()
	if s.trouble != nil {
		return s.trouble(ctx, operation, n)
	}
	return nil
}

func (s *service) called(operation string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[operation]
}

// add puts a disk in as a completed snapshot; zero blocks are not written.
func (s *service) add(id string, gib int64, disk []byte) {
	snap := &stored{gib: gib, completed: true, written: map[int32][]byte{}}
	for i := 0; i*blockSize < len(disk); i++ {
		block := make([]byte, blockSize)
		copy(block, disk[i*blockSize:])
		if !bytes.Equal(block, zeros) {
			snap.written[int32(i)] = block
		}
	}
	s.snapshots[id] = snap
}

// block is what a volume made from the snapshot has at index.
func (s *service) block(id string, index int32) []byte {
	snap := s.snapshots[id]
	if b, ok := snap.written[index]; ok {
		return b
	}
	if snap.parent != "" {
		return s.block(snap.parent, index)
	}
	b := make([]byte, blockSize)
	if snap.encrypted {
		rand.New(rand.NewSource(int64(index))).Read(b)
	}
	return b
}

func (s *service) indexes(id string) []int32 {
	snap := s.snapshots[id]
	var all []int32
	if snap.parent != "" {
		all = s.indexes(snap.parent)
	}
	for i := range snap.written {
		if !slices.Contains(all, i) {
			all = append(all, i)
		}
	}
	slices.Sort(all)
	return all
}

func (s *service) ListSnapshotBlocks(ctx context.Context, in *ebs.ListSnapshotBlocksInput, _ ...func(*ebs.Options)) (*ebs.ListSnapshotBlocksOutput, error) {
	if err := s.call(ctx, "List"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := s.snapshots[*in.SnapshotId]
	out := &ebs.ListSnapshotBlocksOutput{BlockSize: aws.Int32(blockSize), VolumeSize: &snap.gib}
	all := s.indexes(*in.SnapshotId)
	if in.NextToken != nil {
		from, err := strconv.Atoi(*in.NextToken)
		if err != nil {
			return nil, err
		}
		all = all[from:]
		if len(all) > s.page {
			out.NextToken = aws.String(strconv.Itoa(from + s.page))
		}
	} else if s.page > 0 && len(all) > s.page {
		out.NextToken = aws.String(strconv.Itoa(s.page))
	}
	if s.page > 0 {
		all = all[:min(s.page, len(all))]
	}
	for _, i := range all {
		out.Blocks = append(out.Blocks, types.Block{BlockIndex: &i, BlockToken: aws.String(fmt.Sprintf("token-%d", i))})
	}
	return out, nil
}

func (s *service) GetSnapshotBlock(ctx context.Context, in *ebs.GetSnapshotBlockInput, _ ...func(*ebs.Options)) (*ebs.GetSnapshotBlockOutput, error) {
	if err := s.call(ctx, "Get"); err != nil {
		return nil, err
	}
	if want := fmt.Sprintf("token-%d", *in.BlockIndex); *in.BlockToken != want {
		return nil, &types.ValidationException{Reason: types.ValidationExceptionReasonInvalidBlockToken}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	data := s.block(*in.SnapshotId, *in.BlockIndex)
	return &ebs.GetSnapshotBlockOutput{
		BlockData:         io.NopCloser(bytes.NewReader(data)),
		DataLength:        aws.Int32(blockSize),
		Checksum:          aws.String(checksum(data)),
		ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256,
	}, nil
}

func (s *service) StartSnapshot(ctx context.Context, in *ebs.StartSnapshotInput, _ ...func(*ebs.Options)) (*ebs.StartSnapshotOutput, error) {
	if err := s.call(ctx, "Start"); err != nil {
		return nil, err
	}
	if in.ParentSnapshotId != nil && (in.Encrypted != nil || in.KmsKeyArn != nil) {
		return nil, &types.ValidationException{Message: aws.String("Encrypted with ParentSnapshotId")}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshots["snap-new"] = &stored{
		gib:       *in.VolumeSize,
		parent:    aws.ToString(in.ParentSnapshotId),
		encrypted: aws.ToBool(in.Encrypted),
		written:   map[int32][]byte{},
	}
	return &ebs.StartSnapshotOutput{SnapshotId: aws.String("snap-new"), BlockSize: aws.Int32(blockSize)}, nil
}

func (s *service) PutSnapshotBlock(ctx context.Context, in *ebs.PutSnapshotBlockInput, _ ...func(*ebs.Options)) (*ebs.PutSnapshotBlockOutput, error) {
	if err := s.call(ctx, "Put"); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(in.BlockData)
	if err != nil {
		return nil, err
	}
	if len(data) != blockSize || aws.ToInt32(in.DataLength) != blockSize || aws.ToString(in.Checksum) != checksum(data) {
		return nil, &types.ValidationException{Reason: types.ValidationExceptionReasonInvalidBlock}
	}
	if bytes.Equal(data, zeros) {
		data = zeros
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshots[*in.SnapshotId].written[*in.BlockIndex] = data
	return &ebs.PutSnapshotBlockOutput{}, nil
}

func (s *service) CompleteSnapshot(ctx context.Context, in *ebs.CompleteSnapshotInput, _ ...func(*ebs.Options)) (*ebs.CompleteSnapshotOutput, error) {
	if err := s.call(ctx, "Complete"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := s.snapshots[*in.SnapshotId]
	if snap.completed {
		return nil, &types.ValidationException{Reason: types.ValidationExceptionReasonInvalidSnapshotId, Message: aws.String("not pending")}
	}
	if int(*in.ChangedBlocksCount) != len(snap.written) {
		return nil, &types.ValidationException{Message: aws.String("wrong ChangedBlocksCount")}
	}
	if in.Checksum != nil {
		var digests []byte
		own := make([]int32, 0, len(snap.written))
		for i := range snap.written {
			own = append(own, i)
		}
		slices.Sort(own)
		for _, i := range own {
			d := sha256.Sum256(snap.written[i])
			digests = append(digests, d[:]...)
		}
		if *in.Checksum != checksum(digests) {
			return nil, &types.ValidationException{Message: aws.String("wrong Checksum")}
		}
	}
	snap.completed = true
	if s.lost > 0 {
		s.lost--
		return nil, io.ErrUnexpectedEOF
	}
	return &ebs.CompleteSnapshotOutput{}, nil
}

func checksum(data []byte) string {
	sum := sha256.Sum256(data)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// quiet is a Ui that counts the bytes it was shown.
type quiet struct {
	mu    sync.Mutex
	said  []string
	shown int64
}

func (q *quiet) Say(line string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.said = append(q.said, line)
}

func (q *quiet) TrackProgress(_ string, _, _ int64, r io.ReadCloser) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(r, counter{q}), r}
}

type counter struct{ q *quiet }

func (c counter) Write(b []byte) (int, error) {
	c.q.mu.Lock()
	defer c.q.mu.Unlock()
	c.q.shown += int64(len(b))
	return len(b), nil
}
