package acceptance

import (
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// mainJob is the design's template, with an access key for each component so
// that the call log tells them apart.
const mainJob = `
variable "version" { type = string }
variable "rpm" { type = string }
variable "group" { type = string }

source "immutable-direct" "hello" {
  ami_name   = "${var.group}-${var.version}"
  access_key = "AKIADIRECT"
  secret_key = "rehearsal"
}

build {
  sources = ["source.immutable-direct.hello"]

  provisioner "immutable-rpm" {
    packages = [var.rpm]
    services = ["hello.service"]
  }
  provisioner "immutable-seal" {}

  post-processors {
    post-processor "immutable-tag" {
      access_key = "AKIATAG"
      secret_key = "rehearsal"
    }
    post-processor "immutable-rollout" {
      auto_scaling_group = var.group
      access_key         = "AKIAROLLOUT"
      secret_key         = "rehearsal"
    }
  }
}
`

// builders and post-processors by the access key that they have in mainJob.
var principals = map[string]string{
	"immutable-direct":  "AKIADIRECT",
	"immutable-tag":     "AKIATAG",
	"immutable-rollout": "AKIAROLLOUT",
}

func buildArgs(hcl, group, version, rpm string) []string {
	return []string{"build", "-var", "group=" + group, "-var", "version=" + version, "-var", "rpm=" + rpm, hcl}
}

func TestMainJob(t *testing.T) {
	// A sandbox of its own, in which every component has its own policy, from the
	// first copy of the base on.
	stage := newStage(t, t.TempDir())
	var policies []string
	for component, key := range principals {
		policies = append(policies, "--enforce-policy", key+"="+policyFile(component))
	}
	box, err := start(t.Context(), t, stage, policies...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := box.Stop(); err != nil {
			t.Error(err)
		}
		nothingLeft(t, stage, rehearsal.Output{})
	}()
	hcl := templateFile(t, mainJob)
	const name = "mainjob"

	// Version 1 runs on three instances behind a load balancer.
	first := buildArgs(hcl, name, "1.0.0", rpm(t, "1.0.0"))
	output, err := stage.Packer(t.Context(), rehearsal.Packer{
		Dir: root, Env: box.Environ("AKIAOTHER"), Args: append([]string{"build", "-except=immutable-rollout"}, first[1:]...),
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	group, err := box.NewGroup(t.Context(), rehearsal.GroupSpec{
		Name: name, ImageID: amiIn(t, output), Size: 3, Port: 8080, Warmup: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := box.WaitHealthy(t.Context(), group, 3); err != nil {
		t.Fatalf("%v\n%s", err, box.Output())
	}

	// Version 2 is baked and rolled out under load.
	load := rehearsal.StartLoad(t.Context(), group.URL, 50)
	kept := filepath.Join(stage.Dir, "mainjob.raw")
	output, err = stage.Packer(t.Context(), rehearsal.Packer{
		Dir: root, Env: box.Environ("AKIAOTHER"), Args: buildArgs(hcl, name, "2.0.0", rpm(t, "2.0.0")),
		EachLine: func(line string, _ *exec.Cmd) {
			if rehearsal.Comparing(line) {
				if err := stage.KeepWorkingDisk(kept); err != nil {
					t.Error(err)
				}
			}
		},
	})
	requests := load.Stop()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, output, box.Output())
	}
	ami := amiIn(t, output)
	t.Logf("%d requests served: %v", requests.Served, requests.ByVersion)

	t.Run("no request failed", func(t *testing.T) {
		if requests.Failed != 0 || requests.ByVersion["1.0.0"] == 0 || requests.ByVersion["2.0.0"] == 0 {
			t.Errorf("%d requests failed, served by version %v:\n%s", requests.Failed, requests.ByVersion, strings.Join(requests.Failures, "\n"))
		}
	})
	t.Run("the group runs the new image", func(t *testing.T) {
		running, err := box.RunningImages(t.Context(), name)
		if err != nil || len(running) != 1 || running[ami] != 3 {
			t.Errorf("instances in service by image: %v (%v), want 3 of %s", running, err, ami)
		}
		if version, err := rehearsal.Version(t.Context(), group.URL); err != nil || version != "2.0.0" {
			t.Errorf("version %q answers (%v), want 2.0.0", version, err)
		}
	})
	t.Run("image and snapshot carry the commit", func(t *testing.T) { checkCommitTags(t, box, ami) })
	t.Run("exactly the changed blocks were uploaded", func(t *testing.T) { checkBlocks(t, stage, box, ami, kept) })
	t.Run("Ctrl-C during the bake leaves nothing", func(t *testing.T) {
		before := owned(t, box)
		output, err := stage.Packer(t.Context(), rehearsal.Packer{
			Dir: root, Env: box.Environ("AKIAOTHER"),
			Args:     buildArgs(hcl, name, "3.0.0", rpm(t, "3.0.0")),
			EachLine: interruptAt("Registering AMI"),
		})
		if err == nil {
			t.Fatalf("the build went on to its end:\n%s", output)
		}
		if after := owned(t, box); !maps.Equal(before, after) {
			t.Errorf("in AWS there was %v, and is %v:\n%s", before, after, output)
		}
	})
	t.Run("Ctrl-C during the rollout cancels the refresh", func(t *testing.T) {
		output, err := stage.Packer(t.Context(), rehearsal.Packer{
			Dir: root, Env: box.Environ("AKIAOTHER"), Args: buildArgs(hcl, name, "3.0.0", rpm(t, "3.0.0")),
			EachLine: interruptAt("Started instance refresh"),
		})
		if err == nil {
			t.Fatalf("the build went on to its end:\n%s", output)
		}
		says(t, output, []string{`[Cc]ancel`, name, `ami-`})
		refreshes, err := autoscaling.NewFromConfig(box.Config()).DescribeInstanceRefreshes(t.Context(),
			&autoscaling.DescribeInstanceRefreshesInput{AutoScalingGroupName: aws.String(name)})
		if err != nil {
			t.Fatal(err)
		}
		if status := refreshes.InstanceRefreshes[0].Status; status != "Cancelled" {
			t.Errorf("the refresh is %s, want Cancelled:\n%s", status, output)
		}
	})
	t.Run("an AMI that no group takes is destroyed", func(t *testing.T) {
		before := owned(t, box)
		output, err := stage.Packer(t.Context(), rehearsal.Packer{
			Dir: root, Env: box.Environ("AKIADIRECT"), Args: []string{"build", templateFile(t, rolloutOnly("nobody", "destroyed"))},
		})
		if err == nil {
			t.Fatalf("the build succeeded:\n%s", output)
		}
		if after := owned(t, box); !maps.Equal(before, after) {
			t.Errorf("in AWS there was %v, and is %v:\n%s", before, after, output)
		}
	})
	t.Run("the policies allowed all of it", func(t *testing.T) {
		for _, c := range readCalls(t, filepath.Join(stage.Dir, "calls.jsonl")) {
			if c.refused() {
				t.Errorf("%s of %s was refused: %v", c.Operation, c.Principal, c.Actions)
			}
		}
	})
}

func amiIn(t *testing.T, output rehearsal.Output) string {
	t.Helper()
	ami, err := output.AMI()
	if err != nil {
		t.Fatal(err)
	}
	return ami
}

func describeImage(t *testing.T, box *rehearsal.Sandbox, ami string) ec2types.Image {
	t.Helper()
	images, err := ec2.NewFromConfig(box.Config()).DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{ami}})
	if err != nil {
		t.Fatal(err)
	}
	return images.Images[0]
}

func checkCommitTags(t *testing.T, box *rehearsal.Sandbox, ami string) {
	git := exec.CommandContext(t.Context(), "git", "rev-parse", "HEAD")
	git.Dir = root
	head, err := git.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.TrimSpace(string(head))

	image := describeImage(t, box, ami)
	snapshots, err := ec2.NewFromConfig(box.Config()).DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{
		SnapshotIds: []string{*image.BlockDeviceMappings[0].Ebs.SnapshotId},
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, tags := range map[string][]ec2types.Tag{"image": image.Tags, "snapshot": snapshots.Snapshots[0].Tags} {
		found := map[string]string{}
		for _, tag := range tags {
			found[*tag.Key] = *tag.Value
		}
		if found["Source/CommitId"] != want {
			t.Errorf("the %s has Source/CommitId %q, want %s; tags: %v", what, found["Source/CommitId"], want, found)
		}
	}
}

// checkBlocks reads the new snapshot and the base's back, and compares them with
// each other and with the disk that was baked.
func checkBlocks(t *testing.T, stage *rehearsal.Stage, box *rehearsal.Sandbox, ami, baked string) {
	disk, err := rehearsal.DiskBlocks(baked)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := box.RootSnapshot(t.Context(), ami)
	if err != nil {
		t.Fatal(err)
	}
	made, err := box.SnapshotBlocks(t.Context(), snapshot)
	if err != nil {
		t.Fatal(err)
	}
	baseSnapshot, err := box.BaseSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	base, err := box.SnapshotBlocks(t.Context(), baseSnapshot)
	if err != nil {
		t.Fatal(err)
	}

	if wrong := made.Differing(disk); len(wrong) > 0 {
		t.Errorf("blocks of the snapshot that are not those of the baked disk: %v", wrong)
	}
	changed := len(disk.Differing(base))
	uploaded := 0
	for _, c := range readCalls(t, filepath.Join(stage.Dir, "calls.jsonl")) {
		if c.Operation == "PutSnapshotBlock" && c.Error == "" && strings.HasSuffix(c.Actions[0].Resources[0], snapshot) {
			uploaded++
		}
	}
	if uploaded != changed || changed == 0 {
		t.Errorf("%d blocks differ, %d were uploaded", changed, uploaded)
	}
	t.Logf("%d of %d blocks differ from the base, %d were uploaded", changed, len(made), uploaded)
}
