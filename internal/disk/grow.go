package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
)

// Grow enlarges a disk image to size bytes, and the partition p, which must be
// the last on the disk, to its new end. It returns the partition as it is now.
// The filesystem in it is as large as before.
func Grow(f *os.File, size int64, p Partition) (Partition, error) {
	info, err := f.Stat()
	if err != nil {
		return p, err
	}
	old := info.Size()
	if size%SectorSize != 0 || size < old {
		return p, fmt.Errorf("grow %s from %d to %d bytes: a disk can only grow, by whole sectors of %d bytes", f.Name(), old, size, SectorSize)
	}
	partitions, err := Partitions(f, old)
	if err != nil {
		return p, fmt.Errorf("grow %s: %w", f.Name(), err)
	}
	for _, other := range partitions {
		if other.Start > p.Start {
			return p, fmt.Errorf("grow %s: %v lies behind %v, which therefore cannot grow; leave volume_size out", f.Name(), other, p)
		}
	}
	table, tableErr := readGPT(f, old)
	if err := f.Truncate(size); err != nil {
		return p, fmt.Errorf("grow %s: %w", f.Name(), err)
	}
	switch {
	case tableErr == nil:
		p, err = table.grow(f, old, size, p)
	case p.Number > 0:
		p, err = growMBR(f, size, p)
	default:
		p.Size = size
	}
	if err != nil {
		return p, fmt.Errorf("grow the partition table of %s: %w", f.Name(), err)
	}
	return p, nil
}

// grow writes the table for a disk of the new size: the backup, and with it
// the last usable sector, moves to the new end.
func (t *gpt) grow(f *os.File, old, size int64, p Partition) (Partition, error) {
	le := binary.LittleEndian
	var (
		entries  = (int64(len(t.entries)) + SectorSize - 1) / SectorSize
		sectors  = size / SectorSize
		last     = sectors - 1 // where the backup header goes
		usable   = last - entries - 1
		boundary = int64(4096 / SectorSize)
		end      = (usable + 1) / boundary * boundary // behind the partition
	)
	if end*SectorSize <= p.End() {
		return p, nil
	}
	p.Size = end*SectorSize - p.Start
	le.PutUint64(t.entry(p.Number - 1)[40:], uint64(end-1))

	// The old backup would be left inside the partition.
	if err := erase(f, (old/SectorSize-1-entries)*SectorSize, (entries+1)*SectorSize); err != nil {
		return p, err
	}
	le.PutUint64(t.header[48:], uint64(usable))
	le.PutUint32(t.header[88:], crc32.ChecksumIEEE(t.entries))
	for _, place := range []struct{ header, other, entries int64 }{
		{1, last, 2},
		{last, 1, last - entries},
	} {
		h := gpt{header: bytes.Clone(t.header)}
		le.PutUint64(h.header[24:], uint64(place.header))
		le.PutUint64(h.header[32:], uint64(place.other))
		le.PutUint64(h.header[72:], uint64(place.entries))
		le.PutUint32(h.header[16:], h.headerSum())
		if _, err := f.WriteAt(t.entries, place.entries*SectorSize); err != nil {
			return p, err
		}
		if _, err := f.WriteAt(h.header, place.header*SectorSize); err != nil {
			return p, err
		}
	}
	return p, growProtectiveMBR(f, sectors)
}

// erase writes zeros.
func erase(f *os.File, off, n int64) error {
	_, err := f.WriteAt(make([]byte, n), off)
	return err
}

// growProtectiveMBR makes the entry that stands for the whole of a GPT disk
// cover it.
func growProtectiveMBR(f *os.File, sectors int64) error {
	mbr := make([]byte, SectorSize)
	if _, err := f.ReadAt(mbr, 0); err != nil {
		return err
	}
	for i := range 4 {
		if mbrEntry(mbr, i).kind == 0xee {
			binary.LittleEndian.PutUint32(mbr[446+16*i+12:], uint32(min(sectors-1, math.MaxUint32)))
		}
	}
	_, err := f.WriteAt(mbr, 0)
	return err
}

// growMBR makes a primary partition reach the end of the disk, or as far as
// its 32-bit sector numbers do: 2 TiB.
func growMBR(f *os.File, size int64, p Partition) (Partition, error) {
	if p.Number > 4 {
		return p, fmt.Errorf("%v is a logical one, which cannot be grown; leave volume_size out", p)
	}
	if size > math.MaxUint32*SectorSize {
		return p, errors.New("an MBR reaches only to 2 TiB; choose a smaller volume_size, or a base with a GPT")
	}
	p.Size = size - p.Start
	count := binary.LittleEndian.AppendUint32(nil, uint32(p.Size/SectorSize))
	_, err := f.WriteAt(count, int64(446+16*(p.Number-1)+12))
	return p, err
}
