package ec2

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// withData runs an instance that has a data volume, encrypted, beside its root.
func (w *world) withData() string {
	w.Helper()
	in := single(w.image("with-data"))
	in.BlockDeviceMappings = []types.BlockDeviceMapping{{
		DeviceName: aws.String("/dev/sdf"),
		Ebs:        &types.EbsBlockDevice{VolumeSize: aws.Int32(8), VolumeType: types.VolumeTypeGp3, Iops: aws.Int32(4000), Encrypted: aws.Bool(true)},
	}}
	id := w.run(in)[0]
	w.untilRunning(id)
	return id
}

func TestCreateImageMapsTheInstancesVolumes(t *testing.T) {
	w := newWorld(t)
	id := w.withData()
	data := w.snapshot(3)
	out, err := w.CreateImage(t.Context(), &ec2.CreateImageInput{
		InstanceId: &id, Name: aws.String("made"), NoReboot: aws.Bool(true),
		TagSpecifications: []types.TagSpecification{specify(types.ResourceTypeImage, "a", "image"), specify(types.ResourceTypeSnapshot, "a", "snapshot")},
		BlockDeviceMappings: []types.BlockDeviceMapping{
			{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{DeleteOnTermination: aws.Bool(false), VolumeSize: aws.Int32(2)}},
			{DeviceName: aws.String("/dev/sdf"), Ebs: &types.EbsBlockDevice{Encrypted: aws.Bool(false)}}, // ignored, as the volume is encrypted
			{DeviceName: aws.String("/dev/sdg"), Ebs: &types.EbsBlockDevice{SnapshotId: &data}},
			{DeviceName: aws.String("/dev/sdh"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(5), Encrypted: aws.Bool(true)}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.untilImage(w.Client, *out.ImageId)
	got := w.describeImage(*out.ImageId)
	devices := map[string]*types.EbsBlockDevice{}
	for _, d := range got.BlockDeviceMappings {
		devices[*d.DeviceName] = d.Ebs
	}
	root, encrypted, added, empty := devices["/dev/xvda"], devices["/dev/sdf"], devices["/dev/sdg"], devices["/dev/sdh"]
	if len(devices) != 4 || root == nil || encrypted == nil || added == nil || empty == nil {
		t.Fatalf("the mapping has %v", devices)
	}
	made := w.describeSnapshot(*root.SnapshotId)
	for _, check := range []struct {
		what      string
		got, want any
	}{
		{"the image's tag", tagOf(got.Tags, "a"), "image"},
		{"the snapshot's tag", tagOf(made.Tags, "a"), "snapshot"},
		{"the snapshot's description", *made.Description, "Created by CreateImage(" + id + ") for " + *out.ImageId},
		{"the instance", *got.SourceInstanceId, id},
		{"the root", *root.DeleteOnTermination, false},
		{"the root's type", root.VolumeType, types.VolumeTypeGp3},
		{"the data's encryption", *encrypted.Encrypted, true},
		{"the data's IOPS", *encrypted.Iops, int32(4000)},
		{"the data's snapshot", *w.describeSnapshot(*encrypted.SnapshotId).Encrypted, true},
		{"the added snapshot", *added.SnapshotId, data},
		{"the added size", *added.VolumeSize, int32(3)},
		{"the empty volume's snapshot", aws.ToString(empty.SnapshotId), ""},
		{"the empty volume's encryption", *empty.Encrypted, true},
	} {
		if check.got != check.want {
			t.Errorf("%s: got %v, want %v", check.what, check.got, check.want)
		}
	}
}

func TestCreateImageLeavesDevicesOut(t *testing.T) {
	w := newWorld(t)
	id := w.withData()
	out, err := w.CreateImage(t.Context(), &ec2.CreateImageInput{InstanceId: &id, Name: aws.String("root-only"), BlockDeviceMappings: []types.BlockDeviceMapping{
		{DeviceName: aws.String("/dev/sdf"), NoDevice: aws.String("")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.untilImage(w.Client, *out.ImageId)
	if got := w.describeImage(*out.ImageId).BlockDeviceMappings; len(got) != 1 || *got[0].DeviceName != "/dev/xvda" {
		t.Errorf("the mapping has %v", got)
	}
	if all, err := w.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{Filters: []types.Filter{{Name: aws.String("volume-size"), Values: []string{"8"}}}}); err != nil || len(all.Snapshots) > 0 {
		t.Errorf("a snapshot of the volume was made all the same: %v, %v", all, err)
	}
}

func TestCreateImageRefuses(t *testing.T) {
	w := newWorld(t)
	id := w.withData()
	w.image("taken")
	snapshot := w.snapshot(1)
	root := func(ebs types.EbsBlockDevice) func(*ec2.CreateImageInput) {
		return func(in *ec2.CreateImageInput) {
			in.BlockDeviceMappings = []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &ebs}}
		}
	}
	for name, test := range map[string]struct {
		change func(*ec2.CreateImageInput)
		code   string
	}{
		"a name that is taken": {func(in *ec2.CreateImageInput) { in.Name = aws.String("taken") }, "InvalidAMIName.Duplicate"},
		"a short name":         {func(in *ec2.CreateImageInput) { in.Name = aws.String("ab") }, "InvalidAMIName.Malformed"},
		"a long description":   {func(in *ec2.CreateImageInput) { in.Description = aws.String(strings.Repeat("a", 256)) }, "InvalidParameterValue"},
		"no such instance":     {func(in *ec2.CreateImageInput) { in.InstanceId = aws.String("i-00000000000000000") }, "InvalidInstanceID.NotFound"},
		"another size":         {root(types.EbsBlockDevice{VolumeSize: aws.Int32(9)}), "InvalidBlockDeviceMapping"},
		"another type":         {root(types.EbsBlockDevice{VolumeType: types.VolumeTypeGp2}), "InvalidBlockDeviceMapping"},
		"another throughput":   {root(types.EbsBlockDevice{Throughput: aws.Int32(500)}), "InvalidBlockDeviceMapping"},
		"another snapshot":     {root(types.EbsBlockDevice{SnapshotId: &snapshot}), "InvalidBlockDeviceMapping"},
		"encryption":           {root(types.EbsBlockDevice{Encrypted: aws.Bool(true)}), "InvalidBlockDeviceMapping"},
		"a key":                {root(types.EbsBlockDevice{Encrypted: aws.Bool(true), KmsKeyId: aws.String("alias/mine")}), "InvalidBlockDeviceMapping"},
		"no root": {func(in *ec2.CreateImageInput) {
			in.BlockDeviceMappings = []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), NoDevice: aws.String("")}}
		}, "InvalidBlockDeviceMapping"},
		"a place for the snapshots": {func(in *ec2.CreateImageInput) { in.SnapshotLocation = types.SnapshotLocationEnumLocal }, "UnknownParameter"},
		"tags for instances": {func(in *ec2.CreateImageInput) {
			in.TagSpecifications = []types.TagSpecification{specify(types.ResourceTypeInstance, "a", "b")}
		}, "InvalidParameterValue"},
	} {
		t.Run(name, func(t *testing.T) {
			in := &ec2.CreateImageInput{InstanceId: &id, Name: aws.String("made")}
			test.change(in)
			_, err := w.CreateImage(t.Context(), in)
			refused(t, err, test.code)
		})
	}
	if all, err := w.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{Filters: []types.Filter{{Name: aws.String("description"), Values: []string{"Created by*"}}}}); err != nil || len(all.Snapshots) > 0 {
		t.Errorf("refusals left the snapshots %v, %v", all, err)
	}
}
