// Package disk works with disk images: partition tables, filesystems, sparse
// copies, formats and loop devices. It does not need root, but for Attach.
package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// SectorSize is the size of a disk's sector in bytes: that of every EBS volume.
// Disks with 4096-byte sectors are not supported.
const SectorSize = 512

// Partition types that matter here, as GPT type GUIDs.
// https://uapi-group.org/specifications/specs/discoverable_partitions_specification/
const (
	TypeRootX86   = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
	TypeRootArm64 = "b921b045-1df0-41c3-af44-4c6f280d3fae"
	TypeEFISystem = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
)

// Partition is a stretch of a disk.
type Partition struct {
	// Number is the partition's number in the table, from 1; 0 for a
	// filesystem that fills a disk with no table.
	Number int
	// Type is the GPT type GUID in lower case, or the MBR type as "0x83".
	Type string
	// Name is the GPT partition name.
	Name string
	// Start and Size are in bytes.
	Start, Size int64
}

// End is the first byte behind the partition.
func (p Partition) End() int64 { return p.Start + p.Size }

func (p Partition) String() string {
	if p.Number == 0 {
		return "the whole disk"
	}
	return fmt.Sprintf("partition %d", p.Number)
}

// ErrNoTable says that a disk has neither a partition table nor a filesystem.
var ErrNoTable = errors.New("neither a partition table nor a filesystem was found")

// Partitions reads the partition table of a disk of size bytes: GPT (the
// backup where the primary is damaged) or MBR with its logical partitions. A
// disk that is one filesystem is one partition, number 0.
func Partitions(r io.ReaderAt, size int64) ([]Partition, error) {
	switch t, err := readGPT(r, size); {
	case err == nil:
		return t.partitions(size)
	case !errors.Is(err, errNoGPT):
		return nil, err
	}
	switch partitions, err := readMBR(r, size); {
	case err != nil:
		return nil, err
	case len(partitions) > 0:
		return partitions, nil
	}
	whole := Partition{Size: size}
	kind, err := Filesystem(r, whole)
	if err != nil {
		return nil, err
	}
	if kind == "" {
		return nil, ErrNoTable
	}
	return []Partition{whole}, nil
}

// Roots lists the partitions that can hold a Linux root filesystem, the
// likeliest first: where the table gives partitions the type of a Linux root,
// those alone, else every partition with a Linux filesystem. When there is
// none, the error says what the disk has instead.
func Roots(r io.ReaderAt, size int64) ([]Partition, error) {
	all, err := Partitions(r, size)
	if err != nil {
		return nil, fmt.Errorf("no Linux root partition: %w", err)
	}
	var typed, linux []Partition
	var found []string
	for _, p := range all {
		kind, err := Filesystem(r, p)
		if err != nil {
			return nil, err
		}
		if kind == "" {
			kind = "no known filesystem"
		}
		found = append(found, fmt.Sprintf("%v: %s, %d bytes", p, kind, p.Size))
		if !Linux(kind) {
			continue
		}
		linux = append(linux, p)
		if p.Type == TypeRootX86 || p.Type == TypeRootArm64 {
			typed = append(typed, p)
		}
	}
	switch {
	case len(typed) > 0:
		return typed, nil
	case len(linux) > 0:
		return linux, nil
	case len(found) == 0:
		return nil, errors.New("no Linux root partition: the partition table is empty")
	}
	return nil, fmt.Errorf("no Linux root partition: no partition has an xfs, ext4 or btrfs filesystem (%s)", strings.Join(found, "; "))
}

// readMBR lists the partitions of a master boot record; none if there is none.
func readMBR(r io.ReaderAt, size int64) ([]Partition, error) {
	sector, err := readAt(r, 0, SectorSize, size)
	if err != nil || !isMBR(sector) {
		return nil, err
	}
	var partitions []Partition
	for i := range 4 {
		e := mbrEntry(sector, i)
		if e.kind == 0 || e.count == 0 {
			continue
		}
		p := Partition{Number: i + 1, Type: fmt.Sprintf("%#02x", e.kind), Start: e.start, Size: e.count}
		if p.Start == 0 || p.End() > size {
			return nil, fmt.Errorf("the MBR's %v lies outside the disk of %d bytes", p, size)
		}
		if e.extended() {
			logical, err := readLogical(r, p.Start, size)
			if err != nil {
				return nil, err
			}
			partitions = append(partitions, logical...)
			continue
		}
		partitions = append(partitions, p)
	}
	return partitions, nil
}

// readLogical follows the chain of extended boot records from base on.
func readLogical(r io.ReaderAt, base, size int64) ([]Partition, error) {
	const most = 128 // a chain that is longer runs in a circle
	var partitions []Partition
	for at := base; len(partitions) < most; {
		sector, err := readAt(r, at, SectorSize, size)
		if err != nil {
			return nil, fmt.Errorf("read the extended boot record at byte %d: %w", at, err)
		}
		if !isMBR(sector) {
			return nil, fmt.Errorf("the extended boot record at byte %d is damaged", at)
		}
		if e := mbrEntry(sector, 0); e.kind != 0 {
			p := Partition{Number: 5 + len(partitions), Type: fmt.Sprintf("%#02x", e.kind), Start: at + e.start, Size: e.count}
			if p.End() > size {
				return nil, fmt.Errorf("the MBR's %v lies outside the disk of %d bytes", p, size)
			}
			partitions = append(partitions, p)
		}
		next := mbrEntry(sector, 1)
		if !next.extended() {
			return partitions, nil
		}
		at = base + next.start
	}
	return nil, errors.New("the chain of extended boot records has no end")
}

// isMBR tells a partition table from a boot sector of another kind: each of
// the four entries must be bootable, or not; nothing else.
func isMBR(sector []byte) bool {
	if sector[510] != 0x55 || sector[511] != 0xaa {
		return false
	}
	for i := range 4 {
		if flag := sector[446+16*i]; flag != 0 && flag != 0x80 {
			return false
		}
	}
	return true
}

// entry is an entry of a master boot record; start and count are in bytes.
type entry struct {
	kind         byte
	start, count int64
}

func (e entry) extended() bool { return e.kind == 0x05 || e.kind == 0x0f || e.kind == 0x85 }

func mbrEntry(sector []byte, i int) entry {
	e := sector[446+16*i:]
	return entry{
		kind:  e[4],
		start: int64(binary.LittleEndian.Uint32(e[8:])) * SectorSize,
		count: int64(binary.LittleEndian.Uint32(e[12:])) * SectorSize,
	}
}

// readAt reads n bytes at off of a disk of size bytes.
func readAt(r io.ReaderAt, off, n, size int64) ([]byte, error) {
	if off < 0 || off+n > size {
		return nil, fmt.Errorf("%d bytes at byte %d lie outside the disk of %d bytes", n, off, size)
	}
	b := make([]byte, n)
	if m, err := r.ReadAt(b, off); m < len(b) {
		return nil, fmt.Errorf("read the disk at byte %d: %w", off, err)
	}
	return b, nil
}
