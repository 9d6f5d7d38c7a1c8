package direct

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/basedisk"
	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
)

// local is a sandbox of a test, which sees its calls.
type local struct {
	t     *testing.T
	cache string
	base  string // the path of the raw disk that is the public base
	ec2   *ec2.Client
	aws   aws.Config

	mu    sync.Mutex
	calls []string
	// on is told of every call once it is answered.
	on func(operation string)
}

// openLocal opens a sandbox in which the test's builds work.
func openLocal(t *testing.T) *local {
	l := &local{t: t, cache: t.TempDir(), base: basedisk.Path(t)}
	box, err := sandbox.Open(t.Context(), sandbox.Options{
		Listen:   "127.0.0.1:0",
		StateDir: t.TempDir(),
		BaseDisk: l.base,
		Machines: sandbox.None,
		Profile:  clock.Instant,
		// A running scale of 0 is not allowed; instant takes no time anyway.
		TimeScale: 1,
		CallLog:   l,
		Report:    func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- box.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-served, box.Close()); err != nil {
			t.Error(err)
		}
	})

	t.Setenv("AWS_ENDPOINT_URL", box.URL())
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIADIRECT")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "rehearsal")
	t.Setenv("AWS_REGION", "eu-west-1")
	t.Setenv("PACKER_CACHE_DIR", l.cache)
	access := cloud.Access{}
	if errs := access.Prepare(); len(errs) > 0 {
		t.Fatal(errs)
	}
	if l.aws, err = access.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.ec2 = ec2.NewFromConfig(l.aws)
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
type provision func(ctx context.Context, comm packersdk.Communicator) error

func (p provision) Run(ctx context.Context, name string, _ packersdk.Ui, comm packersdk.Communicator, _ any) error {
	if name != packersdk.HookProvision {
		return nil
	}
	return p(ctx, comm)
}

// write is a provisioner that leaves a file.
func write(path, content string) provision {
	return func(_ context.Context, comm packersdk.Communicator) error {
		return comm.Upload(path, bytes.NewReader([]byte(content)), nil)
	}
}

// build runs a build of the options, as Packer would.
func (l *local) build(ctx context.Context, options map[string]any, p provision) (packersdk.Artifact, error) {
	l.t.Helper()
	var b Builder
	if _, _, err := b.Prepare(options); err != nil {
		l.t.Fatal(err)
	}
	return b.Run(ctx, newUi(l.t), p)
}

// mine are the ids of this account's images and snapshots.
func (l *local) mine() []string {
	l.t.Helper()
	images, err := l.ec2.DescribeImages(context.Background(), &ec2.DescribeImagesInput{Owners: []string{"self"}})
	if err != nil {
		l.t.Fatal(err)
	}
	var ids []string
	for _, i := range images.Images {
		ids = append(ids, *i.ImageId)
	}
	snapshots, err := l.ec2.DescribeSnapshots(context.Background(), &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, s := range snapshots.Snapshots {
		ids = append(ids, *s.SnapshotId)
	}
	slices.Sort(ids)
	return ids
}

func (l *local) image(id string) types.Image {
	l.t.Helper()
	out, err := l.ec2.DescribeImages(context.Background(), &ec2.DescribeImagesInput{ImageIds: []string{id}})
	if err != nil {
		l.t.Fatal(err)
	}
	return out.Images[0]
}

// assertNothingLeft looks for what a bake may leave on this machine.
func (l *local) assertNothingLeft() {
	l.t.Helper()
	left, err := filepath.Glob(filepath.Join(l.cache, "immutable", "work", "bake-*"))
	if err != nil || len(left) > 0 {
		l.t.Errorf("work directories are left: %q, %v", left, err)
	}
	partial, err := filepath.Glob(filepath.Join(l.cache, "immutable", "base", "*.part"))
	if err != nil || len(partial) > 0 {
		l.t.Errorf("partial downloads are left: %q, %v", partial, err)
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		l.t.Fatal(err)
	}
	for _, loop := range loops {
		if of, err := os.ReadFile(loop); err == nil && bytes.Contains(of, []byte(l.cache)) {
			l.t.Errorf("%s is still of %s", loop, of)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		l.t.Fatal(err)
	}
	if bytes.Contains(mounts, []byte(l.cache)) {
		l.t.Errorf("mounts are left:\n%s", mounts)
	}
}

// keepDisk copies the baked disk when its upload begins: it is gone when the
// build is.
func (l *local) keepDisk() *os.File {
	l.t.Helper()
	kept, err := os.Create(filepath.Join(l.t.TempDir(), "kept.raw"))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = kept.Close() })
	l.watch(func(operation string) {
		if operation != "StartSnapshot" {
			return
		}
		paths, err := filepath.Glob(filepath.Join(l.cache, "immutable", "work", "bake-*", "disk.raw"))
		if err != nil || len(paths) != 1 {
			l.t.Errorf("the baked disk is one of %q: %v", paths, err)
			return
		}
		baked, err := os.Open(paths[0])
		if err != nil {
			l.t.Error(err)
			return
		}
		if err := errors.Join(disk.Copy(context.Background(), kept, baked), baked.Close()); err != nil {
			l.t.Error(err)
		}
	})
	return kept
}

// differing is how many blocks of 512 KiB differ between two disks, by reading
// both.
func differing(t *testing.T, a, b *os.File) int {
	t.Helper()
	const size = 512 << 10
	touched := map[int64]bool{}
	for _, f := range []*os.File{a, b} {
		for extent, err := range disk.Extents(f) {
			if err != nil {
				t.Fatal(err)
			}
			for i := extent.Start / size; i*size < extent.Start+extent.Size; i++ {
				touched[i] = true
			}
		}
	}
	count := 0
	left, right := make([]byte, size), make([]byte, size)
	for i := range touched {
		if _, err := a.ReadAt(left, i*size); err != nil {
			t.Fatal(err)
		}
		if _, err := b.ReadAt(right, i*size); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(left, right) {
			count++
		}
	}
	return count
}

// newUi gives a Ui whose lines are those of the test's log.
func newUi(t *testing.T) packersdk.Ui {
	log := t.Output()
	return &packersdk.BasicUi{Reader: bytes.NewReader(nil), Writer: log, ErrorWriter: log, PB: &packersdk.NoopProgressTracker{}}
}
