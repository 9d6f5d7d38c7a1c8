// Package image is about AMIs: it finds the base, takes a copy of one that
// belongs to another account, registers a new one, tags and shares it, and is
// the artifact that Packer is handed.
package image

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// Describer looks up images; satisfied by *ec2.Client.
type Describer interface {
	DescribeImages(context.Context, *ec2.DescribeImagesInput, ...func(*ec2.Options)) (*ec2.DescribeImagesOutput, error)
}

// NotFoundError says that there is no such AMI, or none that this account may
// see.
type NotFoundError struct{ ID string }

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("AMI %s does not exist in this region, is disabled, or is not shared with this account", e.ID)
}

// Describe looks up one image. If there is none the error is a NotFoundError.
func Describe(ctx context.Context, api Describer, id string) (types.Image, error) {
	found, err := api.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{id}})
	switch code := cloud.Code(err); {
	case code == "InvalidAMIID.NotFound", code == "InvalidAMIID.Unavailable":
		return types.Image{}, &NotFoundError{id}
	case err != nil:
		return types.Image{}, fmt.Errorf("look up AMI %s: %w", id, err)
	case len(found.Images) == 0:
		return types.Image{}, &NotFoundError{id}
	}
	return found.Images[0], nil
}

// Snapshots are the ids of the snapshots that an image's volumes are made from,
// the root's first.
func Snapshots(image types.Image) []string {
	var ids []string
	for _, m := range image.BlockDeviceMappings {
		if m.Ebs == nil || m.Ebs.SnapshotId == nil {
			continue
		}
		if aws.ToString(m.DeviceName) == aws.ToString(image.RootDeviceName) {
			ids = slices.Insert(ids, 0, *m.Ebs.SnapshotId)
		} else {
			ids = append(ids, *m.Ebs.SnapshotId)
		}
	}
	return ids
}

// ownSnapshots are those that were made for an image, and that share its fate.
// An AMI baked here has only its root's: its further volumes are made from the
// snapshots of its base. All are those of a copy, and of any other AMI.
func ownSnapshots(image types.Image) []string {
	ids, tags := Snapshots(image), Tags(image)
	if tags[cloud.TagRun] != "" && tags[TagCopyOf] == "" {
		return ids[:min(len(ids), 1)]
	}
	return ids
}

// Root is the mapping of an image's root volume.
func Root(image types.Image) (types.EbsBlockDevice, error) {
	for _, m := range image.BlockDeviceMappings {
		if aws.ToString(m.DeviceName) == aws.ToString(image.RootDeviceName) && m.Ebs != nil && m.Ebs.SnapshotId != nil {
			return *m.Ebs, nil
		}
	}
	return types.EbsBlockDevice{}, fmt.Errorf("AMI %s (%s) has no EBS snapshot for its root device %q; choose one whose root device type is ebs",
		aws.ToString(image.ImageId), aws.ToString(image.Name), aws.ToString(image.RootDeviceName))
}

// Tags are an image's tags as a map.
func Tags(image types.Image) map[string]string {
	tags := map[string]string{}
	for _, t := range image.Tags {
		tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return tags
}

// tagList is a map of tags as EC2 wants it, in a stable order.
func tagList(tags map[string]string) []types.Tag {
	var list []types.Tag
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, types.Tag{Key: new(key), Value: new(tags[key])})
	}
	return list
}
