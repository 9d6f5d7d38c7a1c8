package base

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/zclconf/go-cty/cty"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
)

type options = map[string]any

func TestConfigureNamesOptionValueAndRemedy(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-west-1")
	for name, test := range map[string]struct {
		options options
		want    string
	}{
		"another distribution":           {options{"distribution": "ubuntu"}, `distribution is "ubuntu"; it is one of al2023, al2`},
		"another variant":                {options{"variant": "tiny"}, `variant is "tiny"; it is one of standard, minimal`},
		"another architecture":           {options{"architecture": "amd64"}, `architecture is "amd64"; it is one of x86_64, arm64`},
		"a kernel of the other":          {options{"kernel": "5.10"}, `kernel is "5.10"; AWS publishes al2023 standard with default, 6.1, 6.12, 6.18`},
		"a kernel that has no minimal":   {options{"distribution": "al2", "variant": "minimal", "kernel": "5.10"}, `AWS publishes al2 minimal with default`},
		"a base of one's own and AWS's":  {options{"source_ssm_parameter": "/base", "kernel": "6.12"}, "source_ssm_parameter is given together with distribution, variant, kernel or architecture"},
		"a negative age":                 {options{"max_age": "-1h"}, "max_age is -1h0m0s; it can't be negative"},
		"an age that is none":            {options{"max_age": "30 days"}, "max_age"},
		"an unknown region":              {options{"region": "eu-wset-1"}, `region "eu-wset-1"`},
		"an option that there is not":    {options{"release": "2023"}, "release"},
		"a secret key without its other": {options{"secret_key": "hunter2hunter2"}, "access_key and secret_key"},
	} {
		t.Run(name, func(t *testing.T) {
			err := new(Datasource).Configure(test.options)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Configure gave %v, want %q", err, test.want)
			}
		})
	}
}

func TestABaseThatIsTooOldIsRefused(t *testing.T) {
	now := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for name, test := range map[string]struct {
		created string
		maxAge  time.Duration
		want    string // "" for none
	}{
		"any age":           {"2020-01-01T00:00:00.000Z", 0, ""},
		"just young enough": {"2026-01-01T00:00:00.000Z", 30 * day, ""},
		"too old":           {"2025-12-31T23:00:00.000Z", 30 * day, "the base ami-0a (al2023) was created 2025-12-31T23:00:00.000Z, 721h0m0s ago, and max_age is 720h0m0s; renew the base"},
		"made in no time":   {"", 30 * day, `does not tell its age: its creation date is ""; leave max_age out`},
		"made tomorrow":     {"2026-02-01T00:00:00.000Z", 30 * day, ""},
		"no date, any age":  {"", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			base := types.Image{ImageId: aws.String("ami-0a"), Name: aws.String("al2023"), CreationDate: &test.created}
			err := stale(base, test.maxAge, now)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("gave %v, want %q", err, test.want)
			}
		})
	}
}

// openSandbox opens a sandbox whose public base is a disk of nothing.
func openSandbox(t *testing.T) aws.Config {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "base.raw")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	box, err := sandbox.Open(t.Context(), sandbox.Options{
		Listen: "127.0.0.1:0", StateDir: t.TempDir(), BaseDisk: disk, Machines: sandbox.None, Profile: clock.Instant, TimeScale: 1,
		Report: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- box.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-served, box.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("AWS_ENDPOINT_URL", box.URL())
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIABASE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "rehearsal")
	t.Setenv("AWS_REGION", "eu-west-1")
	return aws.Config{Region: "eu-west-1", BaseEndpoint: aws.String(box.URL()), Credentials: credentials.NewStaticCredentialsProvider("AKIATEST", "rehearsal", "")}
}

// lookUp gives the attributes of the base that the options choose.
func lookUp(t *testing.T, options options) (map[string]string, error) {
	t.Helper()
	var d Datasource
	if err := d.Configure(options); err != nil {
		t.Fatal(err)
	}
	value, err := d.Execute()
	if err != nil {
		return nil, err
	}
	attributes := map[string]string{}
	for name, v := range value.AsValueMap() {
		if v.Type() != cty.String || v.IsNull() {
			t.Errorf("%s is %#v, want a string", name, v)
			continue
		}
		attributes[name] = v.AsString()
	}
	return attributes, nil
}

func TestTheBaseIsDescribed(t *testing.T) {
	cfg := openSandbox(t)
	public, err := ec2.NewFromConfig(cfg).DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}})
	if err != nil {
		t.Fatal(err)
	}
	base := public.Images[0]
	want := map[string]string{
		"id": *base.ImageId, "name": *base.Name, "owner": *base.OwnerId, "creation_date": *base.CreationDate,
		"root_snapshot": *base.BlockDeviceMappings[0].Ebs.SnapshotId, "architecture": string(base.Architecture), "boot_mode": string(base.BootMode),
		"release": "2023.9.20251105.0", "kernel": "6.18", "region": "eu-west-1",
	}
	for _, variant := range []string{"standard", "minimal"} {
		for _, kernel := range []string{"", "default", "6.1", "6.12", "6.18"} {
			got, err := lookUp(t, options{"variant": variant, "kernel": kernel})
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s, kernel %q: %v (%v), want %v", variant, kernel, got, err, want)
			}
		}
	}
}

func TestAParameterThatIsNotThereIsNamed(t *testing.T) {
	openSandbox(t)
	other := "arm64"
	if runtime.GOARCH == "arm64" {
		other = "x86_64"
	}
	for parameter, options := range map[string]options{
		`the public SSM parameter "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-6.12-` + other + `" does not exist in this region`: {"kernel": "6.12", "architecture": other},
		`the public SSM parameter "/aws/service/ami-amazon-linux-latest/amzn2-ami-hvm-` + other + `-gp2"`:                                    {"distribution": "al2", "architecture": other},
		`the public SSM parameter "/aws/service/ami-amazon-linux-latest/amzn2-ami-kernel-5.10-hvm-` + other + `-gp2"`:                        {"distribution": "al2", "kernel": "5.10", "architecture": other},
		`the public SSM parameter "/aws/service/ami-amazon-linux-latest/amzn2-ami-minimal-hvm-` + other + `-ebs"`:                            {"distribution": "al2", "variant": "minimal", "architecture": other},
		`source_ssm_parameter "/base" does not exist in this region`:                                                                         {"source_ssm_parameter": "/base"},
	} {
		if _, err := lookUp(t, options); err == nil || !strings.Contains(err.Error(), parameter) {
			t.Errorf("%v: %v, want %s", options, err, parameter)
		}
	}
}

func TestABaseOfOnesOwn(t *testing.T) {
	cfg := openSandbox(t)
	amazon, err := lookUp(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	compute := ec2.NewFromConfig(cfg)
	own, err := compute.CopyImage(t.Context(), &ec2.CopyImageInput{SourceImageId: aws.String(amazon["id"]), SourceRegion: aws.String("eu-west-1"), Name: aws.String("golden-1.2.3")})
	if err != nil {
		t.Fatal(err)
	}
	waiter := ec2.NewImageAvailableWaiter(compute, func(o *ec2.ImageAvailableWaiterOptions) { o.MinDelay = 10 * time.Millisecond })
	if err := waiter.Wait(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{*own.ImageId}}, time.Minute); err != nil {
		t.Fatal(err)
	}
	_, err = ssm.NewFromConfig(cfg).PutParameter(t.Context(), &ssm.PutParameterInput{Name: aws.String("/base"), Value: own.ImageId, Type: ssmtypes.ParameterTypeString})
	if err != nil {
		t.Fatal(err)
	}
	got, err := lookUp(t, options{"source_ssm_parameter": "/base", "max_age": "1h"})
	if err != nil || got["id"] != *own.ImageId || got["name"] != "golden-1.2.3" || got["release"] != "" || got["kernel"] != "" || got["owner"] != "123456789012" {
		t.Errorf("gave %v (%v)", got, err)
	}
	// A day later it is too old.
	d := Datasource{now: func() time.Time { return time.Now().Add(24 * time.Hour) }}
	if err := d.Configure(options{"source_ssm_parameter": "/base", "max_age": "1h"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Execute(); err == nil || !strings.Contains(err.Error(), "(golden-1.2.3) was created") {
		t.Errorf("a base that is too old: %v", err)
	}
	if _, err := compute.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{*own.ImageId}, Tags: []types.Tag{{Key: aws.String("immutable:expires"), Value: aws.String("2000-01-01T00:00:00Z")}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := lookUp(t, options{"source_ssm_parameter": "/base"}); err == nil || !strings.Contains(err.Error(), "is not finished") {
		t.Errorf("a base that a build has not finished: %v", err)
	}
}
