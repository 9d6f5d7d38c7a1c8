package communicator_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/bakery"
	"github.com/immutable-server/packer-plugin-immutable/internal/bake"
)

// inMachines bakes the base disk in both kinds of machine.
func inMachines(t *testing.T, test func(t *testing.T, comm packersdk.Communicator)) {
	for _, kind := range bake.Kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			bakery.Bake(t, bakery.Disk(t), kind, func(_ context.Context, m *bakery.Machine) { test(t, m.Communicator) })
		})
	}
}

// sh runs a line for the shell, and gives its output and status.
func sh(t *testing.T, comm packersdk.Communicator, line string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	cmd := &packersdk.RemoteCmd{Command: line, Stdout: &out, Stderr: new(bytes.Buffer)}
	if err := comm.Start(t.Context(), cmd); err != nil {
		t.Fatal(err)
	}
	status := cmd.Wait()
	return out.String(), status
}

// listing lists a directory of the machine: type, mode and path of each file,
// or on this host.
const listing = `find . -printf '%y %m %P\n' | LC_ALL=C sort`

func TestStart(t *testing.T) {
	inMachines(t, func(t *testing.T, comm packersdk.Communicator) {
		// The shell inside is the only one that reads the line.
		if out, status := sh(t, comm, `A='it'"'"'s $HOME "x"'; printf '%s\n' "$A" '`+"`id`"+`' "two
lines" \\; exit 3`); out != "it's $HOME \"x\"\n`id`\ntwo\nlines\n\\\n" || status != 3 {
			t.Errorf("the output is %q, the status %d", out, status)
		}
	})
}

func TestUploadAndDownload(t *testing.T) {
	inMachines(t, func(t *testing.T, comm packersdk.Communicator) {
		content := bytes.Repeat([]byte("all\x00bytes\n"), 1<<18)
		local := filepath.Join(t.TempDir(), "local")
		if err := os.WriteFile(local, content, 0o640); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(local)
		if err != nil {
			t.Fatal(err)
		}
		const remote = "/srv/a name with 'quotes' and $HOME"
		if err := comm.Upload(remote, bytes.NewReader(content), &info); err != nil {
			t.Fatal(err)
		}
		if out, _ := sh(t, comm, `stat -c '%a %U %s' /srv/a*`); out != fmt.Sprintf("640 root %d\n", len(content)) {
			t.Errorf("mode, owner and size are %q", out)
		}
		var back bytes.Buffer
		if err := comm.Download(remote, &back); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(back.Bytes(), content) {
			t.Error("what comes back is not what went")
		}

		if err := comm.Upload("relative", strings.NewReader("x"), nil); err != nil {
			t.Fatal(err)
		}
		if out, _ := sh(t, comm, "stat -c %a /root/relative"); out != "644\n" {
			t.Errorf("a relative path is not in the home directory with mode 644: %q", out)
		}
		for name, err := range map[string]error{
			"upload into no directory":      comm.Upload("/srv/none/file", strings.NewReader("x"), nil),
			"upload in a directory's place": comm.Upload("/srv", strings.NewReader("x"), nil),
			"download nothing":              comm.Download("/srv/none", &back),
			"download a directory":          comm.Download("/srv", &back),
		} {
			if err == nil || !strings.Contains(err.Error(), "/srv") {
				t.Errorf("%s: %v, want an error that names it", name, err)
			}
		}
	})
}

func TestDirectories(t *testing.T) {
	inMachines(t, func(t *testing.T, comm packersdk.Communicator) {
		src := filepath.Join(t.TempDir(), "src")
		if err := os.Mkdir(src, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, mode := range map[string]fs.FileMode{"sub/deep": 0o755, "empty": 0o750} {
			if err := os.MkdirAll(filepath.Join(src, name), mode); err != nil {
				t.Fatal(err)
			}
		}
		for name, mode := range map[string]fs.FileMode{"program": 0o755, ".hidden": 0o600, "sub/deep/file": 0o644} {
			if err := os.WriteFile(filepath.Join(src, name), []byte(name), mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("program", filepath.Join(src, "link")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("sub", filepath.Join(src, "to-directory")); err != nil {
			t.Fatal(err)
		}
		// Links are followed.
		files := []string{"d 750 empty", "d 755 sub", "d 755 sub/deep", "d 755 to-directory", "d 755 to-directory/deep",
			"f 600 .hidden", "f 644 sub/deep/file", "f 644 to-directory/deep/file", "f 755 link", "f 755 program"}

		sh(t, comm, "mkdir /srv/dst && chmod 711 /srv/dst")
		if err := comm.UploadDir("/srv/dst", src, nil); err != nil {
			t.Fatal(err)
		}
		if err := comm.UploadDir("/srv/contents", src+"/", []string{"sub/deep", "link"}); err != nil {
			t.Fatal(err)
		}
		out, _ := sh(t, comm, "cd /srv/dst/src && "+listing)
		if got := lines(out); !slices.Equal(got, sorted(append([]string{"d 755 "}, files...))) {
			t.Errorf("without a slash, dst/src has %q", got)
		}
		out, _ = sh(t, comm, "cd /srv/contents && "+listing)
		if got, want := lines(out), []string{"d 755 ", "d 750 empty", "d 755 sub", "d 755 to-directory", "d 755 to-directory/deep", "f 600 .hidden", "f 644 to-directory/deep/file", "f 755 program"}; !slices.Equal(got, sorted(want)) {
			t.Errorf("with a slash and what is left out, dst has %q", got)
		}
		if out, _ := sh(t, comm, "stat -c %a /srv/dst; cat /srv/contents/program"); out != "711\nprogram" {
			t.Errorf("the mode of what was there, and a file's content, are %q", out)
		}

		for from, to := range map[string]string{"/srv/dst/src": "src", "/srv/dst/src/": "src", "/srv/dst/s*c": "src"} {
			dst := filepath.Join(t.TempDir(), "new")
			if err := comm.DownloadDir(from, dst, nil); err != nil {
				t.Fatal(err)
			}
			var got []string
			err := filepath.WalkDir(filepath.Join(dst, to), func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				info, err := d.Info()
				kind := "f"
				if d.IsDir() {
					kind = "d"
				}
				relative, _ := filepath.Rel(filepath.Join(dst, to), path)
				got = append(got, fmt.Sprintf("%s %o %s", kind, info.Mode().Perm(), relative))
				return err
			})
			slices.Sort(got)
			if want := append([]string{"d 755 ."}, files...); err != nil || !slices.Equal(got, sorted(want)) {
				t.Errorf("%s came down as %q (%v)", from, got, err)
			}
		}
		if err := comm.DownloadDir("/srv/none/", t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "/srv/none") {
			t.Errorf("DownloadDir() of nothing = %v", err)
		}
		if err := comm.UploadDir("/srv", "/no/such/directory", nil); err == nil || !strings.Contains(err.Error(), "/no/such/directory") {
			t.Errorf("UploadDir() of nothing = %v", err)
		}
	})
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

func lines(text string) []string {
	return sorted(strings.Split(strings.TrimSuffix(text, "\n"), "\n"))
}

func TestADirectoryGoesIntoALinkedOne(t *testing.T) {
	inMachines(t, func(t *testing.T, comm packersdk.Communicator) {
		src := t.TempDir()
		if err := os.MkdirAll(filepath.Join(src, "lib"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(src, "lib/x"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := comm.UploadDir("/", src+"/", nil); err != nil {
			t.Fatal(err)
		}
		if out, status := sh(t, comm, "readlink /lib; ls /usr/lib/x"); out != "usr/lib\n/usr/lib/x\n" || status != 0 {
			t.Errorf("/lib, a link of the image, is now %q", out)
		}
	})
}

func TestNoLinkLeadsToTheHost(t *testing.T) {
	inMachines(t, func(t *testing.T, comm packersdk.Communicator) {
		outside := t.TempDir()
		victim := filepath.Join(outside, "victim")
		if err := os.WriteFile(victim, []byte("the host's"), 0o600); err != nil {
			t.Fatal(err)
		}
		src := t.TempDir()
		if err := os.WriteFile(filepath.Join(src, "victim"), []byte("from the build"), 0o600); err != nil {
			t.Fatal(err)
		}
		sh(t, comm, fmt.Sprintf("ln -s %s /srv/file; ln -s %s /srv/dir; ln -s ../../../../../../../..%s /srv/up", victim, outside, outside))

		for what, err := range map[string]error{
			"upload":    comm.Upload("/srv/file", strings.NewReader("from the build"), nil),
			"download":  comm.Download("/srv/file", new(bytes.Buffer)),
			"directory": comm.DownloadDir("/srv/dir/", t.TempDir(), nil),
		} {
			if err == nil {
				t.Errorf("%s followed a link to where only the host has something", what)
			}
		}
		if err := comm.UploadDir("/srv/up", src+"/", nil); err == nil {
			t.Log("the directory was made inside the machine")
		}
		if content, err := os.ReadFile(victim); err != nil || string(content) != "the host's" {
			t.Errorf("the host's file is now %q, %v", content, err)
		}

		// And what the machine sends stays where it is asked to go.
		sh(t, comm, "mkdir -p /srv/evil && ln -s /etc/passwd /srv/evil/passwd")
		dst := t.TempDir()
		if err := os.Symlink(outside, filepath.Join(dst, "evil")); err != nil {
			t.Fatal(err)
		}
		if err := comm.DownloadDir("/srv/evil", dst, nil); err == nil {
			t.Error("a download went through a link of the host that leads out of its destination")
		}
		if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
			t.Errorf("outside there is now %v, %v", entries, err)
		}
	})
}
