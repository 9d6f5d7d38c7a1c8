package acceptance

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/basedisk"
	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// awkward is what a careless quoting would change, drop or run.
const awkward = `it's "$HOME" $(id) \n a  b;c`

// TestDisk bakes disk images with packer's own provisioners beside ours, with
// no AWS anywhere.
func TestDisk(t *testing.T) {
	// The shared stage has the plugin; the sandbox itself is not addressed.
	stage, _ := sandbox(t)
	base := basedisk.Path(t)
	// The machine's network reaches what the host's does.
	neighbour := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer neighbour.Close()

	for _, test := range []struct{ machine, format string }{
		{"chroot", "qcow2"},
		{"container", "raw"},
	} {
		t.Run(test.machine+" to "+test.format, func(t *testing.T) {
			dir := t.TempDir()
			output := filepath.Join(dir, "hello."+test.format)
			got := filepath.Join(dir, "got")
			if err := os.MkdirAll(filepath.Join(dir, "tree/sub"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "tree/sub/file"), []byte("from the host\n"), 0o640); err != nil {
				t.Fatal(err)
			}
			active := "! systemctl is-active hello.service"
			if test.machine == "container" {
				active = "systemctl is-active hello.service"
			}
			hcl := templateFile(t, fmt.Sprintf(`
source "immutable-disk" "x" {
  source_image = %q
  machine      = %q
  format       = %q
  output_path  = %q
}
build {
  sources = ["source.immutable-disk.x"]
  provisioner "shell" {
    environment_vars = ["AWKWARD=it's \"$HOME\" $(id) \\n a  b;c"]
    inline = [
      "printf '%%s' \"$AWKWARD\" > /root/awkward",
      "python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1])' %s",
    ]
  }
  provisioner "file" {
    source      = %q
    destination = "/opt/"
  }
  provisioner "file" {
    direction   = "download"
    source      = "/root/awkward"
    destination = %q
  }
  provisioner "immutable-rpm" {
    packages = [%q]
    services = ["hello.service"]
  }
  provisioner "shell" {
    inline = [%q, "test \"$(cat /opt/tree/sub/file)\" = 'from the host'", "systemctl is-enabled hello.service"]
  }
  provisioner "immutable-seal" {}
}
`, base, test.machine, test.format, output, neighbour.URL, filepath.Join(dir, "tree"), got, rpm(t, "1.0.0"), active))

			said, err := stage.Packer(t.Context(), rehearsal.Packer{Dir: dir, Args: []string{"build", hcl}})
			if err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			if text, err := os.ReadFile(got); err != nil || string(text) != awkward {
				t.Errorf("the machine got %q (%v), want %q", text, err, awkward)
			}
			sums, err := filepath.Glob(output + "*sha256*")
			if err != nil || len(sums) != 1 {
				t.Fatalf("checksum files %v (%v), want one:\n%s", sums, err, said)
			}
			run(t, dir, "sha256sum", "-c", sums[0])
			if info := run(t, dir, "qemu-img", "info", "-f", test.format, output); !strings.Contains(info, "8 GiB") {
				t.Errorf("the image is not of the base's size:\n%s", info)
			}
			nothingLeft(t, stage, said)

			// What is there already is kept, unless -force.
			said, err = stage.Packer(t.Context(), rehearsal.Packer{Dir: dir, Args: []string{"validate", hcl}})
			if err == nil {
				t.Errorf("an output that exists was accepted:\n%s", said)
			}
			says(t, said, []string{`output_path`, `-force`})
		})
	}
}

func run(t *testing.T, dir string, argv ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	command.Dir = dir
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, output)
	}
	return string(output)
}

// little mounts a filesystem of a size.
func little(t *testing.T, size string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	run(t, dir, "mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir)
	t.Cleanup(func() {
		if output, err := exec.CommandContext(context.Background(), "umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, output)
		}
	})
	return dir
}

// TestFullDisk bakes where there is no room: the error says what was needed
// and what there was, and nothing is left.
func TestFullDisk(t *testing.T) {
	stage, box := sandbox(t)
	local := fmt.Sprintf(`
source "immutable-disk" "x" {
  source_image = %q
  output_path  = %q
}
build {
  sources = ["source.immutable-disk.x"]
  provisioner "shell" { inline = ["head -c 150M /dev/urandom > /root/noise"] }
}
`, basedisk.Path(t), filepath.Join(t.TempDir(), "x.raw"))
	for _, test := range []struct{ name, hcl, size, needed string }{
		{"to copy the base", local, "64M", `bytes are needed`},
		{"to download the base", `
source "immutable-direct" "x" { ami_name = "full" }
build { sources = ["source.immutable-direct.x"] }
`, "64M", `bytes are needed`},
		{"to bake", local, "400M", `is full`},
	} {
		t.Run(test.name, func(t *testing.T) {
			small := little(t, test.size)
			said, err := stage.Packer(t.Context(), rehearsal.Packer{
				Dir: root, Env: append(box.Environ("AKIAFULL"), "PACKER_CACHE_DIR="+small), Args: []string{"build", templateFile(t, test.hcl)},
			})
			if err == nil {
				t.Fatalf("there was room enough in %s:\n%s", test.size, said)
			}
			says(t, said, []string{`PACKER_CACHE_DIR`, test.needed, `are free`})
			for _, pattern := range []string{"immutable/work/bake-*", "immutable/base/*.part", "immutable/base/*.raw"} {
				if left, err := filepath.Glob(filepath.Join(small, pattern)); err != nil || len(left) > 0 {
					t.Errorf("left behind: %v (%v)", left, err)
				}
			}
			nothingLeft(t, stage, said)
		})
	}
}

// TestNotRoot is what people see who forget sudo.
func TestNotRoot(t *testing.T) {
	stage, _ := sandbox(t)
	run(t, "/", "chmod", "-R", "a+rwX", stage.Dir)
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	hcl := filepath.Join(dir, "x.pkr.hcl")
	text := `
packer {
  required_plugins {
    immutable = { source = "` + rehearsal.PluginSource + `", version = ">= 0.1.0" }
  }
}
source "immutable-disk" "x" { source_image = "/dev/null" }
build { sources = ["source.immutable-disk.x"] }
`
	if err := os.WriteFile(hcl, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	said, err := stage.Packer(t.Context(), rehearsal.Packer{Dir: dir, As: "nobody", Args: []string{"validate", hcl}})
	if err == nil {
		t.Fatalf("nobody may bake:\n%s", said)
	}
	says(t, said, []string{`root`, `sudo`})
}
