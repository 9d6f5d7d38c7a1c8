package ec2

import (
	"fmt"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
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
	if err := checkImageName(in.Name); err != nil {
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
	original, err := from.usableImage(in.SourceImageId)
	if err != nil {
		return nil, err
	}
	c.On(from.arn("image", original.Id), r.arn("image", "*"), r.arn("snapshot", "*"))
	r.tagOnCreate(c, tagged)
	return once(r, "CopyImage", in.ClientToken, in, func() (*copyImageOutput, error) {
		if err := r.nameTaken(in.Name); err != nil {
			return nil, err
		}
		made, err := r.copyOf(from, original, in, tagged)
		if err != nil {
			return nil, err
		}
		r.service.takes(copyTime, r, func(r *region) {
			for _, id := range made.snapshots() {
				r.completeCopy(id)
			}
			r.imageDone(made.Id)
		})
		return &copyImageOutput{made.Id}, nil
	})
}

// copyOf begins a copy of an image with all its snapshots. Launch permissions,
// deprecation and other accounts' tags stay behind
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/CopyingAMIs.html).
func (r *region) copyOf(from *region, original *image, in *copyImageInput, tagged map[string]tags) (*image, error) {
	own := tagged["image"]
	if in.CopyImageTags && original.own() {
		var err error
		if own, err = original.Tags.own().with(own); err != nil {
			return nil, err
		}
	}
	made := *original
	made.resource = r.newResource("ami", own)
	made.Owner, made.Name, made.Description, made.State = api.Account, in.Name, in.Description, imagePending
	made.SourceImage, made.SourceRegion, made.SourceInstance = original.Id, from.name, ""
	made.Permissions, made.BlockDevices = nil, nil

	// First what may fail, for all snapshots, so that a refusal leaves nothing.
	for _, id := range original.snapshots() {
		s, err := from.readySnapshot(id)
		if err != nil {
			return nil, fail("InvalidRequest", "You do not have permission to access the storage of this ami")
		}
		if _, _, err := r.encryption(s, copying{encrypted: in.Encrypted, kmsKeyID: in.KmsKeyId}); err != nil {
			return nil, err
		}
	}
	for _, device := range original.BlockDevices {
		copied := device
		if device.Ebs != nil && device.Ebs.SnapshotId != "" {
			s, err := from.readySnapshot(device.Ebs.SnapshotId)
			if err != nil {
				return nil, err
			}
			snapshotCopy, err := r.copySnapshotOf(s, copying{
				description: fmt.Sprintf("Copied for DestinationAmi %s from SourceAmi %s for SourceSnapshot %s. Task created on %d.",
					made.Id, original.Id, s.Id, r.now().UnixMilli()),
				encrypted: in.Encrypted, kmsKeyID: in.KmsKeyId, tags: tagged["snapshot"],
			})
			if err != nil {
				return nil, err
			}
			ebs := *device.Ebs
			ebs.SnapshotId, ebs.Encrypted = snapshotCopy.Id, &snapshotCopy.Encrypted
			copied.Ebs = &ebs
		}
		made.BlockDevices = append(made.BlockDevices, copied)
	}
	made.Deprecated, made.Launched = time.Time{}, time.Time{}
	r.Images[made.Id] = &made
	return &made, nil
}
