package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
)

// onInstances bakes the hello example on an instance. amazon-ebs looks every
// 15 s unless it is told otherwise, and can be told whole seconds only: a tenth
// of it, as of all of AWS's times here, is between one and two.
const onInstances = `
packer {
  required_plugins {
    immutable = {
      source  = "` + rehearsal.PluginSource + `"
      version = ">= 0.1.0"
    }
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.3.2"
    }
  }
}
variable "name" { type = string }
variable "endpoint" { type = string }
source "immutable-instance" "bench" {
  ami_name = var.name
}
source "amazon-ebs" "bench" {
  ami_name                = var.name
  custom_endpoint_ec2     = var.endpoint
  region                  = "` + rehearsal.Region + `"
  instance_type           = "t3.small"
  ssh_username            = "ec2-user"
  temporary_key_pair_type = "ed25519"
  imds_support            = "v2.0"
  source_ami_filter {
    filters     = { name = "al2023-ami-2023.*", root-device-type = "ebs", virtualization-type = "hvm" }
    owners      = ["amazon"]
    most_recent = true
  }
  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
  }
  aws_polling {
    delay_seconds = 1
    max_attempts  = 600
  }
}
build {
  sources = ["source.immutable-instance.bench", "source.amazon-ebs.bench"]
  provisioner "shell" {
    inline = ["echo sshd answered at $(date +%s.%N -d \"$(systemctl show --timestamp=us --value -p ActiveEnterTimestamp ssh)\")"]
  }
  provisioner "immutable-rpm" {
    packages = ["example/hello/dist/hello-1.0.0.x86_64.rpm"]
    services = ["hello.service"]
  }
  provisioner "immutable-seal" {}
}
`

// tenth is how much of AWS's time the builds on instances are given.
const tenth = 0.1

// instanceFigures lets immutable-instance and amazon-ebs build the same thing in
// turn, in one sandbox that takes a tenth of the time that AWS does.
func instanceFigures(ctx context.Context, dir, baseDisk string, stage *rehearsal.Stage, turns int, all *figures) (err error) {
	apart, err := rehearsal.NewStage(filepath.Join(dir, "instance"), stage.Plugin, stage.PackerBinary)
	if err != nil {
		return err
	}
	amazon, err := filepath.Abs(".bin/packer-plugin-amazon")
	if err != nil {
		return err
	}
	if err := errors.Join(apart.InstallPlugin(ctx), apart.InstallOther(ctx, amazon, "github.com/hashicorp/amazon")); err != nil {
		return err
	}
	box, err := apart.Start(ctx, "--base-disk", baseDisk, "--profile", "typical", "--time-scale", fmt.Sprint(tenth), "--call-log", callLog(apart))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, box.Stop()) }()
	for turn := range turns {
		ours, err := bakeOnInstance(ctx, apart, box, fmt.Sprintf("immutable-instance-%d", turn))
		if err != nil {
			return err
		}
		theirs, err := bakeOnInstance(ctx, apart, box, fmt.Sprintf("amazon-ebs-%d", turn))
		// It does not wait for a key pair that is seen late, as one in ten is.
		for again := 1; err != nil && again < 5; again++ {
			theirs, err = bakeOnInstance(ctx, apart, box, fmt.Sprintf("amazon-ebs-%d-%d", turn, again))
		}
		if err != nil {
			return err
		}
		overhead, err := ours.overhead(ctx, box)
		if err != nil {
			return err
		}
		all.add("instance_build", "s", ours.seconds)
		all.add("amazon_build", "s", theirs.seconds)
		all.add("instance_to_amazon", "ratio", ours.seconds/theirs.seconds)
		all.add("instance_calls", "calls", float64(len(ours.calls)))
		all.add("amazon_calls", "calls", float64(len(theirs.calls)))
		all.add("instance_to_amazon_calls", "ratio", float64(len(ours.calls))/float64(len(theirs.calls)))
		all.add("instance_overhead", "s", overhead)
	}
	return nil
}

// onInstance is one build on an instance, as it was seen from outside.
type onInstance struct {
	name    string
	seconds float64
	output  rehearsal.Output
	calls   []call
}

// call is a line of the sandbox's call log.
type call struct {
	Time      time.Time
	Operation string
	Principal string
	Ms        float64
}

// bakeOnInstance builds with the builder that the name begins with; an access key
// tells its calls from others'.
func bakeOnInstance(ctx context.Context, stage *rehearsal.Stage, box *rehearsal.Sandbox, name string) (*onInstance, error) {
	hcl := filepath.Join(stage.Dir, "instance.pkr.hcl")
	if err := os.WriteFile(hcl, []byte(onInstances), 0o600); err != nil {
		return nil, err
	}
	b, builder := &onInstance{name: name}, "immutable-instance"
	if strings.HasPrefix(name, "amazon-ebs") {
		builder = "amazon-ebs"
	}
	begun := time.Now()
	var err error
	b.output, err = stage.Packer(ctx, rehearsal.Packer{
		Env:  box.Environ("AKIA" + b.name),
		Args: []string{"build", "-only", builder + ".bench", "-var", "name=" + b.name, "-var", "endpoint=" + box.URL, hcl},
	})
	b.seconds = time.Since(begun).Seconds()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, b.output)
	}
	b.calls, err = callsOf(callLog(stage), "AKIA"+b.name)
	return b, err
}

// callsOf reads the calls that were made with an access key.
func callsOf(log, key string) (calls []call, err error) {
	text, err := os.ReadFile(log)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line call
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return nil, err
		}
		if line.Principal == key {
			calls = append(calls, line)
		}
	}
	return calls, lines.Err()
}

// overhead is what the build took, in seconds, beyond the cloud's own time and
// the provisioners'. The cloud's own is
//
//   - from the call that launched the instance until its SSH server was up, by
//     the instance's own clock, which is this machine's;
//   - the stop and the registration, as long as the profile has them last;
//   - the snapshot, from its start to its completion, as EC2 tells them;
//   - answering the calls, by the call log.
func (b *onInstance) overhead(ctx context.Context, box *rehearsal.Sandbox) (float64, error) {
	launched, cloud := time.Time{}, tenth*(clock.Stop+clock.Register).Seconds()
	for _, c := range b.calls {
		cloud += c.Ms / 1e3
		if c.Operation == "CreateFleet" {
			launched = c.Time
		}
	}
	up, err := b.answered()
	if err != nil {
		return 0, err
	}
	snapshot, err := b.snapshot(ctx, box)
	if err != nil {
		return 0, err
	}
	connected, ok := b.output.At(`Connected to SSH`)
	stopping, stopped := b.output.At(`Stopping i-`)
	if !ok || !stopped || launched.IsZero() {
		return 0, fmt.Errorf("the build did not say when it connected and when it stopped the instance:\n%s", b.output)
	}
	cloud += up.Sub(launched).Seconds() + snapshot.Seconds()
	return b.seconds - cloud - (stopping - connected).Seconds(), nil
}

// answered is when the instance's SSH server was up.
func (b *onInstance) answered() (time.Time, error) {
	line := b.output.Find(`sshd answered at (\d+)\.(\d{9})`)
	if line == nil {
		return time.Time{}, fmt.Errorf("the instance did not say when its SSH server was up:\n%s", b.output)
	}
	var seconds, nanoseconds int64
	if _, err := fmt.Sscan(line[1]+" "+line[2], &seconds, &nanoseconds); err != nil {
		return time.Time{}, err
	}
	return time.Unix(seconds, nanoseconds), nil
}

// snapshot is how long the AMI's snapshot took.
func (b *onInstance) snapshot(ctx context.Context, box *rehearsal.Sandbox) (time.Duration, error) {
	api := ec2.NewFromConfig(box.Config())
	images, err := api.DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: []types.Filter{{Name: aws.String("name"), Values: []string{b.name}}}})
	if err != nil {
		return 0, err
	}
	if len(images.Images) != 1 {
		return 0, fmt.Errorf("%d images are named %s", len(images.Images), b.name)
	}
	id := *images.Images[0].BlockDeviceMappings[0].Ebs.SnapshotId
	out, err := api.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
	if err != nil {
		return 0, err
	}
	return out.Snapshots[0].CompletionTime.Sub(*out.Snapshots[0].StartTime), nil
}
