package image

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// Registrar registers images; satisfied by *ec2.Client.
type Registrar interface {
	Describer
	DescribeImageAttribute(context.Context, *ec2.DescribeImageAttributeInput, ...func(*ec2.Options)) (*ec2.DescribeImageAttributeOutput, error)
	RegisterImage(context.Context, *ec2.RegisterImageInput, ...func(*ec2.Options)) (*ec2.RegisterImageOutput, error)
}

// Volume says what the root volume of instances is like; a zero field leaves
// it as it is in the base.
type Volume struct {
	Size       int32 // GiB
	Type       string
	IOPS       int32
	Throughput int32 // MiB/s
}

// Registration describes an AMI to be.
type Registration struct {
	Name, Description string
	// Base is the AMI whose attributes are carried over; nil for none.
	Base *types.Image
	// Architecture is needed where there is no base.
	Architecture string
	// Snapshot is the root's, and Size its size in GiB.
	Snapshot string
	Size     int32
	Volume   Volume
	// Firmware is the UEFI variable store in base64, "" for none. Nil is that of
	// the base, which only its owner may read.
	Firmware *string
	// BootMode is the base's if it is "".
	BootMode string
	// IMDSv2 makes instances refuse metadata requests without a session token.
	IMDSv2 bool
	Tags   map[string]string
}

// Register registers an AMI. It does not stop half-way at an interrupt, so that
// there is never one that nobody knows of.
func Register(ctx context.Context, api Registrar, r Registration) (id string, err error) {
	request, err := r.request(ctx, api)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*cloud.AttemptTimeout)
	defer cancel()
	out, err := api.RegisterImage(ctx, request)
	if cloud.Code(err) == "InvalidAMIName.Duplicate" {
		return r.adopt(ctx, api, err)
	}
	if err != nil {
		return "", fmt.Errorf("register AMI %q (ec2:RegisterImage): %w", r.Name, err)
	}
	return *out.ImageId, nil
}

// adopt finds out whether the name is taken by this very registration, whose
// first answer was lost on the way. Such an image may show late.
func (r Registration) adopt(ctx context.Context, api Registrar, duplicate error) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cloud.Visibility+cloud.AttemptTimeout)
	defer cancel()
	var image types.Image
	err := cloud.Wait(ctx, cloud.Until{What: fmt.Sprintf("the AMI named %q can be seen", r.Name), Deadline: cloud.Visibility},
		func(ctx context.Context) (found bool, state string, err error) {
			image, found, err = Named(ctx, api, r.Name)
			return found, "there is none", err
		})
	if err != nil {
		return "", fmt.Errorf("register AMI %q (ec2:RegisterImage): %w", r.Name, errors.Join(duplicate, err))
	}
	if root, err := Root(image); err == nil && *root.SnapshotId == r.Snapshot {
		return *image.ImageId, nil
	}
	return "", TakenError(r.Name, image)
}

// TakenError says that there is an AMI of that name already.
func TakenError(name string, by types.Image) error {
	return fmt.Errorf("ami_name %q is taken by %s of %s; choose another name, or set force_deregister = true to replace it",
		name, aws.ToString(by.ImageId), aws.ToString(by.CreationDate))
}

func (r Registration) request(ctx context.Context, api Registrar) (*ec2.RegisterImageInput, error) {
	request := r.defaults()
	if r.Base != nil {
		request = r.carried()
		firmware, err := r.firmware(ctx, api)
		if err != nil {
			return nil, err
		}
		request.UefiData = firmware
	}
	request.Name = &r.Name
	if r.Description != "" {
		request.Description = &r.Description
	}
	if r.BootMode != "" {
		request.BootMode = types.BootModeValues(r.BootMode)
	}
	if r.IMDSv2 {
		request.ImdsSupport = types.ImdsSupportValuesV20
	}
	if len(r.Tags) > 0 {
		request.TagSpecifications = []types.TagSpecification{{ResourceType: types.ResourceTypeImage, Tags: tagList(r.Tags)}}
	}
	return request, nil
}

// defaults are the attributes of Amazon Linux 2023's AMIs. EC2's own would be
// i386 and paravirtual, without the network drivers that today's instance
// types ask for.
func (r Registration) defaults() *ec2.RegisterImageInput {
	request := &ec2.RegisterImageInput{
		Architecture:       types.ArchitectureValues(r.Architecture),
		VirtualizationType: aws.String("hvm"),
		EnaSupport:         aws.Bool(true),
		SriovNetSupport:    aws.String("simple"),
		BootMode:           types.BootModeValuesUefiPreferred,
		RootDeviceName:     aws.String("/dev/xvda"),
	}
	if r.Architecture == "arm64" {
		request.BootMode = types.BootModeValuesUefi
	}
	request.BlockDeviceMappings = []types.BlockDeviceMapping{{
		DeviceName: request.RootDeviceName,
		Ebs:        r.root(types.EbsBlockDevice{VolumeType: types.VolumeTypeGp3}),
	}}
	return request
}

// carried are the attributes of the base.
func (r Registration) carried() *ec2.RegisterImageInput {
	b := r.Base
	request := &ec2.RegisterImageInput{
		Architecture:       b.Architecture,
		VirtualizationType: aws.String(string(b.VirtualizationType)),
		EnaSupport:         b.EnaSupport,
		SriovNetSupport:    b.SriovNetSupport,
		BootMode:           b.BootMode,
		TpmSupport:         b.TpmSupport,
		RootDeviceName:     b.RootDeviceName,
	}
	for _, m := range b.BlockDeviceMappings {
		switch {
		case aws.ToString(m.DeviceName) == aws.ToString(b.RootDeviceName) && m.Ebs != nil:
			m.Ebs = r.root(*m.Ebs)
		case m.Ebs != nil && m.Ebs.SnapshotId != nil:
			// What is made from a snapshot is encrypted as that is, and EC2
			// refuses to be told so.
			other := *m.Ebs
			other.Encrypted, other.KmsKeyId = nil, nil
			m.Ebs = &other
		}
		request.BlockDeviceMappings = append(request.BlockDeviceMappings, m)
	}
	return request
}

// provisioned are the volume types whose IOPS can be chosen.
var provisioned = []types.VolumeType{types.VolumeTypeGp3, types.VolumeTypeIo1, types.VolumeTypeIo2}

// root is the mapping of the root volume, which goes with its instance.
func (r Registration) root(base types.EbsBlockDevice) *types.EbsBlockDevice {
	root := types.EbsBlockDevice{
		SnapshotId:          &r.Snapshot,
		VolumeSize:          aws.Int32(max(r.Size, aws.ToInt32(base.VolumeSize), r.Volume.Size)),
		VolumeType:          base.VolumeType,
		DeleteOnTermination: aws.Bool(true),
	}
	if base.DeleteOnTermination != nil {
		root.DeleteOnTermination = base.DeleteOnTermination
	}
	if wanted := types.VolumeType(r.Volume.Type); wanted != "" && wanted != base.VolumeType {
		root.VolumeType = wanted
	} else if slices.Contains(provisioned, base.VolumeType) {
		root.Iops, root.Throughput = base.Iops, base.Throughput
	}
	if r.Volume.IOPS != 0 {
		root.Iops = &r.Volume.IOPS
	}
	if r.Volume.Throughput != 0 {
		root.Throughput = &r.Volume.Throughput
	}
	return &root
}

func (r Registration) firmware(ctx context.Context, api Registrar) (*string, error) {
	switch {
	case r.Firmware == nil:
		return uefiData(ctx, api, *r.Base)
	case *r.Firmware == "":
		return nil, nil
	}
	return r.Firmware, nil
}

// uefiData is the base's UEFI variable store, without which an AMI with Secure
// Boot would come out without it. Only images that can boot by UEFI have one.
func uefiData(ctx context.Context, api Registrar, base types.Image) (*string, error) {
	if base.BootMode != types.BootModeValuesUefi && base.BootMode != types.BootModeValuesUefiPreferred {
		return nil, nil
	}
	out, err := api.DescribeImageAttribute(ctx, &ec2.DescribeImageAttributeInput{
		ImageId:   base.ImageId,
		Attribute: types.ImageAttributeNameUefiData,
	})
	if err != nil {
		return nil, fmt.Errorf("read the UEFI variables of AMI %s (ec2:DescribeImageAttribute): %w", aws.ToString(base.ImageId), err)
	}
	if out.UefiData == nil || aws.ToString(out.UefiData.Value) == "" {
		return nil, nil
	}
	return out.UefiData.Value, nil
}
