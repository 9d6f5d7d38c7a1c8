package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/block"
)

const gib = 1 << 30

// noisePage is how much of a block that was never written reads as random data
// in a volume: enough for what relies on zeros to fail, little enough not to
// fill the disk.
const noisePage = 4 << 10

// VolumePath is where a volume's file is.
func (s *Store) VolumePath(region, id string) (string, error) {
	dir, err := s.books.Dir(region, "volumes")
	return filepath.Join(dir, id+".raw"), err
}

// CreateVolume makes a volume's file with the contents of a snapshot, or with
// none when blocks is nil, and gives its path. It takes long: call it without
// the books. On an error there is no file.
func (s *Store) CreateVolume(ctx context.Context, region, id string, sizeGiB int, blocks *Blocks) (path string, err error) {
	if path, err = s.VolumePath(region, id); err != nil {
		return "", err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("create volume %s: %w", id, err)
	}
	defer func() {
		if err = errors.Join(err, file.Close()); err != nil {
			err = errors.Join(fmt.Errorf("create volume %s: %w", id, err), removeFile(path))
		}
	}()
	if err := file.Truncate(int64(sizeGiB) * gib); err != nil {
		return "", err
	}
	if blocks == nil {
		return path, nil
	}
	for _, index := range blocks.Indexes() {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if err := s.blocks.CopyTo(file, int64(index)*block.Size, blocks.digests[index]); err != nil {
			return "", err
		}
	}
	return path, fillNoise(ctx, file, sizeGiB, blocks)
}

// fillNoise writes random data, the same each time, where blocks were never
// written, if they are to read so.
func fillNoise(ctx context.Context, file *os.File, sizeGiB int, blocks *Blocks) error {
	if blocks.noise == "" {
		return nil
	}
	random := rand.NewChaCha8(sha256.Sum256([]byte(blocks.noise)))
	page := make([]byte, noisePage)
	for index := range sizeGiB * (gib / block.Size) {
		if _, written := blocks.At(index); written {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		_, _ = random.Read(page) // never fails
		if _, err := file.WriteAt(page, int64(index)*block.Size); err != nil {
			return err
		}
	}
	return nil
}

// ScanVolume stores what a volume's file holds. It takes long: call it without
// the books.
func (s *Store) ScanVolume(ctx context.Context, region, id string) (*Blocks, error) {
	path, err := s.VolumePath(region, id)
	if err != nil {
		return nil, err
	}
	return s.scan(ctx, path)
}

// RemoveVolume deletes a volume's file.
func (s *Store) RemoveVolume(region, id string) error {
	path, err := s.VolumePath(region, id)
	if err != nil {
		return err
	}
	return removeFile(path)
}

// SweepVolumes removes the files of a region's volumes that are not known,
// which a killed sandbox may have left.
func (s *Store) SweepVolumes(region string, known func(id string) bool) error {
	dir, err := s.books.Dir(region, "volumes")
	if err != nil {
		return err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list the volumes' files: %w", err)
	}
	for _, file := range files {
		if !known(strings.TrimSuffix(file.Name(), ".raw")) {
			if err := removeFile(filepath.Join(dir, file.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// scan stores the blocks of a file that have data which is not zeros.
func (s *Store) scan(ctx context.Context, path string) (blocks *Blocks, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read a disk: %w", err)
	}
	blocks = s.Empty()
	defer func() {
		if err = errors.Join(err, file.Close()); err != nil {
			blocks.Release()
			blocks, err = nil, fmt.Errorf("read the disk %s: %w", path, err)
		}
	}()
	for offset := int64(0); ; {
		from, to, err := block.NextData(file, offset)
		if errors.Is(err, io.EOF) {
			return blocks, nil
		}
		if err != nil {
			return blocks, err
		}
		offset = max(from, offset) / block.Size * block.Size
		for ; offset < to; offset += block.Size {
			if ctx.Err() != nil {
				return blocks, context.Cause(ctx)
			}
			if err := s.scanBlock(file, offset, blocks); err != nil {
				return blocks, err
			}
		}
	}
}

// scanBlock stores the block of a file at an offset. The last one of a file may
// be short, and has zeros at its end.
func (s *Store) scanBlock(file *os.File, offset int64, blocks *Blocks) error {
	buf := block.Buffer()
	defer block.Recycle(buf)
	n, err := file.ReadAt(buf[:], offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	clear(buf[n:])
	if block.IsZero(buf[:]) {
		return nil
	}
	digest := block.Sum(buf[:])
	if err := s.blocks.Put(digest, buf[:]); err != nil {
		return err
	}
	blocks.Set(int(offset/block.Size), digest)
	return nil
}
