package disk

import "io"

// magics are the marks by which a partition's content is known. The Linux
// filesystems come first: they may lie behind another's boot sector.
var magics = []struct {
	kind string
	at   int64
	mark string
}{
	{"xfs", 0, "XFSB"},
	{"ext4", 1024 + 56, "\x53\xef"},
	{"btrfs", 0x10000 + 64, "_BHRfS_M"},
	{"LUKS encryption", 0, "LUKS\xba\xbe"},
	{"an LVM physical volume", SectorSize, "LABELONE"},
	{"swap", 4096 - 10, "SWAPSPACE2"},
	{"squashfs", 0, "hsqs"},
	{"vfat", 82, "FAT32"},
	{"vfat", 54, "FAT1"},
	{"ntfs", 3, "NTFS"},
}

// Filesystem tells what a partition holds by the magic of its superblock:
// "xfs", "ext4" (ext2 and ext3 too: the driver is the same), "btrfs", or
// something that cannot be baked; "" when it is nothing known.
func Filesystem(r io.ReaderAt, p Partition) (kind string, err error) {
	for _, m := range magics {
		if m.at+int64(len(m.mark)) > p.Size {
			continue
		}
		b, err := readAt(r, p.Start+m.at, int64(len(m.mark)), p.End())
		if err != nil {
			return "", err
		}
		if string(b) == m.mark {
			return m.kind, nil
		}
	}
	return "", nil
}

// Linux says whether a kind that Filesystem gave can be a Linux root.
func Linux(kind string) bool { return kind == "xfs" || kind == "ext4" || kind == "btrfs" }
