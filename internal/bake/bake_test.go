package bake_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/basedisk"
	"github.com/immutable-server/packer-plugin-immutable/internal/bake"
	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
)

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

// newBake makes a bake of a copy of the base disk.
func newBake(t *testing.T, machine string) (bake.Bake, *lines) {
	t.Helper()
	base, err := os.Open(basedisk.Path(t))
	if err != nil {
		t.Fatal(err)
	}
	defer close(t, base)
	dir := t.TempDir()
	work, err := os.Create(filepath.Join(dir, "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer close(t, work)
	if err := disk.Copy(t.Context(), work, base); err != nil {
		t.Fatal(err)
	}
	ui := new(lines)
	return bake.Bake{Disk: work.Name(), Machine: machine, Dir: dir, Ui: ui}, ui
}

func close(t *testing.T, f *os.File) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// baked runs a whole bake.
func baked(t *testing.T, b bake.Bake, provision func(ctx context.Context, m bake.Machine)) {
	t.Helper()
	err := b.Run(t.Context(), func(ctx context.Context, m bake.Machine) error {
		provision(ctx, m)
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
		t.Fatalf("%s: status %d, %v\n%s", command, status, err, complaint.String())
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

func TestCommandsRunInTheImage(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		b, _ := newBake(t, kind)
		baked(t, b, func(ctx context.Context, m bake.Machine) {
			t.Log(sh(t, m, "cat /etc/os-release; id; pwd; ps ax; mount; cat /etc/resolv.conf; ls -la /dev /run /etc/resolv.conf* /etc/machine-id*; systemctl start foo; systemctl is-system-running; hostname; cat /proc/self/status | grep Cap; umask; ulimit -a; env"))
		})
	})
}
