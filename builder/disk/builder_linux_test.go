package disk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/basedisk"
	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
)

// hook stands for the provisioners.
type hook func(ctx context.Context, comm packersdk.Communicator, data map[string]any) error

func (h hook) Run(ctx context.Context, name string, _ packersdk.Ui, comm packersdk.Communicator, data any) error {
	if name != packersdk.HookProvision {
		return nil
	}
	return h(ctx, comm, data.(map[string]any))
}

// provision is a hook that runs one line of shell.
func provision(line string) hook {
	return func(ctx context.Context, comm packersdk.Communicator, _ map[string]any) error {
		cmd := &packersdk.RemoteCmd{Command: line}
		if err := comm.Start(ctx, cmd); err != nil {
			return err
		}
		if status := cmd.Wait(); status != 0 {
			return errors.New("the script failed")
		}
		return nil
	}
}

// workspace moves the test to a directory of its own, and the cache there too.
func workspace(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("baking needs root")
	}
	dir := t.TempDir()
	base := basedisk.Path(t)
	t.Chdir(dir)
	t.Setenv("PACKER_CACHE_DIR", filepath.Join(dir, "cache"))
	if err := os.Symlink(base, "base.raw"); err != nil {
		t.Fatal(err)
	}
}

func options(more map[string]any) map[string]any {
	all := map[string]any{"source_image": "base.raw", "format": "qcow2", "packer_build_name": "hello"}
	for name, value := range more {
		all[name] = value
	}
	return all
}

// build prepares and runs a build.
func build(t *testing.T, options map[string]any, hook packersdk.Hook) (packersdk.Artifact, error) {
	t.Helper()
	var b Builder
	if _, _, err := b.Prepare(options); err != nil {
		t.Fatal(err)
	}
	ui := &packersdk.BasicUi{Reader: strings.NewReader(""), Writer: io.Discard, ErrorWriter: io.Discard, PB: new(packersdk.NoopProgressTracker)}
	artifact, err := b.Run(t.Context(), ui, hook)
	if left, globErr := filepath.Glob("cache/immutable/work/bake-*"); globErr != nil || len(left) > 0 {
		t.Errorf("work directories left: %q, %v", left, globErr)
	}
	return artifact, err
}

func TestARawDisk(t *testing.T) {
	workspace(t)
	var data map[string]any
	artifact, err := build(t, options(map[string]any{"format": "raw"}), hook(func(ctx context.Context, comm packersdk.Communicator, d map[string]any) error {
		data = d
		return comm.Upload("/opt/marker", strings.NewReader("a marker that the bake leaves"), nil)
	}))
	if err != nil {
		t.Fatal(err)
	}
	const image = "output-hello/hello.raw"
	if got := artifact.Files(); len(got) != 2 || got[0] != image || got[1] != image+".sha256" {
		t.Errorf("the artifact has the files %q", got)
	}
	if id, ok := data["ID"].(string); !ok || !strings.HasPrefix(id, "bake-") {
		t.Errorf("provisioners are told the ID %v", data["ID"])
	}
	if generated, ok := artifact.State("generated_data").(map[string]any); !ok || generated["ID"] != data["ID"] {
		t.Errorf("post-processors are told %v", artifact.State("generated_data"))
	}
	base, err := os.Stat("base.raw")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != base.Size() {
		t.Errorf("the disk has %d bytes (%v), the base %d", info.Size(), err, base.Size())
	}
	if data, err := disk.Data(f); err != nil || data > base.Size()/4 {
		t.Errorf("the file is not sparse: it has %d bytes of data (%v)", data, err)
	}
	found := false
	for e, err := range disk.Extents(f) {
		if err != nil {
			t.Fatal(err)
		}
		content := make([]byte, e.Size)
		if _, err := f.ReadAt(content, e.Start); err != nil {
			t.Fatal(err)
		}
		found = found || bytes.Contains(content, []byte("a marker that the bake leaves"))
	}
	if !found {
		t.Error("what the provisioner uploaded is not on the disk")
	}

	if err := artifact.Destroy(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob("output-hello/*"); len(left) > 0 {
		t.Errorf("after Destroy there is %q", left)
	}
}

func TestAQcow2DiskFromAQcow2Base(t *testing.T) {
	workspace(t)
	first, err := build(t, options(map[string]any{"output_path": "first.qcow2"}), provision("echo first >/opt/first"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := build(t, options(map[string]any{"source_image": first.Files()[0], "output_path": "second.qcow2"}), provision("[ $(cat /opt/first) = first ]"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "sha256sum", "-c", "second.qcow2.sha256").CombinedOutput(); err != nil {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
	if format, err := disk.Format(second.Id()); err != nil || format != disk.Qcow2 {
		t.Errorf("the format is %q, %v", format, err)
	}
}

func TestAFailedBuildLeavesNoOutput(t *testing.T) {
	workspace(t)
	_, err := build(t, options(map[string]any{"output_path": "out/deep/disk.qcow2"}), provision("exit 1"))
	if err == nil || !strings.Contains(err.Error(), "the script failed") {
		t.Errorf("Run() = %v", err)
	}
	if _, err := os.Stat("out"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the output's directory is left: %v", err)
	}
}

func TestForceReplacesAnOutputOnlyWithAWholeOne(t *testing.T) {
	workspace(t)
	const path = "disk.qcow2"
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	forced := options(map[string]any{"output_path": path, "packer_force": true})
	if _, err := build(t, forced, provision("exit 1")); err == nil {
		t.Fatal("the build should fail")
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "old" {
		t.Errorf("a failed build left %q, %v", content, err)
	}
	if _, err := build(t, forced, provision(":")); err != nil {
		t.Fatal(err)
	}
	if format, err := disk.Format(path); err != nil || format != disk.Qcow2 {
		t.Errorf("after a build that succeeded, the file is %q, %v", format, err)
	}
}

func TestTheVolumeIsGrown(t *testing.T) {
	workspace(t)
	const twelve = `[ $(($(stat -f -c '%b * %S' /) >> 30)) -ge 11 ]`
	if _, err := build(t, options(map[string]any{"volume_size": 12}), provision(twelve)); err != nil {
		t.Error(err)
	}
	if _, err := build(t, options(map[string]any{"volume_size": 1, "output_path": "small"}), provision(":")); err == nil || !strings.Contains(err.Error(), "cannot shrink") {
		t.Errorf("a volume smaller than the base: %v", err)
	}
}

func TestPrepareNamesOptionValueAndRemedy(t *testing.T) {
	workspace(t)
	if err := os.WriteFile("there", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		options map[string]any
		want    []string
	}{
		"format":           {map[string]any{"format": "vmdk"}, []string{"format", `"vmdk"`, `"raw"`}},
		"volume_size":      {map[string]any{"volume_size": -1}, []string{"volume_size", "-1", "GiB"}},
		"output_path":      {map[string]any{"output_path": "there"}, []string{"output_path", "there exists", "-force"}},
		"output directory": {map[string]any{"output_path": "/etc"}, []string{"output_path", "/etc is a directory"}},
		"machine":          {map[string]any{"machine": "vm"}, []string{"machine", `"vm"`}},
		"source_image":     {map[string]any{"source_image": "none.raw"}, []string{"source_image", "none.raw"}},
		"unknown option":   {map[string]any{"outputpath": "x"}, []string{"outputpath"}},
	} {
		t.Run(name, func(t *testing.T) {
			var b Builder
			_, _, err := b.Prepare(options(test.options))
			for _, part := range test.want {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("Prepare() = %v, want an error with %q", err, part)
				}
			}
		})
	}
}
