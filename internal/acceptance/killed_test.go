package acceptance

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/basedisk"
	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

var seed = flag.Uint64("seed", 1, "chooses the sample of seeds and points of failure that are run without -soak")

// sample chooses n of all, in their order; all of them with -soak.
func sample[T any](all []T, n int) []T {
	if *soak || n >= len(all) {
		return all
	}
	chosen := rand.New(rand.NewPCG(*seed, 0)).Perm(len(all))[:n]
	slices.Sort(chosen)
	var some []T
	for _, i := range chosen {
		some = append(some, all[i])
	}
	return some
}

// sayHowToRepeat tells, where a test has failed, how it is run alone.
func sayHowToRepeat(t *testing.T) {
	t.Cleanup(func() {
		if t.Failed() {
			name := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
			t.Logf("repeat it with: PACKER=.bin/packer go test ./internal/acceptance -soak -run '%s'", name)
		}
	})
}

// bakeNoise makes an AMI with a few MiB of its own.
const bakeNoise = `
variable "name" { type = string }
source "immutable-direct" "x" {
  ami_name   = var.name
  access_key = "AKIADIRECT"
  secret_key = "rehearsal"
}
build {
  sources = ["source.immutable-direct.x"]
  provisioner "shell" { inline = ["head -c 3M /dev/urandom > /root/noise"] }
}
`

// point is a moment of a build: just after the nth call of an action that
// changes something.
type point struct {
	action string
	nth    int
}

func (p point) String() string { return fmt.Sprintf("%s %d", p.action, p.nth) }

// points collects those that a build passes.
type points struct {
	mu     sync.Mutex
	passed map[string]int
	order  []point
}

// pass counts a call, and gives the point that it is.
func (p *points) pass(call rehearsal.Call) point {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.passed == nil {
		p.passed = map[string]int{}
	}
	p.passed[call.Action]++
	at := point{call.Action, p.passed[call.Action]}
	p.order = append(p.order, at)
	return at
}

// ofInterest are the points at which a build is worth being ended: of the many
// blocks that are written the first, the middle one and the last.
func (p *points) ofInterest() []point {
	last := p.passed["ebs:PutSnapshotBlock"]
	return slices.DeleteFunc(slices.Clone(p.order), func(at point) bool {
		return at.action == "ebs:PutSnapshotBlock" && at.nth != 1 && at.nth != (last+1)/2 && at.nth != last
	})
}

// theatre is a stage with a sandbox of its own, without machines.
type theatre struct {
	*rehearsal.Stage
	box *rehearsal.Sandbox
}

// newTheatre opens a theatre with the base disk. It is closed at the end of the
// test, which fails where anything is left on it.
func newTheatre(t *testing.T, args ...string) *theatre {
	t.Helper()
	h := &theatre{Stage: newStage(t, t.TempDir())}
	h.open(t, append([]string{"--base-disk", basedisk.Path(t)}, args...)...)
	return h
}

// open starts the sandbox, which goes on with the state that there is.
func (h *theatre) open(t *testing.T, args ...string) {
	t.Helper()
	args = append([]string{"--machines", "none", "--time-scale", "0.02", "--call-log", filepath.Join(h.Dir, "calls.jsonl")}, args...)
	box, err := h.Start(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	if h.box == nil {
		t.Cleanup(func() {
			h.stop(t)
			left, err := h.Leftovers(context.Background())
			if err != nil || len(left) > 0 {
				t.Errorf("left behind (%v):\n  %s", err, strings.Join(left, "\n  "))
			}
		})
	}
	h.box = box
}

func (h *theatre) stop(t *testing.T) {
	t.Helper()
	if err := h.box.Stop(); err != nil {
		t.Fatal(err)
	}
}

// build runs packer through a proxy, and calls after for each change that the
// keys make; with no keys, that anybody makes.
func (h *theatre) build(t *testing.T, run rehearsal.Packer, after func(point), keys ...string) (rehearsal.Output, error) {
	t.Helper()
	var passed points
	proxy, err := h.box.Proxy(func(call rehearsal.Call) {
		if call.Changes() && (len(keys) == 0 || slices.Contains(keys, call.Key)) {
			after(passed.pass(call))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	}()
	run.Dir, run.Env = root, proxy.Environ("AKIAOTHER")
	return h.Packer(t.Context(), run)
}

// rehearse runs a build to its end and gives the points that it passed.
func (h *theatre) rehearse(t *testing.T, args []string, keys ...string) []point {
	t.Helper()
	var passed points
	output, err := h.build(t, rehearsal.Packer{Args: args}, func(at point) { passed.pass(rehearsal.Call{Action: at.action}) }, keys...)
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return passed.ofInterest()
}

// kill runs a build and ends it as a crash would at the point.
func (h *theatre) kill(t *testing.T, args []string, at point, keys ...string) {
	t.Helper()
	output, err := h.build(t, rehearsal.Packer{Args: args}, func(passed point) {
		if passed == at {
			if err := h.KillBuild(); err != nil {
				t.Error(err)
			}
		}
	}, keys...)
	if err == nil {
		t.Fatalf("the build went on to its end:\n%s", output)
	}
	nothingHeld(t, h.Stage, output)
	sweepTemporary(t, h.Stage)
}

// interrupt runs a build and presses Ctrl-C at the point: the answer to the call
// comes when packer has begun to cancel.
func (h *theatre) interrupt(t *testing.T, args []string, at point, keys ...string) rehearsal.Output {
	t.Helper()
	cancelling := make(chan struct{})
	var once sync.Once
	run := rehearsal.Packer{Args: args, EachLine: func(line string, _ *exec.Cmd) {
		if strings.Contains(line, "Cancelling build after receiving interrupt") {
			once.Do(func() { close(cancelling) })
		}
	}}
	output, err := h.build(t, run, func(passed point) {
		if passed != at {
			return
		}
		if err := h.InterruptBuild(); err != nil {
			t.Error(err)
			return
		}
		select {
		case <-cancelling:
		case <-t.Context().Done():
		}
	}, keys...)
	if err == nil {
		t.Fatalf("packer reports a success:\n%s", output)
	}
	nothingLeft(t, h.Stage, output)
	return output
}

// bake runs a build to its end, and fails unless the root of its AMI has, block
// for block, what was baked.
func (h *theatre) bake(t *testing.T, args []string) (ami string) {
	t.Helper()
	kept := filepath.Join(t.TempDir(), "kept.raw")
	output, err := h.Packer(t.Context(), rehearsal.Packer{
		Dir: root, Env: h.box.Environ("AKIAOTHER"), Args: args, EachLine: h.keepDisk(t, kept),
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	ami = amiIn(t, output)
	h.checkDisk(t, ami, kept)
	nothingLeft(t, h.Stage, output)
	return ami
}

func (h *theatre) keepDisk(t *testing.T, kept string) func(string, *exec.Cmd) {
	return func(line string, _ *exec.Cmd) {
		if rehearsal.Comparing(line) {
			if err := h.KeepWorkingDisk(kept); err != nil {
				t.Error(err)
			}
		}
	}
}

// checkDisk compares the root of an AMI with the disk that was baked.
func (h *theatre) checkDisk(t *testing.T, ami, baked string) {
	t.Helper()
	disk, err := rehearsal.DiskBlocks(baked)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := h.box.RootSnapshot(t.Context(), ami)
	if err != nil {
		t.Fatal(err)
	}
	made, err := h.box.SnapshotBlocks(t.Context(), snapshot)
	if err != nil {
		t.Fatal(err)
	}
	if wrong := made.Differing(disk); len(wrong) > 0 {
		t.Errorf("blocks of %s that are not those of the baked disk: %v", ami, wrong)
	}
}

// marks are the tags of all that this account has, by id.
func (h *theatre) marks(t *testing.T) map[string]map[string]string {
	t.Helper()
	client := ec2.NewFromConfig(h.box.Config())
	images, err := client.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}})
	if err != nil {
		t.Fatal(err)
	}
	snapshots, err := client.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]string{}
	add := func(id *string, tags []ec2types.Tag) {
		all[*id] = map[string]string{}
		for _, tag := range tags {
			all[*id][*tag.Key] = *tag.Value
		}
	}
	for _, image := range images.Images {
		add(image.ImageId, image.Tags)
	}
	for _, snapshot := range snapshots.Snapshots {
		add(snapshot.SnapshotId, snapshot.Tags)
	}
	return all
}

func (h *theatre) newMarks(t *testing.T, before map[string]map[string]string) map[string]map[string]string {
	t.Helper()
	after := h.marks(t)
	maps.DeleteFunc(after, func(id string, _ map[string]string) bool { return before[id] != nil })
	return after
}

// TestKilledAfterEachChange ends a build as a crash would, after each call that
// changed something. What it leaves says whose it is, the same build run again
// makes the AMI, and a sweep removes the rest.
func TestKilledAfterEachChange(t *testing.T) {
	t.Parallel()
	hcl := templateFile(t, bakeNoise)
	args := func(name string) []string { return []string{"build", "-var", "name=" + name, hcl} }
	warm := newTheatre(t)
	for _, at := range sample(warm.rehearse(t, args("rehearsed")), 2) {
		t.Run("after "+at.String(), func(t *testing.T) {
			sayHowToRepeat(t)
			h := warm
			if at.action == "ec2:CopyImage" || at == (point{"ec2:DeleteTags", 1}) {
				h = newTheatre(t) // where the base has not been copied yet
			} else if at.action == "ec2:DeleteTags" {
				at.nth-- // the copy is there, and needs finishing no more
			}
			before, all := h.marks(t), h.everything(t)
			name := "killed-after-" + strings.NewReplacer(":", "-", " ", "-").Replace(at.String())
			h.kill(t, args(name), at)
			for id, tags := range h.newMarks(t, before) {
				_, expires := tags["immutable:expires"]
				// The last of all changes says that the AMI is finished.
				if finished := at.action == "ec2:DeleteTags"; tags["immutable:run"] == "" || expires == finished {
					t.Errorf("%s is left, with the tags %v", id, tags)
				}
			}
			if at.action != "ec2:DeleteTags" || h != warm { // the AMI is there, and keeps its name
				h.bake(t, args(name))
			}
			h.swept(t, all)
			if _, err := h.box.BaseSnapshot(t.Context()); err != nil {
				t.Error(err) // there must be one copy
			}
		})
	}
}

// TestInterruptedAfterEachChange presses Ctrl-C after each call that changed
// something: nothing is left, in AWS or on this machine.
func TestInterruptedAfterEachChange(t *testing.T) {
	t.Parallel()
	hcl := templateFile(t, bakeNoise)
	args := func(name string) []string { return []string{"build", "-var", "name=" + name, hcl} }
	warm := newTheatre(t)
	for _, at := range sample(warm.rehearse(t, args("rehearsed")), 2) {
		t.Run("after "+at.String(), func(t *testing.T) {
			sayHowToRepeat(t)
			h := warm
			if at.action == "ec2:CopyImage" || at == (point{"ec2:DeleteTags", 1}) {
				h = newTheatre(t)
			} else if at.action == "ec2:DeleteTags" {
				at.nth--
			}
			before := h.marks(t)
			output := h.interrupt(t, args("interrupted"), at)
			for id, tags := range h.newMarks(t, before) {
				// What is finished stays if the plugin hears of the interrupt too late.
				if _, expires := tags["immutable:expires"]; expires || at.action != "ec2:DeleteTags" {
					t.Errorf("%s is left, with the tags %v:\n%s", id, tags, output)
				}
			}
		})
	}
}
