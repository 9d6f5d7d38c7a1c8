package machine

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// disk makes an image of 8 MiB with a GPT of partitions {number, first sector, last sector}.
func disk(partitions ...[3]uint64) []byte {
	image := make([]byte, 8<<20)
	header := image[sector:]
	copy(header, "EFI PART")
	binary.LittleEndian.PutUint64(header[72:], 2)
	binary.LittleEndian.PutUint32(header[80:], 128)
	binary.LittleEndian.PutUint32(header[84:], 128)
	for _, partition := range partitions {
		entry := image[2*sector+(partition[0]-1)*128:]
		entry[0] = 1
		binary.LittleEndian.PutUint64(entry[32:], partition[1])
		binary.LittleEndian.PutUint64(entry[40:], partition[2])
	}
	return image
}

func with(image []byte, offset int, magic string) []byte {
	copy(image[offset:], magic)
	return image
}

func TestRootVolume(t *testing.T) {
	// As Amazon Linux has it: the boot partition comes first on the disk and last in the table.
	amazon := func() []byte { return disk([3]uint64{1, 4096, 8191}, [3]uint64{128, 2048, 4095}) }
	for _, test := range []struct {
		name  string
		image []byte
		want  volume
	}{
		{"XFS on partition 1", with(amazon(), 4096*sector, "XFSB"), volume{4096 * sector, 4096 * sector, "xfs"}},
		{"ext4 on partition 1", with(amazon(), 4096*sector+0x438, "\x53\xef"), volume{4096 * sector, 4096 * sector, "ext4"}},
		{"btrfs on partition 1", with(amazon(), 4096*sector+0x10040, "_BHRfS_M"), volume{4096 * sector, 4096 * sector, "btrfs"}},
		{"the second partition, when Linux has no use for the first", with(amazon(), 2048*sector, "XFSB"), volume{2048 * sector, 2048 * sector, "xfs"}},
		{"a filesystem on the whole disk", with(make([]byte, 1<<20), 0, "XFSB"), volume{0, 0, "xfs"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := rootVolume(bytes.NewReader(test.image))
			if err != nil {
				t.Fatal(err)
			}
			if got != test.want {
				t.Errorf("found %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestRootVolumeThatIsMissing(t *testing.T) {
	broken := disk()
	binary.LittleEndian.PutUint32(broken[sector+84:], 1)
	for _, test := range []struct {
		name  string
		image []byte
		want  string
	}{
		{"an empty disk", make([]byte, 1<<20), "no XFS, ext4 or btrfs"},
		{"an empty file", nil, "no XFS, ext4 or btrfs"},
		{"partitions without a filesystem", disk([3]uint64{1, 4096, 8191}), "no XFS, ext4 or btrfs"},
		{"an empty partition table", disk(), "0 partitions"},
		{"a broken partition table", broken, "can't be"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, err := rootVolume(bytes.NewReader(test.image)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("found %+v, error %v; want an error with %q", got, err, test.want)
			}
		})
	}
}
