package ebs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsebs "github.com/aws/aws-sdk-go-v2/service/ebs"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/block"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ebs"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

// The benchmarks set the sandbox beside a bare handler, in turns, and report how
// much of its rate the sandbox reaches: it should be at least 0.8.
//
// A turn is so many blocks for each of both. No turn begins with what another
// one has left to be written to the disk.
const turn = 256

// BenchmarkPut compares PutSnapshotBlock with a handler that does nothing but
// hash the body.
func BenchmarkPut(b *testing.B) {
	bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		_, _ = io.Copy(sum, r.Body)
		w.Header().Set("X-Amz-Checksum", base64.StdEncoding.EncodeToString(sum.Sum(nil)))
		w.WriteHeader(http.StatusCreated)
	}))
	defer bare.Close()
	sandbox, client := serveBlocks(b)
	started, err := client.StartSnapshot(b.Context(), &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(65536)})
	if err != nil {
		b.Fatal(err)
	}
	putter := func(server *httptest.Server, snapshot string) transfer {
		return func(ctx context.Context, c *http.Client, index int64, data []byte) error {
			binary.BigEndian.PutUint64(data, uint64(index))
			return putRaw(ctx, c, server.URL, snapshot, index, data)
		}
	}
	race(b, putter(bare, "snap-0"), putter(sandbox, *started.SnapshotId))
}

// BenchmarkGet compares GetSnapshotBlock with a handler that serves one block
// from memory; the client hashes what it gets.
func BenchmarkGet(b *testing.B) {
	served := bytes.Repeat([]byte{1}, block.Size)
	bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(served)))
		_, _ = w.Write(served)
	}))
	defer bare.Close()
	sandbox, client := serveBlocks(b)
	started, err := client.StartSnapshot(b.Context(), &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	if err != nil {
		b.Fatal(err)
	}
	id := *started.SnapshotId
	for index := range int64(turn) {
		binary.BigEndian.PutUint64(served, uint64(index))
		if err := putRaw(b.Context(), http.DefaultClient, sandbox.URL, id, index, served); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := client.CompleteSnapshot(b.Context(), &awsebs.CompleteSnapshotInput{SnapshotId: &id, ChangedBlocksCount: aws.Int32(turn)}); err != nil {
		b.Fatal(err)
	}
	var tokens []string
	for len(tokens) == 0 { // until it is completed
		listed, err := client.ListSnapshotBlocks(b.Context(), &awsebs.ListSnapshotBlocksInput{SnapshotId: &id})
		if err != nil {
			continue
		}
		for _, entry := range listed.Blocks {
			tokens = append(tokens, *entry.BlockToken)
		}
	}
	getter := func(server *httptest.Server) transfer {
		return func(ctx context.Context, c *http.Client, index int64, data []byte) error {
			return getRaw(ctx, c, server.URL, id, index%turn, tokens[index%turn], data)
		}
	}
	race(b, getter(bare), getter(sandbox))
}

func serveBlocks(b *testing.B) (*httptest.Server, *awsebs.Client) {
	b.Helper()
	books := doortest.Books(b)
	clock, err := clock.New(clock.Instant, 1)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(clock.Stop)
	store, err := storage.Open(books)
	if err != nil {
		b.Fatal(err)
	}
	service, err := ebs.New(books, clock, store, &account{})
	if err != nil {
		b.Fatal(err)
	}
	server := doortest.Server(b, books, clock, service.API())
	return server, awsebs.NewFromConfig(doortest.Config(server))
}

// transfer moves one block; data is room for it, the worker's own.
type transfer func(ctx context.Context, c *http.Client, index int64, data []byte) error

// race lets both move blocks in turns.
func race(b *testing.B, bare, sandbox transfer) {
	b.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers}}
	defer client.CloseIdleConnections()
	var took [2]time.Duration
	next := int64(0)
	for b.Loop() {
		for n, move := range []transfer{bare, sandbox} {
			begun := time.Now()
			moveAll(b, client, next, move)
			took[n] += time.Since(begun)
		}
		next += turn
	}
	rate := func(took time.Duration) float64 { return float64(next) * block.Size / 1e6 / took.Seconds() }
	b.ReportMetric(rate(took[0]), "bare-MB/s")
	b.ReportMetric(rate(took[1]), "sandbox-MB/s")
	b.ReportMetric(rate(took[1])/rate(took[0]), "ratio")
}

const workers = 16

func moveAll(b *testing.B, client *http.Client, from int64, move transfer) {
	b.Helper()
	var next atomic.Int64
	next.Store(from)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			data := bytes.Repeat([]byte{1}, block.Size)
			for index := next.Add(1) - 1; index < from+turn; index = next.Add(1) - 1 {
				if err := move(b.Context(), client, index, data); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}

func putRaw(ctx context.Context, client *http.Client, endpoint, snapshot string, index int64, data []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, fmt.Sprintf("%s/snapshots/%s/blocks/%d", endpoint, snapshot, index), bytes.NewReader(data))
	if err != nil {
		return err
	}
	r.Header.Set("X-Amz-Data-Length", fmt.Sprint(len(data)))
	r.Header.Set("X-Amz-Checksum", checksum(data))
	r.Header.Set("X-Amz-Checksum-Algorithm", "SHA256")
	_, err = exchange(client, r, http.StatusCreated, data)
	return err
}

func getRaw(ctx context.Context, client *http.Client, endpoint, snapshot string, index int64, token string, data []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/snapshots/%s/blocks/%d?blockToken=%s", endpoint, snapshot, index, url.QueryEscape(token)), nil)
	if err != nil {
		return err
	}
	n, err := exchange(client, r, http.StatusOK, data)
	if err == nil && n < block.Size {
		err = io.ErrUnexpectedEOF
	}
	_ = sha256.Sum256(data)
	return err
}

// exchange sends a request and reads the answer's body into data.
func exchange(client *http.Client, r *http.Request, want int, data []byte) (n int, err error) {
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIATEST/20250101/"+doortest.Region+"/ebs/aws4_request, SignedHeaders=host, Signature=0")
	response, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != want {
		return 0, fmt.Errorf("%s %s: %s", r.Method, r.URL, response.Status)
	}
	n, err = io.ReadFull(response.Body, data)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // an answer without a block
		err = nil
	}
	return n, err
}
