package rollout

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"
)

func mapped(device string, ebs *ec2types.LaunchTemplateEbsBlockDevice) ec2types.LaunchTemplateBlockDeviceMapping {
	return ec2types.LaunchTemplateBlockDeviceMapping{DeviceName: aws.String(device), Ebs: ebs}
}

func mapping(device string, ebs *ec2types.LaunchTemplateEbsBlockDeviceRequest) ec2types.LaunchTemplateBlockDeviceMappingRequest {
	return ec2types.LaunchTemplateBlockDeviceMappingRequest{DeviceName: aws.String(device), Ebs: ebs}
}

func TestDeviceMappingsAreKeptAndFitTheNewImage(t *testing.T) {
	former := anImage(oldImage, "/dev/xvda", 8)
	image := anImage(newImage, "/dev/xvda", 8)
	renamed := anImage(newImage, "/dev/sda1", 8)
	bigger := anImage(newImage, "/dev/xvda", 20)
	encrypted := anImage(newImage, "/dev/xvda", 8)
	encrypted.BlockDeviceMappings[0].Ebs.Encrypted = aws.Bool(true)
	withData := func(i ec2types.Image) ec2types.Image {
		i.BlockDeviceMappings = append(i.BlockDeviceMappings, ec2types.BlockDeviceMapping{
			DeviceName: aws.String("/dev/sdb"),
			Ebs:        &ec2types.EbsBlockDevice{SnapshotId: aws.String("snap-data-of-" + *i.ImageId), VolumeSize: aws.Int32(100)},
		})
		return i
	}
	type before = ec2types.LaunchTemplateEbsBlockDevice
	type after = ec2types.LaunchTemplateEbsBlockDeviceRequest

	for name, test := range map[string]struct {
		former, image ec2types.Image
		old           []ec2types.LaunchTemplateBlockDeviceMapping
		want          []ec2types.LaunchTemplateBlockDeviceMappingRequest
		note          string
	}{
		"nothing stays nothing": {former, image, nil, nil, ""},
		"every field of a volume": {
			former, image,
			[]ec2types.LaunchTemplateBlockDeviceMapping{mapped("/dev/sdf", &before{
				SnapshotId: aws.String("snap-mine"), VolumeSize: aws.Int32(50), VolumeType: "io2", Iops: aws.Int32(9000), Throughput: aws.Int32(500),
				Encrypted: aws.Bool(true), KmsKeyId: aws.String("key"), DeleteOnTermination: aws.Bool(false), VolumeInitializationRate: aws.Int32(100), EbsCardIndex: aws.Int32(1),
			})},
			[]ec2types.LaunchTemplateBlockDeviceMappingRequest{mapping("/dev/sdf", &after{
				SnapshotId: aws.String("snap-mine"), VolumeSize: aws.Int32(50), VolumeType: "io2", Iops: aws.Int32(9000), Throughput: aws.Int32(500),
				Encrypted: aws.Bool(true), KmsKeyId: aws.String("key"), DeleteOnTermination: aws.Bool(false), VolumeInitializationRate: aws.Int32(100), EbsCardIndex: aws.Int32(1),
			})}, "",
		},
		"a device left out, and an instance store": {
			former, image,
			[]ec2types.LaunchTemplateBlockDeviceMapping{
				{DeviceName: aws.String("/dev/sdb"), NoDevice: aws.String("")},
				{DeviceName: aws.String("/dev/sdc"), VirtualName: aws.String("ephemeral0")},
			},
			[]ec2types.LaunchTemplateBlockDeviceMappingRequest{
				{DeviceName: aws.String("/dev/sdb"), NoDevice: aws.String("")},
				{DeviceName: aws.String("/dev/sdc"), VirtualName: aws.String("ephemeral0")},
			}, "",
		},
		"the root's former snapshot is dropped, its size stays": {
			former, image,
			[]ec2types.LaunchTemplateBlockDeviceMapping{mapped("/dev/xvda", &before{SnapshotId: aws.String("snap-of-" + oldImage), VolumeSize: aws.Int32(30), VolumeType: "gp3"})},
			[]ec2types.LaunchTemplateBlockDeviceMappingRequest{mapping("/dev/xvda", &after{VolumeSize: aws.Int32(30), VolumeType: "gp3"})}, "",
		},
		"also where the former image is no more": {
			ec2types.Image{}, image,
			[]ec2types.LaunchTemplateBlockDeviceMapping{mapped("/dev/xvda", &before{SnapshotId: aws.String("snap-of-" + oldImage)})},
			[]ec2types.LaunchTemplateBlockDeviceMappingRequest{mapping("/dev/xvda", &after{})}, "",
		},
		"the root is called otherwise in the new image": {
			former, renamed,
			[]ec2types.LaunchTemplateBlockDeviceMapping{mapped("/dev/xvda", &before{VolumeSize: aws.Int32(30)})},
			[]ec2types.LaunchTemplateBlockDeviceMappingRequest{mapping("/dev/sda1", &after{VolumeSize: aws.Int32(30)})}, "",
		},
		"the root is larger in the new image": {
			former, bigger,
			[]ec2types.LaunchTemplateBlockDeviceMapping{mapped("/dev/xvda", &before{VolumeSize: aws.Int32(10)})},
			[]ec2types.LaunchTemplateBlockDeviceMappingRequest{mapping("/dev/xvda", &after{VolumeSize: aws.Int32(20)})},
			"/dev/xvda 10 GiB, and the image needs 20",
		},
		"not encrypted, but the new image is": {
			former, encrypted,
			[]ec2types.LaunchTemplateBlockDeviceMapping{mapped("/dev/xvda", &before{Encrypted: aws.Bool(false)})},
			[]ec2types.LaunchTemplateBlockDeviceMappingRequest{mapping("/dev/xvda", &after{})}, "",
		},
		"a data volume of both images": {
			withData(former), withData(image),
			[]ec2types.LaunchTemplateBlockDeviceMapping{mapped("/dev/sdb", &before{SnapshotId: aws.String("snap-data-of-" + oldImage), VolumeType: "gp3"})},
			[]ec2types.LaunchTemplateBlockDeviceMappingRequest{mapping("/dev/sdb", &after{VolumeType: "gp3"})}, "",
		},
		"a data volume of the former image alone": {
			withData(former), image,
			[]ec2types.LaunchTemplateBlockDeviceMapping{mapped("/dev/sdb", &before{SnapshotId: aws.String("snap-data-of-" + oldImage)})},
			[]ec2types.LaunchTemplateBlockDeviceMappingRequest{mapping("/dev/sdb", &after{SnapshotId: aws.String("snap-data-of-" + oldImage)})}, "",
		},
		"a snapshot of the user's in place of the image's": {
			withData(former), withData(image),
			[]ec2types.LaunchTemplateBlockDeviceMapping{mapped("/dev/sdb", &before{SnapshotId: aws.String("snap-mine"), VolumeSize: aws.Int32(1)})},
			[]ec2types.LaunchTemplateBlockDeviceMappingRequest{mapping("/dev/sdb", &after{SnapshotId: aws.String("snap-mine"), VolumeSize: aws.Int32(1)})}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, notes, err := adaptMappings(test.old, test.former, test.image)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, sdk); diff != "" {
				t.Errorf("mappings:\n%s", diff)
			}
			if (test.note == "") != (len(notes) == 0) || !strings.Contains(strings.Join(notes, ""), test.note) {
				t.Errorf("notes %q, want %q", notes, test.note)
			}
		})
	}
}

func TestADataVolumeInPlaceOfTheNewRootIsRefused(t *testing.T) {
	_, _, err := adaptMappings(
		[]ec2types.LaunchTemplateBlockDeviceMapping{mapped("/dev/sda1", &ec2types.LaunchTemplateEbsBlockDevice{})},
		anImage(oldImage, "/dev/xvda", 8), anImage(newImage, "/dev/sda1", 8))
	wants(t, err, "/dev/sda1", "root device of "+newImage)
}

func TestCommitTagsAreMergedIntoThoseOfTheTemplate(t *testing.T) {
	tag := func(key, value string) ec2types.Tag {
		return ec2types.Tag{Key: aws.String(key), Value: aws.String(value)}
	}
	spec := func(resource ec2types.ResourceType, tags ...ec2types.Tag) ec2types.LaunchTemplateTagSpecification {
		return ec2types.LaunchTemplateTagSpecification{ResourceType: resource, Tags: tags}
	}
	want := func(resource ec2types.ResourceType, tags ...ec2types.Tag) ec2types.LaunchTemplateTagSpecificationRequest {
		return ec2types.LaunchTemplateTagSpecificationRequest{ResourceType: resource, Tags: tags}
	}
	commitTags := map[string]string{"Source/CommitId": "c0ffee", "Source/BranchName": "main"}
	branch, id := tag("Source/BranchName", "main"), tag("Source/CommitId", "c0ffee")

	for name, test := range map[string]struct {
		data  ec2types.ResponseLaunchTemplateData
		group types.AutoScalingGroup
		tags  map[string]string
		want  []ec2types.LaunchTemplateTagSpecificationRequest
		note  string
	}{
		"none before": {
			tags: commitTags,
			want: []ec2types.LaunchTemplateTagSpecificationRequest{
				want("instance", branch, id), want("volume", branch, id),
			},
		},
		"others stay": {
			data: ec2types.ResponseLaunchTemplateData{TagSpecifications: []ec2types.LaunchTemplateTagSpecification{
				spec("network-interface", tag("Net", "x")), spec("volume", tag("Backup", "daily")), spec("instance", tag("Name", "hello")),
			}},
			tags: commitTags,
			want: []ec2types.LaunchTemplateTagSpecificationRequest{
				want("network-interface", tag("Net", "x")), want("volume", tag("Backup", "daily"), branch, id), want("instance", tag("Name", "hello"), branch, id),
			},
		},
		"those of the former commit go": {
			data: ec2types.ResponseLaunchTemplateData{TagSpecifications: []ec2types.LaunchTemplateTagSpecification{
				spec("instance", tag("Source/CommitId", "01d"), tag("Source/BuildUrl", "https://ci/1"), tag("Source/Team", "ours")),
			}},
			tags: commitTags,
			want: []ec2types.LaunchTemplateTagSpecificationRequest{
				want("instance", branch, id, tag("Source/Team", "ours")), want("volume", branch, id),
			},
		},
		"also where the image has none": {
			data: ec2types.ResponseLaunchTemplateData{TagSpecifications: []ec2types.LaunchTemplateTagSpecification{
				spec("instance", tag("Source/CommitId", "01d"), tag("Name", "hello")), spec("volume", tag("Source/CommitId", "01d")),
			}},
			want: []ec2types.LaunchTemplateTagSpecificationRequest{want("instance", tag("Name", "hello"))},
		},
		"tags in the instance metadata allow no slash": {
			data: ec2types.ResponseLaunchTemplateData{MetadataOptions: &ec2types.LaunchTemplateInstanceMetadataOptions{InstanceMetadataTags: "enabled"}},
			tags: commitTags,
			want: []ec2types.LaunchTemplateTagSpecificationRequest{
				want("instance", tag("Source:BranchName", "main"), tag("Source:CommitId", "c0ffee")), want("volume", branch, id),
			},
		},
		"the group's own tags take room": {
			group: types.AutoScalingGroup{Tags: manyTags(49)},
			tags:  commitTags,
			want: []ec2types.LaunchTemplateTagSpecificationRequest{
				want("instance", branch), want("volume", branch, id),
			},
			note: "50 tags: there is no room on each instance for Source/CommitId",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, notes := tagSpecifications(&test.data, test.group, "Source/", test.tags)
			if diff := cmp.Diff(test.want, got, sdk); diff != "" {
				t.Errorf("tag specifications:\n%s", diff)
			}
			if (test.note == "") != (len(notes) == 0) || !strings.Contains(strings.Join(notes, ""), test.note) {
				t.Errorf("notes %q, want %q", notes, test.note)
			}
		})
	}
}

func manyTags(n int) []types.TagDescription {
	var tags []types.TagDescription
	for i := range n {
		tags = append(tags, types.TagDescription{Key: aws.String(fmt.Sprint(i)), Value: aws.String(""), PropagateAtLaunch: aws.Bool(true)})
	}
	return append(tags, types.TagDescription{Key: aws.String("of the group alone"), PropagateAtLaunch: aws.Bool(false)})
}

// What is not given is inherited from the source version by EC2.
func TestTheVersionIsMadeFromTheFormerOneWithOnlyWhatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.toTheEnd()
		r, _ := f.rollout()
		run(t, r)
		in := f.created[0]
		if *in.LaunchTemplateId != template || *in.SourceVersion != "3" {
			t.Errorf("made from version %s of %s", *in.SourceVersion, *in.LaunchTemplateId)
		}
		tags := []ec2types.Tag{
			{Key: aws.String("Source/BranchName"), Value: aws.String("main")},
			{Key: aws.String("Source/CommitId"), Value: aws.String("c0ffee")},
		}
		want := &ec2types.RequestLaunchTemplateData{
			ImageId: aws.String(newImage),
			TagSpecifications: []ec2types.LaunchTemplateTagSpecificationRequest{
				{ResourceType: "instance", Tags: tags}, {ResourceType: "volume", Tags: tags},
			},
		}
		if diff := cmp.Diff(want, in.LaunchTemplateData, sdk); diff != "" {
			t.Errorf("data of the version:\n%s", diff)
		}
		if n := len(*in.VersionDescription); n > 255 {
			t.Errorf("the description has %d characters, EC2 allows 255", n)
		}
	})
}
