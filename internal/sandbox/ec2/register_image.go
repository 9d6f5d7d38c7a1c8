package ec2

import (
	"encoding/base64"
	"slices"
	"unicode/utf8"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
)

// registerImageInput lacks what images with instance store and kernels of
// their own need; those parameters are refused as unknown.
type registerImageInput struct {
	Architecture        string
	BillingProducts     []string      `wire:"BillingProduct"`
	BlockDeviceMappings []blockDevice `wire:"BlockDeviceMapping"`
	BootMode            string
	Description         string
	EnaSupport          bool
	ImdsSupport         string
	Name                string `wire:",,required"`
	RootDeviceName      string
	SriovNetSupport     string
	TagSpecifications   []tagSpecification `wire:"TagSpecification"`
	TpmSupport          string
	UefiData            string
	VirtualizationType  string
}

type registerImageOutput struct{ ImageId string }

func (r *region) registerImage(c *api.Call, in *registerImageInput) (*registerImageOutput, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	tagged, err := specified(in.TagSpecifications, "image")
	if err != nil {
		return nil, err
	}
	c.On(r.arn("image", "*"))
	r.tagOnCreate(c, tagged)
	devices, err := r.registered(c, in.BlockDeviceMappings, in.RootDeviceName)
	if err != nil {
		return nil, err
	}
	if err := r.nameTaken(in.Name); err != nil {
		return nil, err
	}
	made := &image{
		resource: r.newResource("ami", tagged["image"]), Owner: api.Account, Name: in.Name, Description: in.Description,
		Architecture: in.Architecture, VirtualizationType: in.VirtualizationType, RootDeviceName: in.RootDeviceName,
		BlockDevices: devices, BootMode: in.BootMode, EnaSupport: in.EnaSupport, ImdsSupport: in.ImdsSupport,
		SriovNetSupport: in.SriovNetSupport, TpmSupport: in.TpmSupport, UefiData: in.UefiData, State: imagePending,
	}
	r.Images[made.Id] = made
	r.service.takes(clock.Register, r, func(r *region) { r.imageDone(made.Id) })
	return &registerImageOutput{made.Id}, nil
}

// maxUefiData is how long UEFI variables may be, encoded.
const maxUefiData = 64 << 10

// check sets the defaults of RegisterImage and refuses what does not go
// together, each as its reference says of the parameter
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html).
func (in *registerImageInput) check() error {
	if err := checkImageName(in.Name); err != nil {
		return err
	}
	if in.Architecture == "" {
		in.Architecture = "i386"
	}
	if in.VirtualizationType == "" {
		in.VirtualizationType = "paravirtual"
	}
	for _, given := range []struct {
		parameter, value string
		allowed          []string
	}{
		{"architecture", in.Architecture, []string{"i386", "x86_64", "arm64", "x86_64_mac", "arm64_mac"}},
		{"virtualizationType", in.VirtualizationType, []string{"hvm", "paravirtual"}},
		{"bootMode", in.BootMode, []string{"", "legacy-bios", "uefi", "uefi-preferred"}},
		{"imdsSupport", in.ImdsSupport, []string{"", "v2.0"}},
		{"tpmSupport", in.TpmSupport, []string{"", "v2.0"}},
		{"sriovNetSupport", in.SriovNetSupport, []string{"", "simple"}},
	} {
		if !slices.Contains(given.allowed, given.value) {
			return invalidValue(given.value, given.parameter, "Expected one of "+quoteAll(slices.DeleteFunc(given.allowed, func(s string) bool { return s == "" }))+".")
		}
	}
	if _, err := base64.StdEncoding.DecodeString(in.UefiData); err != nil || len(in.UefiData) > maxUefiData {
		return fail("InvalidParameterValue", "Value for parameter uefiData is invalid. It must be base64 and at most 64 KB.")
	}
	if err := checkDescription(in.Description); err != nil {
		return err
	}
	if len(in.BillingProducts) > 0 {
		return fail("AuthFailure", "The account is not authorized to specify billing product codes.")
	}
	hvm := in.VirtualizationType == "hvm"
	switch {
	case !hvm && in.EnaSupport:
		return fail("InvalidParameterCombination", "Enhanced networking with the Elastic Network Adapter (ENA) is supported only for HVM AMIs.")
	case !hvm && in.SriovNetSupport != "":
		return fail("InvalidParameterCombination", "Enhanced networking with the Intel 82599 Virtual Function interface is supported only for HVM AMIs.")
	case !hvm && in.BootMode != "":
		return fail("InvalidParameterCombination", "A boot mode is supported only for HVM AMIs.")
	case !hvm && in.Architecture != "i386" && in.Architecture != "x86_64":
		return fail("InvalidParameterCombination", "The architecture '%s' is supported only for HVM AMIs.", in.Architecture)
	case in.Architecture == "arm64" && in.BootMode != "" && in.BootMode != "uefi":
		return fail("InvalidParameterCombination", "The boot mode '%s' is not supported for the architecture 'arm64'.", in.BootMode)
	case in.TpmSupport != "" && in.BootMode != "uefi":
		return fail("InvalidParameterCombination", "NitroTPM support requires the boot mode 'uefi'.")
	case in.UefiData != "" && in.BootMode != "uefi" && in.BootMode != "uefi-preferred":
		return fail("InvalidParameterCombination", "UEFI data requires the boot mode 'uefi' or 'uefi-preferred'.")
	}
	return nil
}

// maxDescription is how long the description of an image or a snapshot may be.
const maxDescription = 255

func checkDescription(text string) error {
	if utf8.RuneCountInString(text) > maxDescription {
		return fail("InvalidParameterValue", "The description may have at most %d characters.", maxDescription)
	}
	return nil
}

// registered checks the mappings of an image that is registered and completes
// them with what follows from their snapshots.
func (r *region) registered(c *api.Call, devices []blockDevice, root string) ([]blockDevice, error) {
	if root == "" {
		return nil, missing("rootDeviceName")
	}
	if len(devices) == 0 {
		return nil, missing("blockDeviceMapping")
	}
	if err := checkDevices(devices); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(devices, func(d blockDevice) bool { return d.DeviceName == root && d.Ebs != nil && d.Ebs.SnapshotId != "" }) {
		return nil, fail("InvalidBlockDeviceMapping", "No root snapshot specified in device mapping.")
	}
	complete := make([]blockDevice, 0, len(devices))
	for _, device := range devices {
		made, err := r.registeredDevice(c, device, root)
		if err != nil {
			return nil, err
		}
		complete = append(complete, made)
	}
	return complete, nil
}

// registeredDevice completes one mapping of an image: to a volume of a snapshot,
// or to an empty one.
func (r *region) registeredDevice(c *api.Call, device blockDevice, root string) (blockDevice, error) {
	if device.Ebs == nil {
		return blockDevice{}, fail("InvalidBlockDeviceMapping", "The device '%s' is mapped to no volume", device.DeviceName)
	}
	ebs := *device.Ebs
	if err := ebs.checkRegistered(device.DeviceName == root); err != nil {
		return blockDevice{}, err
	}
	encrypted, snapshotSize := orZero(ebs.Encrypted), 0
	if ebs.SnapshotId != "" {
		from, err := r.registrableSnapshot(ebs.SnapshotId)
		if err != nil {
			return blockDevice{}, err
		}
		c.On(r.arn("snapshot", ebs.SnapshotId))
		encrypted, snapshotSize = from.Encrypted, from.VolumeSize
	}
	spec, err := ebs.spec(ebs.SnapshotId, snapshotSize)
	if err != nil {
		return blockDevice{}, err
	}
	return blockDevice{DeviceName: device.DeviceName, Ebs: spec.inImage(ebs.SnapshotId, encrypted, ebs.DeleteOnTermination == nil || *ebs.DeleteOnTermination)}, nil
}

// checkRegistered refuses what an image's mapping cannot say: encryption is that
// of the snapshot, and a key is for those that launch an instance
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EbsBlockDevice.html).
func (e ebsDevice) checkRegistered(isRoot bool) error {
	switch {
	case e.SnapshotId != "" && e.Encrypted != nil:
		return fail("InvalidParameter", "Parameter encrypted is invalid. You cannot specify the encrypted flag if specifying a snapshot id in a block device mapping.")
	case e.KmsKeyId != "":
		return fail("InvalidParameter", "Parameter kmsKeyId is invalid. It is supported only in block device mappings that launch instances.")
	case isRoot && (e.VolumeType == "st1" || e.VolumeType == "sc1"):
		return fail("InvalidBlockDeviceMapping", "Volumes of type %s cannot be root devices.", e.VolumeType)
	}
	return nil
}

// registrableSnapshot finds a snapshot that an image can be registered with:
// one's own, and complete.
func (r *region) registrableSnapshot(id string) (snapshot, error) {
	found, err := r.readySnapshot(id)
	if err == nil && found.OwnerId != api.Account {
		err = fail("InvalidParameterValue", "Invalid value '%s' for snapshotId. Snapshot does not belong to %s", id, api.Account)
	}
	return found, err
}

// inImage is how an image describes the volume that is made for a device. IOPS
// and throughput are shown where they can be chosen.
func (s volumeSpec) inImage(snapshotID string, encrypted, deleteOnTermination bool) *ebsDevice {
	device := &ebsDevice{
		DeleteOnTermination: &deleteOnTermination, Encrypted: &encrypted, SnapshotId: snapshotID, VolumeSize: &s.Size, VolumeType: s.Type,
	}
	if volumeTypes[s.Type].mostIops > 0 {
		device.Iops = &s.Iops
	}
	if volumeTypes[s.Type].mostThroughput > 0 {
		device.Throughput = &s.Throughput
	}
	return device
}
