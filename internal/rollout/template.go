package rollout

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/commit"
	"github.com/immutable-server/packer-plugin-immutable/internal/tags"
)

// Version is a launch template version to be made.
type Version struct {
	// Of is the version that it replaces, as the group names it, and Source
	// its number. What Data does not set is taken from there by EC2, so that
	// nothing is lost, not even a parameter newer than this plugin.
	Of     reference
	Source int64
	Data   ec2types.RequestLaunchTemplateData
}

// nextVersion is the former version with the image in it. EC2 replaces each
// parameter as a whole, and forgets the snapshots of the block device mappings
// when these are not given anew: hence mappings and tags are always complete.
func nextVersion(of reference, former ec2types.LaunchTemplateVersion, s State, prefix string, commitTags map[string]string) (Version, []string, error) {
	data := former.LaunchTemplateData
	mappings, notes, err := adaptMappings(data.BlockDeviceMappings, s.Images[imageOf(former)], s.Image)
	if err != nil {
		return Version{}, nil, fmt.Errorf("launch template %s: %w", of, err)
	}
	tagged, more := tagSpecifications(data, s.Group, prefix, commitTags)
	return Version{
		Of:     of,
		Source: aws.ToInt64(former.VersionNumber),
		Data: ec2types.RequestLaunchTemplateData{
			ImageId:             s.Image.ImageId,
			BlockDeviceMappings: mappings,
			TagSpecifications:   tagged,
		},
	}, append(notes, more...), nil
}

// adaptMappings adapts a template's block device mappings, which were written for
// the former image, to the new one:
//
//   - a snapshot that was the former image's own is dropped, or else the volume
//     would be made from it in place of the new image's;
//   - the root device gets the name that the new image has for it;
//   - the root volume is never smaller than the new image's snapshot;
//   - an explicit "not encrypted" is dropped where the new image is encrypted.
//
// Former is zero where the image is no more.
func adaptMappings(old []ec2types.LaunchTemplateBlockDeviceMapping, former, image ec2types.Image) (adapted []ec2types.LaunchTemplateBlockDeviceMappingRequest, notes []string, err error) {
	root := aws.ToString(image.RootDeviceName)
	formerRoot := cmp.Or(aws.ToString(former.RootDeviceName), root)
	for _, m := range old {
		device := aws.ToString(m.DeviceName)
		if device == root && root != formerRoot {
			return nil, nil, fmt.Errorf("it maps %s as a further device, which is the root device of %s; use another device name there", device, aws.ToString(image.ImageId))
		}
		next := ec2types.LaunchTemplateBlockDeviceMappingRequest{DeviceName: m.DeviceName, NoDevice: m.NoDevice, VirtualName: m.VirtualName}
		if device == formerRoot {
			next.DeviceName = aws.String(root)
		}
		if m.Ebs != nil {
			ebs := ec2types.LaunchTemplateEbsBlockDeviceRequest(*m.Ebs)
			next.Ebs = &ebs
			note := adaptVolume(&ebs, *next.DeviceName, device == formerRoot, former, image)
			if note != "" {
				notes = append(notes, note)
			}
		}
		adapted = append(adapted, next)
	}
	return adapted, notes, nil
}

func adaptVolume(ebs *ec2types.LaunchTemplateEbsBlockDeviceRequest, device string, isRoot bool, former, image ec2types.Image) (note string) {
	has := volume(image, device)
	if has == nil {
		return ""
	}
	if isRoot || (ebs.SnapshotId != nil && holds(former, *ebs.SnapshotId)) {
		ebs.SnapshotId = nil
	}
	if ebs.SnapshotId != nil {
		return ""
	}
	if aws.ToBool(has.Encrypted) && !aws.ToBool(ebs.Encrypted) {
		ebs.Encrypted = nil
	}
	if least := aws.ToInt32(has.VolumeSize); ebs.VolumeSize != nil && *ebs.VolumeSize < least {
		note = fmt.Sprintf("The launch template gives %s %d GiB, and the image needs %d: it gets %d", device, *ebs.VolumeSize, least, least)
		ebs.VolumeSize = aws.Int32(least)
	}
	return note
}

// volume is what an image itself maps to a device.
func volume(image ec2types.Image, device string) *ec2types.EbsBlockDevice {
	for _, m := range image.BlockDeviceMappings {
		if aws.ToString(m.DeviceName) == device {
			return m.Ebs
		}
	}
	return nil
}

func holds(image ec2types.Image, snapshot string) bool {
	return slices.ContainsFunc(image.BlockDeviceMappings, func(m ec2types.BlockDeviceMapping) bool {
		return m.Ebs != nil && aws.ToString(m.Ebs.SnapshotId) == snapshot
	})
}

// tagSpecifications adds the commit's tags to those that the template gives
// instances and volumes, in place of the tags of an earlier commit. Tags for
// other resources stay as they are.
func tagSpecifications(data *ec2types.ResponseLaunchTemplateData, group types.AutoScalingGroup, prefix string, commitTags map[string]string) (specs []ec2types.LaunchTemplateTagSpecificationRequest, notes []string) {
	given := map[ec2types.ResourceType]map[string]string{}
	order := []ec2types.ResourceType{}
	for _, spec := range data.TagSpecifications {
		if given[spec.ResourceType] == nil {
			given[spec.ResourceType] = map[string]string{}
			order = append(order, spec.ResourceType)
		}
		for _, tag := range spec.Tags {
			given[spec.ResourceType][aws.ToString(tag.Key)] = aws.ToString(tag.Value)
		}
	}
	for _, resource := range []ec2types.ResourceType{ec2types.ResourceTypeInstance, ec2types.ResourceTypeVolume} {
		if given[resource] == nil {
			given[resource] = map[string]string{}
			order = append(order, resource)
		}
		spell := asItIs
		// The group puts tags of its own on instances: they count as well.
		present := map[string]string{}
		if resource == ec2types.ResourceTypeInstance {
			present = propagated(group)
			if inMetadata(data) {
				spell = forMetadata
			}
		}
		for _, key := range commit.Keys {
			delete(given[resource], spell(prefix+key))
		}
		wanted := map[string]string{}
		for key, value := range commitTags {
			wanted[spell(key)] = value
		}
		maps.Copy(present, given[resource])
		fit, left := tags.Fit(present, wanted)
		maps.Copy(given[resource], fit)
		if len(left) > 0 {
			notes = append(notes, fmt.Sprintf("A resource can have %d tags: there is no room on each %s for %s", tags.Max, resource, strings.Join(left, ", ")))
		}
	}
	for _, resource := range order {
		if len(given[resource]) > 0 {
			specs = append(specs, ec2types.LaunchTemplateTagSpecificationRequest{ResourceType: resource, Tags: tagList(given[resource])})
		}
	}
	return specs, notes
}

func propagated(group types.AutoScalingGroup) map[string]string {
	found := map[string]string{}
	for _, tag := range group.Tags {
		if aws.ToBool(tag.PropagateAtLaunch) {
			found[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
		}
	}
	return found
}

func inMetadata(data *ec2types.ResponseLaunchTemplateData) bool {
	return data.MetadataOptions != nil && data.MetadataOptions.InstanceMetadataTags == ec2types.LaunchTemplateInstanceMetadataTagsStateEnabled
}

func asItIs(key string) string { return key }

// forMetadata spells a key so that an instance can have its tags in its
// metadata: there a key is part of a path, and EC2 launches no instance with
// another character than these in one ("View tags for your EC2 instances using
// instance metadata").
func forMetadata(key string) string { return notInMetadata.ReplaceAllString(key, ":") }

var notInMetadata = regexp.MustCompile(`[^0-9A-Za-z+\-=._,:@]`)

func tagList(from map[string]string) []ec2types.Tag {
	var list []ec2types.Tag
	for _, key := range slices.Sorted(maps.Keys(from)) {
		list = append(list, ec2types.Tag{Key: aws.String(key), Value: aws.String(from[key])})
	}
	return list
}
