package acceptance

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// instanceBuild bakes the hello example on an instance.
const instanceBuild = `
variable "name" { type = string }
variable "rpm" { type = string }
variable "method" { default = "snapshot" }
variable "interface" { default = "" }
variable "spot" { default = false }
source "immutable-instance" "x" {
  ami_name      = var.name
  image_method  = var.method
  ssh_interface = var.interface
  spot          = var.spot
  run_tags      = { job = var.name }
  user_data     = "#!/bin/sh\necho told >/var/tmp/told\n"
  tags          = { Base = "{{ .SourceAMI }}" }
  snapshot_tags = { Kind = "root" }
}
build {
  sources = ["source.immutable-instance.x"]
  provisioner "shell" {
    inline            = ["sudo pkill -KILL sshd; sudo systemctl restart ssh"]
    expect_disconnect = true
  }
  provisioner "shell" { inline = ["test $(id -un) = ec2-user", "systemctl is-system-running --wait || true", "grep told /var/tmp/told"] }
  provisioner "immutable-rpm" {
    packages = [var.rpm]
    services = ["hello.service"]
  }
  provisioner "immutable-seal" {}
}
`

// TestInstance bakes on instances that run, by both methods, with a key pair and
// with keys that are pushed, On-Demand and Spot, and launches what comes out. Each build loses its
// connection once.
func TestInstance(t *testing.T) {
	t.Parallel()
	stage, box := sandbox(t)
	hcl := templateFile(t, instanceBuild)
	for _, test := range []struct{ name, method, way, spot string }{
		{"by snapshot", "snapshot", "", "false"},
		{"by image", "create_image", "", "false"},
		{"by connect", "snapshot", "instance_connect", "false"},
		{"by spot", "snapshot", "", "true"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			name := "instance-" + strings.ReplaceAll(test.name, " ", "-")
			output, err := stage.Packer(t.Context(), rehearsal.Packer{
				Dir: root, Env: box.Environ("AKIAINSTANCE"), Args: []string{"build",
					"-var", "name=" + name, "-var", "rpm=" + rpm(t, "1.0.0"), "-var", "method=" + test.method, "-var", "interface=" + test.way, "-var", "spot=" + test.spot, hcl},
			})
			if err != nil {
				t.Fatalf("%v\n%s", err, output)
			}
			if left := ofJob(t, box, name); len(left) > 0 {
				t.Errorf("left behind: %v\n%s", left, output)
			}
			madeOnInstance(t, box, output, name)
		})
	}
}

// madeOnInstance looks at the AMI that a build made, and at an instance of it.
func madeOnInstance(t *testing.T, box *rehearsal.Sandbox, output rehearsal.Output, name string) {
	t.Helper()
	ctx, compute := t.Context(), ec2.NewFromConfig(box.Config())
	id, err := output.AMI()
	if err != nil {
		t.Fatal(err)
	}
	found, err := compute.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{id}})
	if err != nil {
		t.Fatal(err)
	}
	made := found.Images[0]
	tags := image.Tags(made)
	based, err := compute.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{tags["Base"]}})
	if err != nil {
		t.Fatal(err)
	}
	base := based.Images[0]
	if made.State != types.ImageStateAvailable || *made.Name != name || made.ImdsSupport != types.ImdsSupportValuesV20 {
		t.Errorf("made %+v", made)
	}
	if made.BootMode != base.BootMode || made.Architecture != base.Architecture || *made.EnaSupport != *base.EnaSupport || *made.RootDeviceName != *base.RootDeviceName {
		t.Errorf("made %+v\nof   %+v", made, base)
	}
	if tags["immutable:run"] == "" || tags["immutable:expires"] != "" {
		t.Errorf("the AMI's tags are %v", tags)
	}
	snapshots, err := compute.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: image.Snapshots(made)})
	if err != nil || len(snapshots.Snapshots) != 1 {
		t.Fatalf("%d snapshots: %v", len(snapshots.Snapshots), err)
	}
	if on := image.Tags(types.Image{Tags: snapshots.Snapshots[0].Tags}); on["Kind"] != "root" || on["immutable:expires"] != "" {
		t.Errorf("the snapshot's tags are %v", on)
	}
	group, err := box.NewGroup(ctx, rehearsal.GroupSpec{Name: name, ImageID: id, Size: 1, Port: 8080})
	if err != nil {
		t.Fatal(err)
	}
	if err := box.WaitHealthy(ctx, group, 1); err != nil {
		t.Errorf("an instance of the AMI never answered: %v", err)
	}
}

// ofJob lists what bears the tag job, but for fleets, which EC2 forgets by
// itself, and terminated instances.
func ofJob(t *testing.T, box *rehearsal.Sandbox, job string) (ids []string) {
	t.Helper()
	compute := ec2.NewFromConfig(box.Config())
	out, err := compute.DescribeTags(t.Context(), &ec2.DescribeTagsInput{Filters: []types.Filter{
		{Name: aws.String("key"), Values: []string{"job"}}, {Name: aws.String("value"), Values: []string{job}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range out.Tags {
		switch tag.ResourceType {
		case types.ResourceTypeFleet:
			continue
		case types.ResourceTypeInstance:
			if !there(t, box, *tag.ResourceId) {
				continue
			}
		}
		ids = append(ids, *tag.ResourceId)
	}
	return ids
}

// TestSourcesSideBySide bakes two sources in one build: what is made for the one
// is never taken for the other's.
func TestSourcesSideBySide(t *testing.T) {
	t.Parallel()
	stage, box := sandbox(t)
	hcl := templateFile(t, `
source "immutable-instance" "x" {
  architecture = "x86_64"
  run_tags     = { job = "side-by-side" }
}
build {
  source "immutable-instance.x" {
    name     = "one"
    ami_name = "side-by-side-one"
  }
  source "immutable-instance.x" {
    name     = "two"
    ami_name = "side-by-side-two"
  }
  provisioner "shell" { inline = ["echo ${source.name} | sudo tee /etc/source"] }
}
`)
	output, err := stage.Packer(t.Context(), rehearsal.Packer{Dir: root, Env: box.Environ("AKIASIDE"), Args: []string{"build", hcl}})
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	found, err := ec2.NewFromConfig(box.Config()).DescribeImages(t.Context(), &ec2.DescribeImagesInput{
		Owners: []string{"self"}, Filters: []types.Filter{{Name: aws.String("name"), Values: []string{"side-by-side-*"}}},
	})
	if err != nil || len(found.Images) != 2 || *found.Images[0].BlockDeviceMappings[0].Ebs.SnapshotId == *found.Images[1].BlockDeviceMappings[0].Ebs.SnapshotId {
		t.Errorf("%+v, %v\n%s", found.Images, err, output)
	}
	if left := ofJob(t, box, "side-by-side"); len(left) > 0 {
		t.Errorf("left behind: %v\n%s", left, output)
	}
}
