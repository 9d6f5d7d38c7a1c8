package acceptance

import (
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
	"github.com/immutable-server/packer-plugin-immutable/internal/sweep"
)

// bakeOnInstance makes an AMI on an instance.
const bakeOnInstance = `
variable "name" { type = string }
variable "method" { default = "snapshot" }
source "immutable-instance" "x" {
  ami_name     = var.name
  image_method = var.method
  access_key   = "AKIADIRECT"
  secret_key   = "rehearsal"
}
build {
  sources = ["source.immutable-instance.x"]
  provisioner "shell" { inline = ["sudo head -c 3M /dev/urandom > noise"] }
}
`

// swept fails unless a sweep, made when what a killed build has left has
// expired, removes all of that and nothing else. Before is what was there before
// that build.
func (h *theatre) swept(t *testing.T, before map[string]string) {
	t.Helper()
	unswept := h.everything(t)
	client := ec2.NewFromConfig(h.box.Config())
	s := sweep.Sweep{
		Region: rehearsal.Region, EC2: client, AutoScaling: autoscaling.NewFromConfig(h.box.Config()), Now: time.Now().Add(25 * time.Hour),
	}
	found, err := s.Find(t.Context())
	if err == nil {
		err = s.Remove(t.Context(), found)
	}
	if err != nil {
		t.Errorf("sweep %v: %v", found, err)
	}
	after := h.everything(t)
	for id, state := range after {
		if _, there := before[id]; !there && state == unfinished {
			t.Errorf("%s is left after a sweep", id)
		}
	}
	for id, state := range unswept {
		if _, there := after[id]; !there && state != unfinished {
			t.Errorf("%s, which is %s, has been swept away", id, state)
		}
	}
}

// What everything says of what is there.
const (
	unfinished = "unfinished" // or is nothing by itself, as a key pair
	finished   = "finished"
)

// everything lists all that this account has in EC2, but for fleets, which EC2
// forgets by itself, and says whether a run would call it finished.
func (h *theatre) everything(t *testing.T) map[string]string {
	t.Helper()
	client, ctx := ec2.NewFromConfig(h.box.Config()), t.Context()
	all := map[string]string{}
	add := func(id *string, tags []ec2types.Tag) {
		all[*id] = finished
		for _, tag := range tags {
			if *tag.Key == "immutable:expires" {
				all[*id] = unfinished
			}
		}
	}
	for id, tags := range h.marks(t) {
		all[id] = finished
		if tags["immutable:expires"] != "" {
			all[id] = unfinished
		}
	}
	instances, err := client.DescribeInstances(ctx, &ec2.DescribeInstancesInput{})
	must(t, err)
	for _, reservation := range instances.Reservations {
		for _, i := range reservation.Instances {
			if i.State.Name != ec2types.InstanceStateNameTerminated {
				add(i.InstanceId, i.Tags)
			}
		}
	}
	volumes, err := client.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{})
	must(t, err)
	for _, v := range volumes.Volumes {
		add(v.VolumeId, v.Tags)
	}
	keys, err := client.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{})
	must(t, err)
	for _, k := range keys.KeyPairs {
		add(k.KeyPairId, k.Tags)
	}
	groups, err := client.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{})
	must(t, err)
	for _, g := range groups.SecurityGroups {
		add(g.GroupId, g.Tags)
	}
	rolledOut := h.rolledOut(t)
	templates, err := client.DescribeLaunchTemplates(ctx, &ec2.DescribeLaunchTemplatesInput{})
	must(t, err)
	for _, l := range templates.LaunchTemplates {
		add(l.LaunchTemplateId, l.Tags)
		versions, err := client.DescribeLaunchTemplateVersions(ctx, &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: l.LaunchTemplateId})
		must(t, err)
		for _, v := range versions.LaunchTemplateVersions {
			id := *l.LaunchTemplateId + ":" + strconv.FormatInt(*v.VersionNumber, 10)
			all[id] = all[*l.LaunchTemplateId] // with which it goes
			if strings.HasPrefix(aws.ToString(v.VersionDescription), "immutable-rollout: ") && !rolledOut[id] {
				all[id] = unfinished
			}
		}
	}
	return all
}

// rolledOut are the launch template versions that groups have, or that were
// rolled out to them.
func (h *theatre) rolledOut(t *testing.T) map[string]bool {
	t.Helper()
	client, all := autoscaling.NewFromConfig(h.box.Config()), map[string]bool{}
	add := func(spec *autoscalingtypes.LaunchTemplateSpecification) {
		if spec != nil {
			all[*spec.LaunchTemplateId+":"+*spec.Version] = true
		}
	}
	groups, err := client.DescribeAutoScalingGroups(t.Context(), &autoscaling.DescribeAutoScalingGroupsInput{})
	must(t, err)
	for _, group := range groups.AutoScalingGroups {
		add(group.LaunchTemplate)
		refreshes, err := client.DescribeInstanceRefreshes(t.Context(), &autoscaling.DescribeInstanceRefreshesInput{AutoScalingGroupName: group.AutoScalingGroupName})
		must(t, err)
		for _, refresh := range refreshes.InstanceRefreshes {
			add(refresh.DesiredConfiguration.LaunchTemplate)
		}
	}
	return all
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestInstanceKilledAfterEachChange ends a build on an instance as a crash
// would, after each call that changed something. What it leaves says whose it
// is, the same build run again makes the AMI, and a sweep removes the rest.
func TestInstanceKilledAfterEachChange(t *testing.T) {
	t.Parallel()
	h := newTheatre(t, "--machines", "container", "--time-scale", "0.2")
	hcl := templateFile(t, bakeOnInstance)
	args := func(name string) []string { return []string{"build", "-var", "name=" + name, hcl} }
	points := h.rehearse(t, args("rehearsed"))
	// What CreateImage begins is known by the image alone.
	for _, at := range append(sample(points, 2), point{"ec2:CreateImage", 1}) {
		t.Run("after "+at.String(), func(t *testing.T) {
			sayHowToRepeat(t)
			args := func(name string) []string {
				if at.action != "ec2:CreateImage" {
					return args(name)
				}
				return append([]string{"build", "-var", "method=create_image"}, args(name)[1:]...)
			}
			before := h.everything(t)
			name := "killed-after-" + strings.NewReplacer(":", "-", " ", "-").Replace(at.String())
			h.kill(t, args(name), at)
			done := at == points[len(points)-1] // the AMI is there, and keeps its name
			for id, state := range h.everything(t) {
				if _, there := before[id]; !there && state != unfinished && !done {
					t.Errorf("%s is left, and is %s", id, state)
				}
			}
			if !done {
				h.buildAMI(t, args(name))
			}
			h.swept(t, before)
		})
	}
}

// TestInstanceInterruptedAfterEachChange presses Ctrl-C after each call that
// changed something: nothing is left, in AWS or on this machine.
func TestInstanceInterruptedAfterEachChange(t *testing.T) {
	t.Parallel()
	h := newTheatre(t, "--machines", "container", "--time-scale", "0.2")
	hcl := templateFile(t, bakeOnInstance)
	args := func(name string) []string { return []string{"build", "-var", "name=" + name, hcl} }
	points := h.rehearse(t, args("rehearsed"))
	for _, at := range sample(points, 2) {
		t.Run("after "+at.String(), func(t *testing.T) {
			sayHowToRepeat(t)
			before := h.everything(t)
			output := h.interrupt(t, args("interrupted-after-"+strings.NewReplacer(":", "-", " ", "-").Replace(at.String())), at)
			for id, state := range h.everything(t) {
				// What is finished stays if the plugin hears of the interrupt too late.
				if _, there := before[id]; !there && (state == unfinished || at.action != "ec2:DeleteTags") {
					t.Errorf("%s is left, and is %s:\n%s", id, state, output)
				}
			}
		})
	}
}

// buildAMI runs a build to its end.
func (h *theatre) buildAMI(t *testing.T, args []string) string {
	t.Helper()
	output, err := h.Packer(t.Context(), rehearsal.Packer{Dir: root, Env: h.box.Environ("AKIAOTHER"), Args: args})
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return amiIn(t, output)
}
