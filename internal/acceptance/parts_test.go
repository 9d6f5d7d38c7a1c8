package acceptance

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// part is a component that calls AWS, or what an option of one adds to it. Its
// policy is docs/iam/NAME.json; an option's is what it needs besides that of the
// component.
type part struct {
	name, of string
	acts     []act
	// machines says that its acts need instances that run.
	machines bool
}

// act is something that a part does, with an access key. The acts of a part are
// all that its policy permits.
type act struct {
	name string
	play func(*testing.T, scene) (rehearsal.Output, error)
	// fails says that it ends with an error also when all is permitted.
	fails bool
	// denied is an action that it is denied, so that it fails there.
	denied string
	// cold says that it is about the first copy of the base.
	cold bool
	// starved are the actions for want of which it is to fail. Those that no
	// act names are those of the part's first act that doesn't fail anyway.
	starved []string
}

// scene is where an act is played.
type scene struct {
	*theatre
	key    string // the access key of the part
	region string // for what makes AMIs; the copy of the base may not be there yet
	name   string // for what is made; nothing else has it

	before *holdings // what there is when the part begins
}

var scenes atomic.Int32

func newScene(h *theatre, key, region string) scene {
	return scene{h, key, region, fmt.Sprintf("scene-%d", scenes.Add(1)), new(holdings)}
}

// begin takes note of what there is before the part itself does something.
func (s scene) begin(t *testing.T) { *s.before = s.holdings(t) }

// other is an access key that is permitted everything.
const other = "AKIAOTHER"

// parts are all that have policies.
var parts = []part{
	{name: "immutable-direct", acts: []act{
		{name: "an AMI", play: bakeWith("")},
		{name: "an AMI in place of another", play: replace, starved: []string{"ec2:DescribeInstances"}},
		{name: "an AMI that is taken back", play: bakeWith(deprecated), fails: true, denied: "ec2:EnableImageDeprecation", starved: []string{"ec2:DeregisterImage", "ec2:DeleteSnapshot"}},
	}},
	{name: "immutable-direct-kms_key_id", of: "immutable-direct", acts: []act{
		{name: "an encrypted AMI", play: bakeWith(encrypted)},
		{name: "an AMI of an encrypted base", play: encryptAgain, starved: []string{"kms:ReEncryptFrom", "kms:ReEncryptTo"}},
	}},
	{name: "immutable-direct-sharing", of: "immutable-direct", acts: []act{
		{name: "a shared AMI", play: bakeWith(`
  ami_users      = ["210987654321"]
  snapshot_users = ["210987654321"]`)},
	}},
	{name: "immutable-direct-deprecate_at", of: "immutable-direct", acts: []act{
		{name: "an AMI for some time", play: bakeWith(deprecated)},
	}},
	{name: "immutable-disk", acts: []act{
		{name: "a base that is taken back", play: bakeDisk, fails: true, denied: "ec2:DeleteTags", cold: true, starved: []string{"ec2:DeregisterImage", "ec2:DeleteSnapshot"}},
		{name: "a disk of an AMI", play: bakeDisk},
	}},
	{name: "immutable-instance", machines: true, acts: []act{
		{name: "an AMI of an instance", play: bakeInstance("")},
		{name: "an AMI of an instance that is taken back", play: bakeInstance(""), fails: true, denied: "ec2:DeleteTags", starved: []string{"ec2:DeregisterImage", "ec2:DeleteSnapshot"}},
	}},
	{name: "immutable-instance-create_image", of: "immutable-instance", machines: true, acts: []act{
		{name: "an AMI of a whole instance", play: bakeInstance(`image_method = "create_image"`)},
	}},
	{name: "immutable-instance-instance_connect", of: "immutable-instance", machines: true, acts: []act{
		{name: "an AMI of an instance that keys are pushed to", play: bakeInstance(`ssh_interface = "instance_connect"`)},
	}},
	{name: "immutable-instance-iam_instance_profile", of: "immutable-instance", machines: true, acts: []act{
		{name: "an instance with a role", play: bakeInstance(`iam_instance_profile = "baker"`)},
	}},
	{name: "immutable-instance-kms_key_id", of: "immutable-instance", machines: true, acts: []act{
		{name: "an encrypted AMI of an instance", play: bakeInstance(encrypted)},
	}},
	{name: "immutable-existing", acts: []act{
		{name: "by tags", play: find(`tags = { Name = var.name }`)},
		{name: "by a parameter", play: find(`ssm_parameter = "/${var.name}"`), starved: []string{"ssm:GetParameter"}},
		{name: "of a group", play: find(`current_of = var.name`), starved: []string{"autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeInstanceRefreshes", "ec2:DescribeLaunchTemplateVersions"}},
		{name: "of a group before", play: find(`previous_of = var.name`)},
	}},
	{name: "immutable-tag", acts: []act{{name: "a tagged AMI", play: tagIt}}},
	{name: "immutable-rollout", acts: []act{
		{name: "a rollout", play: rollOut(rollout{balanced: true})},
		{name: "a rollout that is cancelled", play: rollOut(rollout{warmup: time.Hour, options: `timeout = "1s"`}), fails: true, starved: []string{"autoscaling:CancelInstanceRefresh"}},
		{name: "a rollout that others end", play: rollOut(rollout{warmup: time.Hour, ended: true}), fails: true, starved: []string{"autoscaling:DescribeScalingActivities"}},
		{name: "a rollout that cannot begin", play: rollOut(rollout{}), fails: true, denied: "autoscaling:StartInstanceRefresh", starved: []string{"ec2:DeleteLaunchTemplateVersions"}},
	}},
	{name: "immutable-rollout-profile", of: "immutable-rollout", acts: []act{
		{name: "instances with a role", play: rollOut(rollout{profile: "web"})},
	}},
	{name: "immutable-base", acts: []act{{name: "the base", play: lookUp}}},
	{name: "sweep", acts: []act{{name: "what builds have left", play: sweepAll}}},
}

// Options of immutable-direct.
var (
	encrypted = `
  encrypt_boot = true
  kms_key_id   = "1234abcd-12ab-34cd-56ef-1234567890ab"`
	deprecated = `deprecate_at = "` + time.Now().AddDate(1, 0, 0).UTC().Format(time.RFC3339) + `"`
)

// bakeWith bakes an AMI with an option.
func bakeWith(option string) func(*testing.T, scene) (rehearsal.Output, error) {
	return func(t *testing.T, s scene) (rehearsal.Output, error) { return s.bakeDirect(t, option) }
}

func (s scene) bakeDirect(t *testing.T, option string) (rehearsal.Output, error) {
	t.Helper()
	hcl := templateFile(t, fmt.Sprintf(`
source "immutable-direct" "x" {
  ami_name = %q
  region   = %q
  %s
}
build {
  sources = ["source.immutable-direct.x"]
  provisioner "shell" { inline = ["head -c 1M /dev/urandom > /root/noise"] }
}
`, s.name, s.region, option))
	return s.packer(t, s.key, hcl)
}

func (s scene) packer(t *testing.T, key string, args ...string) (rehearsal.Output, error) {
	t.Helper()
	s.begin(t)
	return s.Packer(t.Context(), rehearsal.Packer{Dir: root, Env: s.box.Environ(key), Args: append([]string{"build"}, args...)})
}

// bakeDisk bakes a disk of the newest Amazon Linux.
func bakeDisk(t *testing.T, s scene) (rehearsal.Output, error) {
	return s.packer(t, s.key, templateFile(t, fmt.Sprintf(`
source "immutable-disk" "x" {
  output_path = %q
  region      = %q
  format      = "qcow2"
}
build { sources = ["source.immutable-disk.x"] }
`, filepath.Join(t.TempDir(), "disk.qcow2"), s.region)))
}

// bakeInstance bakes an AMI on an instance.
func bakeInstance(option string) func(*testing.T, scene) (rehearsal.Output, error) {
	return func(t *testing.T, s scene) (rehearsal.Output, error) {
		return s.packer(t, s.key, templateFile(t, fmt.Sprintf(`
source "immutable-instance" "x" {
  ami_name = %q
  %s
}
build {
  sources = ["source.immutable-instance.x"]
  provisioner "shell" { inline = ["true"] }
}
`, s.name, option)))
	}
}

// replace bakes an AMI that takes the name of one that is there.
func replace(t *testing.T, s scene) (rehearsal.Output, error) {
	s.region = rehearsal.Region
	takeName(t, s.box, s.name)
	return s.bakeDirect(t, "force_deregister = true\nforce_delete_snapshot = true")
}

// encryptAgain bakes an AMI under one key of a base under another.
func encryptAgain(t *testing.T, s scene) (rehearsal.Output, error) {
	compute := ec2.NewFromConfig(s.box.Config(), func(o *ec2.Options) { o.Region = s.region })
	bases, err := compute.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}})
	if err != nil {
		t.Fatal(err)
	}
	made, err := compute.CopyImage(t.Context(), &ec2.CopyImageInput{
		Name: aws.String(s.name + "-base"), SourceImageId: bases.Images[0].ImageId, SourceRegion: &s.region,
		Encrypted: aws.Bool(true), KmsKeyId: aws.String("00000000-12ab-34cd-56ef-1234567890ab"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := ec2.NewImageAvailableWaiter(compute).Wait(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{*made.ImageId}}, time.Minute); err != nil {
		t.Fatal(err)
	}
	return s.bakeDirect(t, encrypted+"\n  source_ami = \""+*made.ImageId+"\"")
}

// find finds an AMI that the account has, by everything that one is found by.
func find(by string) func(*testing.T, scene) (rehearsal.Output, error) {
	return func(t *testing.T, s scene) (rehearsal.Output, error) {
		before, now := takeName(t, s.box, s.name+"-before"), takeName(t, s.box, s.name)
		s.tag(t, now, "Name", s.name)
		if _, err := ssm.NewFromConfig(s.box.Config()).PutParameter(t.Context(), &ssm.PutParameterInput{Name: aws.String("/" + s.name), Value: &now, Type: ssmtypes.ParameterTypeString}); err != nil {
			t.Fatal(err)
		}
		g := s.newGroup(t, s.name, before, 0)
		s.nextVersion(t, g, ec2types.RequestLaunchTemplateData{ImageId: &now})
		hcl := templateFile(t, fmt.Sprintf(`
variable "name" { type = string }
source "immutable-existing" "x" {
  %s
}
build { sources = ["source.immutable-existing.x"] }
`, by))
		return s.packer(t, s.key, "-var", "name="+s.name, hcl)
	}
}

func (s scene) tag(t *testing.T, id, key, value string) {
	t.Helper()
	_, err := ec2.NewFromConfig(s.box.Config()).CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{id}, Tags: []ec2types.Tag{{Key: &key, Value: &value}}})
	if err != nil {
		t.Fatal(err)
	}
}

// nextVersion makes a version of the group's launch template and gives it to the
// group.
func (s scene) nextVersion(t *testing.T, g group, data ec2types.RequestLaunchTemplateData) {
	t.Helper()
	made, err := ec2.NewFromConfig(s.box.Config()).CreateLaunchTemplateVersion(t.Context(), &ec2.CreateLaunchTemplateVersionInput{
		LaunchTemplateId: &g.template, SourceVersion: aws.String("1"), LaunchTemplateData: &data,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = autoscaling.NewFromConfig(s.box.Config()).UpdateAutoScalingGroup(t.Context(), &autoscaling.UpdateAutoScalingGroupInput{
		AutoScalingGroupName: &g.name,
		LaunchTemplate:       &autoscalingtypes.LaunchTemplateSpecification{LaunchTemplateId: &g.template, Version: aws.String(fmt.Sprint(*made.LaunchTemplateVersion.VersionNumber))},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// process hands an AMI on to a post-processor, which has the scene's key.
func (s scene) process(t *testing.T, ami, postProcessor, options string, eachLine func(string, *exec.Cmd)) (rehearsal.Output, error) {
	t.Helper()
	hcl := templateFile(t, fmt.Sprintf(`
source "immutable-existing" "x" {
  ami_id = %q
}
build {
  sources = ["source.immutable-existing.x"]
  post-processor %q {
    access_key = %q
    secret_key = "rehearsal"
    %s
  }
}
`, ami, postProcessor, s.key, options))
	s.begin(t)
	return s.Packer(t.Context(), rehearsal.Packer{Dir: root, Env: s.box.Environ(other), Args: []string{"build", hcl}, EachLine: eachLine})
}

// tagIt tags an AMI.
func tagIt(t *testing.T, s scene) (rehearsal.Output, error) {
	return s.process(t, takeName(t, s.box, s.name), "immutable-tag", `tags = { Stage = "tested" }`, nil)
}

// rollout is a group, and how an AMI is rolled out to it.
type rollout struct {
	balanced bool          // behind a load balancer, with tags for its instances
	profile  string        // of its instances
	warmup   time.Duration // of its instances
	options  string
	ended    bool // somebody else ends the refresh
}

// rollOut rolls an AMI out to a group.
func rollOut(how rollout) func(*testing.T, scene) (rehearsal.Output, error) {
	return func(t *testing.T, s scene) (rehearsal.Output, error) {
		before, after := takeName(t, s.box, s.name+"-1"), takeName(t, s.box, s.name+"-2")
		s.tag(t, after, "Source/CommitId", "0ab1")
		if how.balanced {
			g, err := s.box.NewGroup(t.Context(), rehearsal.GroupSpec{Name: s.name, ImageID: before, Size: 1, Port: 8080, Warmup: how.warmup})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.box.WaitHealthy(t.Context(), g, 1); err != nil {
				t.Fatal(err)
			}
		} else {
			g := s.newGroup(t, s.name, before, how.warmup)
			if how.profile != "" {
				s.nextVersion(t, g, ec2types.RequestLaunchTemplateData{IamInstanceProfile: &ec2types.LaunchTemplateIamInstanceProfileSpecificationRequest{Name: &how.profile}})
			}
		}
		var once sync.Once
		return s.process(t, after, "immutable-rollout", "auto_scaling_group = \""+s.name+"\"\n"+how.options, func(line string, _ *exec.Cmd) {
			if !how.ended || !strings.Contains(line, "Started instance refresh") {
				return
			}
			once.Do(func() {
				_, err := autoscaling.NewFromConfig(s.box.Config()).CancelInstanceRefresh(t.Context(), &autoscaling.CancelInstanceRefreshInput{AutoScalingGroupName: &s.name})
				if err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// lookUp asks for the base.
func lookUp(t *testing.T, s scene) (rehearsal.Output, error) {
	return s.packer(t, s.key, templateFile(t, `
data "immutable-base" "x" {}
source "null" "x" { communicator = "none" }
build { sources = ["source.null.x"] }
`))
}

// sweepAll removes a resource of every kind.
func sweepAll(t *testing.T, s scene) (rehearsal.Output, error) {
	past := time.Now().Add(-time.Minute)
	everyKind(t, s.box, s.name, &past)
	s.begin(t)
	// Versions can't be tagged, and these are swept only where a group could have
	// used them.
	ami := takeName(t, s.box, s.name+"-group")
	g := s.newGroup(t, s.name+"-group", ami, 0)
	if _, err := ec2.NewFromConfig(s.box.Config()).CreateLaunchTemplateVersion(t.Context(), &ec2.CreateLaunchTemplateVersionInput{
		LaunchTemplateId: &g.template, SourceVersion: aws.String("1"), LaunchTemplateData: &ec2types.RequestLaunchTemplateData{ImageId: &ami},
		VersionDescription: aws.String("immutable-rollout: " + s.name + ", made from version 1 (0123456789abcdef) in run " + s.name),
	}); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), s.Plugin, "sweep", "--yes", "--run", s.name)
	command.Env = s.box.Environ(s.key)
	text, err := command.CombinedOutput()
	var output rehearsal.Output
	for line := range strings.Lines(string(text)) {
		output.Lines = append(output.Lines, rehearsal.Line{Text: strings.TrimSuffix(line, "\n")})
	}
	return output, err
}
