package instance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/basedisk"
	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/scenario"
)

// local is a sandbox of a test, whose instances are states, and an SSH server
// that stands for all of them.
type local struct {
	t    *testing.T
	box  *sandbox.Sandbox
	ec2  *ec2.Client
	port int
	said *bytes.Buffer // by the builds

	mu    sync.Mutex
	calls []string
	on    func(operation string) // is told of every call once it is answered
}

// openLocal opens a sandbox in which the test's builds work, and where a
// scenario is played, if there is one.
func openLocal(t *testing.T, scenarios ...string) *local {
	t.Helper()
	l := &local{t: t, port: listenSSH(t), said: &bytes.Buffer{}}
	var play *scenario.Scenario
	var err error
	for _, text := range scenarios {
		path := filepath.Join(t.TempDir(), "scenario.hcl")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if play, err = scenario.Read(path); err != nil {
			t.Fatal(err)
		}
	}
	l.box, err = sandbox.Open(t.Context(), sandbox.Options{
		Listen: "127.0.0.1:0", StateDir: t.TempDir(), BaseDisk: basedisk.Path(t), Machines: sandbox.None,
		Profile: clock.Instant, TimeScale: 1, CallLog: l, Scenario: play, Report: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- l.box.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-served, l.box.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("AWS_ENDPOINT_URL", l.box.URL())
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAINSTANCE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "rehearsal")
	t.Setenv("AWS_REGION", "eu-west-1")
	t.Setenv("SSH_AUTH_SOCK", "")
	access := cloud.Access{}
	if errs := access.Prepare(); len(errs) > 0 {
		t.Fatal(errs)
	}
	cfg, err := access.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.ec2 = ec2.NewFromConfig(cfg)
	return l
}

// Write takes lines of the call log.
func (l *local) Write(lines []byte) (int, error) {
	for line := range bytes.Lines(lines) {
		var call struct{ Operation string }
		if err := json.Unmarshal(line, &call); err != nil {
			return 0, err
		}
		l.mu.Lock()
		l.calls = append(l.calls, call.Operation)
		on := l.on
		l.mu.Unlock()
		if on != nil {
			on(call.Operation)
		}
	}
	return len(lines), nil
}

// watch sets on; nil ends it.
func (l *local) watch(on func(operation string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.on = on
}

// called is how often an operation was called.
func (l *local) called(operation string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(l.calls), func(o string) bool { return o != operation }))
}

// provision is a run of provisioners.
type provision func(ctx context.Context, data map[string]any) error

func (p provision) Run(ctx context.Context, name string, _ packersdk.Ui, _ packersdk.Communicator, data any) error {
	if name != packersdk.HookProvision || p == nil {
		return nil
	}
	generated, ok := data.(map[string]any)
	if !ok {
		return fmt.Errorf("provisioners are given %T", data)
	}
	return p(ctx, generated)
}

// build runs a build of the options, as Packer would. Instances are reached at
// the test's SSH server.
func (l *local) build(ctx context.Context, options map[string]any, p provision) (packersdk.Artifact, error) {
	l.t.Helper()
	all := map[string]any{"ami_name": "made", "ssh_host": "127.0.0.1", "ssh_port": l.port}
	for name, value := range options {
		all[name] = value
	}
	var b Builder
	if _, _, err := b.Prepare(all); err != nil {
		l.t.Fatal(err)
	}
	log := l.t.Output()
	ui := &packersdk.BasicUi{Reader: strings.NewReader(""), Writer: both{log, l.said}, ErrorWriter: both{log, l.said}, PB: &packersdk.NoopProgressTracker{}}
	return b.Run(ctx, ui, p)
}

// both writes to two writers.
type both [2]interface{ Write([]byte) (int, error) }

func (b both) Write(text []byte) (int, error) {
	if _, err := b[0].Write(text); err != nil {
		return 0, err
	}
	return b[1].Write(text)
}

// made builds, and gives the AMI.
func (l *local) made(options map[string]any) types.Image {
	l.t.Helper()
	artifact, err := l.build(l.t.Context(), options, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.image(strings.TrimPrefix(artifact.Id(), "eu-west-1:"))
}

func (l *local) image(id string) types.Image {
	l.t.Helper()
	out, err := l.ec2.DescribeImages(context.Background(), &ec2.DescribeImagesInput{ImageIds: []string{id}})
	if err != nil {
		l.t.Fatal(err)
	}
	return out.Images[0]
}

// instances are all that there are, or were.
func (l *local) instances() (all []types.Instance) {
	l.t.Helper()
	out, err := l.ec2.DescribeInstances(context.Background(), &ec2.DescribeInstancesInput{})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, r := range out.Reservations {
		all = append(all, r.Instances...)
	}
	return all
}

// assertLeft looks for what a build leaves but terminated instances, and fleets,
// which end by themselves. What is kept is named.
func (l *local) assertLeft(kept ...string) {
	l.t.Helper()
	out, err := l.ec2.DescribeTags(context.Background(), &ec2.DescribeTagsInput{Filters: []types.Filter{{Name: aws.String("key"), Values: []string{cloud.TagRun}}}})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, i := range l.instances() {
		if i.State.Name == types.InstanceStateNameTerminated {
			kept = append(kept, *i.InstanceId)
		}
	}
	for _, tag := range out.Tags {
		if tag.ResourceType != types.ResourceTypeFleet && !slices.Contains(kept, *tag.ResourceId) {
			l.t.Errorf("%s %s is left", tag.ResourceType, *tag.ResourceId)
		}
	}
}

// file writes a file of the test's and gives its path.
func (l *local) file(content string) string {
	l.t.Helper()
	path := filepath.Join(l.t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// says looks for all parts in an error.
func says(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q: %v", part, err)
		}
	}
}
