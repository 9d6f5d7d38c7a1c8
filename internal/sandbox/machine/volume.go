package machine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// sector is the unit that a partition table counts in, in bytes.
const sector = 512

// volume is the filesystem of a disk that an instance boots from.
type volume struct {
	offset, size int64 // bytes; a size of 0 is all that follows
	filesystem   string
}

// filesystems are told by the magic number at a fixed place of the superblock.
var filesystems = []struct {
	name  string
	at    int64
	magic string
}{
	{"xfs", 0, "XFSB"},
	{"ext4", 0x438, "\x53\xef"}, // ext2 and ext3 too, which the ext4 driver mounts
	{"btrfs", 0x10040, "_BHRfS_M"},
}

// rootVolume finds the root filesystem: the first GPT partition, by number, with a filesystem that
// Linux can have its root on, or the whole disk where there is no partition table. Amazon Linux has its
// root on partition 1 and the ones that come before it on the disk have high numbers.
func rootVolume(disk io.ReaderAt) (volume, error) {
	partitions, err := gpt(disk)
	if err != nil {
		return volume{}, err
	}
	if partitions == nil {
		partitions = []volume{{}}
	}
	for _, partition := range partitions {
		if partition.filesystem, err = filesystem(disk, partition.offset); err != nil {
			return volume{}, err
		}
		if partition.filesystem != "" {
			return partition, nil
		}
	}
	return volume{}, fmt.Errorf("no XFS, ext4 or btrfs filesystem in the disk's %d partitions", len(partitions))
}

// gpt reads the primary partition table: nil where there is none. Fields are named and placed as in the
// UEFI specification, 5.3.
func gpt(disk io.ReaderAt) ([]volume, error) {
	var header [92]byte
	if err := readAt(disk, header[:], sector); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(header[:], []byte("EFI PART")) {
		return nil, nil
	}
	first := int64(binary.LittleEndian.Uint64(header[72:]))
	count := int64(binary.LittleEndian.Uint32(header[80:]))
	size := int64(binary.LittleEndian.Uint32(header[84:]))
	if size < 128 || size > 4096 || count > 1024 {
		return nil, fmt.Errorf("the partition table has %d entries of %d bytes, which can't be", count, size)
	}
	partitions := []volume{}
	entry := make([]byte, size)
	for number := range count {
		if err := readAt(disk, entry, first*sector+number*size); err != nil {
			return nil, err
		}
		if bytes.Equal(entry[:16], make([]byte, 16)) { // type: unused
			continue
		}
		from := int64(binary.LittleEndian.Uint64(entry[32:]))
		to := int64(binary.LittleEndian.Uint64(entry[40:])) // the last sector of it
		partitions = append(partitions, volume{offset: from * sector, size: (to - from + 1) * sector})
	}
	return partitions, nil
}

func filesystem(disk io.ReaderAt, offset int64) (string, error) {
	for _, kind := range filesystems {
		magic := make([]byte, len(kind.magic))
		if err := readAt(disk, magic, offset+kind.at); err != nil {
			return "", err
		}
		if string(magic) == kind.magic {
			return kind.name, nil
		}
	}
	return "", nil
}

// readAt fills buffer; what is past the end of the disk reads as zeros.
func readAt(disk io.ReaderAt, buffer []byte, offset int64) error {
	if _, err := disk.ReadAt(buffer, offset); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %d bytes of the disk at %d: %w", len(buffer), offset, err)
	}
	return nil
}
