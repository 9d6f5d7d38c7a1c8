package acceptance

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

const reuseBuild = `
variable "name" { type = string }
variable "rpm" { type = string }
source "immutable-direct" "x" {
  ami_name    = var.name
  reuse_files = [var.rpm]
}
source "immutable-instance" "x" {
  ami_name    = var.name
  reuse_files = [var.rpm]
}
build {
  sources = ["source.immutable-direct.x", "source.immutable-instance.x"]
  provisioner "immutable-rpm" { packages = [var.rpm] }
  post-processor "immutable-tag" { tags = { Promoted = "${var.name}" } }
}
`

// TestReuse builds what there is already: by either builder that is the same AMI,
// in the time that a few calls take.
func TestReuse(t *testing.T) {
	t.Parallel()
	stage, box := sandbox(t)
	hcl := templateFile(t, reuseBuild)
	build := func(key, builder, name string) (ami string, output rehearsal.Output) {
		t.Helper()
		output, err := stage.Packer(t.Context(), rehearsal.Packer{Dir: root, Env: box.Environ(key), Args: []string{
			"build", "-only=" + builder + ".x", "-var", "name=" + name, "-var", "rpm=" + rpm(t, "1.0.0"), hcl,
		}})
		if err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		if ami, err = output.AMI(); err != nil {
			t.Fatal(err)
		}
		return ami, output
	}
	first, _ := build("AKIAREUSEFIRST", "immutable-direct", "reuse-first")
	tagsOf := func() map[string]string {
		t.Helper()
		found, err := ec2.NewFromConfig(box.Config()).DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{first}})
		if err != nil {
			t.Fatal(err)
		}
		return image.Tags(found.Images[0])
	}
	made := tagsOf()
	if made["Source/CommitId"] == "" || made["Package/hello"] == "" {
		t.Errorf("the AMI has the tags %v", made)
	}
	for _, builder := range []string{"immutable-direct", "immutable-instance"} {
		again, output := build("AKIAREUSEAGAIN", builder, "reuse-first")
		if again != first {
			t.Errorf("%s: the second build gives %s, not %s", builder, again, first)
		}
		says(t, output, []string{first + ` \(reuse-first\) .*is used again, and nothing is baked`, `it keeps the tags of the commit`})
	}
	for _, c := range readCalls(t, filepath.Join(stage.Dir, "calls.jsonl")) {
		begins := []string{"StartSnapshot", "PutSnapshotBlock", "ListSnapshotBlocks", "RunInstances", "CreateFleet", "RegisterImage"}
		if c.Principal == "AKIAREUSEAGAIN" && slices.Contains(begins, c.Operation) {
			t.Errorf("the second build called %s", c.Operation)
		}
	}
	if after := tagsOf(); after["Source/CommitId"] != made["Source/CommitId"] || after["Package/hello"] != made["Package/hello"] {
		t.Errorf("the AMI's tags were %v and are %v", made, after)
	}
}
