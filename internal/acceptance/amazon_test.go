package acceptance

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// amazonBuild is an amazon-ebs build over SSH, with our provisioners and
// post-processors. Its instance, and all that the build makes for it, has the
// tag job.
const amazonBuild = `
packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.3.2"
    }
  }
}

variable "endpoint" { type = string }
variable "group" { type = string }
variable "version" { type = string }
variable "rpm" { type = string }
variable "encrypt" { default = false }
variable "force" { default = false }
variable "spot_price" { default = "" }

source "amazon-ebs" "hello" {
  custom_endpoint_ec2 = var.endpoint
  region              = "eu-west-1"
  instance_type       = "t3.small"
  spot_price          = var.spot_price
  source_ami_filter {
    filters     = { name = "al2023-ami-2023.*", root-device-type = "ebs", virtualization-type = "hvm" }
    owners      = ["amazon"]
    most_recent = true
  }
  ssh_username            = "ec2-user"
  temporary_key_pair_type = "ed25519"
  aws_polling {
    delay_seconds = 1
    max_attempts  = 120
  }

  ami_name              = var.group
  ami_description       = "hello ${var.version}"
  ami_regions           = ["us-east-1"]
  ami_users             = ["210987654321"]
  encrypt_boot          = var.encrypt
  kms_key_id            = var.encrypt ? "alias/hello" : ""
  region_kms_key_ids    = var.encrypt ? { us-east-1 = "alias/hello" } : {}
  force_deregister      = var.force
  force_delete_snapshot = var.force
  deprecate_at          = "2030-01-02T03:04:00Z"
  imds_support          = "v2.0"
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_size           = 10
    volume_type           = "gp3"
    delete_on_termination = true
  }
  launch_block_device_mappings {
    device_name           = "/dev/sdf"
    volume_size           = 1
    delete_on_termination = true
  }
  run_tags        = { job = var.group }
  run_volume_tags = { job = var.group }
  tags            = { Version = var.version }
  snapshot_tags   = { Kind = "amazon-ebs" }
}

build {
  sources = ["source.amazon-ebs.hello"]

  provisioner "shell" {
    inline = ["test $(id -un) = ec2-user", "getent hosts $(hostname)", "echo ${var.version} | sudo tee /etc/by-shell"]
  }
  provisioner "immutable-rpm" {
    packages = [var.rpm]
    services = ["hello.service"]
  }
  provisioner "immutable-seal" {}

  post-processors {
    post-processor "immutable-tag" {}
    post-processor "immutable-rollout" {
      auto_scaling_group = var.group
    }
  }
}
`

// TestAmazonPlugin lets HashiCorp's own plugin build AMIs in the sandbox, in an
// instance that runs, and rolls one of them out.
func TestAmazonPlugin(t *testing.T) {
	t.Parallel()
	stage, box := sandbox(t)
	plugin := filepath.Join(root, ".bin/packer-plugin-amazon")
	if _, err := os.Stat(plugin); err != nil {
		t.Fatalf("%v: `make test` builds it", err)
	}
	if err := stage.InstallOther(t.Context(), plugin, "github.com/hashicorp/amazon"); err != nil {
		t.Fatal(err)
	}
	const name = "amazon"
	a := amazon{t, box, name}
	hcl := templateFile(t, amazonBuild)
	build := func(version string, more ...string) (rehearsal.Output, error) {
		args := append([]string{"build", "-var", "endpoint=" + box.URL}, more...)
		return stage.Packer(t.Context(), rehearsal.Packer{
			Dir: root, Env: box.Environ("AKIAAMAZON"), Args: append(args, buildArgs(hcl, name, version, rpm(t, version))[1:]...),
		})
	}

	output, err := build("1.0.0", "-except=immutable-rollout")
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, output, box.Output())
	}
	says(t, output, []string{`Creating temporary keypair`, `Creating temporary security group`, `Connected to SSH`})
	first := a.images("1.0.0", false)
	a.shared(first)
	a.nothingLeft(first)
	group, err := box.NewGroup(t.Context(), rehearsal.GroupSpec{
		Name: name, ImageID: *first[rehearsal.Region].ImageId, Size: 2, Port: 8080, Warmup: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := box.WaitHealthy(t.Context(), group, 2); err != nil {
		t.Fatalf("%v\n%s", err, box.Output())
	}

	output, err = build("2.0.0")
	if err == nil {
		t.Fatalf("an AMI name was taken twice:\n%s", output)
	}
	says(t, output, []string{`AMI Name: '` + name + `' is used by an existing AMI: ` + *first[rehearsal.Region].ImageId})

	// By a Spot Instance, which amazon-ebs launches by a fleet.
	output, err = build("2.0.0", "-var", "force=true", "-var", "encrypt=true", "-var", "spot_price=auto")
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, output, box.Output())
	}
	says(t, output, []string{`Created Spot Fleet launch template`, `Deleting unencrypted|deleting unencrypted`})
	second := a.images("2.0.0", true)
	a.shared(second)
	a.gone(first)
	a.nothingLeft(second)
	running, err := box.RunningImages(t.Context(), name)
	if err != nil || len(running) != 1 || running[*second[rehearsal.Region].ImageId] != 2 {
		t.Errorf("instances in service by image: %v (%v), want 2 of %s", running, err, *second[rehearsal.Region].ImageId)
	}
	if version, err := rehearsal.Version(t.Context(), group.URL); err != nil || version != "2.0.0" {
		t.Errorf("version %q answers (%v), want 2.0.0", version, err)
	}
}

// amazon looks at what builds of one name made.
type amazon struct {
	*testing.T
	box  *rehearsal.Sandbox
	name string
}

func (a amazon) in(region string) *ec2.Client {
	config := a.box.Config()
	config.Region = region
	return ec2.NewFromConfig(config)
}

// images gives the AMI of each region, of which each has one.
func (a amazon) images(version string, encrypted bool) map[string]ec2types.Image {
	a.Helper()
	images := map[string]ec2types.Image{}
	for _, region := range []string{rehearsal.Region, "us-east-1"} {
		// The instance's tags, which an intermediary image has too.
		found, err := a.in(region).DescribeImages(a.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: filter("tag:job", a.name)})
		if err != nil {
			a.Fatal(err)
		}
		if len(found.Images) != 1 {
			a.Fatalf("%s has %d images of the build, want 1", region, len(found.Images))
		}
		image := found.Images[0]
		images[region] = image
		tags := byKey(image.Tags)
		if *image.Name != a.name || tags["Version"] != version || tags["Source/CommitId"] == "" || tags["Package/hello"] == "" {
			a.Errorf("%s: the image is called %s and tagged %v", region, *image.Name, tags)
		}
		// A copy of an image has its description from CopyImage alone: the build
		// sets it.
		if *image.Description != "hello "+version || aws.ToString(image.DeprecationTime) != "2030-01-02T03:04:00.000Z" || image.ImdsSupport != ec2types.ImdsSupportValuesV20 {
			a.Errorf("%s: the image has the description %q, is deprecated at %s, and has IMDS %q",
				region, *image.Description, aws.ToString(image.DeprecationTime), image.ImdsSupport)
		}
		a.devices(region, image, encrypted)
	}
	return images
}

func (a amazon) devices(region string, image ec2types.Image, encrypted bool) {
	a.Helper()
	sizes := map[string]int32{}
	for _, device := range image.BlockDeviceMappings {
		sizes[*device.DeviceName] = *device.Ebs.VolumeSize
		if *device.Ebs.Encrypted != encrypted {
			a.Errorf("%s: encryption of %s is %v", region, *device.DeviceName, *device.Ebs.Encrypted)
		}
		snapshots, err := a.in(region).DescribeSnapshots(a.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*device.Ebs.SnapshotId}})
		if err != nil {
			a.Fatal(err)
		}
		if tags := byKey(snapshots.Snapshots[0].Tags); tags["Kind"] != "amazon-ebs" || tags["Source/CommitId"] == "" {
			a.Errorf("%s: the snapshot of %s is tagged %v", region, *device.DeviceName, tags)
		}
	}
	if len(sizes) != 2 || sizes["/dev/xvda"] != 10 || sizes["/dev/sdf"] != 1 {
		a.Errorf("%s: the image has devices of %v GiB, want /dev/xvda of 10 and /dev/sdf of 1", region, sizes)
	}
}

func byKey(tags []ec2types.Tag) map[string]string {
	values := map[string]string{}
	for _, tag := range tags {
		values[*tag.Key] = *tag.Value
	}
	return values
}

// shared looks at who may launch the images.
func (a amazon) shared(images map[string]ec2types.Image) {
	a.Helper()
	for region, image := range images {
		permissions, err := a.in(region).DescribeImageAttribute(a.Context(), &ec2.DescribeImageAttributeInput{
			ImageId: image.ImageId, Attribute: ec2types.ImageAttributeNameLaunchPermission,
		})
		if err != nil {
			a.Fatal(err)
		}
		var users []string
		for _, permission := range permissions.LaunchPermissions {
			users = append(users, aws.ToString(permission.UserId))
		}
		if want := []string{"210987654321"}; !slices.Equal(users, want) {
			a.Errorf("%s: the image may be launched by %v, want %v", region, users, want)
		}
	}
}

// gone looks for the snapshots of images that were taken away.
func (a amazon) gone(images map[string]ec2types.Image) {
	a.Helper()
	for region, image := range images {
		for _, device := range image.BlockDeviceMappings {
			_, err := a.in(region).DescribeSnapshots(a.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*device.Ebs.SnapshotId}})
			if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "InvalidSnapshot.NotFound" {
				a.Errorf("%s: %s of the former image is still there (%v)", region, *device.Ebs.SnapshotId, err)
			}
		}
	}
}

// nothingLeft looks for what a build makes for itself: its instance, volumes,
// key pair, security group, launch template, and the snapshots of an
// intermediary image.
func (a amazon) nothingLeft(made map[string]ec2types.Image) {
	a.Helper()
	mine, client := filter("tag:job", a.name), a.in(rehearsal.Region)
	instances, err := client.DescribeInstances(a.Context(), &ec2.DescribeInstancesInput{Filters: mine})
	if err != nil {
		a.Fatal(err)
	}
	if len(instances.Reservations) == 0 {
		a.Error("there was no instance with the build's tags")
	}
	for _, reservation := range instances.Reservations {
		for _, instance := range reservation.Instances {
			if instance.State.Name != ec2types.InstanceStateNameTerminated {
				a.Errorf("%s is %s", *instance.InstanceId, instance.State.Name)
			}
			if options := instance.MetadataOptions; options.HttpTokens != ec2types.HttpTokensStateRequired || *options.HttpPutResponseHopLimit != 1 {
				a.Errorf("%s has the metadata options %+v", *instance.InstanceId, options)
			}
		}
	}
	volumes, err := client.DescribeVolumes(a.Context(), &ec2.DescribeVolumesInput{Filters: mine})
	if err != nil || len(volumes.Volumes) > 0 {
		a.Errorf("%d volumes are left (%v)", len(volumes.Volumes), err)
	}
	keys, err := client.DescribeKeyPairs(a.Context(), &ec2.DescribeKeyPairsInput{Filters: mine})
	if err != nil || len(keys.KeyPairs) > 0 {
		a.Errorf("%d key pairs are left (%v)", len(keys.KeyPairs), err)
	}
	groups, err := client.DescribeSecurityGroups(a.Context(), &ec2.DescribeSecurityGroupsInput{Filters: mine})
	if err != nil || len(groups.SecurityGroups) > 0 {
		a.Errorf("%d security groups are left (%v)", len(groups.SecurityGroups), err)
	}
	templates, err := client.DescribeLaunchTemplates(a.Context(), &ec2.DescribeLaunchTemplatesInput{
		Filters: filter("launch-template-name", "packer-*"),
	})
	if err != nil || len(templates.LaunchTemplates) > 0 {
		a.Errorf("%d launch templates are left (%v)", len(templates.LaunchTemplates), err)
	}
	snapshots, err := client.DescribeSnapshots(a.Context(), &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: mine})
	if err != nil {
		a.Fatal(err)
	}
	for _, snapshot := range snapshots.Snapshots {
		if !slices.ContainsFunc(made[rehearsal.Region].BlockDeviceMappings, func(device ec2types.BlockDeviceMapping) bool {
			return *device.Ebs.SnapshotId == *snapshot.SnapshotId
		}) {
			a.Errorf("%s is left", *snapshot.SnapshotId)
		}
	}
}
