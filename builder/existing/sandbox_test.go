package existing

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	astypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
)

// region is a region of a sandbox, in which AMIs and groups can be made.
type region struct {
	*testing.T
	name    string
	config  aws.Config
	compute *ec2.Client
	scaling *autoscaling.Client
}

// openSandbox opens a sandbox and gives its first region. A disk of nothing is
// the public base, which makes it an AMI of another account.
func openSandbox(t *testing.T) region {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "base.raw")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	box, err := sandbox.Open(t.Context(), sandbox.Options{
		Listen: "127.0.0.1:0", StateDir: t.TempDir(), BaseDisk: disk, Machines: sandbox.None, Profile: clock.Instant, TimeScale: 0.001,
		LaunchConfigurations: true, Report: func(err error) { t.Error(err) },
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
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAEXISTING")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "rehearsal")
	t.Setenv("AWS_REGION", "eu-west-1")
	return region{T: t, config: aws.Config{
		BaseEndpoint: aws.String(box.URL()), Credentials: credentials.NewStaticCredentialsProvider("AKIATEST", "rehearsal", ""),
	}}.in("eu-west-1")
}

func (r region) in(name string) region {
	r.name, r.config.Region = name, name
	r.compute, r.scaling = ec2.NewFromConfig(r.config), autoscaling.NewFromConfig(r.config)
	return r
}

// with gives the region for a subtest.
func (r region) with(t *testing.T) region { r.T = t; return r }

func (r region) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// ami registers an AMI with tags; change, if not nil, changes the request.
func (r region) ami(name string, tags map[string]string, change func(*ec2.RegisterImageInput)) string {
	r.Helper()
	ctx, direct := r.Context(), ebs.NewFromConfig(r.config)
	snapshot, err := direct.StartSnapshot(ctx, &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	r.must(err)
	_, err = direct.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{SnapshotId: snapshot.SnapshotId, ChangedBlocksCount: aws.Int32(0)})
	r.must(err)
	completed := ec2.NewSnapshotCompletedWaiter(r.compute, func(o *ec2.SnapshotCompletedWaiterOptions) { o.MinDelay = 10 * time.Millisecond })
	r.must(completed.Wait(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*snapshot.SnapshotId}}, time.Minute))
	in := &ec2.RegisterImageInput{
		Name: &name, Architecture: types.ArchitectureValuesX8664, VirtualizationType: aws.String("hvm"), EnaSupport: aws.Bool(true), RootDeviceName: aws.String("/dev/xvda"),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: snapshot.SnapshotId}}},
	}
	if len(tags) > 0 {
		in.TagSpecifications = []types.TagSpecification{{ResourceType: types.ResourceTypeImage, Tags: tagList(tags)}}
	}
	if change != nil {
		change(in)
	}
	made, err := r.compute.RegisterImage(ctx, in)
	r.must(err)
	return *made.ImageId
}

func tagList(tags map[string]string) (list []types.Tag) {
	for key, value := range tags {
		list = append(list, types.Tag{Key: &key, Value: &value})
	}
	return list
}

func (r region) parameter(name, value string) {
	r.Helper()
	_, err := ssm.NewFromConfig(r.config).PutParameter(r.Context(), &ssm.PutParameterInput{Name: &name, Value: &value, Type: ssmtypes.ParameterTypeString})
	r.must(err)
}

// template makes a launch template with a version for each image.
func (r region) template(name string, images ...string) *astypes.LaunchTemplateSpecification {
	r.Helper()
	made, err := r.compute.CreateLaunchTemplate(r.Context(), &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: &name, LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: &images[0], InstanceType: types.InstanceTypeT3Small},
	})
	r.must(err)
	spec := &astypes.LaunchTemplateSpecification{LaunchTemplateId: made.LaunchTemplate.LaunchTemplateId, Version: aws.String("1")}
	for _, image := range images[1:] {
		_, err := r.compute.CreateLaunchTemplateVersion(r.Context(), &ec2.CreateLaunchTemplateVersionInput{
			LaunchTemplateId: spec.LaunchTemplateId, SourceVersion: aws.String("1"), LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: &image},
		})
		r.must(err)
	}
	return spec
}

// at is the template at another version.
func at(version string, spec *astypes.LaunchTemplateSpecification) *astypes.LaunchTemplateSpecification {
	return &astypes.LaunchTemplateSpecification{LaunchTemplateId: spec.LaunchTemplateId, Version: &version}
}

// group makes a group with no instances; change says what it launches.
func (r region) group(name string, change func(*autoscaling.CreateAutoScalingGroupInput)) {
	r.Helper()
	in := &autoscaling.CreateAutoScalingGroupInput{
		AutoScalingGroupName: &name, AvailabilityZones: []string{r.name + "a"}, MinSize: aws.Int32(0), MaxSize: aws.Int32(2), DesiredCapacity: aws.Int32(0),
	}
	change(in)
	_, err := r.scaling.CreateAutoScalingGroup(r.Context(), in)
	r.must(err)
}

func (r region) groupOf(name string, spec *astypes.LaunchTemplateSpecification) {
	r.Helper()
	r.group(name, func(in *autoscaling.CreateAutoScalingGroupInput) { in.LaunchTemplate = spec })
}

// find runs a build of the options, as Packer would.
func (r region) find(options map[string]any) (packersdk.Artifact, error) {
	r.Helper()
	var b Builder
	if _, _, err := b.Prepare(options); err != nil {
		r.Fatal(err)
	}
	log := r.Output()
	return b.Run(r.Context(), &packersdk.BasicUi{Reader: bytes.NewReader(nil), Writer: log, ErrorWriter: log}, nil)
}

// finds fails unless the options find the AMI and no other.
func (r region) finds(want string, options map[string]any) {
	r.Helper()
	artifact, err := r.find(options)
	if err != nil {
		r.Errorf("%v: %v", options, err)
	} else if artifact.Id() != r.name+":"+want {
		r.Errorf("%v found %s, want %s", options, artifact.Id(), want)
	}
}

// fails fails unless the options find nothing, for a reason that says all of
// the words.
func (r region) fails(options map[string]any, words ...string) {
	r.Helper()
	artifact, err := r.find(options)
	if err == nil {
		r.Errorf("%v found %s", options, artifact.Id())
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			r.Errorf("%v: %v\nwant %q in it", options, err, word)
		}
	}
}

func TestFindsByID(t *testing.T) {
	r := openSandbox(t)
	id := r.ami("web", nil, nil)
	r.finds(id, options{"ami_id": id})
	r.fails(options{"ami_id": "ami-0123456789abcdef0"}, "region eu-west-1: ami_id: AMI ami-0123456789abcdef0 does not exist", "correct the ID or the region")
	r.fails(options{"ami_id": id, "region": "eu-west-2"}, "region eu-west-2: ami_id: AMI "+id+" does not exist")

	_, err := r.compute.DeregisterImage(t.Context(), &ec2.DeregisterImageInput{ImageId: &id})
	r.must(err)
	r.fails(options{"ami_id": id}, "AMI "+id)

	begun := map[string]string{"immutable:run": "dead", "immutable:expires": "2000-01-01T00:00:00Z"}
	r.fails(options{"ami_id": r.ami("begun", begun, nil)}, "(begun) is not finished: the build that makes it, run dead, has not ended, or was killed")
}

func TestFindsByTags(t *testing.T) {
	r := openSandbox(t)
	other := strings.Repeat("0", 40)
	first := r.ami("web-1", map[string]string{"Source/CommitId": someCommit, "Stage": "tested"}, nil)
	second := r.ami("web-2", map[string]string{"Git/CommitId": someCommit, "Stage": "tested"}, nil)
	r.ami("database", map[string]string{"Stage": "new"}, nil)
	arm := r.ami("web-2-arm64", map[string]string{"Stage": "tested on arm64"}, func(in *ec2.RegisterImageInput) {
		in.Architecture, in.BootMode = types.ArchitectureValuesArm64, types.BootModeValuesUefi
	})
	_ = r.ami("web-2-x86_64", map[string]string{"Stage": "tested on arm64"}, nil)

	r.finds(first, options{"commit": someCommit})
	r.finds(second, options{"commit": someCommit, "prefix": "Git/"})
	r.finds(first, options{"commit": someCommit, "tags": map[string]string{"Stage": "tested"}})
	r.finds(arm, options{"tags": map[string]string{"Stage": "tested on arm64"}, "architecture": "arm64"})

	r.fails(options{"commit": other}, "no AMI of self has the tags Source/CommitId="+other, "in this region and account?")
	r.fails(options{"commit": someCommit, "architecture": "arm64"}, "no AMI of self for arm64 has the tags")
	r.fails(options{"tags": map[string]string{"Stage": "tested"}}, "2 AMIs have the tags Stage=tested", first+" (web-1, created 2", second+" (web-2, created 2", "set most_recent = true")
}

// The youngest is what was created last, not what comes last.
func TestMostRecentIsTheYoungest(t *testing.T) {
	r := openSandbox(t)
	tags := map[string]string{"App": "web"}
	var youngest string
	for _, name := range []string{"web-z", "web-m", "web-a"} {
		youngest = r.ami(name, tags, nil)
	}
	r.finds(youngest, options{"tags": tags, "most_recent": true})
}

func TestWildcardsOfFiltersAreNone(t *testing.T) {
	r := openSandbox(t)
	for i, value := range []string{"web-*", "web-?", `web-\`, `web-\*`} {
		id := r.ami("odd-"+string(rune('a'+i)), map[string]string{"App": value}, nil)
		r.ami("even-"+string(rune('a'+i)), map[string]string{"App": "web-" + string(rune('a'+i))}, nil)
		r.finds(id, options{"tags": map[string]string{"App": value}})
	}
	r.fails(options{"tags": map[string]string{"App": "web*"}}, "no AMI of self has the tags App=web*")
}

func TestWhatABuildHasNotFinishedIsNotTaken(t *testing.T) {
	r := openSandbox(t)
	tags := map[string]string{"App": "web"}
	begun := maps.Clone(tags)
	begun["immutable:run"], begun["immutable:expires"] = "dead", "2000-01-01T00:00:00Z"
	unfinished := r.ami("unfinished", begun, nil)
	r.fails(options{"tags": tags}, "no AMI with the tags App=web can be handed on", unfinished+" (unfinished) is not finished")
	id := r.ami("web", tags, nil)
	r.finds(id, options{"tags": tags})
}

func TestOwners(t *testing.T) {
	r := openSandbox(t)
	public, err := r.compute.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}})
	r.must(err)
	theirs := public.Images[0]
	r.finds(*theirs.ImageId, options{"ami_id": *theirs.ImageId})
	mine := r.ami("mine", map[string]string{"App": "web"}, nil)
	r.finds(mine, options{"tags": map[string]string{"App": "web"}, "owners": []string{"self"}})
	r.finds(mine, options{"tags": map[string]string{"App": "web"}, "owners": []string{"self", *theirs.OwnerId}})
	r.fails(options{"tags": map[string]string{"App": "web"}, "owners": []string{*theirs.OwnerId}}, "no AMI of "+*theirs.OwnerId+" has the tags App=web")
}

func TestFindsByParameter(t *testing.T) {
	r := openSandbox(t)
	id := r.ami("web", nil, nil)
	r.parameter("/web", id)
	r.finds(id, options{"ssm_parameter": "/web"})
	r.parameter("/gone", "ami-0123456789abcdef0")
	r.fails(options{"ssm_parameter": "/gone"}, `ssm_parameter "/gone" holds "ami-0123456789abcdef0"`, "does not exist in this region")
	r.parameter("/odd", "web")
	r.fails(options{"ssm_parameter": "/odd"}, `ssm_parameter "/odd" holds "web"`)
	r.fails(options{"ssm_parameter": "/none"}, `ssm_parameter "/none" does not exist in this region`)
}

func TestFindsByWhatAGroupRuns(t *testing.T) {
	r := openSandbox(t)
	one, two, three := r.ami("web-1", nil, nil), r.ami("web-2", nil, nil), r.ami("web-3", nil, nil)
	web := r.template("web", one, two, three)
	for _, test := range []struct{ version, current, previous string }{
		{"2", two, one}, {"3", three, two}, {"$Latest", three, two}, {"1", one, ""}, {"$Default", one, ""},
	} {
		t.Run(test.version, func(t *testing.T) {
			r, group := r.with(t), "web-"+strings.Trim(test.version, "$")
			r.groupOf(group, at(test.version, web))
			r.finds(test.current, options{"current_of": group})
			if test.previous != "" {
				r.finds(test.previous, options{"previous_of": group})
			} else {
				r.fails(options{"previous_of": group}, `previous_of: find what group "`+group+`" ran before: behind version 1 of launch template web there is none`, one, "ami_id or commit")
			}
		})
	}
	r.fails(options{"current_of": "nobody"}, `current_of: find what group "nobody" runs: there is no group of that name in region eu-west-1; correct its name`)
	_, err := r.compute.DeregisterImage(t.Context(), &ec2.DeregisterImageInput{ImageId: &two})
	r.must(err)
	r.fails(options{"previous_of": "web-3"}, `previous_of`, `the image of group "web-3"`, two)
}

func TestAGroupWithAMixedInstancesPolicy(t *testing.T) {
	r := openSandbox(t)
	one, two := r.ami("web-1", nil, nil), r.ami("web-2", nil, nil)
	web, big := r.template("web", one, two), r.template("big", two, one)
	mixed := func(name string, first, override *astypes.LaunchTemplateSpecification) {
		r.group(name, func(in *autoscaling.CreateAutoScalingGroupInput) {
			in.MixedInstancesPolicy = &astypes.MixedInstancesPolicy{LaunchTemplate: &astypes.LaunchTemplate{
				LaunchTemplateSpecification: first,
				Overrides:                   []astypes.LaunchTemplateOverrides{{InstanceType: aws.String("t3.small")}, {InstanceType: aws.String("t3.large"), LaunchTemplateSpecification: override}},
			}}
		})
	}
	mixed("same", at("2", web), at("1", big))
	r.finds(two, options{"current_of": "same"})
	r.finds(one, options{"previous_of": "same"})
	mixed("several", at("2", web), at("2", big))
	found := []string{one, two}
	slices.Sort(found)
	for _, option := range []string{"current_of", "previous_of"} {
		r.fails(options{option: "several"}, option, "its mixed instances policy has 2 images, "+strings.Join(found, ", ")+"; name the one that is meant by ami_id")
	}
}

func TestAGroupThatTellsNoImage(t *testing.T) {
	r := openSandbox(t)
	id := r.ami("web-1", nil, nil)
	_, err := r.scaling.CreateLaunchConfiguration(t.Context(), &autoscaling.CreateLaunchConfigurationInput{
		LaunchConfigurationName: aws.String("old"), ImageId: &id, InstanceType: aws.String("t3.small"),
	})
	r.must(err)
	r.group("configured", func(in *autoscaling.CreateAutoScalingGroupInput) { in.LaunchConfigurationName = aws.String("old") })
	r.fails(options{"current_of": "configured"}, `launch configuration "old"`, "give it a launch template, or name the AMI by ami_id")

	_, err = ssm.NewFromConfig(r.config).PutParameter(t.Context(), &ssm.PutParameterInput{
		Name: aws.String("/web"), Value: &id, Type: ssmtypes.ParameterTypeString, DataType: aws.String("aws:ec2:image"),
	})
	r.must(err)
	r.groupOf("resolved", r.template("resolved", "resolve:ssm:/web"))
	r.fails(options{"current_of": "resolved"}, `"resolve:ssm:/web", which names no AMI by itself; look the AMI up by ssm_parameter`)
}

func TestAGroupThatIsBeingRefreshedRunsTwo(t *testing.T) {
	r := openSandbox(t)
	one, two := r.ami("web-1", nil, nil), r.ami("web-2", nil, nil)
	web := r.template("web", one, two)
	r.group("web", func(in *autoscaling.CreateAutoScalingGroupInput) {
		in.LaunchTemplate, in.MinSize, in.DesiredCapacity, in.DefaultInstanceWarmup = web, aws.Int32(1), aws.Int32(1), aws.Int32(3600)
	})
	_, err := r.scaling.StartInstanceRefresh(t.Context(), &autoscaling.StartInstanceRefreshInput{
		AutoScalingGroupName: aws.String("web"), DesiredConfiguration: &astypes.DesiredConfiguration{LaunchTemplate: at("2", web)},
		Preferences: &astypes.RefreshPreferences{InstanceWarmup: aws.Int32(100_000)},
	})
	r.must(err)
	r.fails(options{"current_of": "web"}, "instance refresh", "so it runs two images; wait for its end")
	r.fails(options{"previous_of": "web"}, "instance refresh", "wait for its end")
}

func TestEachRegionHasItsOwn(t *testing.T) {
	r := openSandbox(t)
	far := r.in("us-east-1")
	tags := map[string]string{"App": "web"}
	near := r.ami("web", tags, nil)
	both := options{"tags": tags, "regions": []string{"us-east-1", "eu-west-1"}}
	r.fails(both, "region us-east-1: no AMI of self has the tags App=web")

	first := far.ami("web", tags, nil)
	artifact, err := r.find(both)
	r.must(err)
	if want := "eu-west-1:" + near + ",us-east-1:" + first; artifact.Id() != want {
		t.Errorf("found %s, want %s", artifact.Id(), want)
	}
	generated, _ := artifact.State("generated_data").(map[string]any)
	if want := map[string]any{"BuildRegion": "us-east-1", "SourceAMI": first, "SourceAMIName": "web"}; !maps.Equal(generated, want) {
		t.Errorf("post-processors know %v, want %v", generated, want)
	}

	far.ami("web-2", tags, nil)
	r.ami("web-2", tags, nil)
	r.fails(both, "region us-east-1: 2 AMIs have the tags", "region eu-west-1: 2 AMIs have the tags")
}

func TestTheArtifactOutlivesTheBuild(t *testing.T) {
	r := openSandbox(t)
	id := r.ami("web", nil, nil)
	artifact, err := r.find(options{"ami_id": id})
	r.must(err)
	if found, _ := artifact.State(image.StateFound).(bool); !found || !strings.Contains(artifact.String(), "AMIs were found:\neu-west-1: "+id) {
		t.Errorf("the artifact says %q", artifact)
	}
	r.must(artifact.Destroy())
	r.finds(id, options{"ami_id": id})
}
