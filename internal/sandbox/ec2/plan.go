package ec2

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// plan is an order in which everything named has been found.
type plan struct {
	order
	image   *image
	kind    *instanceType
	subnet  *subnet
	groups  []string
	devices []plannedDevice
	// parameter is the SSM parameter that names the image, if one does.
	parameter string
	tagged    map[string]tags
	options   metadataOptions
	short     error // why there are fewer instances than were asked for, if so
}

type plannedDevice struct {
	name                string
	volume              volumeSpec
	snapshotID          string
	deleteOnTermination bool
}

// plan checks an order without changing anything.
func (r *region) plan(o order) (*plan, error) {
	p := &plan{order: o}
	if err := o.data.check(launchTaggable...); err != nil {
		return nil, err
	}
	if err := cmp.Or(o.data.checkToLaunch(), o.data.checkOptions()); err != nil {
		return nil, err
	}
	var err error
	if p.tagged, err = specified(o.data.TagSpecifications, launchTaggable...); err != nil {
		return nil, err
	}
	for kind, more := range o.more {
		if p.tagged[kind], err = p.tagged[kind].with(more); err != nil {
			return nil, err
		}
	}
	on, err := p.tagged["instance"].with(o.extra)
	if err != nil {
		return nil, err
	}
	if p.image, p.kind, err = r.imageAndType(&p.data, p.template); err != nil {
		return nil, err
	}
	if name, is := strings.CutPrefix(o.data.ImageId, parameterScheme); is {
		p.parameter = name
	}
	candidates, err := r.planNetwork(p)
	if err != nil {
		return nil, err
	}
	if name := o.data.KeyName; name != "" {
		if _, err := r.keyPair("", name); err != nil {
			return nil, err
		}
	}
	if p.devices, err = r.planDevices(p.image, o.data.BlockDeviceMappings); err != nil {
		return nil, err
	}
	p.options = o.data.MetadataOptions.completed(p.image)
	if err := on.fitMetadata(p.options); err != nil {
		return nil, err
	}
	if err := p.planMarket(); err != nil {
		return nil, err
	}
	return p, r.place(p, candidates)
}

var (
	profileName = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)
	profileARN  = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:instance-profile/([\w+=,.@/-]*/)?[\w+=,.@-]{1,128}$`)
)

// checkToLaunch refuses what names things that the sandbox does not have. A
// launch template may name them.
func (d launchData) checkToLaunch() error {
	if p := d.IamInstanceProfile; p != nil {
		switch {
		case p.Arn != "" && p.Name != "":
			return fail("InvalidParameterCombination", "The parameter 'iamInstanceProfile.name' may not be used in combination with 'iamInstanceProfile.arn'")
		case p.Arn != "" && !profileARN.MatchString(p.Arn):
			return invalidValue(p.Arn, "iamInstanceProfile.arn", "Invalid IAM Instance Profile ARN")
		case p.Name != "" && !profileName.MatchString(p.Name):
			return invalidValue(p.Name, "iamInstanceProfile.name", "Invalid IAM Instance Profile name")
		}
	}
	if c := d.CapacityReservationSpecification; c != nil && c.CapacityReservationTarget != nil {
		return fail("InvalidCapacityReservationId.NotFound", "The capacity reservation '%s%s' does not exist", c.CapacityReservationTarget.CapacityReservationId, c.CapacityReservationTarget.CapacityReservationResourceGroupArn)
	}
	if p := d.Placement; p != nil {
		switch {
		case p.GroupName != "" || p.GroupId != "":
			return fail("InvalidPlacementGroup.Unknown", "The Placement Group '%s%s' is unknown.", p.GroupName, p.GroupId)
		case p.HostId != "":
			return fail("InvalidHostID.NotFound", "The host '%s' does not exist", p.HostId)
		case p.HostResourceGroupArn != "" || p.Affinity != "" || p.Tenancy == "host":
			return fail("InvalidParameterValue", "The sandbox has no Dedicated Hosts, as Placement asks for.")
		case p.PartitionNumber != nil || p.SpreadDomain != "":
			return fail("InvalidParameterCombination", "A partition needs a placement group.")
		case !slices.Contains([]string{"", "default", "dedicated"}, p.Tenancy):
			return invalidValue(p.Tenancy, "tenancy", "Expected one of 'default', 'dedicated', 'host'.")
		}
	}
	return nil
}

// imageAndType finds what an instance is run from and on, and that they fit.
func (r *region) imageAndType(data *launchData, template *Template) (*image, *instanceType, error) {
	if data.ImageId == "" {
		return nil, nil, missing("ImageId")
	}
	id, byParameter, err := r.imageID(data.ImageId)
	if err != nil {
		return nil, nil, err
	}
	found, err := r.usableImage(id)
	if err != nil {
		return nil, nil, err
	}
	if data.InstanceType == "" {
		return nil, nil, fail("MissingParameter", "The request must contain the parameter InstanceType: the sandbox has no m1.small, which is the default")
	}
	kind := instanceTypes[data.InstanceType]
	if kind == nil {
		return nil, nil, fail("InvalidParameterValue", "Invalid value '%s' for InstanceType.", data.InstanceType)
	}
	if err := kind.fits(found); err != nil {
		return nil, nil, err
	}
	data.ImageId = id
	if template != nil {
		template.ImageID, template.FromSSM, template.InstanceType = id, byParameter, data.InstanceType
	}
	return found, kind, nil
}

// planDevices settles the volumes, from the image's mapping and the order's
// over it.
func (r *region) planDevices(from *image, requested []blockDevice) ([]plannedDevice, error) {
	var planned []plannedDevice
	for _, device := range onto(from.BlockDevices, requested) {
		if device.Ebs == nil {
			continue
		}
		fromImage := slices.ContainsFunc(from.BlockDevices, func(d blockDevice) bool {
			return d.DeviceName == device.DeviceName && d.Ebs != nil && d.Ebs.SnapshotId == device.Ebs.SnapshotId && d.Ebs.SnapshotId != ""
		})
		if device.DeviceName == from.RootDeviceName && !fromImage {
			return nil, fail("InvalidBlockDeviceMapping", "snapshotId cannot be modified on root device")
		}
		spec, err := r.specForLaunch(*device.Ebs, fromImage)
		if err != nil {
			return nil, err
		}
		planned = append(planned, plannedDevice{
			name: device.DeviceName, volume: spec, snapshotID: device.Ebs.SnapshotId, deleteOnTermination: orZero(device.Ebs.DeleteOnTermination),
		})
	}
	return planned, nil
}

// specForLaunch settles a volume. An image that one may launch may be launched
// also where one may not create volumes from its snapshots oneself.
func (r *region) specForLaunch(ebs ebsDevice, fromImage bool) (volumeSpec, error) {
	if fromImage {
		from := r.service.store.In(r.name).Snapshots[ebs.SnapshotId]
		if from == nil {
			return volumeSpec{}, fail("InvalidSnapshot.NotFound", "The snapshot '%s' does not exist.", ebs.SnapshotId)
		}
		return r.specFrom(ebs, snapshot{from})
	}
	return r.specFor(ebs)
}

// completed gives all options of the metadata service: those given, else what
// the image asks for (ImdsSupport), else EC2's defaults.
func (o *metadataOptions) completed(from *image) metadataOptions {
	all := metadataOptions{HttpEndpoint: "enabled", HttpProtocolIpv6: "disabled", HttpPutResponseHopLimit: new(1), HttpTokens: "optional", InstanceMetadataTags: "disabled"}
	if from.ImdsSupport == "v2.0" {
		all.HttpTokens, all.HttpPutResponseHopLimit = "required", new(2)
	}
	if o != nil {
		all.set(*o)
	}
	return all
}

// set replaces the options that are given.
func (o *metadataOptions) set(given metadataOptions) {
	for _, option := range []struct {
		of *string
		to string
	}{
		{&o.HttpEndpoint, given.HttpEndpoint},
		{&o.HttpProtocolIpv6, given.HttpProtocolIpv6},
		{&o.HttpTokens, given.HttpTokens},
		{&o.InstanceMetadataTags, given.InstanceMetadataTags},
	} {
		if option.to != "" {
			*option.of = option.to
		}
	}
	if given.HttpPutResponseHopLimit != nil {
		o.HttpPutResponseHopLimit = given.HttpPutResponseHopLimit
	}
}
