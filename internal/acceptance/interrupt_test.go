package acceptance

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// bakeOnly installs the hello example and makes an AMI.
const bakeOnly = `
variable "name" { type = string }
variable "rpm" { type = string }
source "immutable-direct" "x" { ami_name = var.name }
build {
  sources = ["source.immutable-direct.x"]
  provisioner "immutable-rpm" { packages = [var.rpm] }
  provisioner "immutable-seal" {}
}
`

// moments are lines of a build at which it is ended, by what is under way.
var moments = []struct{ name, line string }{
	{"copy", "Copying the base disk"},
	{"mount", "Mounting the disk"},
	{"install", "Installing "},
	{"check", "Leaving the disk"},
	{"compare", "Comparing the disk"},
	{"wait", "Waiting until snapshot"},
	{"register", "Registering AMI"},
}

// TestInterrupt presses Ctrl-C at every stage of a build: nothing is left, on
// this machine or in AWS.
func TestInterrupt(t *testing.T) {
	stage, box := sandbox(t)
	hcl := templateFile(t, bakeOnly)
	buildOnce(t, stage, box, hcl, "interrupt-warm") // so that the base is here
	for _, moment := range moments {
		t.Run(moment.name, func(t *testing.T) {
			before := owned(t, box)
			name := "interrupted-" + moment.name
			output, err := stage.Packer(t.Context(), rehearsal.Packer{
				Dir: root, Env: box.Environ("AKIAINTERRUPT"), Args: bakeArgs(t, hcl, name),
				EachLine: interruptAt(moment.line),
			})
			if err == nil {
				t.Fatalf("the build went on to its end:\n%s", output)
			}
			if after := owned(t, box); !maps.Equal(before, after) {
				t.Errorf("in AWS there was %v, and is %v:\n%s", before, after, output)
			}
			nothingLeft(t, stage, output)
			if dirs, err := filepath.Glob(filepath.Join(stage.Cache, "immutable/work/bake-*")); err != nil || len(dirs) > 0 {
				t.Errorf("work directories are left: %v (%v)", dirs, err)
			}
		})
	}
}

// TestKill ends packer and the plugin as a crash would. The kernel takes back
// all that was made on this machine; the same build run again ends well and
// removes the work directory of the one that died.
func TestKill(t *testing.T) {
	stage, box := sandbox(t)
	hcl := templateFile(t, bakeOnly)
	for _, moment := range []struct{ name, line string }{
		{"install", "Installing "},
		{"upload", "Comparing the disk"},
	} {
		t.Run(moment.name, func(t *testing.T) {
			name := "killed-" + moment.name
			output, err := stage.Packer(t.Context(), rehearsal.Packer{
				Dir: root, Env: box.Environ("AKIAKILL"), Args: bakeArgs(t, hcl, name),
				EachLine: func(line string, _ *exec.Cmd) {
					if strings.Contains(line, moment.line) {
						if err := stage.KillBuild(); err != nil {
							t.Error(err)
						}
					}
				},
			})
			if err == nil {
				t.Fatalf("the build went on to its end:\n%s", output)
			}
			nothingHeld(t, stage, output)
			sweepTemporary(t, stage)
			buildOnce(t, stage, box, hcl, name)
			if dirs, err := filepath.Glob(filepath.Join(stage.Cache, "immutable/work/bake-*")); err != nil || len(dirs) > 0 {
				t.Errorf("work directories are left: %v (%v)", dirs, err)
			}
		})
	}
}

func bakeArgs(t *testing.T, hcl, name string) []string {
	return []string{"build", "-var", "name=" + name, "-var", "rpm=" + rpm(t, "1.0.0"), hcl}
}

func buildOnce(t *testing.T, stage *rehearsal.Stage, box *rehearsal.Sandbox, hcl, name string) {
	t.Helper()
	output, err := stage.Packer(t.Context(), rehearsal.Packer{Dir: root, Env: box.Environ("AKIAOTHER"), Args: bakeArgs(t, hcl, name)})
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}

// interruptAt presses Ctrl-C at the first line that contains text.
func interruptAt(text string) func(string, *exec.Cmd) {
	pressed := false
	return func(line string, packer *exec.Cmd) {
		if !pressed && strings.Contains(line, text) {
			pressed = true
			_ = rehearsal.Interrupt(packer) // if it has ended, the test sees that
		}
	}
}

// owned lists this account's images and snapshots by their state.
func owned(t *testing.T, box *rehearsal.Sandbox) map[string]string {
	t.Helper()
	client := ec2.NewFromConfig(box.Config())
	images, err := client.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}})
	if err != nil {
		t.Fatal(err)
	}
	snapshots, err := client.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, image := range images.Images {
		all[*image.ImageId] = string(image.State)
	}
	for _, snapshot := range snapshots.Snapshots {
		all[*snapshot.SnapshotId] = string(snapshot.State)
	}
	return all
}

// nothingLeft fails where a build has left something on the stage. The shared
// sandbox and its machines are there rightly.
func nothingLeft(t *testing.T, stage *rehearsal.Stage, output rehearsal.Output) {
	t.Helper()
	nothingHeld(t, stage, output)
	if files := temporaryFiles(t, stage); len(files) > 0 {
		t.Errorf("temporary files are left: %v\n%s", files, output)
	}
}

// nothingHeld fails where a build still has processes, mounts or loop devices.
// The kernel may take a moment to end those of a process that was killed.
func nothingHeld(t *testing.T, stage *rehearsal.Stage, output rehearsal.Output) {
	t.Helper()
	var left []string
	for range 50 {
		var err error
		if left, err = stage.Leftovers(t.Context()); err != nil {
			t.Fatal(err)
		}
		left = slices.DeleteFunc(left, func(line string) bool { return !strings.Contains(line, stage.Cache) })
		if len(left) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("left behind:\n  %s\n%s", strings.Join(left, "\n  "), output)
}

func temporaryFiles(t *testing.T, stage *rehearsal.Stage) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(stage.Dir, "tmp", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// sweepTemporary removes what a killed packer leaves: its log and the files
// that it passed to plugins.
func sweepTemporary(t *testing.T, stage *rehearsal.Stage) {
	t.Helper()
	for _, file := range temporaryFiles(t, stage) {
		if err := os.RemoveAll(file); err != nil {
			t.Error(err)
		}
	}
}
