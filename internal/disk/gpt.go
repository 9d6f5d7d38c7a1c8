package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// errNoGPT says that nothing on the disk claims to be a GUID partition table.
var errNoGPT = errors.New("no GUID partition table")

// gpt is a GUID partition table as read from one of its two places.
// UEFI 2.10, section 5.3: everything is little endian.
type gpt struct {
	header  []byte // the header's sector
	entries []byte
}

var gptSignature = []byte("EFI PART")

func (t *gpt) headerSize() int { return int(binary.LittleEndian.Uint32(t.header[12:])) }
func (t *gpt) lba() int64      { return int64(binary.LittleEndian.Uint64(t.header[24:])) }
func (t *gpt) entryLBA() int64 { return int64(binary.LittleEndian.Uint64(t.header[72:])) }
func (t *gpt) entryCount() int { return int(binary.LittleEndian.Uint32(t.header[80:])) }
func (t *gpt) entrySize() int  { return int(binary.LittleEndian.Uint32(t.header[84:])) }
func (t *gpt) entry(i int) []byte {
	return t.entries[i*t.entrySize() : (i+1)*t.entrySize()]
}

// readGPT reads the primary table or, where that is damaged, the backup in the
// disk's last sector.
func readGPT(r io.ReaderAt, size int64) (*gpt, error) {
	if size < 3*SectorSize {
		return nil, errNoGPT
	}
	t, err := readGPTAt(r, 1, size)
	if err == nil {
		return t, nil
	}
	backup, backupErr := readGPTAt(r, size/SectorSize-1, size)
	if backupErr == nil {
		return backup, nil
	}
	if errors.Is(err, errNoGPT) && errors.Is(backupErr, errNoGPT) {
		mbr, readErr := readAt(r, 0, SectorSize, size)
		if readErr != nil {
			return nil, readErr
		}
		if isMBR(mbr) && mbrEntry(mbr, 0).kind == 0xee {
			return nil, errors.New("the GUID partition table that the protective MBR announces is missing; is the image cut off?")
		}
		return nil, errNoGPT
	}
	return nil, fmt.Errorf("both GUID partition tables are damaged (primary: %w; backup: %w)", err, backupErr)
}

func readGPTAt(r io.ReaderAt, lba, size int64) (*gpt, error) {
	header, err := readAt(r, lba*SectorSize, SectorSize, size)
	if err != nil {
		return nil, err
	}
	t := &gpt{header: header}
	if !bytes.Equal(header[:8], gptSignature) {
		return nil, errNoGPT
	}
	if n := t.headerSize(); n < 92 || n > SectorSize {
		return nil, fmt.Errorf("a header of %d bytes", n)
	}
	if t.headerSum() != binary.LittleEndian.Uint32(header[16:]) {
		return nil, errors.New("the header's checksum is wrong")
	}
	if t.lba() != lba {
		return nil, fmt.Errorf("the header says that it is in sector %d, and is in %d", t.lba(), lba)
	}
	if n, s := t.entryCount(), t.entrySize(); n < 1 || n > 1024 || s < 128 || s > 4096 || t.entryLBA() < 2 || t.entryLBA() > size/SectorSize {
		return nil, fmt.Errorf("%d entries of %d bytes at sector %d", n, s, t.entryLBA())
	}
	t.entries, err = readAt(r, t.entryLBA()*SectorSize, int64(t.entryCount()*t.entrySize()), size)
	if err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(t.entries) != binary.LittleEndian.Uint32(header[88:]) {
		return nil, errors.New("the checksum of the entries is wrong")
	}
	return t, nil
}

// headerSum is the checksum of the header, which counts its own field as zero.
func (t *gpt) headerSum() uint32 {
	h := bytes.Clone(t.header[:t.headerSize()])
	clear(h[16:20])
	return crc32.ChecksumIEEE(h)
}

func (t *gpt) partitions(size int64) ([]Partition, error) {
	var partitions []Partition
	for i := range t.entryCount() {
		e := t.entry(i)
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		first := binary.LittleEndian.Uint64(e[32:])
		last := binary.LittleEndian.Uint64(e[40:])
		if sectors := uint64(size / SectorSize); first == 0 || last < first || last >= sectors {
			return nil, fmt.Errorf("partition %d (sectors %d to %d) lies outside the disk of %d sectors; is the image cut off?", i+1, first, last, sectors)
		}
		partitions = append(partitions, Partition{
			Number: i + 1,
			Type:   guid(e[:16]),
			Name:   utf16Name(e[56:128]),
			Start:  int64(first) * SectorSize,
			Size:   int64(last-first+1) * SectorSize,
		})
	}
	return partitions, nil
}

// guid writes a GUID as text; its first three fields are little endian.
func guid(b []byte) string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x",
		binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:]), b[8:10], b[10:16])
}

func utf16Name(b []byte) string {
	var units []uint16
	for i := 0; i+1 < len(b); i += 2 {
		u := binary.LittleEndian.Uint16(b[i:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}
