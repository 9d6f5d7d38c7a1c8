package disk_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
)

const (
	mib   = 1 << 20
	sec   = disk.SectorSize
	linux = "0fc63daf-8483-4772-8e79-3d69d8477de4"
	bios  = "21686148-6449-6e6f-744e-656564454649"
)

// image is a disk image in memory.
type image []byte

func (d image) reader() *bytes.Reader { return bytes.NewReader(d) }

// put writes a value little endian.
func (d image) put(at int64, value any) {
	b, err := binary.Append(nil, binary.LittleEndian, value)
	if err != nil {
		panic(err)
	}
	copy(d[at:], b)
}

// mbr writes an entry of a boot record at byte off.
func (d image) mbr(off int64, entry int, kind byte, start, count uint32) {
	at := off + int64(446+16*entry)
	d[at+4] = kind
	d.put(at+8, start)
	d.put(at+12, count)
	d[off+510], d[off+511] = 0x55, 0xaa
}

// rawGUID is a GUID as a table has it.
func rawGUID(text string) []byte {
	hex := strings.ReplaceAll(text, "-", "")
	b := make([]byte, 16)
	for i := range b {
		for _, c := range []byte(hex[2*i : 2*i+2]) {
			b[i] = b[i]<<4 | byte(strings.IndexByte("0123456789abcdef", c))
		}
	}
	for _, field := range [][2]int{{0, 4}, {4, 6}, {6, 8}} {
		part := b[field[0]:field[1]]
		for i, j := 0, len(part)-1; i < j; i, j = i+1, j-1 {
			part[i], part[j] = part[j], part[i]
		}
	}
	return b
}

// gptDisk makes a disk with a GPT, primary and backup, as UEFI 2.10 has it.
func gptDisk(size int64, partitions ...disk.Partition) image {
	d := make(image, size)
	last := size/sec - 1
	d.mbr(0, 0, 0xee, 1, uint32(last))
	entries := make(image, 128*128)
	for _, p := range partitions {
		at := int64(p.Number-1) * 128
		copy(entries[at:], rawGUID(p.Type))
		entries[at+16] = byte(p.Number)
		entries.put(at+32, p.Start/sec)
		entries.put(at+40, p.End()/sec-1)
		for i, c := range p.Name {
			entries[at+56+int64(2*i)] = byte(c)
		}
	}
	for _, place := range [][3]int64{{1, last, 2}, {last, 1, last - 32}} {
		h := make(image, 92)
		copy(h, "EFI PART")
		h.put(8, uint32(0x10000))
		h.put(12, uint32(92))
		h.put(24, place[0])
		h.put(32, place[1])
		h.put(40, int64(34))
		h.put(48, last-33)
		h[56] = 1
		h.put(72, place[2])
		h.put(80, uint32(128))
		h.put(84, uint32(128))
		h.put(88, crc32.ChecksumIEEE(entries))
		h.put(16, crc32.ChecksumIEEE(h))
		copy(d[place[0]*sec:], h)
		copy(d[place[2]*sec:], entries)
	}
	return d
}

var (
	boot = disk.Partition{Number: 128, Type: bios, Name: "BIOS", Start: 1 * mib, Size: 1 * mib}
	root = disk.Partition{Number: 1, Type: linux, Name: "Linux", Start: 2 * mib, Size: 5 * mib}
)

func TestPartitions(t *testing.T) {
	whole := make(image, 8*mib)
	copy(whole, "XFSB")

	primary := disk.Partition{Number: 1, Type: "0x83", Start: 1 * mib, Size: 2 * mib}
	mbr := make(image, 8*mib)
	mbr.mbr(0, 0, 0x83, 2048, 4096)
	mbr.mbr(0, 1, 0x05, 3*2048, 4*2048)
	mbr.mbr(3*mib, 0, 0x83, 63, 100)
	mbr.mbr(3*mib, 1, 0x05, 2048, 2048)
	mbr.mbr(4*mib, 0, 0x82, 63, 200)

	damagedHeader := gptDisk(8*mib, root, boot)
	damagedHeader[sec+40]++
	damagedEntries := gptDisk(8*mib, root, boot)
	damagedEntries[2*sec+7]++

	for name, test := range map[string]struct {
		disk image
		want []disk.Partition
	}{
		"GPT":                          {gptDisk(8*mib, root, boot), []disk.Partition{root, boot}},
		"GPT with a damaged header":    {damagedHeader, []disk.Partition{root, boot}},
		"GPT with a damaged entry":     {damagedEntries, []disk.Partition{root, boot}},
		"GPT with nothing in it":       {gptDisk(8 * mib), nil},
		"MBR with logical partitions":  {mbr, []disk.Partition{primary, {Number: 5, Type: "0x83", Start: 3*mib + 63*sec, Size: 100 * sec}, {Number: 6, Type: "0x82", Start: 4*mib + 63*sec, Size: 200 * sec}}},
		"a filesystem without a table": {whole, []disk.Partition{{Size: 8 * mib}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := disk.Partitions(test.disk.reader(), int64(len(test.disk)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("partitions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPartitionsOfADamagedDisk(t *testing.T) {
	bothDamaged := gptDisk(8*mib, root)
	bothDamaged[sec+40]++
	bothDamaged[8*mib-sec+40]++

	outside := make(image, 8*mib)
	outside.mbr(0, 0, 0x83, 2048, 1<<20)

	circle := make(image, 8*mib)
	circle.mbr(0, 0, 0x05, 2048, 4*2048)
	circle.mbr(1*mib, 0, 0x83, 63, 100)
	circle.mbr(1*mib, 1, 0x05, 0, 2048)

	for name, test := range map[string]struct {
		disk image
		want string
	}{
		"both tables damaged":      {bothDamaged, "both GUID partition tables are damaged"},
		"cut off":                  {gptDisk(8*mib, root)[:4*mib], "is the image cut off?"},
		"only the protective MBR":  {gptDisk(8*mib, root)[:sec*3], ""},
		"a partition outside":      {outside, "lies outside the disk"},
		"logical ones in a circle": {circle, "has no end"},
		"zeros":                    {make(image, 8*mib), "neither a partition table nor a filesystem"},
		"nothing":                  {nil, ""},
		"a boot sector, no table":  {append(append(make(image, 446), 0x33), make(image, mib)...), "neither a partition table nor a filesystem"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := disk.Partitions(test.disk.reader(), int64(len(test.disk)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Partitions() = %v, want an error with %q", err, test.want)
			}
		})
	}
}

// with puts filesystem magics into partitions.
func with(d image, marks map[disk.Partition]string) image {
	offsets := map[string]int64{"XFSB": 0, "\x53\xef": 1080, "_BHRfS_M": 0x10040, "LUKS\xba\xbe": 0, "FAT32": 82}
	for p, mark := range marks {
		copy(d[p.Start+offsets[mark]:], mark)
	}
	return d
}

func TestRoots(t *testing.T) {
	home := disk.Partition{Number: 2, Type: linux, Start: 3 * mib, Size: 1 * mib}
	typed := disk.Partition{Number: 3, Type: disk.TypeRootX86, Start: 4 * mib, Size: 1 * mib}
	small := disk.Partition{Number: 1, Type: linux, Start: 2 * mib, Size: 1 * mib}

	for name, test := range map[string]struct {
		disk image
		want []disk.Partition
	}{
		"the only Linux filesystem": {with(gptDisk(8*mib, root, boot), map[disk.Partition]string{root: "XFSB"}), []disk.Partition{root}},
		"every one, in order":       {with(gptDisk(8*mib, small, home), map[disk.Partition]string{small: "\x53\xef", home: "_BHRfS_M"}), []disk.Partition{small, home}},
		"the one typed as a root":   {with(gptDisk(8*mib, small, typed), map[disk.Partition]string{small: "XFSB", typed: "XFSB"}), []disk.Partition{typed}},
		"not what is only typed so": {with(gptDisk(8*mib, small, typed), map[disk.Partition]string{small: "XFSB", typed: "FAT32"}), []disk.Partition{small}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := disk.Roots(test.disk.reader(), int64(len(test.disk)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("roots (-want +got):\n%s", diff)
			}
		})
	}

	t.Run("none, and says what there is", func(t *testing.T) {
		d := with(gptDisk(8*mib, root, boot), map[disk.Partition]string{root: "LUKS\xba\xbe"})
		_, err := disk.Roots(d.reader(), int64(len(d)))
		if err == nil || !strings.Contains(err.Error(), "partition 1: LUKS encryption") || !strings.Contains(err.Error(), "partition 128: no known filesystem") {
			t.Errorf("Roots() = %v", err)
		}
	})
}

func run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", argv, err, out)
	}
	return string(out)
}

// onFile writes an image to a file.
func onFile(t *testing.T, d image) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(d); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestGrow(t *testing.T) {
	mbr := make(image, 8*mib)
	mbr.mbr(0, 0, 0x83, 2048, 4096)
	first := disk.Partition{Number: 1, Type: "0x83", Start: 1 * mib, Size: 2 * mib}
	whole := make(image, 8*mib)
	copy(whole, "XFSB")
	damaged := gptDisk(8*mib, root, boot)
	damaged[sec+40]++

	for name, test := range map[string]struct {
		disk image
		grow disk.Partition
		want []disk.Partition
	}{
		"GPT":                       {gptDisk(8*mib, root, boot), root, []disk.Partition{{Number: 1, Type: linux, Name: "Linux", Start: 2 * mib, Size: 18*mib - 40*sec}, boot}},
		"GPT with a damaged header": {damaged, root, []disk.Partition{{Number: 1, Type: linux, Name: "Linux", Start: 2 * mib, Size: 18*mib - 40*sec}, boot}},
		"MBR":                       {mbr, first, []disk.Partition{{Number: 1, Type: "0x83", Start: 1 * mib, Size: 19 * mib}}},
		"no table":                  {whole, disk.Partition{Size: 8 * mib}, []disk.Partition{{Size: 20 * mib}}},
	} {
		t.Run(name, func(t *testing.T) {
			f := onFile(t, test.disk)
			grown, err := disk.Grow(f, 20*mib, test.grow)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want[0], grown); diff != "" {
				t.Errorf("the grown partition (-want +got):\n%s", diff)
			}
			got, err := disk.Partitions(f, 20*mib)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("the table read back (-want +got):\n%s", diff)
			}
		})
	}
}

// What sgdisk says of a table does not depend on the code that wrote it.
func TestAGrownGPTSatisfiesSgdisk(t *testing.T) {
	if testing.Short() {
		t.Skip("runs sgdisk")
	}
	f := onFile(t, gptDisk(8*mib, root, boot))
	if _, err := disk.Grow(f, 20*mib, root); err != nil {
		t.Fatal(err)
	}
	out := run(t, "sgdisk", "--verify", f.Name())
	if !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
}

func TestGrowRefusesWhatLiesInTheWay(t *testing.T) {
	f := onFile(t, gptDisk(8*mib, root, boot))
	_, err := disk.Grow(f, 20*mib, boot)
	if err == nil || !strings.Contains(err.Error(), "partition 1 lies behind partition 128") {
		t.Errorf("Grow() = %v", err)
	}
	if info, _ := f.Stat(); info.Size() != 8*mib {
		t.Errorf("the disk was grown to %d bytes all the same", info.Size())
	}
}
