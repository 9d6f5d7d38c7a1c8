package ebs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsebs "github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/smithy-go"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/block"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ebs"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

const (
	defaultKey = "arn:aws:kms:eu-west-1:123456789012:key/default"
	lostKey    = "arn:aws:kms:eu-west-1:123456789012:key/lost"
)

// account is EC2 as EBS direct sees it.
type account struct{ byDefault bool }

func (a *account) EncryptionByDefault(string) (bool, string) { return a.byDefault, defaultKey }

func (a *account) KeyAccessible(_, key string) bool { return key != lostKey }

// fixture is EBS direct and a client of it.
type fixture struct {
	*awsebs.Client
	t       *testing.T
	books   *state.Books
	store   *storage.Store
	account *account
}

func serve(t *testing.T) *fixture {
	t.Helper()
	return serveAt(t, doortest.Books(t), doortest.Clock(t))
}

func serveAt(t *testing.T, books *state.Books, clock *clock.Clock) *fixture {
	t.Helper()
	store, err := storage.Open(books)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, books: books, store: store, account: &account{}}
	service, err := ebs.New(books, clock, store, f.account)
	if err != nil {
		t.Fatal(err)
	}
	f.Client = awsebs.NewFromConfig(doortest.Serve(t, books, clock, service.API()))
	return f
}

// contents is a block that is full of one byte.
func contents(b byte) []byte { return bytes.Repeat([]byte{b}, block.Size) }

func checksum(data []byte) string {
	sum := sha256.Sum256(data)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// aggregate is the LINEAR checksum of blocks, given in order.
func aggregate(blocks ...[]byte) string {
	var digests []byte
	for _, b := range blocks {
		sum := sha256.Sum256(b)
		digests = append(digests, sum[:]...)
	}
	return checksum(digests)
}

func (f *fixture) start(in *awsebs.StartSnapshotInput) string {
	f.t.Helper()
	if in.VolumeSize == nil {
		in.VolumeSize = aws.Int64(1)
	}
	out, err := f.StartSnapshot(f.t.Context(), in)
	if err != nil {
		f.t.Fatal(err)
	}
	return *out.SnapshotId
}

func putInput(id string, index int32, data []byte) *awsebs.PutSnapshotBlockInput {
	return &awsebs.PutSnapshotBlockInput{
		SnapshotId: &id, BlockIndex: &index, BlockData: bytes.NewReader(data), DataLength: aws.Int32(int32(len(data))),
		Checksum: aws.String(checksum(data)), ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256,
	}
}

func (f *fixture) put(id string, index int32, data []byte) {
	f.t.Helper()
	if _, err := f.PutSnapshotBlock(f.t.Context(), putInput(id, index, data)); err != nil {
		f.t.Fatal(err)
	}
}

// complete completes a snapshot and waits until it is.
func (f *fixture) complete(id string, changed int32) {
	f.t.Helper()
	out, err := f.CompleteSnapshot(f.t.Context(), &awsebs.CompleteSnapshotInput{SnapshotId: &id, ChangedBlocksCount: &changed})
	if err != nil {
		f.t.Fatal(err)
	}
	if out.Status != types.StatusPending {
		f.t.Errorf("CompleteSnapshot answers %s, want pending", out.Status)
	}
	f.await(id, storage.Completed)
}

func (f *fixture) await(id string, want storage.State) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	for {
		var state storage.State
		f.books.Read(func() { state = f.store.In(doortest.Region).Snapshots[id].State })
		if state == want {
			return
		}
		select {
		case <-ctx.Done():
			f.t.Fatalf("snapshot %s is %s, want %s", id, state, want)
		case <-time.After(time.Millisecond):
		}
	}
}

// snapshot writes a completed snapshot.
func (f *fixture) snapshot(parent string, blocks map[int32][]byte) string {
	f.t.Helper()
	in := &awsebs.StartSnapshotInput{}
	if parent != "" {
		in.ParentSnapshotId = &parent
	}
	id := f.start(in)
	for index, data := range blocks {
		f.put(id, index, data)
	}
	f.complete(id, int32(len(blocks)))
	return id
}

// read reads a whole snapshot back as a client does.
func (f *fixture) read(id string) map[int32][]byte {
	f.t.Helper()
	blocks := map[int32][]byte{}
	listed, err := f.ListSnapshotBlocks(f.t.Context(), &awsebs.ListSnapshotBlocksInput{SnapshotId: &id})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, b := range listed.Blocks {
		blocks[*b.BlockIndex] = f.get(id, *b.BlockIndex, *b.BlockToken)
	}
	return blocks
}

func (f *fixture) get(id string, index int32, token string) []byte {
	f.t.Helper()
	out, err := f.GetSnapshotBlock(f.t.Context(), &awsebs.GetSnapshotBlockInput{SnapshotId: &id, BlockIndex: &index, BlockToken: &token})
	if err != nil {
		f.t.Fatal(err)
	}
	data, err := io.ReadAll(out.BlockData)
	if err = errors.Join(err, out.BlockData.Close()); err != nil {
		f.t.Fatal(err)
	}
	if *out.Checksum != checksum(data) || *out.DataLength != block.Size {
		f.t.Errorf("block %d comes with checksum %s and length %d, which are not its own", index, *out.Checksum, *out.DataLength)
	}
	return data
}

// refused demands an error of the given code and reason.
func (f *fixture) refused(err error, code, reason string) {
	f.t.Helper()
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok || e.ErrorCode() != code {
		f.t.Errorf("got %v, want %s", err, code)
		return
	}
	var got string
	if e, ok := errors.AsType[*types.ValidationException](err); ok {
		got = string(e.Reason)
	}
	if e, ok := errors.AsType[*types.AccessDeniedException](err); ok {
		got = string(e.Reason)
	}
	if e, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
		got = string(e.Reason)
	}
	if got != reason {
		f.t.Errorf("%s has the reason %q, want %q: %v", code, got, reason, err)
	}
}

func (f *fixture) invalid(err error, reason types.ValidationExceptionReason) {
	f.t.Helper()
	f.refused(err, "ValidationException", string(reason))
}

// same compares blocks without printing them.
func same(t *testing.T, got, want map[int32][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d blocks, want %d", len(got), len(want))
	}
	for index, data := range want {
		if !bytes.Equal(got[index], data) {
			t.Errorf("block %d has other contents", index)
		}
	}
}

func TestASnapshotReadsAsItWasWritten(t *testing.T) {
	f := serve(t)
	want := map[int32][]byte{0: contents(1), 5: contents(0), 2047: contents(3)}
	id := f.snapshot("", want)
	same(t, f.read(id), want)
}

func TestTheAnswerOfStartSnapshot(t *testing.T) {
	f := serve(t)
	out, err := f.StartSnapshot(t.Context(), &awsebs.StartSnapshotInput{
		VolumeSize: aws.Int64(8), Description: aws.String("hello"), Tags: []types.Tag{{Key: aws.String("Name"), Value: aws.String("x")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if out.Status != types.StatusPending || *out.BlockSize != block.Size || *out.VolumeSize != 8 || *out.OwnerId != api.Account ||
		*out.Description != "hello" || len(out.Tags) != 1 || time.Since(*out.StartTime) > time.Hour {
		t.Errorf("got %+v", out)
	}
}

func TestAParentsBlocksShowThrough(t *testing.T) {
	f := serve(t)
	parent := f.snapshot("", map[int32][]byte{0: contents(1), 1: contents(2), 2: contents(3)})
	child := f.snapshot(parent, map[int32][]byte{1: contents(9), 2: contents(0)})
	same(t, f.read(child), map[int32][]byte{0: contents(1), 1: contents(9), 2: contents(0)})
	f.books.Do(func() {
		if err := f.store.Remove(doortest.Region, parent); err != nil {
			t.Error(err)
		}
	})
	same(t, f.read(child), map[int32][]byte{0: contents(1), 1: contents(9), 2: contents(0)})
}

func TestABlockCanBeRewritten(t *testing.T) {
	f := serve(t)
	id := f.start(&awsebs.StartSnapshotInput{})
	f.put(id, 0, contents(1))
	f.put(id, 0, contents(2))
	f.complete(id, 1)
	same(t, f.read(id), map[int32][]byte{0: contents(2)})
	if n := f.store.StoredBlocks(); n != 1 {
		t.Errorf("%d blocks are stored, want only the last", n)
	}
}

func TestChangedBlocksAreThoseThatDiffer(t *testing.T) {
	f := serve(t)
	parent := f.snapshot("", map[int32][]byte{0: contents(1), 1: contents(2)})
	child := f.snapshot(parent, map[int32][]byte{0: contents(1), 1: contents(9), 7: contents(3)})
	out, err := f.ListChangedBlocks(t.Context(), &awsebs.ListChangedBlocksInput{FirstSnapshotId: &parent, SecondSnapshotId: &child})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.ChangedBlocks) != 2 || *out.ChangedBlocks[0].BlockIndex != 1 || *out.ChangedBlocks[1].BlockIndex != 7 {
		t.Fatalf("changed blocks %+v, want 1 and 7", out.ChangedBlocks)
	}
	changed, added := out.ChangedBlocks[0], out.ChangedBlocks[1]
	if added.FirstBlockToken != nil || added.SecondBlockToken == nil {
		t.Error("a block that only the second snapshot has must have only its token")
	}
	if !bytes.Equal(f.get(parent, 1, *changed.FirstBlockToken), contents(2)) || !bytes.Equal(f.get(child, 1, *changed.SecondBlockToken), contents(9)) {
		t.Error("the tokens do not read the blocks before and after")
	}
}

func TestUnrelatedSnapshotsAreNotCompared(t *testing.T) {
	f := serve(t)
	a, b := f.snapshot("", nil), f.snapshot("", nil)
	_, err := f.ListChangedBlocks(t.Context(), &awsebs.ListChangedBlocksInput{FirstSnapshotId: &a, SecondSnapshotId: &b})
	f.invalid(err, types.ValidationExceptionReasonUnrelatedSnapshots)
}

func TestListingsHavePages(t *testing.T) {
	f := serve(t)
	blocks := map[int32][]byte{}
	for index := range int32(250) {
		blocks[index*2] = contents(byte(index%7) + 1)
	}
	id := f.snapshot("", blocks)
	var indexes []int32
	in := &awsebs.ListSnapshotBlocksInput{SnapshotId: &id, MaxResults: aws.Int32(100)}
	sizes := []int{}
	for {
		out, err := f.ListSnapshotBlocks(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(out.Blocks))
		for _, b := range out.Blocks {
			indexes = append(indexes, *b.BlockIndex)
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	if !slices.Equal(sizes, []int{100, 100, 50}) || !slices.IsSorted(indexes) || len(slices.Compact(indexes)) != 250 {
		t.Errorf("pages of %v, %d blocks", sizes, len(indexes))
	}
	out, err := f.ListSnapshotBlocks(t.Context(), &awsebs.ListSnapshotBlocksInput{SnapshotId: &id, StartingBlockIndex: aws.Int32(497)})
	if err != nil || len(out.Blocks) != 1 || *out.Blocks[0].BlockIndex != 498 {
		t.Errorf("from block 497: %v, %v", out, err)
	}
	for _, n := range []int32{99, 10001} {
		_, err := f.ListSnapshotBlocks(t.Context(), &awsebs.ListSnapshotBlocksInput{SnapshotId: &id, MaxResults: &n})
		f.invalid(err, types.ValidationExceptionReasonInvalidParameterValue)
	}
}

func TestTokensAreTheirListingsAndBlocksOwn(t *testing.T) {
	f := serve(t)
	id := f.snapshot("", map[int32][]byte{0: contents(1), 1: contents(2)})
	other := f.snapshot("", map[int32][]byte{0: contents(1)})
	list := func() []types.Block {
		out, err := f.ListSnapshotBlocks(t.Context(), &awsebs.ListSnapshotBlocksInput{SnapshotId: &id})
		if err != nil {
			t.Fatal(err)
		}
		return out.Blocks
	}
	first, second := list(), list()
	if *first[0].BlockToken == *second[0].BlockToken {
		t.Error("two listings have the same token")
	}
	f.get(id, 0, *first[0].BlockToken)
	for _, test := range []struct {
		name, id string
		index    int32
		token    string
	}{
		{"another block's", id, 1, *first[0].BlockToken},
		{"another snapshot's", other, 0, *first[0].BlockToken},
		{"no token", id, 0, "AAAA"},
	} {
		_, err := f.GetSnapshotBlock(t.Context(), &awsebs.GetSnapshotBlockInput{SnapshotId: &test.id, BlockIndex: &test.index, BlockToken: &test.token})
		if err == nil {
			t.Errorf("%s was accepted", test.name)
			continue
		}
		f.invalid(err, types.ValidationExceptionReasonInvalidBlockToken)
	}
	_, err := f.ListSnapshotBlocks(t.Context(), &awsebs.ListSnapshotBlocksInput{SnapshotId: &id, NextToken: first[0].BlockToken})
	f.invalid(err, types.ValidationExceptionReasonInvalidPageToken)
}

func TestBlocksThatAreRefused(t *testing.T) {
	f := serve(t)
	id := f.start(&awsebs.StartSnapshotInput{})
	done := f.snapshot("", nil)
	put := func(change func(*awsebs.PutSnapshotBlockInput)) error {
		in := putInput(id, 0, contents(1))
		change(in)
		_, err := f.PutSnapshotBlock(t.Context(), in)
		return err
	}
	for _, test := range []struct {
		name   string
		change func(*awsebs.PutSnapshotBlockInput)
		reason types.ValidationExceptionReason
	}{
		{"wrong checksum", func(in *awsebs.PutSnapshotBlockInput) { in.Checksum = aws.String(checksum(contents(2))) }, "INVALID_BLOCK"},
		{"wrong algorithm", func(in *awsebs.PutSnapshotBlockInput) { in.ChecksumAlgorithm = "MD5" }, "INVALID_PARAMETER_VALUE"},
		{"wrong length named", func(in *awsebs.PutSnapshotBlockInput) { in.DataLength = aws.Int32(512) }, "INVALID_PARAMETER_VALUE"},
		{"too short", func(in *awsebs.PutSnapshotBlockInput) { in.BlockData = bytes.NewReader(contents(1)[1:]) }, "INVALID_BLOCK"},
		{"too long", func(in *awsebs.PutSnapshotBlockInput) { in.BlockData = bytes.NewReader(append(contents(1), 1)) }, "INVALID_BLOCK"},
		{"beyond the volume", func(in *awsebs.PutSnapshotBlockInput) { in.BlockIndex = aws.Int32(2048) }, "INVALID_BLOCK"},
		{"progress", func(in *awsebs.PutSnapshotBlockInput) { in.Progress = aws.Int32(101) }, "INVALID_PARAMETER_VALUE"},
		{"completed", func(in *awsebs.PutSnapshotBlockInput) { in.SnapshotId = &done }, "INVALID_SNAPSHOT_ID"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := put(test.change)
			f.invalid(err, test.reason)
		})
	}
	f.refused(put(func(in *awsebs.PutSnapshotBlockInput) { in.SnapshotId = aws.String("snap-0") }), "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND")
	if n := f.store.StoredBlocks(); n != 0 {
		t.Errorf("%d refused blocks are stored", n)
	}
}

func TestCompleteVerifiesCountAndChecksum(t *testing.T) {
	f := serve(t)
	parent := f.snapshot("", map[int32][]byte{0: contents(1)})
	id := f.start(&awsebs.StartSnapshotInput{ParentSnapshotId: &parent})
	f.put(id, 9, contents(3))
	f.put(id, 4, contents(2))
	complete := func(count int32, sum string, algorithm types.ChecksumAlgorithm, method types.ChecksumAggregationMethod) error {
		in := &awsebs.CompleteSnapshotInput{SnapshotId: &id, ChangedBlocksCount: &count, ChecksumAlgorithm: algorithm, ChecksumAggregationMethod: method}
		if sum != "" {
			in.Checksum = &sum
		}
		_, err := f.CompleteSnapshot(t.Context(), in)
		return err
	}
	right := aggregate(contents(2), contents(3))
	f.invalid(complete(3, "", "", ""), "INVALID_PARAMETER_VALUE")
	f.invalid(complete(2, aggregate(contents(3), contents(2)), "SHA256", "LINEAR"), "INVALID_PARAMETER_VALUE")
	f.invalid(complete(2, right, "", ""), "INVALID_PARAMETER_VALUE")
	if err := complete(2, right, "SHA256", "LINEAR"); err != nil {
		t.Fatal(err)
	}
	f.await(id, storage.Completed)
	f.invalid(complete(2, right, "SHA256", "LINEAR"), "INVALID_SNAPSHOT_ID")
}

func TestStartsThatAreRefused(t *testing.T) {
	f := serve(t)
	parent := f.snapshot("", nil)
	big := f.start(&awsebs.StartSnapshotInput{VolumeSize: aws.Int64(2)})
	f.complete(big, 0)
	pending := f.start(&awsebs.StartSnapshotInput{})
	var many []types.Tag
	for n := range 51 {
		many = append(many, types.Tag{Key: aws.String(fmt.Sprint("key", n)), Value: aws.String("")})
	}
	for _, test := range []struct {
		name   string
		in     awsebs.StartSnapshotInput
		reason types.ValidationExceptionReason
	}{
		{"no size", awsebs.StartSnapshotInput{VolumeSize: aws.Int64(0)}, "INVALID_VOLUME_SIZE"},
		{"too big", awsebs.StartSnapshotInput{VolumeSize: aws.Int64(65537)}, "INVALID_VOLUME_SIZE"},
		{"smaller than its parent", awsebs.StartSnapshotInput{ParentSnapshotId: &big}, "INVALID_VOLUME_SIZE"},
		{"a parent that is not completed", awsebs.StartSnapshotInput{ParentSnapshotId: &pending}, "INVALID_SNAPSHOT_ID"},
		{"encryption and a parent", awsebs.StartSnapshotInput{ParentSnapshotId: &parent, Encrypted: aws.Bool(true)}, "INVALID_PARAMETER_VALUE"},
		{"a key without encryption", awsebs.StartSnapshotInput{KmsKeyArn: aws.String(defaultKey)}, "INVALID_PARAMETER_VALUE"},
		{"a key and no encryption", awsebs.StartSnapshotInput{Encrypted: aws.Bool(false), KmsKeyArn: aws.String(defaultKey)}, "INVALID_PARAMETER_VALUE"},
		{"a key that can't be used", awsebs.StartSnapshotInput{Encrypted: aws.Bool(true), KmsKeyArn: aws.String(lostKey)}, "INVALID_CUSTOMER_KEY"},
		{"an alias for a key", awsebs.StartSnapshotInput{Encrypted: aws.Bool(true), KmsKeyArn: aws.String("alias/mine")}, "INVALID_PARAMETER_VALUE"},
		{"a parent that is no ID", awsebs.StartSnapshotInput{ParentSnapshotId: aws.String("vol-1")}, "INVALID_SNAPSHOT_ID"},
		{"a long token", awsebs.StartSnapshotInput{ClientToken: aws.String(strings.Repeat("a", 65))}, "INVALID_PARAMETER_VALUE"},
		{"a token beyond ASCII", awsebs.StartSnapshotInput{ClientToken: aws.String("é")}, "INVALID_PARAMETER_VALUE"},
		{"a long description", awsebs.StartSnapshotInput{Description: aws.String(strings.Repeat("a", 256))}, "INVALID_PARAMETER_VALUE"},
		{"a long timeout", awsebs.StartSnapshotInput{Timeout: aws.Int32(4321)}, "INVALID_PARAMETER_VALUE"},
		{"a long tag key", awsebs.StartSnapshotInput{Tags: []types.Tag{{Key: aws.String(strings.Repeat("a", 128)), Value: aws.String("")}}}, "INVALID_TAG"},
		{"a long tag value", awsebs.StartSnapshotInput{Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String(strings.Repeat("a", 256))}}}, "INVALID_TAG"},
		{"too many tags", awsebs.StartSnapshotInput{Tags: many}, "INVALID_TAG"},
		{"a short timeout", awsebs.StartSnapshotInput{Timeout: aws.Int32(9)}, "INVALID_PARAMETER_VALUE"},
		{"a reserved tag", awsebs.StartSnapshotInput{Tags: []types.Tag{{Key: aws.String("aws:x"), Value: aws.String("")}}}, "INVALID_TAG"},
		{"a tag twice", awsebs.StartSnapshotInput{Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("")}, {Key: aws.String("a"), Value: aws.String("")}}}, "INVALID_TAG"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.in.VolumeSize == nil {
				test.in.VolumeSize = aws.Int64(1)
			}
			_, err := f.StartSnapshot(t.Context(), &test.in)
			f.invalid(err, test.reason)
		})
	}
}

func TestAClientTokenStartsOneSnapshot(t *testing.T) {
	f := serve(t)
	in := awsebs.StartSnapshotInput{ClientToken: aws.String("once"), Description: aws.String("a")}
	if first, again := f.start(&in), f.start(&in); first != again {
		t.Errorf("the same token started %s and %s", first, again)
	}
	in.Description = aws.String("b")
	_, err := f.StartSnapshot(t.Context(), &in)
	f.refused(err, "ConflictException", "")
}

func TestTooManyPendingSnapshots(t *testing.T) {
	f := serve(t)
	for range 100 {
		f.start(&awsebs.StartSnapshotInput{})
	}
	_, err := f.StartSnapshot(t.Context(), &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	f.refused(err, "ConcurrentLimitExceededException", "")
}

func TestSnapshotsThatCannotBeRead(t *testing.T) {
	f := serve(t)
	public, foreign := f.snapshot("", nil), f.snapshot("", nil)
	f.books.Do(func() {
		snapshots := f.store.In(doortest.Region).Snapshots
		snapshots[public].Public = true
		snapshots[foreign].Public = true
		snapshots[foreign].OwnerId = api.Amazon
	})
	_, err := f.ListSnapshotBlocks(t.Context(), &awsebs.ListSnapshotBlocksInput{SnapshotId: &public})
	f.invalid(err, types.ValidationExceptionReasonInvalidSnapshotId)
	_, err = f.ListSnapshotBlocks(t.Context(), &awsebs.ListSnapshotBlocksInput{SnapshotId: &foreign})
	f.refused(err, "AccessDeniedException", "UNAUTHORIZED_ACCOUNT")
	_, err = f.StartSnapshot(t.Context(), &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ParentSnapshotId: &foreign})
	f.refused(err, "AccessDeniedException", "UNAUTHORIZED_ACCOUNT")
	pending := f.start(&awsebs.StartSnapshotInput{})
	_, err = f.ListSnapshotBlocks(t.Context(), &awsebs.ListSnapshotBlocksInput{SnapshotId: &pending})
	f.invalid(err, types.ValidationExceptionReasonInvalidSnapshotId)
	_, err = f.GetSnapshotBlock(t.Context(), &awsebs.GetSnapshotBlockInput{SnapshotId: &pending, BlockIndex: aws.Int32(0), BlockToken: aws.String("AAAA")})
	f.invalid(err, types.ValidationExceptionReasonInvalidSnapshotId)
	_, err = f.ListSnapshotBlocks(t.Context(), &awsebs.ListSnapshotBlocksInput{SnapshotId: aws.String("snap-X")})
	f.invalid(err, types.ValidationExceptionReasonInvalidSnapshotId)
	lost := f.snapshot("", nil)
	f.books.Do(func() {
		s := f.store.In(doortest.Region).Snapshots[lost]
		s.Encrypted, s.KmsKeyId = true, lostKey
	})
	_, err = f.ListSnapshotBlocks(t.Context(), &awsebs.ListSnapshotBlocksInput{SnapshotId: &lost})
	f.refused(err, "AccessDeniedException", "DEPENDENCY_ACCESS_DENIED")
}

func TestEncryption(t *testing.T) {
	f := serve(t)
	plain := f.snapshot("", nil)
	own := "arn:aws:kms:eu-west-1:123456789012:key/own"
	encrypted := f.start(&awsebs.StartSnapshotInput{Encrypted: aws.Bool(true), KmsKeyArn: &own})
	f.complete(encrypted, 0)
	look := func(id string) (s storage.Snapshot) {
		f.books.Read(func() { s = *f.store.In(doortest.Region).Snapshots[id] })
		return s
	}
	if s := look(encrypted); !s.Encrypted || s.KmsKeyId != own || !s.Noise {
		t.Errorf("encrypted with a key: %v, %s, noise %v", s.Encrypted, s.KmsKeyId, s.Noise)
	}
	if s := look(f.start(&awsebs.StartSnapshotInput{ParentSnapshotId: &encrypted})); !s.Encrypted || s.KmsKeyId != own {
		t.Errorf("with an encrypted parent: %v, %s", s.Encrypted, s.KmsKeyId)
	}
	if s := look(f.start(&awsebs.StartSnapshotInput{})); s.Encrypted {
		t.Error("encrypted though nobody asked")
	}

	f.account.byDefault = true
	if s := look(f.start(&awsebs.StartSnapshotInput{})); !s.Encrypted || s.KmsKeyId != defaultKey {
		t.Errorf("by default: %v, %s", s.Encrypted, s.KmsKeyId)
	}
	if s := look(f.start(&awsebs.StartSnapshotInput{KmsKeyArn: &own})); !s.Encrypted || s.KmsKeyId != own {
		t.Errorf("by default with a key: %v, %s", s.Encrypted, s.KmsKeyId)
	}
	_, err := f.StartSnapshot(t.Context(), &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1), Encrypted: aws.Bool(false)})
	f.invalid(err, types.ValidationExceptionReasonInvalidParameterValue)
	_, err = f.StartSnapshot(t.Context(), &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ParentSnapshotId: &plain})
	f.invalid(err, types.ValidationExceptionReasonInvalidDependencyRequest)
}

func TestWhatTheKeyMustPermit(t *testing.T) {
	books, clock, notes := doortest.Books(t), doortest.Clock(t), &doortest.Notes{}
	store, err := storage.Open(books)
	if err != nil {
		t.Fatal(err)
	}
	service, err := ebs.New(books, clock, store, &account{byDefault: true})
	if err != nil {
		t.Fatal(err)
	}
	client := awsebs.NewFromConfig(doortest.Config(doortest.ServerOf(t, door.Config{Books: books, Clock: clock, Guard: notes, Services: []*api.Service{service.API()}})))
	for key, want := range map[string][]string{
		"": {"ebs:StartSnapshot arn:aws:ec2:eu-west-1::snapshot/*"},
		"arn:aws:kms:eu-west-1:123456789012:key/own": {
			"ebs:StartSnapshot arn:aws:ec2:eu-west-1::snapshot/*",
			"kms:CreateGrant arn:aws:kms:eu-west-1:123456789012:key/own",
			"kms:Decrypt arn:aws:kms:eu-west-1:123456789012:key/own",
			"kms:DescribeKey arn:aws:kms:eu-west-1:123456789012:key/own",
			"kms:GenerateDataKeyWithoutPlaintext arn:aws:kms:eu-west-1:123456789012:key/own",
		},
	} {
		in := &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1), Encrypted: aws.Bool(true)}
		if key != "" {
			in.KmsKeyArn = &key
		}
		if _, err := client.StartSnapshot(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if got := notes.Take(); !slices.Equal(got, want) {
			t.Errorf("with the key %q it notes %q, want %q", key, got, want)
		}
	}
}

func TestASnapshotThatNobodyCompletesFails(t *testing.T) {
	quick, err := clock.New(clock.Instant, 1e-6) // ten minutes are half a millisecond
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(quick.Stop)
	f := serveAt(t, doortest.Books(t), quick)
	id := f.start(&awsebs.StartSnapshotInput{Timeout: aws.Int32(10)})
	f.await(id, storage.Failed)
	_, err = f.PutSnapshotBlock(t.Context(), putInput(id, 0, contents(1)))
	f.invalid(err, types.ValidationExceptionReasonInvalidSnapshotId)
}
