package ec2

import (
	"regexp"
	"slices"
)

// blockDevice maps a device of an instance to a volume: in images, launch
// templates and requests to run an instance.
type blockDevice struct {
	DeviceName  string
	Ebs         *ebsDevice
	NoDevice    *string // given, also empty, to leave out a device that the image has
	VirtualName string
}

// ebsDevice says which volume is made for a device. Sizes are in GiB,
// throughput in MiB/s.
type ebsDevice struct {
	DeleteOnTermination *bool
	Encrypted           *bool
	Iops                *int
	KmsKeyId            string
	SnapshotId          string
	Throughput          *int
	VolumeSize          *int
	VolumeType          string
}

// volumeType is what the types of volumes differ in
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volume-types.html).
type volumeType struct {
	least, most                     int // GiB
	leastIops, mostIops             int // where they can be chosen
	iopsPerGiB                      int // at the most, where they can be chosen
	iopsNeeded                      bool
	leastThroughput, mostThroughput int // MiB/s, where it can be chosen
}

var volumeTypes = map[string]volumeType{
	"standard": {least: 1, most: 1024},
	"gp2":      {least: 1, most: 16384},
	"gp3":      {least: 1, most: 65536, leastIops: 3000, mostIops: 80000, iopsPerGiB: 500, leastThroughput: 125, mostThroughput: 2000},
	"io1":      {least: 4, most: 16384, leastIops: 100, mostIops: 64000, iopsPerGiB: 50, iopsNeeded: true},
	"io2":      {least: 4, most: 65536, leastIops: 100, mostIops: 256000, iopsPerGiB: 1000, iopsNeeded: true},
	"sc1":      {least: 125, most: 16384},
	"st1":      {least: 125, most: 16384},
}

// throughputPerIops is how many MiB/s a gp3 volume may have for each of its IOPS.
const throughputPerIops = 0.25

// deviceName is what a device may be called: /dev/sd[a-z], /dev/sda1,
// /dev/xvd[a-z] and /dev/xvd[a-d][a-z], also without /dev/. Only paravirtual
// instances, which there are none of here, have partitions for devices
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html).
var deviceName = regexp.MustCompile(`^(/dev/)?(sd[a-z]|sda1|xvd[a-d]?[a-z])$`)

// volumeSpec is a volume as it is to be made.
type volumeSpec struct {
	Size       int // GiB
	Type       string
	Iops       int // 0 where the type has none
	Throughput int // 0 where the type has none
	Encrypted  bool
	KmsKeyId   string
}

// spec completes what was asked for a volume: the type's defaults, and at
// least the snapshot's size.
func (e ebsDevice) spec(fromSnapshot string, snapshotSize int) (volumeSpec, error) {
	if e.VolumeType == "" {
		e.VolumeType = "gp2"
	}
	if err := e.check(); err != nil {
		return volumeSpec{}, err
	}
	kind, rules := e.VolumeType, volumeTypes[e.VolumeType]
	size := snapshotSize
	if e.VolumeSize != nil {
		size = *e.VolumeSize
	}
	if size < snapshotSize {
		return volumeSpec{}, fail("InvalidBlockDeviceMapping", "Volume of size %dGB is smaller than snapshot '%s', expect size>= %dGB", size, fromSnapshot, snapshotSize)
	}
	if size == 0 {
		return volumeSpec{}, fail("MissingParameter", "The request must contain the parameter size or snapshotId")
	}
	if size < rules.least || size > rules.most {
		return volumeSpec{}, fail("InvalidParameterValue", "Volume of %dGiB is invalid for volume type %s; it must be from %d to %dGiB.", size, kind, rules.least, rules.most)
	}
	spec := volumeSpec{Size: size, Type: kind, Iops: orZero(e.Iops), Throughput: orZero(e.Throughput)}
	switch kind {
	case "gp2":
		spec.Iops = min(max(100, 3*size), 16000)
	case "gp3":
		spec.Iops, spec.Throughput = max(spec.Iops, rules.leastIops), max(spec.Throughput, rules.leastThroughput)
	}
	return spec, spec.inProportion(rules)
}

// inProportion refuses more IOPS than the size allows, or more throughput than
// the IOPS do. What every volume of the type has is always allowed.
func (s volumeSpec) inProportion(rules volumeType) error {
	if most := rules.iopsPerGiB; most > 0 && s.Iops > rules.leastIops && s.Iops > most*s.Size {
		return fail("InvalidParameterValue", "Iops to volume size ratio of %f is too high; maximum is %d", float64(s.Iops)/float64(s.Size), most)
	}
	if ratio := float64(s.Throughput) / float64(max(s.Iops, 1)); s.Throughput > rules.leastThroughput && ratio > throughputPerIops {
		return fail("InvalidParameterValue", "Throughput (MiBps) to iops ratio of %f is too high; maximum is %f MiBps per iops", ratio, throughputPerIops)
	}
	return nil
}

// checkDevices refuses mappings that are wrong whatever they are used for.
func checkDevices(devices []blockDevice) error {
	var names []string
	for _, device := range devices {
		if device.DeviceName == "" {
			return fail("MissingParameter", "The request must contain the parameter deviceName in a block device mapping")
		}
		if !deviceName.MatchString(device.DeviceName) {
			return fail("InvalidBlockDeviceMapping", "Invalid device name %s", device.DeviceName)
		}
		if slices.Contains(names, device.DeviceName) {
			return fail("InvalidBlockDeviceMapping", "The device '%s' is used in more than one block-device mapping", device.DeviceName)
		}
		names = append(names, device.DeviceName)
		if device.VirtualName != "" {
			return fail("InvalidBlockDeviceMapping", "The sandbox's instance types have no instance store volumes, so '%s' cannot be %s", device.DeviceName, device.VirtualName)
		}
		if device.Ebs != nil {
			if err := device.Ebs.check(); err != nil {
				return err
			}
		}
	}
	return nil
}

// check refuses what is wrong whichever volume it is. Where no type is given it
// may be an image's, so that only spec can tell whether the rest fits it.
func (e ebsDevice) check() error {
	if e.KmsKeyId != "" && !orZero(e.Encrypted) {
		return fail("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set.")
	}
	if e.VolumeType == "" {
		return nil
	}
	rules, known := volumeTypes[e.VolumeType]
	switch {
	case !known:
		return invalidValue(e.VolumeType, "volumeType", "Expected one of 'standard', 'gp2', 'gp3', 'io1', 'io2', 'sc1', 'st1'.")
	case e.Iops == nil && rules.iopsNeeded:
		return fail("MissingParameter", "The parameter iops must be specified for %s volumes.", e.VolumeType)
	case e.Iops != nil && rules.mostIops == 0:
		return fail("InvalidParameterCombination", "The parameter iops is not supported for %s volumes.", e.VolumeType)
	case e.Iops != nil && *e.Iops < rules.leastIops:
		return fail("InvalidParameterValue", "Volume iops of %d is too low; minimum is %d.", *e.Iops, rules.leastIops)
	case e.Iops != nil && *e.Iops > rules.mostIops:
		return fail("InvalidParameterValue", "Volume iops of %d is too high; maximum is %d.", *e.Iops, rules.mostIops)
	case e.Throughput != nil && rules.mostThroughput == 0:
		return fail("InvalidParameterCombination", "The parameter throughput is not supported for %s volumes.", e.VolumeType)
	case e.Throughput != nil && (*e.Throughput < rules.leastThroughput || *e.Throughput > rules.mostThroughput):
		return fail("InvalidParameterValue", "Throughput of %d is invalid for volume type %s; it must be from %d to %d MiB/s.", *e.Throughput, e.VolumeType, rules.leastThroughput, rules.mostThroughput)
	}
	return nil
}

// onto lays the mappings of a request over those of an image: a device that
// both have takes from the request what that gives, and from the image the
// rest (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/block-device-mapping-concepts.html).
func onto(imageDevices, requested []blockDevice) []blockDevice {
	merged := slices.Clone(imageDevices)
	for _, device := range requested {
		at := slices.IndexFunc(merged, func(d blockDevice) bool { return d.DeviceName == device.DeviceName })
		switch {
		case device.NoDevice != nil:
			if at >= 0 {
				merged = slices.Delete(merged, at, at+1)
			}
		case at < 0:
			merged = append(merged, device)
		case device.Ebs != nil:
			merged[at].Ebs = device.Ebs.over(merged[at].Ebs)
		}
	}
	return merged
}

// over gives what e says, and what base says where e says nothing.
func (e *ebsDevice) over(base *ebsDevice) *ebsDevice {
	if base == nil {
		return e
	}
	merged := *base
	if e.DeleteOnTermination != nil {
		merged.DeleteOnTermination = e.DeleteOnTermination
	}
	if e.Encrypted != nil {
		merged.Encrypted = e.Encrypted
	}
	if e.KmsKeyId != "" {
		merged.KmsKeyId = e.KmsKeyId
	}
	if e.SnapshotId != "" {
		merged.SnapshotId = e.SnapshotId
	}
	if e.VolumeSize != nil {
		merged.VolumeSize = e.VolumeSize
	}
	if e.VolumeType != "" && e.VolumeType != merged.VolumeType {
		// What is chosen for one type says nothing about another.
		merged.VolumeType, merged.Iops, merged.Throughput = e.VolumeType, nil, nil
	}
	if e.Iops != nil {
		merged.Iops = e.Iops
	}
	if e.Throughput != nil {
		merged.Throughput = e.Throughput
	}
	return &merged
}
