package ec2

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/machine"
)

// attachment ties a volume to an instance.
type attachment struct {
	InstanceId          string
	Device              string
	At                  time.Time
	DeleteOnTermination bool
	Detaching           bool `json:",omitzero"` // until the instance has let go of it
}

func (a *attachment) state() string {
	if a.Detaching {
		return "detaching"
	}
	return "attached"
}

func (v *volume) attachmentItem(state string) attachmentItem {
	a := v.Attachment
	return attachmentItem{a.At, a.DeleteOnTermination, a.Device, a.InstanceId, state, v.Id}
}

// device is the name of a volume's device in a machine.
func (a *attachment) device() string { return strings.TrimPrefix(a.Device, "/dev/") }

type attachVolumeInput struct {
	Device     string `wire:",,required"`
	InstanceId string `wire:",,required"`
	VolumeId   string `wire:",,required"`
}

func (r *region) attachVolume(c *api.Call, in *attachVolumeInput) (*attachmentItem, error) {
	v, err := r.volume(in.VolumeId)
	if err != nil {
		return nil, err
	}
	i, err := r.instance(in.InstanceId)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("volume", v.Id), r.arn("instance", i.Id))
	one := r.service.runs.running[i.Id]
	switch {
	case !deviceName.MatchString(in.Device):
		return nil, fail("InvalidParameterValue", "Value (%s) for parameter device is invalid. %s is not a valid EBS device name.", in.Device, in.Device)
	case v.Attachment != nil:
		return nil, fail("VolumeInUse", "%s is already attached to an instance", v.Id)
	case v.State != volumeAvailable:
		return nil, fail("IncorrectState", "The volume '%s' is not 'available'.", v.Id)
	case i.State != Running && i.State != Stopped:
		return nil, fail("IncorrectState", "Instance '%s' is not 'running'.", i.Id)
	case v.Zone != i.Zone:
		return nil, fail("InvalidVolume.ZoneMismatch", "The volume '%s' is not in the same availability zone as instance '%s'", v.Id, i.Id)
	case r.deviceTaken(i, in.Device):
		return nil, fail("InvalidParameterValue", "Invalid value '%s' for unixDevice. Attachment point %s is already in use", in.Device, in.Device)
	case one != nil && one.machine == nil:
		return nil, fail("IncorrectState", "Instance '%s' is rebooting; try again when it has.", i.Id)
	}
	r.attach(v, i, in.Device, false)
	it := v.attachmentItem("attaching") // before the instance may be terminated
	if one != nil {
		if err := r.attachToMachine(c, v, one.machine); err != nil {
			return nil, err
		}
	}
	return &it, nil
}

// attachToMachine gives a machine that runs a volume that is attached to its
// instance.
func (r *region) attachToMachine(c *api.Call, v *volume, to machine.Machine) error {
	made := v.Attachment
	disk, err := r.service.store.VolumePath(r.name, v.Id)
	if err == nil {
		added := machine.Volume{Device: made.device(), Disk: disk}
		c.Outside(func() { err = to.Attach(added) })
	}
	if err != nil && v.Attachment == made { // and no other that has been made meanwhile
		r.detach(v, r.Instances[v.Attachment.InstanceId])
	}
	return err
}

func (r *region) attach(v *volume, to *instance, device string, deleteOnTermination bool) {
	v.Attachment = &attachment{InstanceId: to.Id, Device: device, At: r.now(), DeleteOnTermination: deleteOnTermination}
	v.State = volumeInUse
	to.Volumes = append(slices.Clone(to.Volumes), v.Id)
}

// deviceTaken tells whether an instance has a volume at a device, whose name may
// be given with /dev/ or without.
func (r *region) deviceTaken(i *instance, device string) bool {
	wanted := attachment{Device: device}
	return slices.ContainsFunc(i.Volumes, func(id string) bool {
		v := r.Volumes[id]
		return v != nil && v.Attachment != nil && v.Attachment.device() == wanted.device()
	})
}

type detachVolumeInput struct {
	Device     string
	Force      bool
	InstanceId string
	VolumeId   string `wire:",,required"`
}

// detachVolume takes a volume from an instance. As on AWS that lasts until the
// instance has let go of it: as long as it is mounted there.
func (r *region) detachVolume(c *api.Call, in *detachVolumeInput) (*attachmentItem, error) {
	v, err := r.volume(in.VolumeId)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("volume", v.Id))
	if v.Attachment == nil {
		return nil, fail("IncorrectState", "Volume '%s' is in the 'available' state.", v.Id)
	}
	i := r.Instances[v.Attachment.InstanceId]
	if in.InstanceId != "" && in.InstanceId != v.Attachment.InstanceId || in.Device != "" && in.Device != v.Attachment.Device {
		return nil, fail("InvalidAttachment.NotFound", "The volume '%s' is not attached to instance '%s' as device '%s'", v.Id, in.InstanceId, in.Device)
	}
	if i != nil && v.Attachment.Device == i.RootDeviceName && i.State != Stopped {
		return nil, fail("OperationNotPermitted", "Unable to detach root volume '%s' from instance '%s'", v.Id, i.Id)
	}
	it := v.attachmentItem("detaching")
	one := r.service.runs.running[v.Attachment.InstanceId]
	if in.Force && one != nil && one.machine != nil {
		return nil, fail("UnsupportedOperation", "The sandbox does not take a volume by force from an instance that runs; unmount it there, or stop the instance")
	}
	switch {
	case v.Attachment.Detaching:
	case one != nil && one.machine != nil:
		r.detachFromMachine(v, one.machine)
	default:
		r.detach(v, i)
	}
	return &it, nil
}

// detachFromMachine takes a volume from a machine that runs, which lasts until
// that lets go of it or ends.
func (r *region) detachFromMachine(v *volume, from machine.Machine) {
	next := *v.Attachment
	next.Detaching = true
	v.Attachment = &next
	service, name := r.service, r.name
	service.spawn(func() {
		err := from.Detach(service.context, next.device())
		if service.closing() {
			return // and it is taken away when the sandbox goes on
		}
		service.books.Do(func() {
			if err != nil {
				service.report(fmt.Errorf("detach volume %s: %w", v.Id, err))
			}
			if v.Attachment == &next { // the instance has not been terminated meanwhile
				r := service.in(name)
				r.detach(v, r.Instances[next.InstanceId])
			}
		})
	})
}

// detach makes a volume available again.
func (r *region) detach(v *volume, from *instance) {
	v.Attachment, v.State = nil, volumeAvailable
	if from != nil {
		from.Volumes = slices.DeleteFunc(slices.Clone(from.Volumes), func(id string) bool { return id == v.Id })
	}
}
