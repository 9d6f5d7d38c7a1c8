package disk_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
)

// sparse makes a file of 64 MiB with data at the start and in the middle.
func sparse(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(64 * mib); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 32 * mib} {
		if _, err := f.WriteAt(bytes.Repeat([]byte{'x'}, mib), at); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func extents(t *testing.T, f *os.File) []disk.Extent {
	t.Helper()
	var all []disk.Extent
	for e, err := range disk.Extents(f) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

var sparseExtents = []disk.Extent{{Start: 0, Size: mib}, {Start: 32 * mib, Size: mib}}

func TestExtents(t *testing.T) {
	if got := extents(t, sparse(t, t.TempDir())); !slices.Equal(got, sparseExtents) {
		t.Errorf("extents are %v, want %v", got, sparseExtents)
	}
	empty, err := os.Create(filepath.Join(t.TempDir(), "empty"))
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	if got := extents(t, empty); got != nil {
		t.Errorf("an empty file has the extents %v", got)
	}
}

func TestReaderReadsAllOfASparseFile(t *testing.T) {
	f := sparse(t, t.TempDir())
	r, err := disk.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes differ from the file's %d", len(got), len(want))
	}
}

// tmpfs mounts one that only this test sees the end of.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("mounts a tmpfs, which needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestCopyKeepsHoles(t *testing.T) {
	for name, dir := range map[string]string{"on one filesystem": t.TempDir(), "onto another": tmpfs(t, "16m")} {
		t.Run(name, func(t *testing.T) {
			src := sparse(t, t.TempDir())
			dst, err := os.Create(filepath.Join(dir, "copy"))
			if err != nil {
				t.Fatal(err)
			}
			defer dst.Close()
			if err := disk.Copy(t.Context(), dst, src); err != nil {
				t.Fatal(err)
			}
			run(t, "cmp", src.Name(), dst.Name())
			if got := extents(t, dst); !slices.Equal(got, sparseExtents) {
				t.Errorf("the copy has the extents %v, want %v", got, sparseExtents)
			}
		})
	}
}

func TestCopyWithoutRoomSaysHowMuchIsMissing(t *testing.T) {
	dir := tmpfs(t, "1m")
	dst, err := os.Create(filepath.Join(dir, "copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	err = disk.Copy(t.Context(), dst, sparse(t, t.TempDir()))
	full := new(disk.FullError)
	if !errors.As(err, &full) {
		t.Fatalf("Copy() = %v, want a FullError", err)
	}
	if full.Path != dst.Name() || full.Need != 2*mib || full.Free != mib {
		t.Errorf("the error has %+v", full)
	}
	if got := extents(t, dst); got != nil {
		t.Errorf("%v was copied before that was found", got)
	}
}

func TestCopyEndsWithItsContext(t *testing.T) {
	reason := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	dst, err := os.Create(filepath.Join(tmpfs(t, "16m"), "copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if err := disk.Copy(ctx, dst, sparse(t, t.TempDir())); !errors.Is(err, reason) {
		t.Errorf("Copy() = %v, want %v", err, reason)
	}
}

func TestFilesystemKnowsWhatTheToolsMake(t *testing.T) {
	if testing.Short() {
		t.Skip("makes filesystems")
	}
	for kind, argv := range map[string][]string{
		"xfs":  {"mkfs.xfs", "-q", "-f"},
		"ext4": {"mkfs.ext4", "-q", "-F"},
	} {
		f, err := os.Create(filepath.Join(t.TempDir(), kind))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(512 * mib); err != nil {
			t.Fatal(err)
		}
		run(t, append(argv, f.Name())...)
		got, err := disk.Filesystem(f, disk.Partition{Size: 512 * mib})
		if err != nil || got != kind {
			t.Errorf("%v: Filesystem() = %q, %v", argv, got, err)
		}
	}
}

func TestQcow2ThereAndBack(t *testing.T) {
	if testing.Short() {
		t.Skip("runs qemu-img")
	}
	dir := t.TempDir()
	src := sparse(t, dir)
	packed, unpacked := filepath.Join(dir, "disk.qcow2"), filepath.Join(dir, "disk.raw")
	if err := disk.ToQcow2(t.Context(), packed, src.Name()); err != nil {
		t.Fatal(err)
	}
	if format, err := disk.Format(packed); err != nil || format != disk.Qcow2 {
		t.Errorf("Format() = %q, %v", format, err)
	}
	if err := disk.FromQcow2(t.Context(), unpacked, packed); err != nil {
		t.Fatal(err)
	}
	run(t, "cmp", src.Name(), unpacked)
	f, err := os.Open(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := extents(t, f); !slices.Equal(got, sparseExtents) {
		t.Errorf("after the way back the extents are %v, want %v", got, sparseExtents)
	}
}

func TestFromQcow2RefusesWhatIsNotWhole(t *testing.T) {
	if testing.Short() {
		t.Skip("runs qemu-img")
	}
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole.qcow2")
	if err := disk.ToQcow2(t.Context(), whole, sparse(t, dir).Name()); err != nil {
		t.Fatal(err)
	}
	backed := filepath.Join(dir, "backed.qcow2")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw", backed)
	external := filepath.Join(dir, "external.qcow2")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file="+filepath.Join(dir, "data"), external, "1M")
	content, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(content)
	copy(damaged[1<<16:], bytes.Repeat([]byte{0xff}, 1<<16)) // the refcount table
	for name, test := range map[string]struct {
		content []byte
		path    string
		want    string
	}{
		"cut off":             {content[:len(content)-mib], "", "is damaged"},
		"cut off early":       {content[:50], "", "cut off in its header"},
		"damaged":             {damaged, "", "is damaged"},
		"with a backing file": {nil, backed, "has a backing file"},
		"with external data":  {nil, external, "keeps its data in another file"},
	} {
		t.Run(name, func(t *testing.T) {
			src := test.path
			if src == "" {
				src = filepath.Join(t.TempDir(), "bad.qcow2")
				if err := os.WriteFile(src, test.content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := disk.FromQcow2(t.Context(), filepath.Join(t.TempDir(), "out.raw"), src)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), src) {
				t.Errorf("FromQcow2() = %v, want an error with %q that names the file", err, test.want)
			}
		})
	}
}

func TestFormatRefusesOtherImages(t *testing.T) {
	for name, test := range map[string]struct{ content, want string }{
		"vmdk":  {"KDMV" + strings.Repeat("\x00", 512), "VMDK"},
		"short": {"hello", "no disk image"},
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := disk.Format(path); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Format() = %v, want an error with %q", name, err, test.want)
		}
	}
}
