package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"os/exec"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// template bakes the hello example, without a rollout.
const template = `
packer {
  required_plugins {
    immutable = {
      source  = "` + rehearsal.PluginSource + `"
      version = ">= 0.1.0"
    }
  }
}
variable "name" { type = string }
source "immutable-direct" "bench" {
  ami_name = var.name
}
build {
  sources = ["source.immutable-direct.bench"]
  provisioner "immutable-rpm" {
    packages = ["example/hello/dist/hello-1.0.0.x86_64.rpm"]
    services = ["hello.service"]
  }
  provisioner "immutable-seal" {}
}
`

// build is one packer build as it was seen from outside.
type build struct {
	seconds float64
	stages  map[string]float64
	memory  float64 // MiB, the most that a process of the plugin had

	disk     string // what was baked, kept
	changed  []int32
	uploaded int
}

// measure builds once. The number makes the AMI's name.
func measure(ctx context.Context, stage *rehearsal.Stage, box *rehearsal.Sandbox, number int) (*build, error) {
	hcl := filepath.Join(stage.Dir, "bench.pkr.hcl")
	if err := os.WriteFile(hcl, []byte(template), 0o600); err != nil {
		return nil, err
	}
	b := &build{disk: filepath.Join(stage.Dir, fmt.Sprintf("baked-%d.raw", number))}
	name := fmt.Sprintf("bench-%d", number)

	watching, stop := context.WithCancel(ctx)
	memory := watchMemory(watching, box.PID())
	var linked error
	begun := time.Now()
	output, err := stage.Packer(ctx, rehearsal.Packer{
		Env:  box.Environ("AKIABENCH"),
		Args: []string{"build", "-var", "name=" + name, hcl},
		EachLine: func(line string, _ *exec.Cmd) {
			if rehearsal.Comparing(line) {
				linked = stage.KeepWorkingDisk(b.disk)
			}
		},
	})
	b.seconds = time.Since(begun).Seconds()
	stop()
	b.memory = <-memory
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, output)
	}
	if linked != nil {
		return nil, linked
	}
	if b.stages, err = stages(output); err != nil {
		return nil, err
	}
	return b, b.count(ctx, stage, box, name)
}

// stages reads the plugin's line "Stages: copy 0.21 s, bake 3.10 s, …".
func stages(output rehearsal.Output) (map[string]float64, error) {
	line := output.Find(`Stages: (.*)`)
	if line == nil {
		return nil, fmt.Errorf("the build did not say how long its stages took:\n%s", output)
	}
	took := map[string]float64{}
	for _, part := range strings.Split(line[1], ", ") {
		words := strings.Fields(part)
		seconds, err := strconv.ParseFloat(words[1], 64)
		if err != nil {
			return nil, fmt.Errorf("stage %q: %w", part, err)
		}
		took[words[0]] = seconds
	}
	return took, nil
}

// count compares the baked disk with the base, independently of the plugin,
// and counts the calls that wrote blocks of the new snapshot.
func (b *build) count(ctx context.Context, stage *rehearsal.Stage, box *rehearsal.Sandbox, name string) error {
	baked, err := rehearsal.DiskBlocks(b.disk)
	if err != nil {
		return err
	}
	parent, err := box.BaseSnapshot(ctx)
	if err != nil {
		return err
	}
	base, err := box.SnapshotBlocks(ctx, parent)
	if err != nil {
		return err
	}
	b.changed = baked.Differing(base)

	images, err := ec2.NewFromConfig(box.Config()).DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}})
	if err != nil {
		return err
	}
	for _, image := range images.Images {
		if aws.ToString(image.Name) == name {
			b.uploaded, err = puts(callLog(stage), *image.BlockDeviceMappings[0].Ebs.SnapshotId)
			return err
		}
	}
	return fmt.Errorf("no image is named %s", name)
}

// puts counts the successful PutSnapshotBlock calls for a snapshot.
func puts(log, snapshot string) (int, error) {
	text, err := os.ReadFile(log)
	if err != nil {
		return 0, err
	}
	count := 0
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var call struct {
			Operation, Error string
			Actions          []struct{ Resources []string }
		}
		if err := json.Unmarshal(lines.Bytes(), &call); err != nil {
			return 0, err
		}
		if call.Operation == "PutSnapshotBlock" && call.Error == "" && strings.HasSuffix(call.Actions[0].Resources[0], snapshot) {
			count++
		}
	}
	return count, lines.Err()
}

func (b *build) uploadedMB() float64 { return float64(b.uploaded) * rehearsal.BlockSize / 1e6 }

// uploadRate is in MB/s.
func (b *build) uploadRate() float64 { return b.uploadedMB() / b.stages["upload"] }

func (b *build) report(all *figures) {
	all.add("build", "s", b.seconds)
	for _, stage := range []string{"copy", "bake", "scan", "upload"} {
		all.add("build_"+stage, "s", b.stages[stage])
	}
	all.add("blocks_changed", "blocks", float64(len(b.changed)))
	all.add("blocks_uploaded", "blocks", float64(b.uploaded))
	all.add("uploaded_to_changed", "ratio", float64(b.uploaded)/float64(len(b.changed)))
	all.add("upload", "MB/s", b.uploadRate())
	all.add("peak_memory", "MiB", b.memory)
}

// watchMemory samples the high-water mark of resident memory of every process
// of the plugin but the sandbox, until ctx ends, and gives the highest in MiB.
func watchMemory(ctx context.Context, sandbox int) <-chan float64 {
	highest := make(chan float64, 1)
	go func() {
		most := 0.0
		ticks := time.NewTicker(20 * time.Millisecond)
		defer ticks.Stop()
		for {
			most = max(most, pluginMemory(sandbox))
			select {
			case <-ctx.Done():
				highest <- most
				return
			case <-ticks.C:
			}
		}
	}()
	return highest
}

func pluginMemory(sandbox int) float64 {
	most := 0.0
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0
	}
	for _, process := range processes {
		executable, err := os.Readlink(filepath.Join(process, "exe"))
		pid, _ := strconv.Atoi(filepath.Base(process))
		if err == nil && strings.Contains(filepath.Base(executable), "packer-plugin-immutable") && pid != sandbox {
			most = max(most, residentMemory(pid))
		}
	}
	return most
}

// residentMemory is the high-water mark of a process's resident memory in MiB,
// 0 when there is no such process.
func residentMemory(pid int) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if words := strings.Fields(line); len(words) == 3 && words[0] == "VmHWM:" {
			if kib, err := strconv.ParseFloat(words[1], 64); err == nil {
				return kib / 1024
			}
		}
	}
	return 0
}
