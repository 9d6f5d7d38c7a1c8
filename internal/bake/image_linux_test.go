package bake_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/basedisk"
	"github.com/immutable-server/packer-plugin-immutable/internal/bake"
	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
)

// The base disk's root partition.
const rootStart = 2 << 20

// lines is a Reporter that keeps what it is told.
type lines struct {
	mu   sync.Mutex
	said []string
}

func (l *lines) Say(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, line)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.said, "\n")
}

// onBase makes a bake of a copy of the base disk.
func onBase(t *testing.T, machine string) (bake.Bake, *lines) {
	t.Helper()
	return copyOf(t, basedisk.Path(t), machine)
}

// onSmall makes a bake of a disk with just a shell and a few programs: one
// ext4 filesystem with no partition table.
func onSmall(t *testing.T) (bake.Bake, *lines) {
	t.Helper()
	if testing.Short() {
		t.Skip("baking needs root")
	}
	path, err := small()
	if err != nil {
		t.Fatal(err)
	}
	return copyOf(t, path, bake.Chroot)
}

func copyOf(t *testing.T, image, machine string) (bake.Bake, *lines) {
	t.Helper()
	dir := t.TempDir()
	ui := new(lines)
	b := bake.Bake{Disk: filepath.Join(dir, "disk.raw"), Machine: machine, Dir: dir, Ui: ui}
	copyFile(t, b.Disk, image)
	return b, ui
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if err := disk.Copy(t.Context(), dst, src); err != nil {
		t.Fatal(err)
	}
}

// scratch holds what all tests share.
var scratch string

var small = sync.OnceValues(func() (string, error) {
	tree, image := filepath.Join(scratch, "tree"), filepath.Join(scratch, "small.raw")
	script := `
set -eu
mkdir -p "$1" && cd "$1"
mkdir -p dev proc sys run tmp etc root srv usr/bin usr/lib usr/lib64
ln -s usr/bin bin
ln -s usr/lib lib
ln -s usr/lib64 lib64
echo 'ID=small' >etc/os-release
for program in sh cat ls mkdir mv cp rm ln stat touch readlink sleep env dd sync id setsid kill; do
	path=$(command -v $program) || path=/usr/bin/$program
	[ -x "$path" ] || path=/usr/bin/$program
	cp -L "$path" usr/bin/
	ldd "$path" | while read -r name arrow library rest; do
		[ "$arrow" = '=>' ] || library=$name
		[ -e "$library" ] || continue
		mkdir -p ".$(dirname "$library")"
		cp -nL "$library" ".$library"
	done
done
truncate -s 64M "$2"
mkfs.ext4 -q -F -d . "$2"`
	cmd := exec.CommandContext(context.Background(), "/bin/sh", "-c", script, "sh", tree, image)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make a small disk: %w\n%s", err, out)
	}
	return image, nil
})

// baked runs a whole bake.
func baked(t *testing.T, b bake.Bake, provision func(m bake.Machine)) {
	t.Helper()
	err := b.Run(t.Context(), func(_ context.Context, m bake.Machine) error {
		provision(m)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sh runs a shell command that must succeed, and gives its output.
func sh(t *testing.T, m bake.Machine, command string) string {
	t.Helper()
	var out, complaint bytes.Buffer
	status, err := m.Run(t.Context(), bake.Command{Argv: []string{"/bin/sh", "-c", command}, Stdout: &out, Stderr: &complaint})
	if err != nil || status != 0 {
		t.Errorf("%s: status %d, %v\n%s", command, status, err, complaint.String())
	}
	return strings.TrimSpace(out.String())
}

func eachKind(t *testing.T, test func(t *testing.T, kind string)) {
	for _, kind := range bake.Kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
	}
}

// tree lists every file below a directory of a disk that is not in use, with
// all that can be known of it, by mounting it for reading only.
func tree(t *testing.T, image string, offset int, options, below string) string {
	t.Helper()
	const script = `
mount -n -o "ro,loop,offset=$3,$4" "$1" "$2" && cd "$2/$5" &&
find . -printf '%p %y %m %U %G %n %s %T@ %l\n' | LC_ALL=C sort &&
find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum`
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private", "--",
		"/bin/sh", "-c", script, "sh", image, t.TempDir(), fmt.Sprint(offset), options, below)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list the files of %s: %v\n%s", image, err, complaint.String())
	}
	return string(out)
}

// difference gives the lines that only one of two texts has.
func difference(a, b string) string {
	count := map[string]int{}
	for line := range strings.Lines(a) {
		count[line]++
	}
	for line := range strings.Lines(b) {
		count[line]--
	}
	var out strings.Builder
	for line, n := range count {
		if n > 0 {
			out.WriteString("- " + line)
		}
		if n < 0 {
			out.WriteString("+ " + line)
		}
	}
	return out.String()
}

// blocksChanged compares two images by blocks of 512 KiB, where either has
// data.
func blocksChanged(t *testing.T, a, b string) []int {
	t.Helper()
	const size = 512 << 10
	var files []*os.File
	var candidates []int
	for _, path := range []string{a, b} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for e, err := range disk.Extents(f) {
			if err != nil {
				t.Fatal(err)
			}
			for i := e.Start / size; i*size < e.Start+e.Size; i++ {
				candidates = append(candidates, int(i))
			}
		}
		files = append(files, f)
	}
	slices.Sort(candidates)
	var changed []int
	for _, i := range slices.Compact(candidates) {
		var blocks [2][]byte
		for n, f := range files {
			blocks[n] = make([]byte, size)
			if _, err := f.ReadAt(blocks[n], int64(i)*size); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(blocks[0], blocks[1]) {
			changed = append(changed, i)
		}
	}
	return changed
}
