package ec2

import (
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
	if err := checkImageName(in.Name); err != nil {
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
	if err := checkDevices(in.BlockDeviceMappings); err != nil {
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
	devices, readings, err := r.snapshotDevices(i, made.Id, in.BlockDeviceMappings, tagged["snapshot"])
	if err != nil {
		return nil, err
	}
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

// snapshotDevices begins a snapshot of each volume of the instance that is not
// left out, and gives the image's mapping, with the devices that were added.
func (r *region) snapshotDevices(i *instance, imageID string, requested []blockDevice, with tags) ([]blockDevice, []reading, error) {
	var devices []blockDevice
	volumes := map[string]*volume{}
	for _, id := range i.Volumes {
		v := r.Volumes[id]
		volumes[v.Attachment.Device] = v
		devices = append(devices, blockDevice{DeviceName: v.Attachment.Device, Ebs: &ebsDevice{
			DeleteOnTermination: new(v.Attachment.DeleteOnTermination), VolumeSize: new(v.Size), VolumeType: v.Type,
		}})
	}
	devices = onto(devices, requested)
	if !slices.ContainsFunc(devices, func(d blockDevice) bool { return d.DeviceName == i.RootDeviceName }) {
		return nil, nil, fail("InvalidBlockDeviceMapping", "The root device '%s' cannot be left out of an image", i.RootDeviceName)
	}
	var readings []reading
	complete := make([]blockDevice, 0, len(devices))
	for _, device := range devices { // first what may fail, so that a refusal leaves nothing
		if device.Ebs == nil {
			return nil, nil, fail("InvalidBlockDeviceMapping", "The device '%s' is mapped to no volume", device.DeviceName)
		}
		ebs, size := *device.Ebs, 0
		if v := volumes[device.DeviceName]; v != nil {
			size, ebs.Encrypted = v.Size, new(v.Encrypted)
			if ebs.SnapshotId != "" {
				return nil, nil, fail("InvalidBlockDeviceMapping", "The device '%s' of the instance is its own volume, not the snapshot '%s'", device.DeviceName, ebs.SnapshotId)
			}
		}
		spec, err := ebs.spec("of "+device.DeviceName, size)
		if err != nil {
			return nil, nil, err
		}
		ebs.VolumeSize, ebs.VolumeType = new(spec.Size), spec.Type
		if spec.Type == "gp3" {
			ebs.Iops, ebs.Throughput = new(spec.Iops), new(spec.Throughput)
		}
		complete = append(complete, blockDevice{DeviceName: device.DeviceName, Ebs: &ebs})
	}
	for n, device := range complete {
		if v := volumes[device.DeviceName]; v != nil {
			made := r.begin(v, fmt.Sprintf("Created by CreateImage(%s) for %s", i.Id, imageID), with)
			complete[n].Ebs.SnapshotId = made.Id
			readings = append(readings, reading{made.Id, v.Id})
		}
	}
	return complete, readings, nil
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
		case s.State == storage.Failed:
			state, reason = imageFailed, fmt.Sprintf("The snapshot %s failed: %s", snapshotID, s.StateMessage)
		}
	}
	i.State, i.StateReason = state, reason
}
