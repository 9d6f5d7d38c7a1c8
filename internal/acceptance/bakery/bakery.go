// Package bakery lets tests of provisioners run them in a real bake of the base disk.
package bakery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/basedisk"
	"github.com/immutable-server/packer-plugin-immutable/internal/bake"
	"github.com/immutable-server/packer-plugin-immutable/internal/communicator"
	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
	"github.com/immutable-server/packer-plugin-immutable/internal/guest"
)

// Machine is a machine being baked.
type Machine struct {
	packersdk.Communicator
	t testing.TB
}

// Disk makes a copy of the base disk, which a test may change.
func Disk(t testing.TB) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "disk.raw")
	Copy(t, path, basedisk.Path(t))
	return path
}

// Copy copies a disk.
func Copy(t testing.TB, to, from string) {
	t.Helper()
	source, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	target, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	err = disk.Copy(t.Context(), target, source)
	if err := errors.Join(err, target.Close(), source.Close()); err != nil {
		t.Fatal(err)
	}
}

// Bake bakes a disk in a machine of the kind; it must succeed.
func Bake(t testing.TB, path, kind string, provision func(ctx context.Context, m *Machine)) {
	t.Helper()
	b := bake.Bake{Disk: path, Machine: kind, Dir: t.TempDir(), Ui: new(Ui)}
	err := b.Run(t.Context(), func(ctx context.Context, m bake.Machine) error {
		provision(ctx, &Machine{communicator.New(m), t})
		return nil
	})
	if err != nil {
		t.Fatalf("bake: %v", err)
	}
}

// Sh runs a shell line that must succeed and returns what it prints, without
// the last newline.
func (m *Machine) Sh(line string) string {
	m.t.Helper()
	var out, complaint bytes.Buffer
	cmd := &packersdk.RemoteCmd{Command: line, Stdout: &out, Stderr: &complaint}
	if err := m.Start(m.t.Context(), cmd); err != nil {
		m.t.Fatalf("%s: %v", line, err)
	}
	if status := cmd.Wait(); status != 0 {
		m.t.Fatalf("%s: status %d\n%s", line, status, complaint.String())
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// Put writes a file.
func (m *Machine) Put(path, content string) {
	m.t.Helper()
	if err := m.Upload(path, strings.NewReader(content), nil); err != nil {
		m.t.Fatal(err)
	}
}

// Ui keeps what it is told. Its methods that tests have no use for panic.
type Ui struct {
	packersdk.Ui
	mu   sync.Mutex
	said []string
}

// Say implements packersdk.Ui.
func (u *Ui) Say(line string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.said = append(u.said, line)
}

// TrackProgress implements packersdk.Ui.
func (u *Ui) TrackProgress(_ string, _, _ int64, stream io.ReadCloser) io.ReadCloser { return stream }

// Said is all that was told, a line each.
func (u *Ui) Said() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return strings.Join(u.said, "\n")
}

// Repository uploads a directory of packages as the repository at path.
func (m *Machine) Repository(path, dir string) {
	m.t.Helper()
	m.Sh("mkdir -p " + path)
	if err := m.UploadDir(path, dir+"/", nil); err != nil {
		m.t.Fatal(err)
	}
}

// User makes a user who may become root by sudo, as the file of sudoers says,
// and a communicator as whom it runs, as ssh would.
func (m *Machine) User(name, sudoers string) packersdk.Communicator {
	m.t.Helper()
	m.Sh("useradd -m " + name)
	m.Put(sudoers, name+" ALL=(ALL) NOPASSWD:ALL\n")
	m.Sh("chmod 440 " + sudoers)
	return user{m, name}
}

type user struct {
	*Machine
	name string
}

// Start implements packersdk.Communicator.
func (u user) Start(ctx context.Context, cmd *packersdk.RemoteCmd) error {
	line := cmd.Command
	cmd.Command = guest.Quote("su", u.name, "-s", "/bin/sh", "-c", line)
	return u.Machine.Start(ctx, cmd)
}

// Upload implements packersdk.Communicator.
func (u user) Upload(path string, content io.Reader, _ *os.FileInfo) error {
	text, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	cmd := &packersdk.RemoteCmd{Command: guest.Quote("sh", "-c", `cat >"$1"`, "sh", path), Stdin: bytes.NewReader(text)}
	if err := u.Start(context.Background(), cmd); err != nil {
		return err
	}
	if status := cmd.Wait(); status != 0 {
		return fmt.Errorf("write %s as %s: status %d", path, u.name, status)
	}
	return nil
}
