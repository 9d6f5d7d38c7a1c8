package commit

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const message = "Open the door\n\nIt was shut.\n"

var (
	authored  = time.Date(2026, 3, 1, 10, 0, 0, 0, time.FixedZone("", 2*3600))
	committed = time.Date(2026, 3, 2, 11, 0, 0, 0, time.UTC)
)

// sh runs git in dir as somebody with no configuration of their own.
func sh(t *testing.T, dir string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "git", args...)
	command.Dir = dir
	command.Env = append(os.Environ(),
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_AUTHOR_DATE="+authored.Format(time.RFC3339),
		"GIT_COMMITTER_NAME=Bob", "GIT_COMMITTER_EMAIL=bob@example.com", "GIT_COMMITTER_DATE="+committed.Format(time.RFC3339))
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// aRepository has one commit on branch main, of one file and a .gitignore, and
// a remote with a password in it.
func aRepository(t *testing.T) (dir string) {
	t.Helper()
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	t.Setenv("GIT_CONFIG_SYSTEM", os.DevNull)
	t.Setenv("HOME", t.TempDir())
	dir = t.TempDir()
	sh(t, dir, "init", "-q", "-b", "main")
	put(t, filepath.Join(dir, "src", "door.c"), "open\n")
	put(t, filepath.Join(dir, ".gitignore"), "dist/\n")
	sh(t, dir, "add", ".")
	sh(t, dir, "commit", "-q", "-m", message)
	sh(t, dir, "remote", "add", "origin", "https://user:secret@github.com/org/app.git")
	return dir
}

func noCI(string) string { return "" }

func TestReadFromGit(t *testing.T) {
	for name, test := range map[string]struct {
		// arrange changes the repository and returns the path to read.
		arrange func(t *testing.T, dir string) string
		want    func(*Commit)
	}{
		"a clean tree": {
			func(_ *testing.T, dir string) string { return dir },
			func(*Commit) {},
		},
		"a folder within it": {
			func(_ *testing.T, dir string) string { return filepath.Join(dir, "src") },
			func(*Commit) {},
		},
		"a file within it": {
			func(_ *testing.T, dir string) string { return filepath.Join(dir, "src", "door.c") },
			func(*Commit) {},
		},
		"an ignored file": {
			func(t *testing.T, dir string) string {
				put(t, filepath.Join(dir, "dist", "app.rpm"), "x")
				return dir
			},
			func(*Commit) {},
		},
		"a file that the user's own excludes name": {
			func(t *testing.T, dir string) string {
				excludes := filepath.Join(t.TempDir(), "excludes")
				put(t, excludes, "*.swp\n")
				sh(t, dir, "config", "core.excludesFile", excludes)
				put(t, filepath.Join(dir, "x.swp"), "x")
				return dir
			},
			func(*Commit) {},
		},
		"line endings that git converts": {
			func(t *testing.T, dir string) string {
				sh(t, dir, "config", "core.autocrlf", "true")
				sh(t, dir, "rm", "-q", "-r", "--cached", ".")
				sh(t, dir, "reset", "-q", "--hard")
				return dir
			},
			func(*Commit) {},
		},
		"a changed file": {
			func(t *testing.T, dir string) string {
				put(t, filepath.Join(dir, "src", "door.c"), "shut\n")
				return dir
			},
			func(c *Commit) { c.Dirty = new(true) },
		},
		"a staged change": {
			func(t *testing.T, dir string) string {
				put(t, filepath.Join(dir, "src", "door.c"), "shut\n")
				sh(t, dir, "add", ".")
				return dir
			},
			func(c *Commit) { c.Dirty = new(true) },
		},
		"a file that was removed": {
			func(t *testing.T, dir string) string {
				if err := os.Remove(filepath.Join(dir, "src", "door.c")); err != nil {
					t.Fatal(err)
				}
				return dir
			},
			func(c *Commit) { c.Dirty = new(true) },
		},
		"a file that is not tracked": {
			func(t *testing.T, dir string) string {
				put(t, filepath.Join(dir, "src", "window.c"), "x")
				return dir
			},
			func(c *Commit) { c.Dirty = new(true) },
		},
		"a detached HEAD": {
			func(t *testing.T, dir string) string {
				sh(t, dir, "checkout", "-q", "--detach")
				return dir
			},
			func(c *Commit) { c.Branch = "" },
		},
		"a branch with a slash": {
			func(t *testing.T, dir string) string {
				sh(t, dir, "checkout", "-q", "-b", "feature/door")
				return dir
			},
			func(c *Commit) { c.Branch = "feature/door" },
		},
		"packed objects and references": {
			func(t *testing.T, dir string) string {
				sh(t, dir, "gc", "-q")
				sh(t, dir, "pack-refs", "--all")
				return dir
			},
			func(*Commit) {},
		},
		"a linked work tree": {
			func(t *testing.T, dir string) string {
				linked := filepath.Join(t.TempDir(), "linked")
				sh(t, dir, "worktree", "add", "-q", "-b", "second", linked)
				return filepath.Join(linked, "src")
			},
			func(c *Commit) { c.Branch = "second" },
		},
		"a linked work tree that has changes of its own": {
			func(t *testing.T, dir string) string {
				linked := filepath.Join(t.TempDir(), "linked")
				sh(t, dir, "worktree", "add", "-q", "--detach", linked)
				put(t, filepath.Join(linked, "src", "door.c"), "shut\n")
				return linked
			},
			func(c *Commit) { c.Branch, c.Dirty = "", new(true) },
		},
		"a shallow clone": {
			func(t *testing.T, dir string) string {
				put(t, filepath.Join(dir, "second"), "x")
				sh(t, dir, "add", ".")
				sh(t, dir, "commit", "-q", "--amend", "-m", message)
				clone := filepath.Join(t.TempDir(), "clone")
				sh(t, dir, "clone", "-q", "--depth", "1", "file://"+dir, clone)
				sh(t, clone, "remote", "set-url", "origin", "git@github.com:org/app.git")
				return clone
			},
			func(*Commit) {},
		},
		"a sparse, partial clone": {
			func(t *testing.T, dir string) string {
				sh(t, dir, "config", "uploadpack.allowFilter", "true")
				clone := filepath.Join(t.TempDir(), "clone")
				sh(t, dir, "clone", "-q", "--filter=blob:none", "--sparse", "file://"+dir, clone)
				sh(t, clone, "remote", "set-url", "origin", "git@github.com:org/app.git")
				return clone
			},
			func(*Commit) {},
		},
		"a submodule": {
			func(t *testing.T, dir string) string {
				outer := t.TempDir()
				sh(t, outer, "init", "-q", "-b", "outer")
				sh(t, outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", dir, "lib")
				sh(t, filepath.Join(outer, "lib"), "remote", "set-url", "origin", "git@github.com:org/app.git")
				return filepath.Join(outer, "lib", "src")
			},
			func(*Commit) {},
		},
		"a remote of another name, which the branch follows": {
			func(t *testing.T, dir string) string {
				sh(t, dir, "remote", "add", "upstream", "https://github.com/upstream/app")
				sh(t, dir, "config", "branch.main.remote", "upstream")
				sh(t, dir, "config", "branch.main.merge", "refs/heads/main")
				return dir
			},
			func(c *Commit) { c.Repository = "github.com/upstream/app" },
		},
		"no remote": {
			func(t *testing.T, dir string) string {
				sh(t, dir, "remote", "remove", "origin")
				return dir
			},
			func(c *Commit) { c.Repository = "" },
		},
		"no work tree for the GIT_DIR of a hook": {
			func(t *testing.T, dir string) string {
				t.Setenv("GIT_DIR", filepath.Join(t.TempDir(), "elsewhere"))
				return dir
			},
			func(*Commit) {},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := aRepository(t)
			path := test.arrange(t, dir)
			want := Commit{
				Message: message, AuthorDate: authored, CommitterDate: committed,
				Branch: "main", Repository: "github.com/org/app", Dirty: new(false),
			}
			test.want(&want)
			if os.Getenv("GIT_DIR") == "" {
				if info, err := os.Stat(path); err == nil && !info.IsDir() {
					path = filepath.Dir(path)
				}
				want.ID = sh(t, path, "rev-parse", "HEAD")
			}
			got, err := Read(t.Context(), path, noCI)
			if err != nil {
				t.Fatal(err)
			}
			if want.ID == "" {
				want.ID = got.ID
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the commit read differs:\n%s", diff)
			}
		})
	}
}

// Where no git is installed, go-git looks at the tree.
func TestReadWithoutTheGitBinary(t *testing.T) {
	for name, test := range map[string]struct {
		file  string
		dirty bool
	}{
		"clean":                  {"", false},
		"an ignored file":        {"dist/app.rpm", false},
		"a file of ~/.gitignore": {"x.swp", false},
		"an untracked one":       {"src/window.c", true},
		"a changed one":          {"src/door.c", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := aRepository(t)
			home := os.Getenv("HOME")
			put(t, filepath.Join(home, ".gitconfig"), "[core]\n\texcludesfile = "+filepath.Join(home, "excludes")+"\n")
			put(t, filepath.Join(home, "excludes"), "*.swp\n")
			if test.file != "" {
				put(t, filepath.Join(dir, test.file), "something else\n")
			}
			t.Setenv("PATH", t.TempDir())
			c, err := Read(t.Context(), dir, noCI)
			if err != nil {
				t.Fatal(err)
			}
			if c.Dirty == nil || *c.Dirty != test.dirty {
				t.Errorf("dirty is %v, want %v", c.Dirty, test.dirty)
			}
		})
	}
}

func TestReadWithoutACommit(t *testing.T) {
	for name, test := range map[string]struct {
		arrange func(t *testing.T) string
		want    string
		none    bool
	}{
		"no work tree": {
			func(t *testing.T) string { return t.TempDir() }, "is in no git work tree", true,
		},
		"no commit yet": {
			func(t *testing.T) string {
				dir := t.TempDir()
				sh(t, dir, "init", "-q")
				return dir
			}, "has no commit yet", true,
		},
		"a repository of a kind that can't be read": {
			func(t *testing.T) string {
				dir := t.TempDir()
				sh(t, dir, "init", "-q")
				sh(t, dir, "config", "core.repositoryFormatVersion", "1")
				sh(t, dir, "config", "extensions.refStorage", "reftable")
				return dir
			}, "refstorage", true,
		},
		"no such path": {
			func(t *testing.T) string { return filepath.Join(t.TempDir(), "gone") }, "no such file", false,
		},
		"a .git file that leads nowhere": {
			func(t *testing.T) string {
				dir := t.TempDir()
				put(t, filepath.Join(dir, ".git"), "rubbish")
				return dir
			}, "does not begin with", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(t.Context(), test.arrange(t), noCI)
			if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, ErrNone) != test.none {
				t.Errorf("error %v, want one with %q that is ErrNone: %v", err, test.want, test.none)
			}
		})
	}
}
