package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"golang.org/x/sync/errgroup"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// Blocks are moved in turns: so many to or from a bare handler in a process of
// its own, then as many to or from the sandbox.
const (
	turns        = 11 // of which the first is not counted
	turnBlocks   = 128
	blockWorkers = 16
)

// blockFigures sets PutSnapshotBlock and GetSnapshotBlock of a sandbox of its
// own beside bare handlers, which hash what they are sent, or serve what the
// client hashes.
func blockFigures(ctx context.Context, dir string, stage *rehearsal.Stage, all *figures) (err error) {
	apart, err := rehearsal.NewStage(filepath.Join(dir, "blocks"), stage.Plugin, stage.PackerBinary)
	if err != nil {
		return err
	}
	box, err := apart.Start(ctx, "--machines", "none")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, box.Stop()) }()
	bare, stop, err := startBare(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	transport := &http.Transport{MaxIdleConnsPerHost: blockWorkers}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}

	direct := ebs.NewFromConfig(box.Config())
	started, err := direct.StartSnapshot(ctx, &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	if err != nil {
		return err
	}
	snapshot := *started.SnapshotId
	put := func(endpoint string) transfer {
		return func(ctx context.Context, index int32, block []byte) error {
			binary.BigEndian.PutUint32(block, uint32(index)+1)
			return post(ctx, client, endpoint, snapshot, index, block)
		}
	}
	if err := compare(ctx, all, "sandbox_put", put(bare), put(box.URL)); err != nil {
		return err
	}

	tokens, err := finish(ctx, box, direct, snapshot)
	if err != nil {
		return err
	}
	get := func(endpoint string) transfer {
		return func(ctx context.Context, index int32, block []byte) error {
			index %= turnBlocks
			return fetch(ctx, client, endpoint, snapshot, index, tokens[index], block)
		}
	}
	return compare(ctx, all, "sandbox_get", get(bare), get(box.URL))
}

// transfer moves one block; block is room for it.
type transfer func(ctx context.Context, index int32, block []byte) error

func compare(ctx context.Context, all *figures, name string, bare, sandbox transfer) error {
	for turn := range int32(turns) {
		limit, err := moveAll(ctx, turn*turnBlocks, bare)
		if err != nil {
			return err
		}
		rate, err := moveAll(ctx, turn*turnBlocks, sandbox)
		if err != nil {
			return err
		}
		if turn > 0 {
			all.add(name, "MB/s", rate)
			all.add(name+"_to_bare", "ratio", rate/limit)
		}
	}
	return nil
}

// moveAll moves the blocks of a turn and gives MB/s.
func moveAll(ctx context.Context, from int32, move transfer) (float64, error) {
	next := atomic.Int32{}
	next.Store(from)
	group, ctx := errgroup.WithContext(ctx)
	begun := time.Now()
	for range blockWorkers {
		group.Go(func() error {
			block := bytes.Repeat([]byte{1}, rehearsal.BlockSize)
			for index := next.Add(1) - 1; index < from+turnBlocks; index = next.Add(1) - 1 {
				if err := move(ctx, index, block); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, fmt.Errorf("move blocks: %w", err)
	}
	return turnBlocks * rehearsal.BlockSize / 1e6 / time.Since(begun).Seconds(), nil
}

// finish completes a snapshot of turns and gives the tokens of its first blocks.
func finish(ctx context.Context, box *rehearsal.Sandbox, direct *ebs.Client, snapshot string) ([]string, error) {
	if _, err := direct.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{SnapshotId: &snapshot, ChangedBlocksCount: aws.Int32(turns * turnBlocks)}); err != nil {
		return nil, err
	}
	waiter := ec2.NewSnapshotCompletedWaiter(ec2.NewFromConfig(box.Config()), func(o *ec2.SnapshotCompletedWaiterOptions) { o.MinDelay = 100 * time.Millisecond })
	if err := waiter.Wait(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{snapshot}}, time.Minute); err != nil {
		return nil, err
	}
	listed, err := direct.ListSnapshotBlocks(ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: &snapshot, MaxResults: aws.Int32(turnBlocks)})
	if err != nil {
		return nil, err
	}
	var tokens []string
	for _, block := range listed.Blocks {
		tokens = append(tokens, *block.BlockToken)
	}
	return tokens, nil
}

// fetch gets a block and hashes it.
func fetch(ctx context.Context, client *http.Client, endpoint, snapshot string, index int32, token string, block []byte) error {
	address := fmt.Sprintf("%s/snapshots/%s/blocks/%d?blockToken=%s", endpoint, snapshot, index, url.QueryEscape(token))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	authorize(request)
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	_, err = io.ReadFull(answer.Body, block)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return fmt.Errorf("GET %s: %s: %w", address, answer.Status, err)
	}
	digest := sha256.Sum256(block)
	if told := answer.Header.Get("X-Amz-Checksum"); told != base64.StdEncoding.EncodeToString(digest[:]) {
		return fmt.Errorf("GET %s: %s: the block is not the one of the checksum %q", address, answer.Status, told)
	}
	return nil
}

// startBare starts serveBare in a process of its own and gives its endpoint.
func startBare(ctx context.Context) (endpoint string, stop func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	process := exec.CommandContext(ctx, self, "-bare")
	process.Stderr = os.Stderr
	input, err := process.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	output, err := process.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := process.Start(); err != nil {
		return "", nil, fmt.Errorf("start the bare handler: %w", err)
	}
	stop = func() error { return errors.Join(input.Close(), process.Wait()) }
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("start the bare handler: %w", err), stop())
	}
	return strings.TrimSpace(line), stop, nil
}

// serveBare serves blocks with as little work as can be, says where, and ends
// with its input.
func serveBare(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	served := bytes.Repeat([]byte{1}, rehearsal.BlockSize)
	digest := sha256.Sum256(served)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("X-Amz-Checksum", base64.StdEncoding.EncodeToString(digest[:]))
			w.Header().Set("Content-Length", fmt.Sprint(len(served)))
			_, _ = w.Write(served) // the client notices
			return
		}
		sum := sha256.New()
		_, _ = io.Copy(sum, r.Body) // the client notices
		w.Header().Set("X-Amz-Checksum", base64.StdEncoding.EncodeToString(sum.Sum(nil)))
		w.WriteHeader(http.StatusCreated)
	})}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // it only ends
		_ = server.Close()
	}()
	fmt.Printf("http://%s\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
