package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

// The release of Amazon Linux 2023 that base images are called after. Its
// name and kernel are those of a real one.
const (
	baseRelease = "2023.9.20251105"
	baseKernel  = "6.18"
)

// baseKernels and baseKinds are what the names of AL2023's public parameters
// are made of
// (https://docs.aws.amazon.com/linux/al2023/ug/ec2.html#launch-via-aws-cli).
var (
	baseKernels = []string{"default", "6.1", "6.12", "6.18"}
	baseKinds   = []string{"al2023-ami", "al2023-ami-minimal"}
)

// bases is which base disks have become images of a region, the newest last.
type bases struct {
	Seeded []base
}

// base is a disk that became an image.
type base struct {
	Path     string
	Size     int64
	Modified time.Time
	ImageId  string
}

// same tells whether the file is as it was when it became an image.
func (b base) same(other base) bool {
	return b.Path == other.Path && b.Size == other.Size && b.Modified.Equal(other.Modified)
}

// seed makes the base disk the newest Amazon Linux 2023 image of each region,
// unless it is that already.
func (s *Sandbox) seed(ctx context.Context, options Options) error {
	ledger, err := state.Declare(s.books, "bases", func(string) *bases { return &bases{} })
	if err != nil || options.BaseDisk == "" {
		return err
	}
	disk, err := inspect(options.BaseDisk)
	if err != nil {
		return err
	}
	regions := options.Regions
	if len(regions) == 0 {
		regions = []string{DefaultRegion}
	}
	for _, region := range regions {
		if !api.IsRegion(region) {
			return fmt.Errorf("make the base image in %q: this is no region; give names such as %s", region, DefaultRegion)
		}
	}
	var missing []string
	s.books.Read(func() {
		for _, region := range regions {
			seeded := ledger.In(region).Seeded
			if len(seeded) == 0 || !seeded[len(seeded)-1].same(disk) {
				missing = append(missing, region)
			}
		}
	})
	if len(missing) == 0 {
		return nil
	}
	blocks, err := s.services.storage.Import(ctx, disk.Path)
	if err != nil {
		return fmt.Errorf("import the base disk: %w", err)
	}
	s.books.Do(func() {
		defer blocks.Release()
		for _, region := range missing {
			if err = s.seedRegion(region, ledger.In(region), disk, blocks.Clone()); err != nil {
				return
			}
		}
	})
	return err
}

func inspect(path string) (base, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return base{}, fmt.Errorf("find the base disk: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return base{}, fmt.Errorf("find the base disk: %w; example/base/build makes one", err)
	}
	if !info.Mode().IsRegular() || info.Size() == 0 {
		return base{}, fmt.Errorf("the base disk %s is not a raw disk image", path)
	}
	return base{Path: path, Size: info.Size(), Modified: info.ModTime()}, nil
}

// seedRegion registers the base as an image of Amazon's, and points the public
// parameters at it. It takes the blocks over. The books are held.
func (s *Sandbox) seedRegion(region string, known *bases, disk base, blocks *storage.Blocks) error {
	const gib = 1 << 30
	now := s.clock.Now()
	snapshot := storage.NewSnapshot(now, int((disk.Size+gib-1)/gib))
	snapshot.OwnerId, snapshot.Public = api.Amazon, true
	s.services.storage.Add(region, snapshot, blocks)
	if err := s.services.storage.Complete(region, snapshot, nil, now); err != nil {
		return err
	}
	arch := architecture()
	id, err := s.services.ec2.Publish(region, ec2.PublicImage{
		Name:         fmt.Sprintf("al2023-ami-%s.%d-kernel-%s-%s", baseRelease, len(known.Seeded), baseKernel, arch),
		Description:  fmt.Sprintf("Amazon Linux 2023 AMI %s.%d %s HVM kernel-%s", baseRelease, len(known.Seeded), arch, baseKernel),
		Architecture: arch, SnapshotId: snapshot.Id,
	})
	if err != nil {
		return fmt.Errorf("register the base image: %w", err)
	}
	for _, kind := range baseKinds {
		for _, kernel := range baseKernels {
			name := fmt.Sprintf("/aws/service/ami-amazon-linux-latest/%s-kernel-%s-%s", kind, kernel, arch)
			s.services.ssm.Publish(region, name, "aws:ec2:image", id)
		}
	}
	disk.ImageId = id
	known.Seeded = append(known.Seeded, disk)
	return nil
}

// architecture is this machine's, as EC2 calls it: a base disk must be of it,
// because its instances run here.
func architecture() string {
	if runtime.GOARCH == "arm64" {
		return "arm64"
	}
	return "x86_64"
}
