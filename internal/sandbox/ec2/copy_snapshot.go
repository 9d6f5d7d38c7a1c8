package ec2

import (
	"maps"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

// source gives the region that something is copied from.
func (r *region) source(name string) (*region, error) {
	for _, known := range [][]string{standardRegions, optInRegions} {
		for _, one := range known {
			if one == name {
				return r.service.in(name), nil
			}
		}
	}
	return nil, fail("InvalidParameterValue", "Invalid value '%s' for parameter sourceRegion: no such region", name)
}

// copying says what a copy of a snapshot is to be.
type copying struct {
	description string
	encrypted   *bool
	kmsKeyID    string
	tags        tags
}

// encryption gives whether a copy of the snapshot is encrypted and with which
// key. An encrypted snapshot has no unencrypted copy
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-copy-snapshot.html).
func (r *region) encryption(s snapshot, how copying) (encrypted bool, key string, err error) {
	switch {
	case how.kmsKeyID != "" && !orZero(how.encrypted):
		return false, "", fail("InvalidParameterDependency", "If you specify a KMS key, the encrypted state must be set to true.")
	case s.Encrypted && how.encrypted != nil && !*how.encrypted:
		return false, "", fail("InvalidParameterCombination", "The snapshot %s is encrypted and cannot be copied unencrypted.", s.Id)
	case !s.Encrypted && !orZero(how.encrypted) && !r.EncryptionByDefault:
		return false, "", nil
	}
	return true, r.key(how.kmsKeyID), nil
}

// copySnapshotOf begins a copy in this region of a snapshot of another, or the same.
func (r *region) copySnapshotOf(s snapshot, how copying) (*storage.Snapshot, error) {
	encrypted, key, err := r.encryption(s, how)
	if err != nil {
		return nil, err
	}
	made := storage.NewSnapshot(r.now(), s.VolumeSize)
	made.Description, made.Encrypted, made.KmsKeyId, made.Noise = how.description, encrypted, key, s.Noise
	maps.Copy(made.Tags, how.tags)
	r.service.store.Add(r.name, made, s.Blocks())
	return made, nil
}

// completeCopy completes a copy. One that was deleted meanwhile is no error.
func (r *region) completeCopy(id string) {
	s := r.service.store.In(r.name).Snapshots[id]
	if s == nil || s.State != storage.Pending {
		return
	}
	if err := r.service.store.Complete(r.name, s, nil, r.now()); err != nil {
		r.service.report(err)
	}
}

type copySnapshotInput struct {
	Description       string
	DestinationRegion string // by older clients, which sign for it in PresignedUrl
	Encrypted         *bool
	KmsKeyId          string
	PresignedUrl      string
	SourceRegion      string             `wire:",,required"`
	SourceSnapshotId  string             `wire:",,required"`
	TagSpecifications []tagSpecification `wire:"TagSpecification"`
}

type copySnapshotOutput struct {
	SnapshotId string
	Tags       []tag `wire:",tagSet"`
}

func (r *region) copySnapshot(c *api.Call, in *copySnapshotInput) (*copySnapshotOutput, error) {
	if in.DestinationRegion != "" && in.DestinationRegion != r.name {
		return nil, fail("InvalidParameterValue", "The destination region '%s' is not the region '%s' that was called", in.DestinationRegion, r.name)
	}
	tagged, err := specified(in.TagSpecifications, "snapshot")
	if err != nil {
		return nil, err
	}
	from, err := r.source(in.SourceRegion)
	if err != nil {
		return nil, err
	}
	found, err := from.readySnapshot(in.SourceSnapshotId)
	if err != nil {
		return nil, err
	}
	made, err := r.copySnapshotOf(found, copying{in.Description, in.Encrypted, in.KmsKeyId, tagged["snapshot"]})
	if err != nil {
		return nil, err
	}
	c.On(from.arn("snapshot", found.Id), r.arn("snapshot", "*"))
	r.tagOnCreate(c, tagged)
	r.service.takes(copyTime, r, func(r *region) { r.completeCopy(made.Id) })
	return &copySnapshotOutput{made.Id, tags(made.Tags).wire()}, nil
}
