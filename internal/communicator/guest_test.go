package communicator

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/internal/guest"
)

// here is a communicator into this very machine, as ssh is: by shell lines.
// Programs in bin come before the machine's own.
type here struct {
	packersdk.Communicator
	bin   string
	lines []string
}

func (h *here) Start(ctx context.Context, cmd *packersdk.RemoteCmd) error {
	h.lines = append(h.lines, cmd.Command)
	shell := exec.CommandContext(ctx, "sh", "-c", cmd.Command)
	shell.Env = append(os.Environ(), "PATH="+h.bin+":"+os.Getenv("PATH"))
	shell.Stdout, shell.Stderr = cmd.Stdout, cmd.Stderr
	if err := shell.Start(); err != nil {
		return err
	}
	go func() {
		_ = shell.Wait()
		cmd.SetExited(shell.ProcessState.ExitCode())
	}()
	return nil
}

func (h *here) Upload(path string, r io.Reader, info *os.FileInfo) error {
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if info != nil && (*info).Size() != int64(len(content)) {
		return errors.New("the size announced is not the content's")
	}
	return os.WriteFile(path, content, 0o666)
}

func program(t *testing.T, dir, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// asUser makes a machine whose user is not root; sudo is a script.
func asUser(t *testing.T, sudo string) *here {
	t.Helper()
	bin := t.TempDir()
	program(t, bin, "id", "echo 1000")
	program(t, bin, "sudo", sudo)
	return &here{bin: bin}
}

const obligingSudo = `[ "$1 $2" = "-n --" ] || exit 9; shift 2; SUDO=yes exec "$@"`

func TestRunAsRoot(t *testing.T) {
	m := Guest(&here{})
	var said []string
	result, err := m.Run(t.Context(), guest.Command{
		Argv: []string{"sh", "-c", `echo "$0 $GREETING"; printf 'no end' >&2; exit 3`, "it's"},
		Env:  []string{"GREETING=good day"},
		Say:  func(line string) { said = append(said, line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(guest.Result{Status: 3, Stdout: "it's good day\n", Stderr: "no end"}, result); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"it's good day", "no end"}, said); diff != "" {
		t.Errorf("lines passed on:\n%s", diff)
	}
}

func TestRunAsUserGoesThroughSudo(t *testing.T) {
	m := Guest(asUser(t, obligingSudo))
	out, err := guest.Script(t.Context(), m, `echo "$SUDO $LC_ALL $1"`, "a b")
	if err != nil || out != "yes C a b\n" {
		t.Errorf("Script gave %q, %v", out, err)
	}
}

func TestRunSaysHowToGetRights(t *testing.T) {
	m := Guest(asUser(t, "echo 'sudo: a password is required' >&2; exit 1"))
	_, err := guest.Output(t.Context(), m, "true")
	if err == nil || !strings.Contains(err.Error(), "a password is required; connect as root, or allow") {
		t.Errorf("Output gave %v", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	m := Guest(&here{})
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("interrupted")
	_, err := m.Run(ctx, guest.Command{
		Argv: []string{"sh", "-c", "echo begun; sleep 100"},
		Say:  func(string) { cancel(stop) },
	})
	if !errors.Is(err, stop) {
		t.Errorf("Run gave %v", err)
	}
}

func TestUpload(t *testing.T) {
	for name, comm := range map[string]*here{"root": {}, "user": asUser(t, obligingSudo)} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a file")
			if err := Guest(comm).Upload(t.Context(), path, strings.NewReader("content"), 0o640); err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(path)
			if err != nil || string(content) != "content" {
				t.Errorf("the file has %q, %v", content, err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("the file's mode is %v, %v", info.Mode(), err)
			}
			for _, line := range comm.lines {
				if temporary, found := strings.CutPrefix(line, "sudo -n -- env LC_ALL=C rm -f -- "); found {
					if _, err := os.Lstat(temporary); !errors.Is(err, os.ErrNotExist) {
						t.Errorf("%s was left behind: %v", temporary, err)
					}
				}
			}
		})
	}
}
