package image

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"
	registry "github.com/hashicorp/packer-plugin-sdk/packer/registry/image"
)

func TestCheckName(t *testing.T) {
	for name, c := range map[string]struct{ ami, wants string }{
		"every character allowed": {"aZ09 ()[]./-'@_", ""},
		"a colon":                 {"hello:1", `the character ":"`},
		"a letter beyond ASCII":   {"grüße", `the character "ü"`},
		"too short":               {"ab", "has 2 characters"},
		"the longest":             {strings.Repeat("a", 128), ""},
		"too long":                {strings.Repeat("a", 129), "has 129 characters"},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckName(c.ami)
			if (err == nil) != (c.wants == "") || err != nil && !strings.Contains(err.Error(), c.wants) {
				t.Errorf("CheckName(%q) = %v, want %q", c.ami, err, c.wants)
			}
			if err := CheckName(CleanName(c.ami)); err != nil && strings.Contains(err.Error(), "the character") {
				t.Errorf("CleanName(%q) is still wrong: %v", c.ami, err)
			}
		})
	}
}

type foreignArtifact struct{ builder, id string }

func (a foreignArtifact) BuilderId() string { return a.builder }
func (a foreignArtifact) Id() string        { return a.id }

func TestParse(t *testing.T) {
	ours := &Artifact{AMIs: map[string]string{"us-east-1": "ami-0b", "eu-west-1": "ami-0a"}}
	if got := ours.Id(); got != "eu-west-1:ami-0a,us-east-1:ami-0b" {
		t.Errorf("our artifact's id is %q", got)
	}
	for name, c := range map[string]struct {
		artifact interface {
			BuilderId() string
			Id() string
		}
		wants string // of the error
	}{
		"ours":                       {ours, ""},
		"amazon-ebs's":               {foreignArtifact{"mitchellh.amazonebs", ours.Id()}, ""},
		"amazon-import's":            {foreignArtifact{"packer.post-processor.amazon-import", ours.Id()}, ""},
		"one of volumes":             {foreignArtifact{"mitchellh.amazon.ebsvolume", "eu-west-1:vol-1"}, "mitchellh.amazon.ebsvolume"},
		"one of ours without an AMI": {&Artifact{}, "region:ami pairs"},
		"one that is not as it was":  {foreignArtifact{"mitchellh.amazonebs", "ami-0a"}, "region:ami pairs"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(c.artifact)
			if c.wants != "" {
				if err == nil || !strings.Contains(err.Error(), c.wants) {
					t.Errorf("Parse gave %v, want %q", err, c.wants)
				}
				return
			}
			if err != nil || !maps.Equal(got, ours.AMIs) {
				t.Errorf("Parse gave %v, %v", got, err)
			}
		})
	}
}

func TestTheArtifactTellsTheRegistryOfItsImages(t *testing.T) {
	a := &Artifact{
		AMIs: map[string]string{"eu-west-1": "ami-0a"},
		Data: map[string]any{"generated_data": map[string]any{"SourceAMI": "ami-0"}},
	}
	images, _ := a.State(registry.ArtifactStateURI).([]*registry.Image)
	want := []*registry.Image{{ImageID: "ami-0a", ProviderName: "aws", ProviderRegion: "eu-west-1", SourceImageID: "ami-0"}}
	if diff := cmp.Diff(want, images); diff != "" {
		t.Error(diff)
	}
	if a.State("nothing of ours") != nil {
		t.Error("there is a state that nobody gave")
	}
}

// registrar keeps the request, and says what the base's UEFI data are.
type registrar struct {
	fakeEC2
	uefi    string
	request *ec2.RegisterImageInput
	err     error
}

func (r *registrar) DescribeImageAttribute(context.Context, *ec2.DescribeImageAttributeInput, ...func(*ec2.Options)) (*ec2.DescribeImageAttributeOutput, error) {
	return &ec2.DescribeImageAttributeOutput{UefiData: &types.AttributeValue{Value: &r.uefi}}, nil
}

func (r *registrar) RegisterImage(_ context.Context, in *ec2.RegisterImageInput, _ ...func(*ec2.Options)) (*ec2.RegisterImageOutput, error) {
	r.request = in
	return &ec2.RegisterImageOutput{ImageId: aws.String("ami-new")}, r.err
}

// secureBase has every attribute that can be carried over.
func secureBase() types.Image {
	return types.Image{
		ImageId: aws.String("ami-base"), Architecture: types.ArchitectureValuesArm64, VirtualizationType: types.VirtualizationTypeHvm,
		EnaSupport: aws.Bool(true), SriovNetSupport: aws.String("simple"), BootMode: types.BootModeValuesUefi, TpmSupport: types.TpmSupportValuesV20,
		RootDeviceName: aws.String("/dev/sda1"),
		BlockDeviceMappings: []types.BlockDeviceMapping{
			{DeviceName: aws.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{
				SnapshotId: aws.String("snap-base"), VolumeSize: aws.Int32(8), VolumeType: types.VolumeTypeGp3,
				Iops: aws.Int32(3000), Throughput: aws.Int32(125), Encrypted: aws.Bool(true), DeleteOnTermination: aws.Bool(false),
			}},
			{DeviceName: aws.String("/dev/sdb"), Ebs: &types.EbsBlockDevice{SnapshotId: aws.String("snap-data"), Encrypted: aws.Bool(true), VolumeType: types.VolumeTypeGp2}},
			{DeviceName: aws.String("/dev/sdc"), VirtualName: aws.String("ephemeral0")},
		},
	}
}

func TestRegisterCarriesTheBasesAttributesOver(t *testing.T) {
	api := &registrar{uefi: "keys"}
	base := secureBase()
	if _, err := Register(t.Context(), api, Registration{Name: "hello", Base: &base, Snapshot: "snap-new", Size: 8, IMDSv2: true}); err != nil {
		t.Fatal(err)
	}
	in := api.request
	if in.Architecture != base.Architecture || in.BootMode != base.BootMode || in.TpmSupport != base.TpmSupport || *in.VirtualizationType != "hvm" ||
		!*in.EnaSupport || *in.SriovNetSupport != "simple" || *in.RootDeviceName != "/dev/sda1" || *in.UefiData != "keys" || in.ImdsSupport != "v2.0" {
		t.Errorf("registered as %+v", in)
	}
	root, data, ephemeral := in.BlockDeviceMappings[0].Ebs, in.BlockDeviceMappings[1].Ebs, in.BlockDeviceMappings[2]
	if *root.SnapshotId != "snap-new" || root.Encrypted != nil || *root.Iops != 3000 || *root.Throughput != 125 || *root.DeleteOnTermination {
		t.Errorf("root is %+v", root)
	}
	if *data.SnapshotId != "snap-data" || data.Encrypted != nil || data.VolumeType != types.VolumeTypeGp2 {
		t.Errorf("the data volume is %+v", data)
	}
	if *ephemeral.VirtualName != "ephemeral0" {
		t.Errorf("the instance store is %+v", ephemeral)
	}
	if was := secureBase(); *base.BlockDeviceMappings[1].Ebs.Encrypted != *was.BlockDeviceMappings[1].Ebs.Encrypted {
		t.Error("the base itself was changed")
	}
}

func TestTheRootVolumeCanBeChosen(t *testing.T) {
	for name, c := range map[string]struct {
		volume     Volume
		is         types.VolumeType
		size       int32
		iops, rate *int32
	}{
		"not at all":         {Volume{}, "gp3", 8, aws.Int32(3000), aws.Int32(125)},
		"larger":             {Volume{Size: 20}, "gp3", 20, aws.Int32(3000), aws.Int32(125)},
		"of another type":    {Volume{Type: "gp2"}, "gp2", 8, nil, nil},
		"faster":             {Volume{IOPS: 6000, Throughput: 500}, "gp3", 8, aws.Int32(6000), aws.Int32(500)},
		"of another, faster": {Volume{Type: "io2", IOPS: 9000}, "io2", 8, aws.Int32(9000), nil},
	} {
		t.Run(name, func(t *testing.T) {
			api := &registrar{}
			base := secureBase()
			if _, err := Register(t.Context(), api, Registration{Name: "hello", Base: &base, Snapshot: "snap-new", Size: 8, Volume: c.volume}); err != nil {
				t.Fatal(err)
			}
			root := api.request.BlockDeviceMappings[0].Ebs
			if root.VolumeType != c.is || *root.VolumeSize != c.size || aws.ToInt32(root.Iops) != aws.ToInt32(c.iops) || aws.ToInt32(root.Throughput) != aws.ToInt32(c.rate) {
				t.Errorf("root is %+v", root)
			}
		})
	}
}

func TestRegisterAdoptsItsOwnImageWhoseAnswerWasLost(t *testing.T) {
	for name, c := range map[string]struct {
		snapshot string
		fails    bool
	}{
		"of the same snapshot": {"snap-new", false},
		"but not another's":    {"snap-old", true},
	} {
		t.Run(name, func(t *testing.T) {
			api := &registrar{err: refuse("InvalidAMIName.Duplicate")}
			api.images = map[string]*types.Image{"ami-there": {
				ImageId: aws.String("ami-there"), Name: aws.String("hello"), RootDeviceName: aws.String("/dev/xvda"),
				BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: &c.snapshot}}},
			}}
			id, err := Register(t.Context(), api, Registration{Name: "hello", Snapshot: "snap-new", Architecture: "x86_64"})
			if (err != nil) != c.fails || !c.fails && id != "ami-there" {
				t.Errorf("Register gave %s, %v", id, err)
			}
		})
	}
}

func TestRegisterWaitsForTheImageThatHasTheName(t *testing.T) {
	for name, c := range map[string]struct {
		shows time.Duration
		wants string
	}{
		"that shows late": {20 * time.Second, ""},
		"that never does": {time.Hour, "InvalidAMIName.Duplicate"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &registrar{err: refuse("InvalidAMIName.Duplicate")}
				api.images = map[string]*types.Image{}
				timer := time.AfterFunc(c.shows, func() {
					api.mu.Lock()
					defer api.mu.Unlock()
					api.images["ami-there"] = &types.Image{
						ImageId: aws.String("ami-there"), Name: aws.String("hello"), RootDeviceName: aws.String("/dev/xvda"),
						BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: aws.String("snap-new")}}},
					}
				})
				defer timer.Stop()
				id, err := Register(t.Context(), api, Registration{Name: "hello", Snapshot: "snap-new", Architecture: "x86_64"})
				if c.wants == "" && (err != nil || id != "ami-there") || c.wants != "" && (err == nil || !strings.Contains(err.Error(), c.wants)) {
					t.Errorf("Register gave %q, %v, want %q", id, err, c.wants)
				}
			})
		})
	}
}

func TestFilterPrepare(t *testing.T) {
	good := Filter{Owners: []string{"amazon"}, Filters: map[string]string{"name": "a,b", "architecture": "x86_64"}}
	for name, c := range map[string]struct {
		filter Filter
		wants  []string
	}{
		"none at all":     {Filter{}, nil},
		"a good one":      {good, nil},
		"without owners":  {Filter{Filters: good.Filters}, []string{"no owners"}},
		"without filters": {Filter{Owners: good.Owners}, []string{"no filters"}},
	} {
		t.Run(name, func(t *testing.T) {
			errs := c.filter.Prepare()
			if len(errs) != len(c.wants) || len(errs) > 0 && !strings.Contains(errs[0].Error(), c.wants[0]) {
				t.Errorf("errors are %v, want %v", errs, c.wants)
			}
		})
	}
	request, err := good.request()
	if err != nil || !slices.Equal(request[1].Values, []string{"a", "b"}) {
		t.Errorf("the request is %v, %v", request, err)
	}
}
