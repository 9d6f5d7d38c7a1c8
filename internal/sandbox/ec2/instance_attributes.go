package ec2

import (
	"cmp"
	"encoding/base64"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

type booleanValue struct{ Value bool }

type blobValue struct{ Value []byte }

// modifyInstanceAttributeInput changes one attribute of an instance. Attribute
// and Value are the older form of some of the others.
type modifyInstanceAttributeInput struct {
	Attribute                         string
	BlockDeviceMappings               []deviceChange `wire:"BlockDeviceMapping"`
	DisableApiStop                    *booleanValue
	DisableApiTermination             *booleanValue
	EbsOptimized                      *booleanValue
	EnaSupport                        *booleanValue
	Groups                            []string `wire:"GroupId"`
	InstanceId                        string   `wire:",,required"`
	InstanceInitiatedShutdownBehavior *attributeValue
	InstanceType                      *attributeValue
	SriovNetSupport                   *attributeValue
	UserData                          *blobValue
	Value                             string
}

// deviceChange says whether the volume of a device goes with the instance.
type deviceChange struct {
	DeviceName string
	Ebs        *struct {
		DeleteOnTermination *bool
		VolumeId            string
	}
}

// spellOut turns the older form of the request into the newer.
func (in *modifyInstanceAttributeInput) spellOut() error {
	if in.Value == "" {
		return nil // Attribute alone only says again what is given otherwise
	}
	switch in.Attribute {
	case "disableApiTermination":
		if in.Value != "true" && in.Value != "false" {
			return invalidValue(in.Value, "value", "Expected 'true' or 'false'.")
		}
		in.DisableApiTermination = &booleanValue{in.Value == "true"}
	case "instanceInitiatedShutdownBehavior":
		in.InstanceInitiatedShutdownBehavior = &attributeValue{in.Value}
	case "instanceType":
		in.InstanceType = &attributeValue{in.Value}
	case "userData":
		raw, err := base64.StdEncoding.DecodeString(in.Value)
		if err != nil {
			return errMalformedUserData
		}
		in.UserData = &blobValue{raw}
	default:
		return invalidValue(in.Attribute, "attribute", "The parameter value is for the attributes 'disableApiTermination', 'instanceInitiatedShutdownBehavior', 'instanceType' and 'userData'.")
	}
	return nil
}

func (r *region) modifyInstanceAttribute(c *api.Call, in *modifyInstanceAttributeInput) (*succeeded, error) {
	i, err := r.instance(in.InstanceId)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("instance", i.Id))
	if err := in.spellOut(); err != nil {
		return nil, err
	}
	if i.State == Terminated || i.State == ShuttingDown {
		return nil, fail("IncorrectInstanceState", "The instance '%s' is '%s'.", i.Id, i.State)
	}
	stopped := func() error {
		if i.State != Stopped {
			return fail("IncorrectInstanceState", "The instance '%s' is not in the 'stopped' state.", i.Id)
		}
		return nil
	}
	given, err := 0, error(nil)
	change := func(is bool, apply func() error) {
		if is && err == nil {
			given++
			err = apply()
		}
	}
	next := *i
	change(in.DisableApiStop != nil, func() error { next.Launch.DisableApiStop = &in.DisableApiStop.Value; return nil })
	change(in.DisableApiTermination != nil, func() error {
		next.Launch.DisableApiTermination = &in.DisableApiTermination.Value
		if i.SpotRequest != nil && in.DisableApiTermination.Value {
			return errProtectedSpot
		}
		return nil
	})
	change(in.BlockDeviceMappings != nil, func() error { return r.checkDeviceChanges(i, in.BlockDeviceMappings) })
	change(in.EbsOptimized != nil, func() error { next.Launch.EbsOptimized = &in.EbsOptimized.Value; return stopped() })
	change(in.EnaSupport != nil, func() error { next.EnaSupport = in.EnaSupport.Value; return stopped() })
	change(in.Groups != nil, func() error { next.SecurityGroupIds = in.Groups; return r.allGroups(in.Groups) })
	change(in.InstanceInitiatedShutdownBehavior != nil, func() error {
		next.Launch.InstanceInitiatedShutdownBehavior = in.InstanceInitiatedShutdownBehavior.Value
		return next.Launch.check(launchTaggable...)
	})
	change(in.InstanceType != nil, func() error { next.Type = in.InstanceType.Value; return cmp.Or(stopped(), next.fitsType()) })
	change(in.SriovNetSupport != nil, func() error {
		next.SriovNetSupport = in.SriovNetSupport.Value
		if next.SriovNetSupport != "simple" {
			return invalidValue(next.SriovNetSupport, "sriovNetSupport", "Expected 'simple'; it cannot be taken away.")
		}
		return stopped()
	})
	change(in.UserData != nil, func() error {
		next.Launch.UserData = base64.StdEncoding.EncodeToString(in.UserData.Value)
		return cmp.Or(stopped(), next.Launch.check(launchTaggable...))
	})
	switch {
	case err != nil:
		return nil, err
	case given == 0:
		return nil, fail("MissingParameter", "No attributes specified.")
	case given > 1:
		return nil, fail("InvalidParameterCombination", "Fields for multiple attribute types specified.")
	}
	*i = next
	r.changeDevices(i, in.BlockDeviceMappings)
	r.service.enforce()
	return &succeeded{true}, nil
}

// checkDeviceChanges refuses changes of devices that the instance does not have.
func (r *region) checkDeviceChanges(i *instance, changes []deviceChange) error {
	for _, change := range changes {
		v := r.volumeAt(i, change.DeviceName)
		if v == nil || change.Ebs != nil && change.Ebs.VolumeId != "" && change.Ebs.VolumeId != v.Id {
			return fail("InvalidInstanceAttributeValue", "No device is currently mapped at %s", change.DeviceName)
		}
	}
	return nil
}

// changeDevices sets which volumes go with the instance: those for which nothing
// is said do (ModifyInstanceAttribute).
func (r *region) changeDevices(i *instance, changes []deviceChange) {
	for _, change := range changes {
		attached := *r.volumeAt(i, change.DeviceName).Attachment
		attached.DeleteOnTermination = change.Ebs == nil || change.Ebs.DeleteOnTermination == nil || *change.Ebs.DeleteOnTermination
		r.volumeAt(i, change.DeviceName).Attachment = &attached
	}
}

// volumeAt gives the volume of a device, nil where it has none.
func (r *region) volumeAt(i *instance, device string) *volume {
	for _, id := range i.Volumes {
		if v := r.Volumes[id]; v != nil && v.Attachment != nil && v.Attachment.Device == device {
			return v
		}
	}
	return nil
}

func (r *region) allGroups(ids []string) error {
	for _, id := range ids {
		if _, err := r.securityGroup(id); err != nil {
			return err
		}
	}
	return nil
}

// fitsType refuses a type that the instance could not be started on.
func (i *instance) fitsType() error {
	kind := instanceTypes[i.Type]
	if kind == nil {
		return fail("InvalidInstanceAttributeValue", "Invalid value '%s' for InstanceType.", i.Type)
	}
	return kind.fits(&image{
		Architecture: i.Architecture, VirtualizationType: i.VirtualizationType, BootMode: i.BootMode,
		EnaSupport: i.EnaSupport, TpmSupport: i.TpmSupport,
	})
}

type modifyInstanceMetadataOptionsInput struct {
	metadataOptions
	InstanceId string `wire:",,required"`
}

type modifyInstanceMetadataOptionsOutput struct {
	InstanceId              string
	InstanceMetadataOptions metadataOptionsItem
}

func (r *region) modifyInstanceMetadataOptions(c *api.Call, in *modifyInstanceMetadataOptionsInput) (*modifyInstanceMetadataOptionsOutput, error) {
	i, err := r.instance(in.InstanceId)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("instance", i.Id))
	if i.State != Running && i.State != Stopped {
		return nil, fail("IncorrectInstanceState", "The instance '%s' is '%s'.", i.Id, i.State)
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	options := i.Metadata
	options.set(in.metadataOptions)
	if err := i.Tags.fitMetadata(options); err != nil {
		return nil, err
	}
	i.Metadata = options
	return &modifyInstanceMetadataOptionsOutput{i.Id, metadataOptionsItem{options, "pending"}}, nil
}
