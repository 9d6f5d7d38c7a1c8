package rehearsal

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// BlockSize is that of EBS direct's blocks, in bytes.
const BlockSize = 512 << 10

// Digest is the SHA-256 of a block.
type Digest [sha256.Size]byte

// Blocks are the digests of a disk's or a snapshot's blocks by index; those of
// zeros are left out.
type Blocks map[int32]Digest

var zeroDigest = Digest(sha256.Sum256(make([]byte, BlockSize)))

// Differing gives the indexes of the blocks in which b and other differ, in
// order.
func (b Blocks) Differing(other Blocks) []int32 {
	var differing []int32
	for index, digest := range b {
		if other[index] != digest {
			differing = append(differing, index)
		}
	}
	for index := range other {
		if _, ok := b[index]; !ok {
			differing = append(differing, index)
		}
	}
	slices.Sort(differing)
	return differing
}

// DiskBlocks reads all data of a raw disk; a hole reads as zeros.
func DiskBlocks(path string) (_ Blocks, err error) {
	disk, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	blocks := Blocks{}
	buffer := make([]byte, BlockSize)
	for next := int64(0); ; {
		data, err := disk.Seek(next*BlockSize, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return blocks, nil // only a hole is left
		}
		if err != nil {
			return nil, err
		}
		index := data / BlockSize
		n, err := disk.ReadAt(buffer, index*BlockSize)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		clear(buffer[n:])
		if digest := Digest(sha256.Sum256(buffer)); digest != zeroDigest {
			blocks[int32(index)] = digest
		}
		next = index + 1
	}
}

// SnapshotBlocks reads every block of a snapshot and hashes what came.
func (b *Sandbox) SnapshotBlocks(ctx context.Context, snapshot string) (Blocks, error) {
	client := ebs.NewFromConfig(b.Config())
	blocks := Blocks{}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	pages := ebs.NewListSnapshotBlocksPaginator(client, &ebs.ListSnapshotBlocksInput{SnapshotId: &snapshot})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, errors.Join(err, group.Wait())
		}
		for _, block := range page.Blocks {
			group.Go(func() error {
				digest, err := readBlock(ctx, client, snapshot, block)
				if err != nil {
					return fmt.Errorf("read block %d of %s: %w", *block.BlockIndex, snapshot, err)
				}
				mu.Lock()
				defer mu.Unlock()
				if digest != zeroDigest {
					blocks[*block.BlockIndex] = digest
				}
				return nil
			})
		}
	}
	return blocks, group.Wait()
}

func readBlock(ctx context.Context, client *ebs.Client, snapshot string, block ebstypes.Block) (Digest, error) {
	got, err := client.GetSnapshotBlock(ctx, &ebs.GetSnapshotBlockInput{
		SnapshotId: &snapshot, BlockIndex: block.BlockIndex, BlockToken: block.BlockToken,
	})
	if err != nil {
		return Digest{}, err
	}
	hash := sha256.New()
	_, err = io.Copy(hash, got.BlockData)
	return Digest(hash.Sum(nil)), errors.Join(err, got.BlockData.Close())
}

// RootSnapshot is the snapshot of an image's only device.
func (b *Sandbox) RootSnapshot(ctx context.Context, ami string) (string, error) {
	images, err := ec2.NewFromConfig(b.Config()).DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{ami}})
	if err != nil {
		return "", err
	}
	return *images.Images[0].BlockDeviceMappings[0].Ebs.SnapshotId, nil
}

// BaseSnapshot is the root snapshot of this account's copy of the base AMI.
func (b *Sandbox) BaseSnapshot(ctx context.Context) (string, error) {
	images, err := ec2.NewFromConfig(b.Config()).DescribeImages(ctx, &ec2.DescribeImagesInput{
		Owners:  []string{"self"},
		Filters: []types.Filter{{Name: aws.String("tag-key"), Values: []string{"immutable:copy-of"}}},
	})
	if err != nil {
		return "", err
	}
	if len(images.Images) != 1 {
		return "", fmt.Errorf("this account has %d copies of the base, want 1", len(images.Images))
	}
	return *images.Images[0].BlockDeviceMappings[0].Ebs.SnapshotId, nil
}

// workingDisks are the disks that builds work on, below the cache.
const workingDisks = "immutable/work/bake-*/disk.raw"

// Comparing says whether a line of a build with immutable-direct says that the
// baked disk is compared with the base. From then on it does not change.
func Comparing(line string) bool { return strings.Contains(line, "Comparing the disk with the base") }

// KeepWorkingDisk gives the disk that a build on this stage works on a second
// name, so that it can be looked at after the build. There must be one build.
func (s *Stage) KeepWorkingDisk(as string) error {
	disks, err := filepath.Glob(filepath.Join(s.Cache, workingDisks))
	if err != nil {
		return err
	}
	if len(disks) != 1 {
		return fmt.Errorf("found working disks %v, want one", disks)
	}
	return os.Link(disks[0], as)
}

// KeepWorkingDisks is KeepWorkingDisk where there are several builds: it keeps
// the disks of all, in a directory. What it has kept before it leaves alone.
func (s *Stage) KeepWorkingDisks(in string) error {
	disks, err := filepath.Glob(filepath.Join(s.Cache, workingDisks))
	errs := []error{err}
	for _, disk := range disks {
		as := filepath.Join(in, filepath.Base(filepath.Dir(disk))+".raw")
		if err := os.Link(disk, as); !errors.Is(err, fs.ErrExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
