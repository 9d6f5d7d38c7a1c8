package ec2

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/machine"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

// begin adds a pending snapshot of a volume.
func (r *region) begin(v *volume, description string, with tags) *storage.Snapshot {
	made := r.newSnapshot(v.Size)
	made.Description, made.VolumeId, made.Encrypted, made.KmsKeyId = description, v.Id, v.Encrypted, v.KmsKeyId
	made.Lineage = v.Lineage
	maps.Copy(made.Tags, with)
	r.service.store.Add(r.name, made, nil)
	v.Readers++
	return made
}

// read reads the volume of a snapshot that was begun, at once, and completes
// the snapshot when AWS would have. A machine that runs stands still meanwhile,
// because a snapshot is of one moment. The books must not be held.
func (s *Service) read(ctx context.Context, regionName, snapshotID, volumeID string) {
	var blocks *storage.Blocks
	var err error
	look := func() { blocks, err = s.contents(ctx, regionName, volumeID) }
	if user := s.user(regionName, volumeID); user == nil {
		look()
	} else if held := user.Hold(look); held != nil {
		s.report(fmt.Errorf("snapshot volume %s of a running instance: %w", volumeID, held))
	}
	s.books.Do(func() {
		r := s.in(regionName)
		if v := r.Volumes[volumeID]; v != nil {
			if v.Readers--; v.Readers == 0 && v.State == volumeDeleted {
				r.removeVolume(v)
			}
		}
		s.takes(clock.Snapshot, r, func(r *region) { r.completeSnapshot(snapshotID, blocks, err) })
	})
}

// user is the machine that runs with a volume; nil if there is none.
func (s *Service) user(regionName, volumeID string) (user machine.Machine) {
	s.books.Read(func() {
		if v := s.in(regionName).Volumes[volumeID]; v != nil && v.Attachment != nil {
			if one := s.runs.running[v.Attachment.InstanceId]; one != nil {
				user = one.machine
			}
		}
	})
	return user
}

// completeSnapshot gives a snapshot what was read of its volume, or the error
// of reading it, and completes the images that wait for it.
func (r *region) completeSnapshot(id string, blocks *storage.Blocks, err error) {
	made := r.service.store.In(r.name).Snapshots[id]
	switch {
	case err != nil && made != nil:
		r.service.store.Fail(made, err.Error())
	case err == nil && made == nil: // it was deleted meanwhile
		blocks.Release()
	case err == nil:
		err = r.service.store.Complete(r.name, made, blocks, r.now())
	}
	if err != nil {
		r.service.report(err)
	}
	for _, i := range r.Images {
		if slices.Contains(i.snapshots(), id) {
			r.imageDone(i.Id)
		}
	}
}

// contents gives what a volume holds: what its file does, or where it has no
// file, what its snapshot did.
func (s *Service) contents(ctx context.Context, regionName, volumeID string) (*storage.Blocks, error) {
	if s.real {
		return s.store.ScanVolume(ctx, regionName, volumeID)
	}
	var blocks *storage.Blocks
	var err error
	s.books.Read(func() {
		v := s.in(regionName).Volumes[volumeID]
		switch {
		case v == nil || v.SnapshotId == "":
			blocks = s.store.Empty()
		case s.store.In(regionName).Snapshots[v.SnapshotId] == nil:
			err = fmt.Errorf("read volume %s: without machines its contents are those of snapshot %s, which was deleted", volumeID, v.SnapshotId)
		default:
			blocks = s.store.In(regionName).Snapshots[v.SnapshotId].Blocks()
		}
	})
	return blocks, err
}

type createSnapshotInput struct {
	Description       string
	TagSpecifications []tagSpecification `wire:"TagSpecification"`
	VolumeId          string             `wire:",,required"`
}

func (r *region) createSnapshot(c *api.Call, in *createSnapshotInput) (*snapshotItem, error) {
	tagged, err := specified(in.TagSpecifications, "snapshot")
	if err != nil {
		return nil, err
	}
	if err := checkDescription(in.Description); err != nil {
		return nil, err
	}
	v, err := r.volume(in.VolumeId)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("volume", v.Id), r.arn("snapshot", "*"))
	r.tagOnCreate(c, tagged)
	if v.State != volumeAvailable && v.State != volumeInUse {
		return nil, fail("IncorrectState", "The volume '%s' is '%s'.", v.Id, v.State)
	}
	if err := r.roomForSnapshots(1); err != nil {
		return nil, err
	}
	made := r.begin(v, in.Description, tagged["snapshot"])
	it := snapshot{made}.item()
	r.service.background(0, func(ctx context.Context) { r.service.read(ctx, r.name, made.Id, v.Id) })
	return &it, nil
}

type createSnapshotsInput struct {
	CopyTagsFromSource    string
	Description           string
	InstanceSpecification *struct {
		ExcludeBootVolume    bool
		ExcludeDataVolumeIds []string `wire:"ExcludeDataVolumeId"`
		InstanceId           string   `wire:",,required"`
	} `wire:",,required"`
	TagSpecifications []tagSpecification `wire:"TagSpecification"`
}

type snapshotInfo struct {
	Description string
	Encrypted   bool
	OwnerId     string
	Progress    string
	SnapshotId  string
	StartTime   time.Time
	State       string
	Tags        []tag `wire:",tagSet"`
	VolumeId    string
	VolumeSize  int
}

type createSnapshotsOutput struct {
	Snapshots []snapshotInfo `wire:",snapshotSet"`
}

// maxExcluded is how many volumes CreateSnapshots may leave out.
const maxExcluded = 40

// checkExcluded refuses to leave out volumes that are no data volumes of the
// instance (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceSpecification.html).
func (r *region) checkExcluded(i *instance, ids []string) error {
	if len(ids) > maxExcluded {
		return fail("InvalidParameterValue", "At most %d volumes can be excluded, not %d.", maxExcluded, len(ids))
	}
	for _, id := range ids {
		v, err := r.volume(id)
		switch {
		case err != nil:
			return err
		case v.Attachment == nil || v.Attachment.InstanceId != i.Id:
			return fail("InvalidParameterValue", "The volume '%s' is not attached to the instance '%s'.", id, i.Id)
		case v.Attachment.Device == i.RootDeviceName:
			return fail("InvalidParameterValue", "The volume '%s' is the root volume; use ExcludeBootVolume to exclude it.", id)
		}
	}
	return nil
}

func (r *region) createSnapshots(c *api.Call, in *createSnapshotsInput) (*createSnapshotsOutput, error) {
	tagged, err := specified(in.TagSpecifications, "snapshot")
	if err != nil {
		return nil, err
	}
	if in.CopyTagsFromSource != "" && in.CopyTagsFromSource != "volume" {
		return nil, invalidValue(in.CopyTagsFromSource, "CopyTagsFromSource", "Expected 'volume'.")
	}
	if err := checkDescription(in.Description); err != nil {
		return nil, err
	}
	i, err := r.instance(in.InstanceSpecification.InstanceId)
	if err != nil {
		return nil, err
	}
	if i.State != Running && i.State != Stopped {
		return nil, fail("IncorrectState", "The instance '%s' is '%s'; it must be 'running' or 'stopped'.", i.Id, i.State)
	}
	if err := r.checkExcluded(i, in.InstanceSpecification.ExcludeDataVolumeIds); err != nil {
		return nil, err
	}
	c.On(r.arn("instance", i.Id), r.arn("snapshot", "*"), r.arn("volume", "*"))
	r.tagOnCreate(c, tagged)
	var volumes []*volume
	var with []tags
	for _, id := range i.Volumes {
		v := r.Volumes[id]
		isRoot := v.Attachment.Device == i.RootDeviceName
		if isRoot && in.InstanceSpecification.ExcludeBootVolume || slices.Contains(in.InstanceSpecification.ExcludeDataVolumeIds, id) {
			continue
		}
		on := tagged["snapshot"]
		if in.CopyTagsFromSource != "" {
			if on, err = v.Tags.own().with(on); err != nil {
				return nil, err
			}
		}
		volumes, with = append(volumes, v), append(with, on)
	}
	if len(volumes) == 0 {
		return nil, fail("InvalidParameterCombination", "No volumes of instance '%s' are left to take snapshots of", i.Id)
	}
	if err := r.roomForSnapshots(len(volumes)); err != nil {
		return nil, err
	}
	out := &createSnapshotsOutput{}
	for n, v := range volumes {
		made := r.begin(v, in.Description, with[n])
		it := snapshot{made}.item()
		out.Snapshots = append(out.Snapshots, snapshotInfo{
			it.Description, it.Encrypted, it.OwnerId, it.Progress, it.SnapshotId, it.StartTime, it.State, it.Tags, it.VolumeId, it.VolumeSize,
		})
		r.service.background(0, func(ctx context.Context) { r.service.read(ctx, r.name, made.Id, v.Id) })
	}
	return out, nil
}
