package sandbox_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/block"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/calls"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
)

func options(t *testing.T, change func(*sandbox.Options)) sandbox.Options {
	o := sandbox.Options{
		Listen: "127.0.0.1:0", StateDir: t.TempDir(), Machines: sandbox.None, Profile: clock.Instant, TimeScale: 1,
		Report: func(err error) { t.Error(err) },
	}
	if change != nil {
		change(&o)
	}
	return o
}

// run serves a sandbox, and gives its clients' configuration and what ends it.
func run(t *testing.T, o sandbox.Options) (aws.Config, func()) {
	t.Helper()
	box, err := sandbox.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- box.Serve(ctx) }()
	ended := false
	end := func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	return aws.Config{
		Region: "eu-west-1", BaseEndpoint: aws.String(box.URL()), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKIATEST", "secret", ""),
	}, end
}

// baseDisk is a disk of 1 GiB with a byte in a few blocks.
func baseDisk(t *testing.T, blocks ...int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "base.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	for _, index := range blocks {
		if _, err := f.WriteAt([]byte{byte(index + 1)}, index*block.Size); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func arch() string {
	if runtime.GOARCH == "arm64" {
		return "arm64"
	}
	return "x86_64"
}

// baseID is the image that the public parameter names.
func baseID(t *testing.T, cfg aws.Config) string {
	t.Helper()
	name := "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-" + arch()
	out, err := ssm.NewFromConfig(cfg).GetParameter(t.Context(), &ssm.GetParameterInput{Name: &name})
	if err != nil {
		t.Fatal(err)
	}
	return *out.Parameter.Value
}

func image(t *testing.T, cfg aws.Config, id string) types.Image {
	t.Helper()
	out, err := ec2.NewFromConfig(cfg).DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{id}})
	if err != nil {
		t.Fatal(err)
	}
	return out.Images[0]
}

func TestTheBaseDiskIsAPublicImage(t *testing.T) {
	cfg, _ := run(t, options(t, func(o *sandbox.Options) { o.BaseDisk = baseDisk(t, 0, 5) }))
	base := image(t, cfg, baseID(t, cfg))
	if *base.OwnerId != "137112412989" || !*base.Public || !strings.HasPrefix(*base.Name, "al2023-ami-2023.") || base.ImdsSupport != "v2.0" {
		t.Errorf("the base image is %+v", base)
	}
	if ebs := base.BlockDeviceMappings[0].Ebs; *ebs.VolumeSize != 1 {
		t.Errorf("the root volume has %d GiB, want 1", *ebs.VolumeSize)
	}
}

// A base of another account can't be read; its copy can, and has its contents.
func TestACopyOfTheBaseReadsAsTheDisk(t *testing.T) {
	disk := baseDisk(t, 0, 5)
	cfg, _ := run(t, options(t, func(o *sandbox.Options) { o.BaseDisk = disk }))
	base := image(t, cfg, baseID(t, cfg))
	reader := ebs.NewFromConfig(cfg)
	if _, err := reader.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: base.BlockDeviceMappings[0].Ebs.SnapshotId}); err == nil {
		t.Error("Amazon's snapshot can be read")
	}

	client := ec2.NewFromConfig(cfg)
	copied, err := client.CopyImage(t.Context(), &ec2.CopyImageInput{Name: aws.String("own"), SourceImageId: base.ImageId, SourceRegion: aws.String("eu-west-1")})
	if err != nil {
		t.Fatal(err)
	}
	if err := ec2.NewImageAvailableWaiter(client).Wait(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{*copied.ImageId}}, time.Minute); err != nil {
		t.Fatal(err)
	}
	own := image(t, cfg, *copied.ImageId).BlockDeviceMappings[0].Ebs.SnapshotId
	listed, err := reader.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: own})
	if err != nil {
		t.Fatal(err)
	}
	if len(listed.Blocks) != 2 || *listed.Blocks[1].BlockIndex != 5 {
		t.Fatalf("blocks %+v, want 0 and 5", listed.Blocks)
	}
	got, err := reader.GetSnapshotBlock(t.Context(), &ebs.GetSnapshotBlockInput{SnapshotId: own, BlockIndex: aws.Int32(5), BlockToken: listed.Blocks[1].BlockToken})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = got.BlockData.Close() }()
	data, err := io.ReadAll(got.BlockData)
	if want := append([]byte{6}, make([]byte, block.Size-1)...); err != nil || !bytes.Equal(data, want) {
		t.Errorf("block 5 has other contents than the disk (%v)", err)
	}
}

func TestTheStateSurvivesARestart(t *testing.T) {
	disk := baseDisk(t, 0)
	o := options(t, func(o *sandbox.Options) { o.BaseDisk = disk })
	cfg, end := run(t, o)
	before := baseID(t, cfg)
	end()

	cfg, end = run(t, o)
	if again := baseID(t, cfg); again != before {
		t.Errorf("the base is %s after a restart, and was %s", again, before)
	}
	end()

	o.BaseDisk = baseDisk(t, 0, 1)
	cfg, _ = run(t, o)
	if now := baseID(t, cfg); now == before {
		t.Error("another disk did not become another base")
	}
	image(t, cfg, before)
}

func TestWithoutABaseDiskThereIsNoBase(t *testing.T) {
	cfg, _ := run(t, options(t, nil))
	name := "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-" + arch()
	if _, err := ssm.NewFromConfig(cfg).GetParameter(t.Context(), &ssm.GetParameterInput{Name: &name}); err == nil || !strings.Contains(err.Error(), "ParameterNotFound") {
		t.Errorf("the parameter gives %v", err)
	}
}

func TestATemporaryStateIsRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	_, end := run(t, options(t, func(o *sandbox.Options) { o.StateDir = "" }))
	end()
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*sandbox.Options)
		want   string
	}{
		{"the world", func(o *sandbox.Options) { o.Listen = "0.0.0.0:0" }, "this host only"},
		{"no port", func(o *sandbox.Options) { o.Listen = "127.0.0.1" }, "127.0.0.1:4566"},
		{"machines", func(o *sandbox.Options) { o.Machines = "qemu" }, "container or none"},
		{"profile", func(o *sandbox.Options) { o.Profile = "slow" }, "instant or typical"},
		{"time scale", func(o *sandbox.Options) { o.TimeScale = -1 }, "above 0"},
		{"a region", func(o *sandbox.Options) { o.Regions, o.BaseDisk = []string{"../up"}, "sandbox.go" }, "no region"},
		{"base disk", func(o *sandbox.Options) { o.BaseDisk = "/nowhere" }, "example/base/build"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if box, err := sandbox.Open(t.Context(), options(t, test.change)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Open gave %v, want an error with %q", err, test.want)
				if err == nil {
					_ = box.Close()
				}
			}
		})
	}
}

func TestTheCallLogNamesActionsAndPrincipals(t *testing.T) {
	var log bytes.Buffer
	cfg, end := run(t, options(t, func(o *sandbox.Options) { o.CallLog = &log }))
	started, err := ebs.NewFromConfig(cfg).StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ebs.NewFromConfig(cfg).ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: started.SnapshotId}); err == nil {
		t.Error("a pending snapshot was listed")
	}
	end()

	var lines []calls.Line
	for scanner := bufio.NewScanner(&log); scanner.Scan(); {
		var line calls.Line
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2", len(lines))
	}
	if l := lines[0]; l.Operation != "StartSnapshot" || l.Principal != "AKIATEST" || l.Region != "eu-west-1" || l.Status != 201 ||
		l.Actions[0].Name != "ebs:StartSnapshot" || l.Actions[0].Resources[0] != "arn:aws:ec2:eu-west-1::snapshot/*" {
		t.Errorf("first line %+v", l)
	}
	if l := lines[1]; l.Error != "ValidationException" || l.Actions[0].Resources[0] != "arn:aws:ec2:eu-west-1::snapshot/"+*started.SnapshotId {
		t.Errorf("second line %+v", l)
	}
}
