package ec2

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

type createImageInput struct {
	BlockDeviceMappings []blockDevice `wire:"BlockDeviceMapping"`
	Description         string
	InstanceId          string `wire:",,required"`
	Name                string `wire:",,required"`
	NoReboot            bool
	TagSpecifications   []tagSpecification `wire:"TagSpecification"`
}

type createImageOutput struct{ ImageId string }

// reading is a snapshot that is to be made of a volume.
type reading struct{ snapshotID, volumeID string }

func (r *region) createImage(c *api.Call, in *createImageInput) (*createImageOutput, error) {
	if err := cmp.Or(checkImageName(in.Name), checkDescription(in.Description), checkDevices(in.BlockDeviceMappings)); err != nil {
		return nil, err
	}
	tagged, err := specified(in.TagSpecifications, "image", "snapshot")
	if err != nil {
		return nil, err
	}
	i, err := r.instance(in.InstanceId)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("instance", i.Id), r.arn("image", "*"), r.arn("snapshot", "*"))
	r.tagOnCreate(c, tagged)
	if i.State != Running && i.State != Stopped {
		return nil, fail("IncorrectState", "The instance '%s' is '%s'; it must be 'running' or 'stopped'.", i.Id, i.State)
	}
	if err := r.nameTaken(in.Name); err != nil {
		return nil, err
	}
	devices, err := r.instanceDevices(c, i, in.BlockDeviceMappings)
	if err != nil {
		return nil, err
	}
	if err := r.roomForSnapshots(len(i.Volumes)); err != nil {
		return nil, err
	}
	made := &image{
		resource: r.newResource("ami", tagged["image"]), Owner: api.Account, Name: in.Name, Description: in.Description,
		Architecture: i.Architecture, VirtualizationType: i.VirtualizationType, RootDeviceName: i.RootDeviceName, BootMode: i.BootMode,
		EnaSupport: i.EnaSupport, SriovNetSupport: i.SriovNetSupport, TpmSupport: i.TpmSupport, State: imagePending,
		SourceInstance: i.Id,
	}
	if from := r.Images[i.ImageId]; from != nil { // the instance's image, if it is still known
		made.ImdsSupport, made.UefiData = from.ImdsSupport, from.UefiData
		made.SourceImage, made.SourceRegion = from.Id, r.name
	}
	readings := r.snapshotDevices(i, made.Id, devices, tagged["snapshot"])
	made.BlockDevices = devices
	r.Images[made.Id] = made
	readAll := func(ctx context.Context) {
		for _, one := range readings {
			r.service.read(ctx, r.name, one.snapshotID, one.volumeID)
		}
	}
	if in.NoReboot || i.State == Stopped {
		r.service.background(0, readAll)
	} else {
		r.service.runs.pause(r, i, readAll)
	}
	return &createImageOutput{made.Id}, nil
}

// instanceDevices gives the mapping of an image that is made of an instance: its
// volumes, whose snapshots are yet to be begun, and what the request adds.
func (r *region) instanceDevices(c *api.Call, i *instance, requested []blockDevice) ([]blockDevice, error) {
	var devices []blockDevice
	for _, id := range i.Volumes {
		v := r.Volumes[id]
		device := blockDevice{
			DeviceName: v.Attachment.Device, Ebs: v.inImage("", v.Encrypted, v.Attachment.DeleteOnTermination),
		}
		at := slices.IndexFunc(requested, func(d blockDevice) bool { return d.DeviceName == device.DeviceName })
		switch {
		case at < 0:
		case requested[at].NoDevice != nil:
			continue
		case requested[at].Ebs != nil:
			if err := v.checkMapping(*requested[at].Ebs); err != nil {
				return nil, err
			}
			if delete := requested[at].Ebs.DeleteOnTermination; delete != nil {
				device.Ebs.DeleteOnTermination = delete
			}
		}
		devices = append(devices, device)
	}
	if !slices.ContainsFunc(devices, func(d blockDevice) bool { return d.DeviceName == i.RootDeviceName }) {
		return nil, fail("InvalidBlockDeviceMapping", "The root device '%s' cannot be left out of an image", i.RootDeviceName)
	}
	for _, device := range requested {
		if device.NoDevice != nil || r.deviceTaken(i, device.DeviceName) {
			continue
		}
		added, err := r.registeredDevice(c, device, i.RootDeviceName)
		if err != nil {
			return nil, err
		}
		devices = append(devices, added)
	}
	return devices, nil
}

// checkMapping refuses a mapping of an instance's volume that says otherwise
// than the volume is: of an existing volume nothing can be changed but
// DeleteOnTermination. For an encrypted volume, Encrypted is ignored
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateImage.html, BlockDeviceMapping.N,
// and API_EbsBlockDevice.html, Encrypted).
func (v *volume) checkMapping(e ebsDevice) error {
	differs := ""
	switch {
	case e.SnapshotId != "":
		differs = "snapshotId"
	case e.KmsKeyId != "":
		differs = "kmsKeyId"
	case orZero(e.Encrypted) && !v.Encrypted:
		differs = "encrypted"
	case e.VolumeSize != nil && *e.VolumeSize != v.Size:
		differs = "volumeSize"
	case e.VolumeType != "" && e.VolumeType != v.Type:
		differs = "volumeType"
	case e.Iops != nil && *e.Iops != v.Iops:
		differs = "iops"
	case e.Throughput != nil && *e.Throughput != v.Throughput:
		differs = "throughput"
	default:
		return nil
	}
	return fail("InvalidBlockDeviceMapping", "%s cannot be modified for the device '%s', which is the volume %s of the instance; only deleteOnTermination can", differs, v.Attachment.Device, v.Id)
}

// snapshotDevices begins a snapshot of each of the instance's volumes that are in
// the mapping, and notes it there.
func (r *region) snapshotDevices(i *instance, imageID string, devices []blockDevice, with tags) []reading {
	var readings []reading
	for _, id := range i.Volumes {
		v := r.Volumes[id]
		at := slices.IndexFunc(devices, func(d blockDevice) bool { return d.DeviceName == v.Attachment.Device })
		if at < 0 {
			continue
		}
		made := r.begin(v, fmt.Sprintf("Created by CreateImage(%s) for %s", i.Id, imageID), with)
		devices[at].Ebs.SnapshotId = made.Id
		readings = append(readings, reading{made.Id, v.Id})
	}
	return readings
}

// imageDone ends the making of an image, unless it was deregistered, or has a
// snapshot that is still pending: it is available, or has failed with one of
// its snapshots.
func (r *region) imageDone(id string) {
	i := r.Images[id]
	if i == nil || i.State != imagePending {
		return
	}
	state, reason := imageAvailable, ""
	for _, snapshotID := range i.snapshots() {
		s := r.service.store.In(r.name).Snapshots[snapshotID]
		switch {
		case s == nil:
			state, reason = imageFailed, fmt.Sprintf("The snapshot %s was deleted", snapshotID)
		case s.State == storage.Pending:
			return
		case s.State == storage.Failed && i.isCopy():
			state, reason = imageFailed, "AMI snapshot copy failed with error: "+s.StateMessage
		case s.State == storage.Failed:
			state, reason = imageFailed, fmt.Sprintf("The snapshot %s failed: %s", snapshotID, s.StateMessage)
		}
	}
	i.State, i.StateReason = state, reason
}
