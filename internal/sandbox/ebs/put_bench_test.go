package ebs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsebs "github.com/aws/aws-sdk-go-v2/service/ebs"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/block"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ebs"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

// BenchmarkPut compares PutSnapshotBlock with a handler that does nothing but
// hash the body: the sandbox should reach 0.8 of it.
func BenchmarkPut(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sum := sha256.New()
			_, _ = io.Copy(sum, r.Body)
			w.Header().Set("X-Amz-Checksum", base64.StdEncoding.EncodeToString(sum.Sum(nil)))
			w.WriteHeader(http.StatusCreated)
		}))
		defer server.Close()
		putAll(b, server, "snap-0")
	})
	b.Run("sandbox", func(b *testing.B) {
		books := doortest.Books(b)
		clock, err := clock.New(clock.Instant, 1)
		if err != nil {
			b.Fatal(err)
		}
		defer clock.Stop()
		store, err := storage.Open(books)
		if err != nil {
			b.Fatal(err)
		}
		service, err := ebs.New(books, clock, store, &account{})
		if err != nil {
			b.Fatal(err)
		}
		server := doortest.Server(b, books, clock, service.API())
		started, err := awsebs.NewFromConfig(doortest.Config(server)).StartSnapshot(b.Context(), &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(65536)})
		if err != nil {
			b.Fatal(err)
		}
		putAll(b, server, *started.SnapshotId)
	})
}

// putAll puts blocks that all differ, eight at a time, with as little work on
// the client's side as possible.
func putAll(b *testing.B, server *httptest.Server, snapshot string) {
	const writers = 8
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: writers}}
	defer client.CloseIdleConnections()
	b.SetBytes(block.Size)
	b.ResetTimer()
	var next atomic.Int64
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			data := bytes.Repeat([]byte{1}, block.Size)
			for index := next.Add(1) - 1; index < int64(b.N); index = next.Add(1) - 1 {
				binary.BigEndian.PutUint64(data, uint64(index))
				if err := putRaw(b.Context(), client, server.URL, snapshot, index, data); err != nil {
					b.Error(err)
				}
			}
		})
	}
	group.Wait()
}

func putRaw(ctx context.Context, client *http.Client, url, snapshot string, index int64, data []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, fmt.Sprintf("%s/snapshots/%s/blocks/%d", url, snapshot, index), bytes.NewReader(data))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIATEST/20250101/"+doortest.Region+"/ebs/aws4_request, SignedHeaders=host, Signature=0")
	r.Header.Set("X-Amz-Data-Length", fmt.Sprint(len(data)))
	r.Header.Set("X-Amz-Checksum", checksum(data))
	r.Header.Set("X-Amz-Checksum-Algorithm", "SHA256")
	response, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusCreated {
		return fmt.Errorf("put block %d: %s", index, response.Status)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
