package sandbox_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
)

func TestWhatKilledSandboxesLeftIsRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	report := func(err error) { t.Error(err) }
	directory := func(name string) string {
		dir := filepath.Join(os.TempDir(), name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	open := func(dir string) *state.Books {
		books, err := state.Open(dir, report)
		if err != nil {
			t.Fatal(err)
		}
		return books
	}

	left, held, begun, foreign, other := directory("immutable-sandbox-1"), directory("immutable-sandbox-2"), directory("immutable-sandbox-3"), directory("immutable-sandbox-4"), directory("another-1")
	for _, dir := range []string{left, foreign, other} {
		if err := open(dir).Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(foreign, 4711, 4711); err != nil {
		t.Fatal(err)
	}
	running := open(held)
	defer running.Close()
	link := filepath.Join(os.TempDir(), "immutable-sandbox-5")
	if err := os.Symlink(other, link); err != nil {
		t.Fatal(err)
	}

	s, err := sandbox.Open(t.Context(), sandbox.Options{Listen: "127.0.0.1:0", Machines: sandbox.None, Profile: clock.Instant, TimeScale: 1, Report: report})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := os.Stat(left); err == nil {
		t.Error("what a killed sandbox left is still there")
	}
	for why, kept := range map[string]string{
		"another sandbox holds": held, "another sandbox is about to lock": begun, "another user has": foreign, "is a link": link, "is something else": other,
	} {
		if _, err := os.Lstat(kept); err != nil {
			t.Errorf("a directory that %s is removed", why)
		}
	}
}
