package acceptance

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// states starts a sandbox whose instances are only states. It ends with the
// test and leaves nothing.
func states(t *testing.T, profile, scale string) (*rehearsal.Stage, *rehearsal.Sandbox) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a sandbox")
	}
	stage, err := rehearsal.NewStage(t.TempDir(), filepath.Join(root, "packer-plugin-immutable"), "")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context()) // it is needed until the test has cleaned up
	box, err := stage.Start(ctx, "--machines", "none", "--profile", profile, "--time-scale", scale)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Stop(); err != nil {
			t.Error(err)
		}
		if left, err := stage.Leftovers(ctx); err != nil || len(left) > 0 {
			t.Errorf("left behind (%v):\n  %s", err, strings.Join(left, "\n  "))
		}
	})
	return stage, box
}

// botocore is a command of a client that is made with it. Debian's is of 2022:
// testdata/models teaches it, in botocore's own way of extending models, what
// Auto Scaling has got since.
func botocore(t *testing.T, stage *rehearsal.Stage, box *rehearsal.Sandbox, argv ...string) *exec.Cmd {
	client := stage.Client(t.Context(), box, argv...)
	client.Env = append(client.Env, "AWS_DATA_PATH="+filepath.Join(root, "internal/acceptance/testdata/models"))
	return client
}
