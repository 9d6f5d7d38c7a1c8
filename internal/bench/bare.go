package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"golang.org/x/sync/errgroup"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// bareWorkers is as many as the plugin has at the most.
const bareWorkers = 64

// bareUpload is the limit: a loop that only reads, hashes and posts the blocks
// that a build uploaded, to the same endpoint. It gives MB/s.
func bareUpload(ctx context.Context, box *rehearsal.Sandbox, b *build) (rate float64, err error) {
	disk, err := os.Open(b.disk)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	info, err := disk.Stat()
	if err != nil {
		return 0, err
	}
	started, err := ebs.NewFromConfig(box.Config()).StartSnapshot(ctx, &ebs.StartSnapshotInput{VolumeSize: aws.Int64(info.Size() >> 30)})
	if err != nil {
		return 0, err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: bareWorkers}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}

	begun := time.Now()
	todo := make(chan int32)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(todo)
		for _, index := range b.changed {
			select {
			case todo <- index:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range bareWorkers {
		group.Go(func() error {
			block := make([]byte, rehearsal.BlockSize)
			for index := range todo {
				if _, err := disk.ReadAt(block, int64(index)*rehearsal.BlockSize); err != nil {
					return err
				}
				if err := post(ctx, client, box.URL, *started.SnapshotId, index, block); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, fmt.Errorf("post blocks in a bare loop: %w", err)
	}
	return float64(len(b.changed)) * rehearsal.BlockSize / 1e6 / time.Since(begun).Seconds(), nil
}

func post(ctx context.Context, client *http.Client, endpoint, snapshot string, index int32, block []byte) error {
	url := fmt.Sprintf("%s/snapshots/%s/blocks/%d", endpoint, snapshot, index)
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(block))
	if err != nil {
		return err
	}
	digest := sha256.Sum256(block)
	authorize(request)
	request.Header.Set("Content-Type", "application/octet-stream")
	request.Header.Set("X-Amz-Data-Length", fmt.Sprint(len(block)))
	request.Header.Set("X-Amz-Checksum", base64.StdEncoding.EncodeToString(digest[:]))
	request.Header.Set("X-Amz-Checksum-Algorithm", "SHA256")
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	said, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusCreated {
		return fmt.Errorf("PUT %s: %s: %s", url, answer.Status, said)
	}
	return nil
}

// authorize addresses a request to EBS direct. The sandbox does not verify
// signatures.
func authorize(request *http.Request) {
	day := time.Now().UTC().Format("20060102")
	request.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIABARE/"+day+"/"+rehearsal.Region+"/ebs/aws4_request, SignedHeaders=host, Signature=none")
}
