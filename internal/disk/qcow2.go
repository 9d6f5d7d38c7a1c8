package disk

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The formats of disk images that are read and written.
const (
	Raw   = "raw"
	Qcow2 = "qcow2"
)

// Formats lists every format.
var Formats = []string{Raw, Qcow2}

// foreign are the marks of images that would otherwise pass for raw ones.
var foreign = map[string]string{
	"KDMV":             "a VMDK image",
	"# Disk Descripto": "a VMDK descriptor",
	"conectix":         "a VHD image",
	"vhdxfile":         "a VHDX image",
	"QED\x00":          "a QED image",
}

// Format tells the format of a disk image by its first bytes.
func Format(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	head := make([]byte, 16)
	n, err := io.ReadFull(f, head)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	if n < len(head) {
		return "", fmt.Errorf("%s is no disk image: it has %d bytes", path, n)
	}
	if strings.HasPrefix(string(head), qcowMagic) {
		return Qcow2, nil
	}
	for mark, what := range foreign {
		if strings.HasPrefix(string(head), mark) {
			return "", fmt.Errorf("%s is %s; convert it first (qemu-img convert -O raw)", path, what)
		}
	}
	return Raw, nil
}

// FindQemuImg fails, with the remedy, where qemu-img is not installed: it
// reads and writes qcow2.
func FindQemuImg() error {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		return errors.New("qcow2 images need the program qemu-img, which is not found on this host; install qemu-utils (qemu-img on Amazon Linux and Fedora)")
	}
	return nil
}

// ToQcow2 makes a qcow2 image, dst, of a raw one. Free space is not checked
// first: what it takes is not known.
func ToQcow2(ctx context.Context, dst, src string) error {
	return convert(ctx, dst, src, Raw, Qcow2, 0)
}

// FromQcow2 makes a sparse raw image, dst, of a qcow2 one, which must be
// whole, and must not refer to other files: an image from elsewhere could
// name any file of this host.
func FromQcow2(ctx context.Context, dst, src string) error {
	if err := FindQemuImg(); err != nil {
		return err
	}
	if err := selfContained(src); err != nil {
		return fmt.Errorf("%s: %w", src, err)
	}
	if err := checkQcow2(ctx, src); err != nil {
		return fmt.Errorf("the qcow2 image %s is damaged: %w; fetch it anew, or look at it with qemu-img check", src, err)
	}
	need, err := qcow2Data(ctx, src)
	if err != nil {
		return err
	}
	if err := Room(filepath.Dir(dst), need); err != nil {
		return err
	}
	return convert(ctx, dst, src, Qcow2, Raw, need)
}

const qcowMagic = "QFI\xfb"

// selfContained reads the header as docs/interop/qcow2.txt of QEMU has it.
func selfContained(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	header := make([]byte, 80)
	if _, err := io.ReadFull(f, header); err != nil {
		return errors.New("the qcow2 image is cut off in its header; fetch it anew")
	}
	const externalData = 1 << 2
	switch version := binary.BigEndian.Uint32(header[4:]); {
	case version != 2 && version != 3:
		return fmt.Errorf("qcow version %d is not supported; convert it first (qemu-img convert -O qcow2)", version)
	case binary.BigEndian.Uint64(header[8:]) != 0:
		return errors.New("the qcow2 image has a backing file; make it one file first (qemu-img convert -O qcow2)")
	case version == 3 && binary.BigEndian.Uint64(header[72:])&externalData != 0:
		return errors.New("the qcow2 image keeps its data in another file; make it one file first (qemu-img convert -O qcow2)")
	case binary.BigEndian.Uint32(header[32:]) != 0:
		return errors.New("the qcow2 image is encrypted; decrypt it first (qemu-img convert)")
	}
	return nil
}

// checkQcow2 also finds that an image is cut off, which reading it would not.
func checkQcow2(ctx context.Context, path string) error {
	_, err := qemuImg(ctx, "check", "-q", "-f", Qcow2, path)
	const onlyLeaks = 3 // clusters that are lost to nobody but the host
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == onlyLeaks {
		return nil
	}
	return err
}

// qcow2Data is how many bytes of an image are not zero.
func qcow2Data(ctx context.Context, path string) (bytes int64, err error) {
	out, err := qemuImg(ctx, "map", "--output=json", "-f", Qcow2, path)
	if err != nil {
		return 0, fmt.Errorf("map the qcow2 image %s: %w", path, err)
	}
	var extents []struct {
		Length int64
		Data   bool
		Zero   bool
	}
	if err := json.Unmarshal(out, &extents); err != nil {
		return 0, fmt.Errorf("map the qcow2 image %s: %w", path, err)
	}
	for _, e := range extents {
		if e.Data && !e.Zero {
			bytes += e.Length
		}
	}
	return bytes, nil
}

func convert(ctx context.Context, dst, src, from, to string, need int64) error {
	if err := FindQemuImg(); err != nil {
		return err
	}
	_, err := qemuImg(ctx, "convert", "-q", "-f", from, "-O", to, src, dst)
	if err != nil {
		if strings.Contains(err.Error(), "No space left on device") {
			err = full(filepath.Dir(dst), need)
		}
		return fmt.Errorf("convert %s to %s: %w", src, to, err)
	}
	return nil
}

// qemuImg gives the output; what it complains of is in the error.
func qemuImg(ctx context.Context, arguments ...string) ([]byte, error) {
	var complaint strings.Builder
	cmd := exec.CommandContext(ctx, "qemu-img", arguments...)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	cmd.Stderr = &complaint
	endWithParent(cmd)
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		// It complains of each cluster.
		said, more, _ := strings.Cut(strings.TrimSpace(complaint.String()), "\n")
		if more != "" {
			said = fmt.Sprintf("%s (and %d more lines)", said, strings.Count(more, "\n")+1)
		}
		if said != "" {
			err = fmt.Errorf("%s (%w)", said, err)
		}
		return nil, err
	}
	return out, nil
}
