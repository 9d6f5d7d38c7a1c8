package ec2

import (
	"context"
	"fmt"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

// volume is an EBS volume. Where instances are real it has a file (package
// storage), where they are only states it has none.
type volume struct {
	resource
	volumeSpec
	SnapshotId string
	Zone       string
	State      string
	Filled     bool // its file is made
	Attachment *attachment

	// Lineage is that of the snapshot which it was made from, else its own; its
	// snapshots have it also when that snapshot is deleted.
	Lineage string

	// Readers is how many snapshots of the file are being made. The file is
	// only deleted when there are none.
	Readers int `json:"-"`
}

// The states of a volume.
const (
	volumeCreating  = "creating"
	volumeAvailable = "available"
	volumeInUse     = "in-use"
	volumeDeleted   = "deleted" // not shown; its file is still being read
	volumeFailed    = "error"
)

func (r *region) volume(id string) (*volume, error) {
	if err := wellFormed(id, "vol", "InvalidParameterValue"); err != nil {
		return nil, err
	}
	if v, ok := seen(r.Volumes, id); ok && v.State != volumeDeleted {
		return v, nil
	}
	return nil, fail("InvalidVolume.NotFound", "The volume '%s' does not exist.", id)
}

// newVolume makes a volume that has yet to be filled.
func (r *region) newVolume(spec volumeSpec, snapshotID, zone string, with tags) *volume {
	v := &volume{resource: r.newResource("vol", with), volumeSpec: spec, SnapshotId: snapshotID, Zone: zone, State: volumeCreating}
	v.Lineage = v.Id
	r.Volumes[v.Id] = v
	if from := r.service.store.In(r.name).Snapshots[snapshotID]; from != nil {
		v.Lineage = from.Lineage
		if r.service.real {
			// The volume has the snapshot's blocks also when that is deleted
			// before the volume is filled.
			r.service.unfilled[v.Id] = from.Blocks()
		}
	}
	return v
}

// specFor settles what volume a device asks for, its encryption included.
func (r *region) specFor(ebs ebsDevice) (volumeSpec, error) {
	if ebs.SnapshotId == "" {
		return r.specFrom(ebs, snapshot{})
	}
	from, err := r.readySnapshot(ebs.SnapshotId)
	if err != nil {
		return volumeSpec{}, err
	}
	return r.specFrom(ebs, from)
}

// specFrom settles a volume that is made from a snapshot, or from none.
func (r *region) specFrom(ebs ebsDevice, from snapshot) (volumeSpec, error) {
	snapshotSize := 0
	if from.Snapshot != nil {
		snapshotSize = from.VolumeSize
	}
	spec, err := ebs.spec(ebs.SnapshotId, snapshotSize)
	if err != nil {
		return volumeSpec{}, err
	}
	if from.Snapshot != nil && from.Encrypted && ebs.Encrypted != nil && !*ebs.Encrypted {
		return volumeSpec{}, fail("InvalidParameterCombination", "The snapshot '%s' is encrypted, so the volume cannot be unencrypted.", from.Id)
	}
	spec.Encrypted, spec.KmsKeyId = r.encryptVolume(ebs, from)
	return spec, nil
}

// encryptVolume gives whether a volume is encrypted and with which key. From an
// encrypted snapshot of one's own it has the snapshot's key, from one that is
// shared the region's default key, unless a key is named
// (https://docs.aws.amazon.com/ebs/latest/userguide/encryption-examples.html#ebs-volume-encryption-outcomes).
func (r *region) encryptVolume(ebs ebsDevice, from snapshot) (encrypted bool, key string) {
	fromEncrypted := from.Snapshot != nil && from.Encrypted
	switch {
	case ebs.KmsKeyId != "":
		return true, r.key(ebs.KmsKeyId)
	case fromEncrypted && from.OwnerId == api.Account:
		return true, from.KmsKeyId
	case fromEncrypted, orZero(ebs.Encrypted), r.EncryptionByDefault:
		return true, r.defaultKey()
	}
	return false, ""
}

// decryptable tells whether the keys that a volume needs are accessible: its own
// and that of the snapshot from which it is made.
func (r *region) decryptable(v *volume) bool {
	from := r.service.store.In(r.name).Snapshots[v.SnapshotId]
	return (!v.Encrypted || r.accessible(v.KmsKeyId)) && (from == nil || !from.Encrypted || r.accessible(from.KmsKeyId))
}

// fill makes the file of a volume, where volumes have files. The books must
// not be held.
func (s *Service) fill(ctx context.Context, regionName, id string) error {
	if !s.real {
		return nil
	}
	var size int
	var blocks *storage.Blocks
	var err error
	s.books.Read(func() { size, blocks, err = s.in(regionName).toFill(id) })
	if err != nil {
		return err
	}
	if blocks != nil {
		defer blocks.Release()
	}
	if _, err := s.store.CreateVolume(ctx, regionName, id, size, blocks); err != nil {
		return err
	}
	s.books.Do(func() {
		if v := s.in(regionName).Volumes[id]; v != nil {
			v.Filled = true
		}
	})
	return nil
}

// toFill gives what a volume's file is to be: its size and, where it is made
// from a snapshot, the blocks, which are the caller's to release.
func (r *region) toFill(id string) (size int, blocks *storage.Blocks, err error) {
	v := r.Volumes[id]
	if v == nil {
		return 0, nil, fmt.Errorf("fill volume %s: it is gone", id)
	}
	blocks = r.service.unfilled[id]
	delete(r.service.unfilled, id)
	if blocks == nil && v.SnapshotId != "" { // begun before the sandbox was opened
		from := r.service.store.In(r.name).Snapshots[v.SnapshotId]
		if from == nil {
			return 0, nil, fmt.Errorf("fill volume %s: its snapshot %s is gone", id, v.SnapshotId)
		}
		blocks = from.Blocks()
	}
	return v.Size, blocks, nil
}

// removeVolume deletes a volume, and its file once nothing reads it.
func (r *region) removeVolume(v *volume) {
	if v.Readers > 0 {
		v.State, v.Attachment = volumeDeleted, nil
		return
	}
	delete(r.Volumes, v.Id)
	if blocks := r.service.unfilled[v.Id]; blocks != nil {
		blocks.Release()
		delete(r.service.unfilled, v.Id)
	}
	if err := r.service.store.RemoveVolume(r.name, v.Id); err != nil {
		r.service.report(err)
	}
}

// volumeItem is a volume on the wire.
type volumeItem struct {
	Attachments        []attachmentItem `wire:",attachmentSet"`
	AvailabilityZone   string
	CreateTime         time.Time
	Encrypted          bool
	Iops               *int
	KmsKeyId           string
	MultiAttachEnabled bool
	Size               int
	SnapshotId         string
	State              string `wire:",status"`
	Tags               []tag  `wire:",tagSet"`
	Throughput         *int
	VolumeId           string
	VolumeType         string
}

type attachmentItem struct {
	AttachTime          time.Time
	DeleteOnTermination bool
	Device              string
	InstanceId          string
	State               string `wire:",status"`
	VolumeId            string
}

func (v *volume) item() volumeItem {
	it := volumeItem{
		Attachments: []attachmentItem{}, AvailabilityZone: v.Zone, CreateTime: v.Created, Encrypted: v.Encrypted,
		KmsKeyId: v.KmsKeyId, Size: v.Size, SnapshotId: v.SnapshotId, State: v.State, Tags: v.Tags.wire(),
		VolumeId: v.Id, VolumeType: v.Type,
	}
	if v.Iops > 0 {
		it.Iops = new(v.Iops)
	}
	if v.Throughput > 0 {
		it.Throughput = new(v.Throughput)
	}
	if v.Attachment != nil {
		it.Attachments = append(it.Attachments, v.attachmentItem(v.Attachment.state()))
	}
	return it
}

type describeVolumesInput struct {
	paging
	Filters   []filter `wire:"Filter"`
	VolumeIds []string `wire:"VolumeId"`
}

type describeVolumesOutput struct {
	NextToken string
	Volumes   []volumeItem `wire:",volumeSet"`
}

var volumeFilters = filterable[volumeItem]{
	values: map[string]func(volumeItem) []string{
		"attachment.attach-time": func(v volumeItem) []string {
			return v.attached(func(a attachmentItem) []string { return []string{stamp(a.AttachTime)} })
		},
		"attachment.delete-on-termination": func(v volumeItem) []string {
			return v.attached(func(a attachmentItem) []string { return truth(a.DeleteOnTermination) })
		},
		"attachment.device": func(v volumeItem) []string {
			return v.attached(func(a attachmentItem) []string { return []string{a.Device} })
		},
		"attachment.instance-id": func(v volumeItem) []string {
			return v.attached(func(a attachmentItem) []string { return []string{a.InstanceId} })
		},
		"attachment.status": func(v volumeItem) []string {
			return v.attached(func(a attachmentItem) []string { return []string{a.State} })
		},
		"availability-zone":    func(v volumeItem) []string { return []string{v.AvailabilityZone} },
		"create-time":          func(v volumeItem) []string { return []string{stamp(v.CreateTime)} },
		"encrypted":            func(v volumeItem) []string { return truth(v.Encrypted) },
		"multi-attach-enabled": func(v volumeItem) []string { return truth(v.MultiAttachEnabled) },
		"size":                 func(v volumeItem) []string { return []string{fmt.Sprint(v.Size)} },
		"snapshot-id":          func(v volumeItem) []string { return one(v.SnapshotId) },
		"status":               func(v volumeItem) []string { return []string{v.State} },
		"volume-id":            func(v volumeItem) []string { return []string{v.VolumeId} },
		"volume-type":          func(v volumeItem) []string { return []string{v.VolumeType} },
	},
	tags: func(v volumeItem) tags { return tagMap(v.Tags) },
}

func (v volumeItem) attached(of func(attachmentItem) []string) []string {
	var values []string
	for _, a := range v.Attachments {
		values = append(values, of(a)...)
	}
	return values
}

func (r *region) describeVolumes(_ *api.Call, in *describeVolumesInput) (*describeVolumesOutput, error) {
	if err := in.noPageWith(in.VolumeIds, "volumeSet"); err != nil {
		return nil, err
	}
	for _, id := range in.VolumeIds {
		if _, err := r.volume(id); err != nil {
			return nil, err
		}
	}
	var shown []*volume
	for _, v := range ordered(r.Volumes) {
		if v.State != volumeDeleted {
			shown = append(shown, v)
		}
	}
	found, next, err := describe(shown, in.VolumeIds, (*volume).item, volumeFilters, in.Filters, in.paging, pageRange{5, 1000})
	return &describeVolumesOutput{next, found}, err
}

type createVolumeInput struct {
	AvailabilityZone  string
	ClientToken       string
	Encrypted         *bool
	Iops              *int
	KmsKeyId          string
	Size              *int
	SnapshotId        string
	TagSpecifications []tagSpecification `wire:"TagSpecification"`
	Throughput        *int
	VolumeType        string
}

func (r *region) createVolume(c *api.Call, in *createVolumeInput) (*volumeItem, error) {
	if in.AvailabilityZone == "" {
		return nil, missing("availabilityZone")
	}
	if _, err := r.subnetIn(in.AvailabilityZone); err != nil {
		return nil, fail("InvalidZone.NotFound", "The zone '%s' does not exist.", in.AvailabilityZone)
	}
	tagged, err := specified(in.TagSpecifications, "volume")
	if err != nil {
		return nil, err
	}
	ebs := ebsDevice{
		Encrypted: in.Encrypted, Iops: in.Iops, KmsKeyId: in.KmsKeyId, SnapshotId: in.SnapshotId,
		Throughput: in.Throughput, VolumeSize: in.Size, VolumeType: in.VolumeType,
	}
	if err := ebs.check(); err != nil {
		return nil, err
	}
	c.On(r.arn("volume", "*"))
	if in.SnapshotId != "" {
		c.On(r.arn("snapshot", in.SnapshotId))
	}
	r.tagOnCreate(c, tagged)
	return once(r, "CreateVolume", in.ClientToken, in, func() (*volumeItem, error) {
		spec, err := r.specFor(ebs)
		if err != nil {
			return nil, err
		}
		needs(c, r.encrypting(spec.KmsKeyId, r, snapshot{r.service.store.In(r.name).Snapshots[in.SnapshotId]}))
		v := r.newVolume(spec, in.SnapshotId, in.AvailabilityZone, tagged["volume"])
		it := v.item()
		r.service.background(clock.Volume, func(ctx context.Context) { r.service.finishVolume(ctx, r.name, v.Id) })
		return &it, nil
	})
}

// finishVolume fills a volume that was created and makes it available. One whose
// key is not accessible is deleted, without a word
// (https://github.com/aws/aws-sdk-ruby/issues/1222).
func (s *Service) finishVolume(ctx context.Context, regionName, id string) {
	err := s.fill(ctx, regionName, id)
	s.books.Do(func() {
		r := s.in(regionName)
		v := r.Volumes[id]
		if v == nil || v.State != volumeCreating {
			return
		}
		if !r.decryptable(v) {
			r.removeVolume(v)
			return
		}
		v.State = volumeAvailable
		if err != nil {
			v.State = volumeFailed
			s.report(err)
		}
	})
}

type volumeIDInput struct {
	VolumeId string `wire:",,required"`
}

func (r *region) deleteVolume(c *api.Call, in *volumeIDInput) (*succeeded, error) {
	v, err := r.volume(in.VolumeId)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("volume", v.Id))
	switch {
	case v.Attachment != nil:
		return nil, fail("VolumeInUse", "Volume %s is currently attached to %s", v.Id, v.Attachment.InstanceId)
	case v.State == volumeCreating:
		return nil, fail("IncorrectState", "The volume '%s' is 'creating'.", v.Id)
	}
	r.removeVolume(v)
	return &succeeded{true}, nil
}
