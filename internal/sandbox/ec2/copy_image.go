package ec2

import (
	"cmp"
	"fmt"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
)

type copyImageInput struct {
	ClientToken       string
	CopyImageTags     bool
	Description       string
	Encrypted         *bool
	KmsKeyId          string
	Name              string             `wire:",,required"`
	SourceImageId     string             `wire:",,required"`
	SourceRegion      string             `wire:",,required"`
	TagSpecifications []tagSpecification `wire:"TagSpecification"`
}

type copyImageOutput struct{ ImageId string }

func (r *region) copyImage(c *api.Call, in *copyImageInput) (*copyImageOutput, error) {
	if err := cmp.Or(checkImageName(in.Name), checkDescription(in.Description)); err != nil {
		return nil, err
	}
	tagged, err := specified(in.TagSpecifications, "image", "snapshot")
	if err != nil {
		return nil, err
	}
	from, err := r.source(in.SourceRegion)
	if err != nil {
		return nil, err
	}
	c.On(from.arn("image", in.SourceImageId), r.arn("image", "*"), r.arn("snapshot", "*"))
	r.tagOnCreate(c, tagged)
	return once(r, "CopyImage", in.ClientToken, in, func() (*copyImageOutput, error) {
		original, err := from.usableImage(in.SourceImageId)
		if err != nil {
			return nil, err
		}
		if err := r.nameTaken(in.Name); err != nil {
			return nil, err
		}
		if err := r.noteCopying(c, from, original, in); err != nil {
			return nil, err
		}
		if err := cmp.Or(r.roomForSnapshots(len(original.snapshots())), r.roomForImageCopy()); err != nil {
			return nil, err
		}
		made, err := r.copyOf(from, original, in, tagged)
		if err != nil {
			return nil, err
		}
		r.service.takes(clock.Copy, r, func(r *region) {
			for _, id := range made.snapshots() {
				r.completeCopy(id)
			}
			r.imageDone(made.Id)
		})
		return &copyImageOutput{made.Id}, nil
	})
}

// noteCopying notes what the caller must be permitted on the keys of the snapshots.
func (r *region) noteCopying(c *api.Call, from *region, original *image, in *copyImageInput) error {
	how := copying{encrypted: in.Encrypted, kmsKeyID: in.KmsKeyId}
	sources, err := r.copyable(from, original, how)
	if err != nil {
		return err
	}
	for _, id := range original.snapshots() {
		if err := r.noteKeys(c, sources[id], from, how); err != nil {
			return err
		}
	}
	return nil
}

// copyOf begins a copy of an image with all its snapshots. Launch permissions
// and the deprecation stay behind, and tags that AWS has set
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/CopyingAMIs.html).
func (r *region) copyOf(from *region, original *image, in *copyImageInput, tagged map[string]tags) (*image, error) {
	own := tagged["image"]
	if in.CopyImageTags {
		// All tags are the caller's, also on an image that is not: there is no
		// other account that sets any.
		var err error
		if own, err = original.Tags.own().with(own); err != nil {
			return nil, err
		}
	}
	how := copying{encrypted: in.Encrypted, kmsKeyID: in.KmsKeyId, tags: tagged["snapshot"]}
	sources, err := r.copyable(from, original, how)
	if err != nil {
		return nil, err
	}
	made := *original
	made.resource = r.newResource("ami", own)
	made.Owner, made.Name, made.Description, made.State = api.Account, in.Name, in.Description, imagePending
	made.SourceImage, made.SourceRegion, made.SourceInstance = original.Id, from.name, ""
	made.Deprecated, made.Launched = time.Time{}, time.Time{}
	made.Permissions, made.BlockDevices = nil, nil
	for _, device := range original.BlockDevices {
		ebs := *device.Ebs
		if s, ok := sources[ebs.SnapshotId]; ok {
			how.description = fmt.Sprintf("Copied for DestinationAmi %s from SourceAmi %s for SourceSnapshot %s. Task created on %d.",
				made.Id, original.Id, s.Id, r.now().UnixMilli())
			snapshotCopy, err := r.copySnapshotOf(s, from, how)
			if err != nil {
				return nil, err
			}
			ebs.SnapshotId, ebs.Encrypted = snapshotCopy.Id, &snapshotCopy.Encrypted
		}
		made.BlockDevices = append(made.BlockDevices, blockDevice{DeviceName: device.DeviceName, Ebs: &ebs})
	}
	r.Images[made.Id] = &made
	return &made, nil
}

// copyable gives the snapshots of an image, by their ids, if all of them can be
// copied. That one may launch an image does not mean that one may copy it.
func (r *region) copyable(from *region, original *image, how copying) (map[string]snapshot, error) {
	sources := map[string]snapshot{}
	for _, id := range original.snapshots() {
		s, err := from.readySnapshot(id)
		if err != nil {
			return nil, fail("InvalidRequest", "You do not have permission to access the storage of this ami")
		}
		if _, _, err := r.encryption(s, how); err != nil {
			return nil, err
		}
		sources[id] = s
	}
	return sources, nil
}
