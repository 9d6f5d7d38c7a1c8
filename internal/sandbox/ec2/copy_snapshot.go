package ec2

import (
	"cmp"
	"maps"
	"net/url"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
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
	return nil, fail("InvalidRegion", "The source region '%s' is not valid", name)
}

// copying says what a copy of a snapshot is to be.
type copying struct {
	description string
	encrypted   *bool
	kmsKeyID    string
	tags        tags
}

// encryption gives whether a copy of the snapshot is encrypted and with which
// key. An encrypted snapshot has no unencrypted copy, and where a key isn't
// named it is the region's default, not the original's
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-copy-snapshot.html#creating-encrypted-snapshots).
func (r *region) encryption(s snapshot, how copying) (encrypted bool, key string, err error) {
	switch {
	case how.kmsKeyID != "" && !orZero(how.encrypted):
		return false, "", fail("InvalidParameterDependency", "If you specify a KMS key, the encrypted state must be set to true.")
	case s.Encrypted && how.encrypted != nil && !*how.encrypted:
		return false, "", fail("InvalidRequest", "Snapshot %s is encrypted. Creating an unencrypted copy from an encrypted snapshot is not supported.", s.Id)
	case !s.Encrypted && !orZero(how.encrypted) && !r.EncryptionByDefault:
		return false, "", nil
	}
	return true, r.key(how.kmsKeyID), nil
}

// noteKeys notes what the caller must be permitted on the keys of a snapshot and
// of its copy.
func (r *region) noteKeys(c *api.Call, s snapshot, from *region, how copying) error {
	_, key, err := r.encryption(s, how)
	if err != nil {
		return err
	}
	needs(c, r.encrypting(key, from, s))
	return nil
}

// copySnapshotOf begins a copy in this region of a snapshot of another, or the same.
func (r *region) copySnapshotOf(s snapshot, from *region, how copying) (*storage.Snapshot, error) {
	encrypted, key, err := r.encryption(s, how)
	if err != nil {
		return nil, err
	}
	made := r.newSnapshot(s.VolumeSize)
	made.Description, made.Encrypted, made.KmsKeyId, made.Noise = how.description, encrypted, key, s.Noise
	maps.Copy(made.Tags, how.tags)
	r.service.store.Add(r.name, made, s.Blocks())
	readable := !s.Encrypted || from.accessible(s.KmsKeyId)
	writable := !encrypted || r.accessible(key)
	if !readable || !writable {
		made.Doom = keyNotAccessible
	}
	return made, nil
}

// completeCopy completes a copy, or fails one that was doomed. One that was
// deleted meanwhile is no error.
func (r *region) completeCopy(id string) {
	s := r.service.store.In(r.name).Snapshots[id]
	if s == nil || s.State != storage.Pending {
		return
	}
	if s.Doom != "" {
		r.service.store.Fail(s, s.Doom)
		return
	}
	if err := r.service.store.Complete(r.name, s, nil, r.now()); err != nil {
		r.service.report(err)
	}
}

type copySnapshotInput struct {
	Description       string
	DestinationRegion string // by some clients, which sign for it in PresignedUrl
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
	if err := checkDescription(in.Description); err != nil {
		return nil, err
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
	c.On(from.arn("snapshot", found.Id), r.arn("snapshot", "*"))
	r.tagOnCreate(c, tagged)
	if found.Encrypted && in.PresignedUrl == "" {
		return nil, missing("PresignedUrl")
	}
	how := copying{in.Description, in.Encrypted, in.KmsKeyId, tagged["snapshot"]}
	if err := r.noteKeys(c, found, from, how); err != nil {
		return nil, err
	}
	if err := cmp.Or(r.roomForSnapshots(1), r.roomForSnapshotCopy()); err != nil {
		return nil, err
	}
	made, err := r.copySnapshotOf(found, from, how)
	if err != nil {
		return nil, err
	}
	if in.PresignedUrl != "" && !in.presignedFor(r.name) {
		made.Doom = "The presigned URL is not valid for this copy"
	}
	r.service.takes(clock.Copy, r, func(r *region) { r.completeCopy(made.Id) })
	return &copySnapshotOutput{made.Id, tags(made.Tags).wire()}, nil
}

// presignedFor tells whether the presigned URL is a CopySnapshot of the same
// snapshot to the region, signed for the source region. With another one AWS
// begins the copy, and fails it
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopySnapshot.html, PresignedUrl).
func (in *copySnapshotInput) presignedFor(destination string) bool {
	signed, err := url.Parse(in.PresignedUrl)
	if err != nil {
		return false
	}
	query := signed.Query()
	return query.Get("Action") == "CopySnapshot" &&
		query.Get("SourceSnapshotId") == in.SourceSnapshotId &&
		query.Get("SourceRegion") == in.SourceRegion &&
		query.Get("DestinationRegion") == destination &&
		strings.Contains(query.Get("X-Amz-Credential"), "/"+in.SourceRegion+"/ec2/") &&
		query.Get("X-Amz-Signature") != ""
}
