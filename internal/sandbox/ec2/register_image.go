package ec2

import (
	"encoding/base64"
	"slices"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// registerImageInput lacks what images with instance store, paravirtual
// kernels or billing products need; those parameters are refused as unknown.
type registerImageInput struct {
	Architecture        string
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

// The times that AWS takes to make an image, typically.
const (
	registerTime = 3 * time.Second
	copyTime     = 4 * time.Minute
)

func (r *region) registerImage(c *api.Call, in *registerImageInput) (*registerImageOutput, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	tagged, err := specified(in.TagSpecifications, "image")
	if err != nil {
		return nil, err
	}
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
	c.On(r.arn("image", made.Id))
	r.tagOnCreate(c, tagged)
	r.service.takes(registerTime, r, func(r *region) { r.imageDone(made.Id) })
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
	if len(in.Description) > 255 {
		return invalidValue(in.Description, "description", "Character count exceeds 255.")
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
	if at := slices.IndexFunc(devices, func(d blockDevice) bool { return d.DeviceName == root }); at < 0 || devices[at].Ebs == nil || devices[at].Ebs.SnapshotId == "" {
		return nil, fail("InvalidBlockDeviceMapping", "The root device '%s' must be in the block device mapping, with a snapshot", root)
	}
	complete := make([]blockDevice, 0, len(devices))
	for _, device := range devices {
		if device.Ebs == nil {
			return nil, fail("InvalidBlockDeviceMapping", "The device '%s' is mapped to no volume", device.DeviceName)
		}
		ebs, err := r.registeredDevice(c, *device.Ebs)
		if err != nil {
			return nil, err
		}
		if ebs.DeleteOnTermination == nil {
			ebs.DeleteOnTermination = new(device.DeviceName == root)
		}
		complete = append(complete, blockDevice{DeviceName: device.DeviceName, Ebs: ebs})
	}
	return complete, nil
}

func (r *region) registeredDevice(c *api.Call, ebs ebsDevice) (*ebsDevice, error) {
	encrypted, snapshotSize := orZero(ebs.Encrypted), 0
	if ebs.SnapshotId != "" {
		if ebs.Encrypted != nil || ebs.KmsKeyId != "" {
			return nil, fail("InvalidBlockDeviceMapping", "The parameter Encrypted cannot be given together with the snapshot '%s': an image's device is encrypted as its snapshot is", ebs.SnapshotId)
		}
		snapshot, err := r.readySnapshot(ebs.SnapshotId)
		if err != nil {
			return nil, err
		}
		c.On(r.arn("snapshot", ebs.SnapshotId))
		encrypted, snapshotSize = snapshot.Encrypted, snapshot.VolumeSize
	}
	spec, err := ebs.spec(ebs.SnapshotId, snapshotSize)
	if err != nil {
		return nil, err
	}
	ebs.Encrypted, ebs.VolumeSize, ebs.VolumeType = &encrypted, &spec.Size, spec.Type
	if spec.Type == "gp3" {
		ebs.Iops, ebs.Throughput = &spec.Iops, &spec.Throughput
	}
	return &ebs, nil
}
