// Package acceptance drives the real packer binary and the plugin as they are
// built, against the plugin's own sandbox command. The tests look at what was
// made (blocks, packages, machines, calls), not at what the plugin says of it.
//
// `make test` builds what they need and says where packer is in PACKER.
package acceptance

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/basedisk"
	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

var soak = flag.Bool("soak", false, "run every seed and every point of failure, not a sample")

// root is the top of the checkout.
var root = func() string {
	dir, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return dir
}()

// shared is the sandbox that tests use together; each makes groups, images and
// templates of its own in it.
var shared struct {
	once  sync.Once
	stage *rehearsal.Stage
	box   *rehearsal.Sandbox
	err   error
}

func TestMain(m *testing.M) {
	// Most of what runs in parallel waits.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	flag.Parse() // -parallel of the command line counts
	code := m.Run()
	if shared.box != nil {
		if err := endShared(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// endShared stops the shared sandbox and fails where anything is left of all
// that ran on its stage.
func endShared() error {
	if err := shared.box.Stop(); err != nil {
		return err
	}
	left, err := shared.stage.Leftovers(context.Background())
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("left behind by the tests on the shared stage:\n  %s", strings.Join(left, "\n  "))
	}
	return shared.stage.Close()
}

// sandbox gives the shared sandbox and its stage, with the plugin installed.
func sandbox(t *testing.T) (*rehearsal.Stage, *rehearsal.Sandbox) {
	t.Helper()
	shared.once.Do(func() {
		var dir string
		if dir, shared.err = os.MkdirTemp("", "immutable-acceptance-"); shared.err != nil {
			return
		}
		shared.stage = newStage(t, dir)
		// The shared sandbox outlives the test that asks first.
		shared.box, shared.err = start(context.Background(), t, shared.stage)
	})
	if shared.err != nil {
		t.Fatalf("start the shared sandbox: %v", shared.err)
	}
	return shared.stage, shared.box
}

// start starts a sandbox with the base disk, in which waiting takes a fifth of
// its time, and which logs its calls on its stage.
func start(ctx context.Context, t *testing.T, stage *rehearsal.Stage, args ...string) (*rehearsal.Sandbox, error) {
	return stage.Start(ctx, append([]string{"--base-disk", basedisk.Path(t), "--time-scale", "0.2", "--launch-configurations",
		"--call-log", filepath.Join(stage.Dir, "calls.jsonl")}, args...)...)
}

// newStage makes a stage in dir with the plugin installed.
func newStage(t *testing.T, dir string) *rehearsal.Stage {
	t.Helper()
	if testing.Short() {
		t.Skip("drives packer and boots machines")
	}
	plugin := filepath.Join(root, "packer-plugin-immutable")
	if _, err := os.Stat(plugin); err != nil {
		t.Fatalf("%v: build it with `make build`", err)
	}
	packer := os.Getenv("PACKER")
	if packer == "" {
		packer = filepath.Join(root, ".bin/packer")
	}
	if _, err := exec.LookPath(packer); err != nil {
		t.Fatalf("%v: name packer in the environment variable PACKER, as `make test` does", err)
	}
	stage, err := rehearsal.NewStage(dir, plugin, packer)
	if err != nil {
		t.Fatal(err)
	}
	if err := stage.InstallPlugin(t.Context()); err != nil {
		t.Fatal(err)
	}
	return stage
}

// rpms builds the hello example's RPM in the wanted versions, once each.
func rpm(t *testing.T, version string) string {
	t.Helper()
	rpmsMu.Lock()
	defer rpmsMu.Unlock()
	if path, ok := rpms[version]; ok {
		return path
	}
	build := exec.CommandContext(t.Context(), filepath.Join(root, "example/hello/build"), version)
	var stderr strings.Builder
	build.Stderr = &stderr
	path, err := build.Output()
	if err != nil {
		t.Fatalf("build hello %s: %v\n%s", version, err, &stderr)
	}
	rpms[version] = strings.TrimSpace(string(path))
	return rpms[version]
}

var (
	rpmsMu sync.Mutex
	rpms   = map[string]string{}
)

// templateFile writes an HCL template and gives its path.
func templateFile(t *testing.T, hcl string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.pkr.hcl")
	head := `
packer {
  required_plugins {
    immutable = {
      source  = "` + rehearsal.PluginSource + `"
      version = ">= 0.1.0"
    }
  }
}
`
	if err := os.WriteFile(path, []byte(head+hcl), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
