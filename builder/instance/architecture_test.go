package instance

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/image"
)

// firmware is a store of UEFI variables, as far as anybody here looks at it.
const firmware = "QU1aTlVFRkk="

// register makes a base of the account's own, of the public one's snapshot.
func (l *local) register(name string, architecture types.ArchitectureValues, mode types.BootModeValues) string {
	l.t.Helper()
	copied, err := l.ec2.CopyImage(l.t.Context(), &ec2.CopyImageInput{Name: aws.String("copy for " + name), SourceImageId: aws.String(l.base()), SourceRegion: aws.String("eu-west-1")})
	if err != nil {
		l.t.Fatal(err)
	}
	snapshot := image.Snapshots(l.image(*copied.ImageId))[0]
	made, err := l.ec2.RegisterImage(l.t.Context(), &ec2.RegisterImageInput{
		Name: &name, Architecture: architecture, BootMode: mode, EnaSupport: aws.Bool(true), VirtualizationType: aws.String("hvm"), RootDeviceName: aws.String("/dev/xvda"),
		UefiData:            aws.String(firmware),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: &snapshot, VolumeType: types.VolumeTypeGp3}}},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return *made.ImageId
}

func TestArm64AndItsFirmware(t *testing.T) {
	l := openLocal(t)
	base := l.register("arm base", types.ArchitectureValuesArm64, types.BootModeValuesUefi)
	made := l.made(map[string]any{"architecture": "arm64", "source_ami": base})
	if made.Architecture != types.ArchitectureValuesArm64 || made.BootMode != types.BootModeValuesUefi {
		t.Errorf("made %s, %s", made.Architecture, made.BootMode)
	}
	if kind := l.instances()[0].InstanceType; kind != "t4g.small" {
		t.Errorf("launched %s", kind)
	}
	kept, err := l.ec2.DescribeImageAttribute(t.Context(), &ec2.DescribeImageAttributeInput{ImageId: made.ImageId, Attribute: types.ImageAttributeNameUefiData})
	if err != nil || aws.ToString(kept.UefiData.Value) != firmware {
		t.Errorf("the UEFI variables are %v: %v", kept, err)
	}
}

func TestBaseOfAnotherArchitectureIsRefused(t *testing.T) {
	l := openLocal(t)
	_, err := l.build(t.Context(), map[string]any{"architecture": "arm64", "source_ami": l.base()}, nil)
	says(t, err, `is for x86_64, and architecture is "arm64"`, `set architecture = "x86_64"`)
	if n := l.called("CreateFleet"); n > 0 {
		t.Error("an instance was launched")
	}
}

func TestVolumeThatWouldShrinkIsRefused(t *testing.T) {
	l := openLocal(t)
	_, err := l.build(t.Context(), map[string]any{"volume_size": 4}, enough)
	says(t, err, "volume_size is 4 GiB, less than the 8 GiB of base ami-", "leave it out or make it larger")
	l.assertLeft()
}
