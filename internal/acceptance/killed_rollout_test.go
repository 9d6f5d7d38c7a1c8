package acceptance

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// noiseJob is bakeNoise with what comes after it: post-processors, then the
// rollout. Its AMIs have names of their own, because one that instances run on
// keeps its name.
func noiseJob(before string) string {
	return `
variable "group" { type = string }
source "immutable-direct" "x" {
  ami_name   = "${var.group}-${uuidv4()}"
  access_key = "AKIADIRECT"
  secret_key = "rehearsal"
}
build {
  sources = ["source.immutable-direct.x"]
  provisioner "shell" { inline = ["head -c 3M /dev/urandom > /root/noise"] }
  post-processors {
` + before + `
    post-processor "immutable-rollout" {
      auto_scaling_group = var.group
      access_key         = "AKIAROLLOUT"
      secret_key         = "rehearsal"
    }
  }
}
`
}

const tagging = `
    post-processor "immutable-tag" {
      access_key = "AKIATAG"
      secret_key = "rehearsal"
    }
`

// group is an Auto Scaling group whose instances are no more than states.
type group struct {
	*theatre
	name, template string
	size           int
}

// newGroup makes a group that runs an AMI, and waits until it does. Its instances
// take warmup to be warm, before it is scaled.
func (h *theatre) newGroup(t *testing.T, name, ami string, warmup time.Duration) group {
	t.Helper()
	const size = 2
	made, err := ec2.NewFromConfig(h.box.Config()).CreateLaunchTemplate(t.Context(), &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: &name,
		LaunchTemplateData: &ec2types.RequestLaunchTemplateData{ImageId: &ami, InstanceType: ec2types.InstanceTypeT3Small},
	})
	if err != nil {
		t.Fatal(err)
	}
	g := group{h, name, *made.LaunchTemplate.LaunchTemplateId, size}
	_, err = autoscaling.NewFromConfig(h.box.Config()).CreateAutoScalingGroup(t.Context(), &autoscaling.CreateAutoScalingGroupInput{
		AutoScalingGroupName: &name,
		LaunchTemplate:       &autoscalingtypes.LaunchTemplateSpecification{LaunchTemplateId: &g.template, Version: aws.String("1")},
		MinSize:              aws.Int32(size), MaxSize: aws.Int32(2 * size), DesiredCapacity: aws.Int32(size),
		DefaultInstanceWarmup: aws.Int32(int32(warmup / time.Second)),
		AvailabilityZones:     []string{rehearsal.Region + "a"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for !maps.Equal(g.running(t), map[string]int{ami: size}) {
		time.Sleep(50 * time.Millisecond)
	}
	return g
}

// running counts the instances in service by their image.
func (g group) running(t *testing.T) map[string]int {
	t.Helper()
	running, err := g.box.RunningImages(t.Context(), g.name)
	if err != nil {
		t.Fatal(err)
	}
	return running
}

// launches is the image of the version that the group has saved.
func (g group) launches(t *testing.T) string {
	t.Helper()
	described, err := autoscaling.NewFromConfig(g.box.Config()).DescribeAutoScalingGroups(t.Context(),
		&autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{g.name}})
	if err != nil {
		t.Fatal(err)
	}
	saved := aws.ToString(described.AutoScalingGroups[0].LaunchTemplate.Version)
	for number, version := range g.versions(t) {
		if number == saved {
			return aws.ToString(version.LaunchTemplateData.ImageId)
		}
	}
	t.Fatalf("the group launches version %s, which is not there", saved)
	return ""
}

// versions are those of the group's launch template by their number.
func (g group) versions(t *testing.T) map[string]ec2types.LaunchTemplateVersion {
	t.Helper()
	described, err := ec2.NewFromConfig(g.box.Config()).DescribeLaunchTemplateVersions(t.Context(),
		&ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &g.template})
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]ec2types.LaunchTemplateVersion{}
	for _, version := range described.LaunchTemplateVersions {
		versions[strconv.FormatInt(*version.VersionNumber, 10)] = version
	}
	return versions
}

// refreshes are the group's, the newest first.
func (g group) refreshes(t *testing.T) []autoscalingtypes.InstanceRefresh {
	t.Helper()
	described, err := autoscaling.NewFromConfig(g.box.Config()).DescribeInstanceRefreshes(t.Context(),
		&autoscaling.DescribeInstanceRefreshesInput{AutoScalingGroupName: &g.name})
	if err != nil {
		t.Fatal(err)
	}
	return described.InstanceRefreshes
}

// settle waits until a refresh that nobody watches any more has ended.
func (g group) settle(t *testing.T) {
	t.Helper()
	under := []autoscalingtypes.InstanceRefreshStatus{"Pending", "InProgress", "Baking", "Cancelling", "RollbackInProgress"}
	for {
		refreshes := g.refreshes(t)
		if len(refreshes) == 0 || !slices.Contains(under, refreshes[0].Status) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// runs fails unless the group launches the image, and all its instances have it.
func (g group) runs(t *testing.T, ami string) {
	t.Helper()
	if launches, running := g.launches(t), g.running(t); launches != ami || !maps.Equal(running, map[string]int{ami: g.size}) {
		t.Errorf("group %s launches %s and runs %v, want %d of %s", g.name, launches, running, g.size, ami)
	}
}

// TestAfterBake ends builds while they tag their AMIs and roll them out.
func TestAfterBake(t *testing.T) {
	t.Parallel()
	h := newTheatre(t)
	first := h.bake(t, []string{"build", "-var", "name=first", templateFile(t, bakeNoise)})
	t.Run("killed", func(t *testing.T) { h.killed(t, first) })
	t.Run("killed and taken up", func(t *testing.T) { h.takenUp(t, first) })
	t.Run("interrupted", func(t *testing.T) { h.interrupted(t, first) })
}

// killed ends a build as a crash would while it tags its AMI or rolls it out.
// What it leaves says whose it is, and the same build run again rolls its own AMI
// out.
func (h *theatre) killed(t *testing.T, first string) {
	g := h.newGroup(t, "killed", first, 10*time.Second)
	args := []string{"build", "-var", "group=killed", templateFile(t, noiseJob(tagging))}
	for _, at := range sample(h.rehearse(t, args, "AKIATAG", "AKIAROLLOUT"), 1) {
		t.Run("after "+at.String(), func(t *testing.T) {
			sayHowToRepeat(t)
			before, versions, all := h.marks(t), g.versions(t), h.everything(t)
			h.kill(t, args, at, "AKIATAG", "AKIAROLLOUT")

			left := h.newMarks(t, before)
			for id, tags := range left {
				if tags["immutable:run"] == "" {
					t.Errorf("%s is left, with the tags %v", id, tags)
				}
			}
			for number, version := range g.versions(t) {
				image := aws.ToString(version.LaunchTemplateData.ImageId)
				_, known := versions[number]
				if !known && (left[image] == nil || !strings.HasPrefix(aws.ToString(version.VersionDescription), "immutable-rollout: "+image)) {
					t.Errorf("version %s is left, of image %s, and is described as %q", number, image, aws.ToString(version.VersionDescription))
				}
			}
			// A refresh towards another AMI is not touched; AWS brings it to its end.
			g.settle(t)
			g.runs(t, h.bake(t, args))
			h.swept(t, all)
		})
	}
}

// takenUp ends the rollout of an AMI as a crash would. The same build run again
// takes up what there is: no version is made twice, and the refresh that goes on
// in AWS is joined.
func (h *theatre) takenUp(t *testing.T, first string) {
	second := h.bake(t, []string{"build", "-var", "name=second", templateFile(t, bakeNoise)})
	for i, test := range sample([]struct {
		at   point
		says string
	}{
		{point{"ec2:CreateLaunchTemplateVersion", 1}, `is there from an earlier run`},
		{point{"autoscaling:StartInstanceRefresh", 1}, `joining it`},
	}, 1) {
		t.Run("after "+test.at.String(), func(t *testing.T) {
			sayHowToRepeat(t)
			// The refresh lasts until the second run.
			g := h.newGroup(t, fmt.Sprintf("taken-up-%d", i), first, 5*time.Minute)
			args := []string{"build", templateFile(t, fmt.Sprintf(`
source "immutable-existing" "x" { ami_id = %q }
build {
  sources = ["source.immutable-existing.x"]
  post-processor "immutable-rollout" { auto_scaling_group = %q }
}
`, second, g.name))}
			all := h.everything(t)
			h.kill(t, args, test.at)
			output, err := h.Packer(t.Context(), rehearsal.Packer{Dir: root, Env: h.box.Environ("AKIAOTHER"), Args: args})
			if err != nil {
				t.Fatalf("%v\n%s", err, output)
			}
			says(t, output, []string{test.says})
			g.runs(t, second)
			if versions, refreshes := len(g.versions(t)), len(g.refreshes(t)); versions != 2 || refreshes != 1 {
				t.Errorf("there are %d versions and %d refreshes, want 2 and 1:\n%s", versions, refreshes, output)
			}
			h.swept(t, all)
			g.runs(t, second)
		})
	}
}

// interrupted presses Ctrl-C while a build tags its AMI or rolls it out: the AMI
// goes, unless the group has begun to run it.
func (h *theatre) interrupted(t *testing.T, first string) {
	g := h.newGroup(t, "interrupted", first, time.Hour)
	for _, test := range sample([]struct {
		at     point
		before string
	}{
		{point{"ec2:CreateTags", 1}, tagging},
		// An AMI whose first post-processor succeeds is kept by packer.
		{point{"ec2:CreateLaunchTemplateVersion", 1}, ""},
		{point{"autoscaling:StartInstanceRefresh", 1}, ""},
	}, 1) {
		t.Run("after "+test.at.String(), func(t *testing.T) {
			sayHowToRepeat(t)
			before, versions := h.marks(t), g.versions(t)
			output := h.interrupt(t, []string{"build", "-var", "group=interrupted", templateFile(t, noiseJob(test.before))}, test.at)
			left := h.newMarks(t, before)
			if test.at.action == "autoscaling:StartInstanceRefresh" {
				says(t, output, []string{`[Cc]ancel`, `interrupted`, `ami-`})
				if status := g.refreshes(t)[0].Status; status != "Cancelled" {
					t.Errorf("the refresh is %s, want Cancelled:\n%s", status, output)
				}
				maps.DeleteFunc(left, func(id string, _ map[string]string) bool { return g.needs(t, id) })
			} else if now := g.versions(t); len(now) != len(versions) {
				t.Errorf("the launch template had %d versions, and has %d:\n%s", len(versions), len(now), output)
			}
			if len(left) > 0 {
				t.Errorf("there is left in AWS: %v\n%s", left, output)
			}
			if launches := g.launches(t); launches != first {
				t.Errorf("the group launches %s, want %s as before:\n%s", launches, first, output)
			}
		})
	}
}

// needs tells whether an image, or the snapshot of one, is that of an instance
// of the group.
func (g group) needs(t *testing.T, id string) bool {
	t.Helper()
	for ami := range g.running(t) {
		snapshot, err := g.box.RootSnapshot(t.Context(), ami)
		if err != nil {
			t.Fatal(err)
		}
		if id == ami || id == snapshot {
			return true
		}
	}
	return false
}
