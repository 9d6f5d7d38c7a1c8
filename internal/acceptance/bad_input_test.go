package acceptance

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// TestValidate gives packer templates with one mistake each. What packer
// validate says must name the option, the value and the remedy.
func TestValidate(t *testing.T) {
	stage, box := sandbox(t)
	text := filepath.Join(t.TempDir(), "notes.rpm")
	if err := os.WriteFile(text, []byte("not an RPM"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := rpm(t, "1.0.0")
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(t.TempDir(), "damaged.rpm")
	flipped := append([]byte(nil), whole...)
	flipped[len(flipped)-100] ^= 1
	if err := os.WriteFile(damaged, flipped, 0o600); err != nil {
		t.Fatal(err)
	}

	direct := func(options string) string {
		return "source \"immutable-direct\" \"x\" {\n" + options + "\n}\nbuild { sources = [\"source.immutable-direct.x\"] }\n"
	}
	install := func(options string) string {
		return "source \"immutable-direct\" \"x\" { ami_name = \"x-1\" }\nbuild {\n  sources = [\"source.immutable-direct.x\"]\n  provisioner \"immutable-rpm\" {\n" + options + "\n  }\n}\n"
	}
	rollout := func(options string) string {
		return "source \"immutable-direct\" \"x\" { ami_name = \"x-1\" }\nbuild {\n  sources = [\"source.immutable-direct.x\"]\n  post-processor \"immutable-rollout\" {\n" + options + "\n  }\n}\n"
	}

	for _, test := range []struct {
		name, hcl string
		env       []string
		want      []string // regular expressions that the message must match
	}{
		{"unknown region", direct(`
			region   = "eu-west-9"
			ami_name = "x-1"`), nil,
			[]string{`region`, `eu-west-9`, `skip_region_validation|eu-west-[123]`}},
		{"no region", direct(`ami_name = "x-1"`), []string{"AWS_REGION="},
			[]string{`region`, `AWS_REGION`}},
		{"no AMI name", direct(``), nil,
			[]string{`ami_name`}},
		{"AMI name with forbidden characters", direct(`ami_name = "hello:1"`), nil,
			[]string{`ami_name`, `hello:1`, `letters|characters`}},
		{"AMI name too short", direct(`ami_name = "x"`), nil,
			[]string{`ami_name`, `"x"`, `3`}},
		{"two bases", direct(`
			ami_name     = "x-1"
			source_ami   = "ami-0123456789abcdef0"
			source_image = "/dev/null"`), nil,
			[]string{`source_ami`, `source_image`, `keep one`}},
		{"unknown machine", direct(`
			ami_name = "x-1"
			machine  = "vm"`), nil,
			[]string{`machine`, `vm`, `chroot, container`}},
		{"base disk that is not there", direct(`
			ami_name     = "x-1"
			source_image = "/nowhere.raw"`), nil,
			[]string{`source_image`, `/nowhere.raw`, `raw or qcow2`}},
		{"missing RPM", install(`packages = ["/nowhere/hello.rpm"]`), nil,
			[]string{`packages`, `/nowhere/hello.rpm`}},
		{"glob without a match", install(`packages = ["/nowhere/*.rpm"]`), nil,
			[]string{`packages`, `/nowhere/\*.rpm`}},
		{"not an RPM", install(fmt.Sprintf("packages = [%q]", text)), nil,
			[]string{`packages`, regexp.QuoteMeta(text), `not an RPM`}},
		{"damaged RPM", install(fmt.Sprintf("packages = [%q]", damaged)), nil,
			[]string{`packages`, regexp.QuoteMeta(damaged), `digest|damaged`}},
		{"unsigned RPM", install(fmt.Sprintf("packages = [%q]\nrequire_signature = true", good)), nil,
			[]string{`gpg_keys`}},
		{"unknown update", install(fmt.Sprintf("packages = [%q]\nupdate = \"some\"", good)), nil,
			[]string{`update`, `some`, `security`}},
		{"no group", rollout(``), nil,
			[]string{`auto_scaling_group`}},
		{"percentage out of range", rollout(`
			auto_scaling_group     = "hello"
			max_healthy_percentage = 201`), nil,
			[]string{`max_healthy_percentage`, `201`, `200`}},
		{"bounds too far apart", rollout(`
			auto_scaling_group     = "hello"
			min_healthy_percentage = 50
			max_healthy_percentage = 200`), nil,
			[]string{`min_healthy_percentage`, `max_healthy_percentage`, `100`}},
		{"no systemd-nspawn", direct(`
			ami_name = "x-1"
			machine  = "container"`), []string{"PATH=" + pathWithout(t, "systemd-nspawn")},
			[]string{`machine`, `systemd-nspawn`, `install`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			output, err := stage.Packer(t.Context(), rehearsal.Packer{
				Dir: root, Env: append(box.Environ("AKIAVALIDATE"), test.env...),
				Args: []string{"validate", templateFile(t, test.hcl)},
			})
			if err == nil {
				t.Fatalf("packer validate found nothing:\n%s", output)
			}
			says(t, output, test.want)
		})
	}
}

// pathWithout is a PATH with everything that this process's has but one program.
func pathWithout(t *testing.T, program string) string {
	t.Helper()
	dir := t.TempDir()
	for _, from := range filepath.SplitList(os.Getenv("PATH")) {
		entries, err := os.ReadDir(from)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			link := filepath.Join(dir, entry.Name())
			if _, err := os.Lstat(link); err == nil || entry.Name() == program {
				continue
			}
			if err := os.Symlink(filepath.Join(from, entry.Name()), link); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// says fails unless each expression matches what packer printed.
func says(t *testing.T, output rehearsal.Output, want []string) {
	t.Helper()
	// packer folds and indents what plugins say.
	text := strings.Join(strings.Fields(output.String()), " ")
	for _, expression := range want {
		if !regexp.MustCompile(expression).MatchString(text) {
			t.Errorf("packer does not say %q:\n%s", expression, output)
		}
	}
}

// TestBuildRefuses gives builds that only AWS, or the disk, shows to be wrong.
// Each ends with an error that names the cause and the remedy, before anything
// is created.
func TestBuildRefuses(t *testing.T) {
	stage, box := sandbox(t)
	takeName(t, box, "taken-1")
	empty := filepath.Join(t.TempDir(), "empty.raw")
	if err := exec.CommandContext(t.Context(), "truncate", "-s", "64M", empty).Run(); err != nil {
		t.Fatal(err)
	}

	disk := func(image string) string {
		return fmt.Sprintf(`
source "immutable-disk" "x" {
  source_image = %q
  output_path  = %q
}
build { sources = ["source.immutable-disk.x"] }
`, image, filepath.Join(t.TempDir(), "x.raw"))
	}
	direct := func(options string) string {
		return "source \"immutable-direct\" \"x\" {\n" + options + "\n}\nbuild { sources = [\"source.immutable-direct.x\"] }\n"
	}
	for _, test := range []struct {
		name, hcl string
		env       []string
		want      []string
	}{
		{"no credentials", direct(`ami_name = "x-1"`),
			[]string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY="},
			[]string{`credentials`, `AWS_PROFILE|profile`}},
		{"AMI name already taken", direct(`ami_name = "taken-1"`), nil,
			[]string{`ami_name`, `taken-1`, `force_deregister`}},
		{"AMI that is not there", direct("ami_name = \"x-1\"\nsource_ami = \"ami-0123456789abcdef0\""), nil,
			[]string{`source_ami`, `ami-0123456789abcdef0`}},
		{"filter without a match", direct("ami_name = \"x-1\"\nsource_ami_filter {\n filters = { name = \"nothing-*\" }\n owners = [\"amazon\"]\n}"), nil,
			[]string{`source_ami_filter`, `nothing-\*`}},
		{"base disk with no Linux root partition", disk(empty), nil,
			[]string{regexp.QuoteMeta(empty), `root`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			output, err := stage.Packer(t.Context(), rehearsal.Packer{
				Dir: root, Env: append(box.Environ("AKIAREFUSED"), test.env...),
				Args: []string{"build", templateFile(t, test.hcl)},
			})
			if err == nil {
				t.Fatalf("the build succeeded:\n%s", output)
			}
			says(t, output, test.want)
		})
	}
}

// takeName registers an image, so that its name is taken.
func takeName(t *testing.T, box *rehearsal.Sandbox, name string) string {
	t.Helper()
	client := ec2.NewFromConfig(box.Config())
	public, err := client.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}})
	if err != nil {
		t.Fatal(err)
	}
	copied, err := client.CopyImage(t.Context(), &ec2.CopyImageInput{
		Name: &name, SourceImageId: public.Images[0].ImageId, SourceRegion: aws.String(rehearsal.Region),
	})
	if err != nil {
		t.Fatal(err)
	}
	waiter := ec2.NewImageAvailableWaiter(client, func(o *ec2.ImageAvailableWaiterOptions) { o.MinDelay = 100 * time.Millisecond })
	if err := waiter.Wait(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{*copied.ImageId}}, time.Minute); err != nil {
		t.Fatal(err)
	}
	return *copied.ImageId
}

// rolloutOnly bakes the base as it is and rolls it out. The rollout is the
// first post-processor, so that packer destroys the AMI when it fails.
func rolloutOnly(group, name string) string {
	return fmt.Sprintf(`
source "immutable-direct" "x" { ami_name = %q }
build {
  sources = ["source.immutable-direct.x"]
  post-processor "immutable-rollout" {
    auto_scaling_group = %q
    access_key         = "AKIAROLLOUT"
    secret_key         = "rehearsal"
  }
}
`, name, group)
}

// TestRolloutRefuses gives rollouts to groups that can't be rolled. None makes
// a launch template version.
func TestRolloutRefuses(t *testing.T) {
	stage, box := sandbox(t)
	ami := takeName(t, box, "refused-base")
	compute, scaling := ec2.NewFromConfig(box.Config()), autoscaling.NewFromConfig(box.Config())

	template, err := compute.CreateLaunchTemplate(t.Context(), &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: aws.String("refused"),
		LaunchTemplateData: &ec2types.RequestLaunchTemplateData{ImageId: &ami, InstanceType: ec2types.InstanceTypeT3Small},
	})
	if err != nil {
		t.Fatal(err)
	}
	newGroup := func(t *testing.T, name, version string, targets ...string) {
		_, err := scaling.CreateAutoScalingGroup(t.Context(), &autoscaling.CreateAutoScalingGroupInput{
			AutoScalingGroupName: &name,
			LaunchTemplate:       &autoscalingtypes.LaunchTemplateSpecification{LaunchTemplateId: template.LaunchTemplate.LaunchTemplateId, Version: &version},
			MinSize:              aws.Int32(0), MaxSize: aws.Int32(1), DesiredCapacity: aws.Int32(0),
			AvailabilityZones: []string{rehearsal.Region + "a"}, TargetGroupARNs: targets,
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	for _, test := range []struct {
		name   string
		set    func(t *testing.T)
		group  string
		remedy []string
	}{
		{"a group that does not exist", func(*testing.T) {}, "nobody", []string{`auto_scaling_group`, `nobody`, rehearsal.Region}},
		{"a group on $Latest", func(t *testing.T) { newGroup(t, "on-latest", "$Latest") }, "on-latest",
			[]string{`on-latest`, `\$Latest`, `update-auto-scaling-group`}},
		{"a target group without a listener", func(t *testing.T) {
			vpcs, err := compute.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{})
			if err != nil {
				t.Fatal(err)
			}
			targets, err := elb.NewFromConfig(box.Config()).CreateTargetGroup(t.Context(), &elb.CreateTargetGroupInput{
				Name: aws.String("nobody-listens"), Protocol: "HTTP", Port: aws.Int32(80), VpcId: vpcs.Vpcs[0].VpcId,
			})
			if err != nil {
				t.Fatal(err)
			}
			newGroup(t, "no-listener", "1", *targets.TargetGroups[0].TargetGroupArn)
		}, "no-listener", []string{`no-listener`, `nobody-listens`, `listener`, `attach`}},
		{"a group with a refresh towards another image", func(t *testing.T) {
			busy(t, box, "busy", ami, template.LaunchTemplate.LaunchTemplateId)
		}, "busy", []string{`busy`, `refresh`, regexp.QuoteMeta(ami)}},
		{"a group with a launch configuration", func(t *testing.T) {
			_, err := scaling.CreateLaunchConfiguration(t.Context(), &autoscaling.CreateLaunchConfigurationInput{
				LaunchConfigurationName: aws.String("old"), ImageId: &ami, InstanceType: aws.String("t3.small"),
			})
			if err != nil {
				t.Fatal(err)
			}
			_, err = scaling.CreateAutoScalingGroup(t.Context(), &autoscaling.CreateAutoScalingGroupInput{
				AutoScalingGroupName: aws.String("old-ways"), LaunchConfigurationName: aws.String("old"),
				MinSize: aws.Int32(0), MaxSize: aws.Int32(1), AvailabilityZones: []string{rehearsal.Region + "a"},
			})
			if err != nil {
				t.Fatal(err)
			}
		}, "old-ways", []string{`old-ways`, `launch configuration`, `launch template`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.set(t)
			output, err := stage.Packer(t.Context(), rehearsal.Packer{
				Dir: root, Env: box.Environ("AKIAREFUSED"),
				Args: []string{"build", templateFile(t, rolloutOnly(test.group, "refused-"+test.group))},
			})
			if err == nil {
				t.Fatalf("the build succeeded:\n%s", output)
			}
			says(t, output, test.remedy)
		})
	}
	if left, err := compute.DescribeImages(t.Context(), &ec2.DescribeImagesInput{
		Owners: []string{"self"}, Filters: []ec2types.Filter{{Name: aws.String("name"), Values: []string{"refused-*"}}},
	}); err != nil || len(left.Images) != 1 {
		t.Errorf("%d images are left (%v), want refused-base alone", len(left.Images), err)
	}
	versions, err := compute.DescribeLaunchTemplateVersions(t.Context(), &ec2.DescribeLaunchTemplateVersionsInput{
		LaunchTemplateId: template.LaunchTemplate.LaunchTemplateId,
	})
	if err != nil || len(versions.LaunchTemplateVersions) != 1 {
		t.Errorf("the template has %d versions (%v), want the first alone", len(versions.LaunchTemplateVersions), err)
	}
}

// busy makes a group of one instance whose refresh does not end soon: its new
// instance has an hour of warm-up.
func busy(t *testing.T, box *rehearsal.Sandbox, name, ami string, template *string) {
	t.Helper()
	scaling := autoscaling.NewFromConfig(box.Config())
	_, err := scaling.CreateAutoScalingGroup(t.Context(), &autoscaling.CreateAutoScalingGroupInput{
		AutoScalingGroupName: &name,
		LaunchTemplate:       &autoscalingtypes.LaunchTemplateSpecification{LaunchTemplateId: template, Version: aws.String("1")},
		MinSize:              aws.Int32(1), MaxSize: aws.Int32(2), DesiredCapacity: aws.Int32(1),
		DefaultInstanceWarmup: aws.Int32(3600),
		AvailabilityZones:     []string{rehearsal.Region + "a"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for running := 0; running == 0; time.Sleep(200 * time.Millisecond) {
		images, err := box.RunningImages(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		running = images[ami]
	}
	_, err = scaling.StartInstanceRefresh(t.Context(), &autoscaling.StartInstanceRefreshInput{
		AutoScalingGroupName: &name,
		DesiredConfiguration: &autoscalingtypes.DesiredConfiguration{
			LaunchTemplate: &autoscalingtypes.LaunchTemplateSpecification{LaunchTemplateId: template, Version: aws.String("1")},
		},
		Preferences: &autoscalingtypes.RefreshPreferences{SkipMatching: aws.Bool(false)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := scaling.DeleteAutoScalingGroup(context.Background(), &autoscaling.DeleteAutoScalingGroupInput{
			AutoScalingGroupName: &name, ForceDelete: aws.Bool(true),
		})
		if err != nil {
			t.Errorf("delete group %s: %v", name, err)
		}
	})
}
