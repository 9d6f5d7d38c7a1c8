package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// TestPromote follows example/promote: one AMI goes from dev to test to prod,
// each with configuration of its own, and prod goes back.
func TestPromote(t *testing.T) {
	t.Parallel()
	stage, box := sandbox(t)
	p := promotion{t, stage, box, map[string]string{}, awsCLI(t, box)}
	rpm(t, "1.0.0")
	rpm(t, "2.0.0")

	p.packer("build", "-var", "version=1.0.0", "-except=immutable-rollout", "bake.pkr.hcl")
	first := p.aws("ec2", "describe-images", "--owners", "self", "--filters", "Name=name,Values=hello-1.0.0", "--query", "Images[0].ImageId", "--output", "text")
	for _, name := range []string{"dev", "test", "prod"} {
		p.addresses[name] = p.run(filepath.Join(root, "example/promote/environment"), name, first)
	}
	p.runs("the beginning", "1.0.0", "1.0.0", "1.0.0")
	p.packer("build", "-var", "version=2.0.0", "bake.pkr.hcl")
	p.runs("the bake", "2.0.0", "1.0.0", "1.0.0")
	p.packer("build", "-var", "from=dev", "-var", "to=test", "promote.pkr.hcl")
	p.runs("the promotion to test", "2.0.0", "2.0.0", "1.0.0")
	p.packer("build", "-var", "from=test", "-var", "to=prod", "promote.pkr.hcl")
	p.runs("the promotion to prod", "2.0.0", "2.0.0", "2.0.0")
	p.packer("build", "-var", "in=prod", "rollback.pkr.hcl")
	p.runs("the rollback", "2.0.0", "2.0.0", "1.0.0")
	p.packer("build", "-var", "in=prod", "rollback.pkr.hcl")
	p.runs("taking the rollback back", "2.0.0", "2.0.0", "2.0.0")
}

type promotion struct {
	*testing.T
	stage     *rehearsal.Stage
	box       *rehearsal.Sandbox
	addresses map[string]string
	bin       string // has aws
}

// awsCLI makes a directory with a command aws that addresses the sandbox, as a
// newer AWS CLI than Debian's does by AWS_ENDPOINT_URL.
func awsCLI(t *testing.T, box *rehearsal.Sandbox) string {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\nexec /usr/bin/aws --endpoint-url " + box.URL + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "aws"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (p promotion) packer(args ...string) {
	p.Helper()
	output, err := p.stage.Packer(p.Context(), rehearsal.Packer{
		Dir: filepath.Join(root, "example/promote"), Env: p.box.Environ("AKIAPROMOTE"), Args: args,
	})
	if err != nil {
		p.Fatalf("%v\n%s", err, output)
	}
}

func (p promotion) aws(args ...string) string {
	p.Helper()
	return p.run(filepath.Join(p.bin, "aws"), args...)
}

func (p promotion) run(name string, args ...string) string {
	p.Helper()
	command := exec.CommandContext(p.Context(), name, args...)
	command.Env = append([]string{"PATH=" + p.bin + ":/usr/bin:/bin", "HOME=" + p.TempDir()}, p.box.Environ("AKIAPROMOTE")...)
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		p.Fatalf("%s %v: %v\n%s", name, args, err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// runs waits until each environment answers with its version, and fails where
// one has not the configuration that is its own.
func (p promotion) runs(after string, dev, test, prod string) {
	p.Helper()
	for name, version := range map[string]string{"dev": dev, "test": test, "prod": prod} {
		want := fmt.Sprintf("%s, hello from %s", version, name)
		last := "nothing"
		for deadline := time.Now().Add(2 * time.Minute); last != want; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				p.Fatalf("after %s %s answers %q, want %q", after, name, last, want)
			}
			last = greeting(p.Context(), p.addresses[name])
		}
	}
}

func greeting(ctx context.Context, address string) string {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return err.Error()
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	var answer struct{ Greeting, Version string }
	err = json.NewDecoder(response.Body).Decode(&answer)
	if closing := response.Body.Close(); err != nil || closing != nil {
		return fmt.Sprint(response.Status, " ", err, " ", closing)
	}
	return answer.Version + ", " + answer.Greeting
}
