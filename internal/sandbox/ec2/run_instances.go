package ec2

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// launchTemplateSpecification names a launch template version.
type launchTemplateSpecification struct {
	launchTemplateRef
	Version string
}

type runInstancesInput struct {
	launchData
	ClientToken      string
	LaunchTemplate   *launchTemplateSpecification
	MaxCount         int `wire:",,required"`
	MinCount         int `wire:",,required"`
	PrivateIpAddress string
	SubnetId         string
}

func (r *region) runInstances(c *api.Call, in *runInstancesInput) (*reservationItem, error) {
	if in.MinCount < 1 || in.MaxCount < in.MinCount {
		return nil, fail("InvalidParameterValue", "Value (%d to %d) for parameters minCount and maxCount is invalid. Expected at least 1, and no more at the least than at the most.", in.MinCount, in.MaxCount)
	}
	return once(r, "RunInstances", in.ClientToken, in, func() (*reservationItem, error) {
		order := order{data: in.launchData, count: in.MaxCount, subnetID: in.SubnetId, address: in.PrivateIpAddress, token: in.ClientToken}
		if in.LaunchTemplate != nil {
			template, err := r.template(in.LaunchTemplate.launchTemplateRef)
			if err != nil {
				return nil, err
			}
			version, err := template.version(in.LaunchTemplate.Version)
			if err != nil {
				return nil, err
			}
			order.from(template, version)
			c.On(r.arn("launch-template", template.Id))
		}
		planned, err := r.plan(order)
		if err != nil {
			return nil, err
		}
		r.note(c, planned)
		var items []instanceItem
		for _, i := range r.run(planned) {
			items = append(items, r.instanceItem(i))
		}
		return &reservations(items)[0], nil
	})
}

// order is an order for instances that are alike.
type order struct {
	data     launchData
	count    int
	subnetID string
	address  string
	token    string
	template *Template // that data was completed from
	extra    tags      // onto the instances, over those of data
}

// from completes the order from a launch template version, and has the
// instances bear its name as AWS does
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/launch-instances-from-launch-template.html).
func (o *order) from(t *launchTemplate, v *launchTemplateVersion) {
	o.data = o.data.over(v.Data)
	o.template = &Template{ID: t.Id, Name: t.Name, Version: v.Number}
	extra := tags{"aws:ec2launchtemplate:id": t.Id, "aws:ec2launchtemplate:version": strconv.FormatInt(v.Number, 10)}
	maps.Copy(extra, o.extra)
	o.extra = extra
}

// plan is an order in which everything named has been found.
type plan struct {
	order
	image   *image
	kind    *instanceType
	subnet  *subnet
	groups  []string
	devices []plannedDevice
	tagged  map[string]tags
	options metadataOptions
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
	var err error
	if p.tagged, err = specified(o.data.TagSpecifications, launchTaggable...); err != nil {
		return nil, err
	}
	on, err := p.tagged["instance"].with(o.extra)
	if err != nil {
		return nil, err
	}
	if p.image, p.kind, err = r.imageAndType(&p.data, p.template); err != nil {
		return nil, err
	}
	if err := r.planNetwork(p); err != nil {
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
	return p, on.fitMetadata(p.options)
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
		template.HasProfile = data.IamInstanceProfile != nil
		for _, specification := range data.TagSpecifications {
			template.Tagged = append(template.Tagged, specification.ResourceType)
		}
	}
	return found, kind, nil
}

// planNetwork settles the subnet, the address and the security groups, which
// are given for the instance or for its only network interface.
func (r *region) planNetwork(p *plan) error {
	subnetID, groups := p.subnetID, p.data.SecurityGroupIds
	switch interfaces := p.data.NetworkInterfaces; {
	case len(interfaces) > 1:
		return fail("UnsupportedOperation", "The sandbox's instances have one network interface, not %d", len(interfaces))
	case len(interfaces) == 1:
		only := interfaces[0]
		if orZero(only.DeviceIndex) != 0 {
			return fail("InvalidParameterValue", "The network interface must have the device index 0, not %d", *only.DeviceIndex)
		}
		if len(groups)+len(p.data.SecurityGroups) > 0 {
			return fail("InvalidParameterCombination", "Network interfaces and an instance-level security groups may not be specified on the same request")
		}
		if only.SubnetId != "" && subnetID != "" && only.SubnetId != subnetID {
			return fail("InvalidParameterCombination", "Network interfaces and an instance-level subnet ID may not be specified on the same request")
		}
		groups = only.Groups
		if only.SubnetId != "" {
			subnetID = only.SubnetId
		}
		if only.PrivateIpAddress != "" {
			p.address = only.PrivateIpAddress
		}
	}
	for _, name := range p.data.SecurityGroups {
		group, err := r.securityGroupByName(name)
		if err != nil {
			return err
		}
		groups = append(slices.Clone(groups), group.Id)
	}
	for _, id := range groups {
		if _, err := r.securityGroup(id); err != nil {
			return err
		}
	}
	if p.groups = groups; len(groups) == 0 {
		p.groups = []string{fixedID("sg", r.name)}
	}
	return r.planAddress(p, subnetID)
}

func (r *region) planAddress(p *plan, subnetID string) error {
	zone := ""
	if p.data.Placement != nil {
		zone = p.data.Placement.AvailabilityZone
	}
	var err error
	switch {
	case subnetID != "":
		p.subnet, err = r.subnet(subnetID)
	case zone != "":
		p.subnet, err = r.subnetIn(zone)
	case p.address != "":
		err = fail("InvalidParameterCombination", "A private IP address can only be given together with a subnet.")
	default:
		p.subnet = slices.MaxFunc(ordered(r.Subnets), func(a, b *subnet) int {
			return r.service.addresses.free(a.Cidr) - r.service.addresses.free(b.Cidr)
		})
	}
	if err != nil {
		return err
	}
	if zone != "" && p.subnet.Zone != zone {
		return fail("InvalidParameterCombination", "The subnet '%s' is not in the availability zone '%s'", p.subnet.Id, zone)
	}
	if r.service.addresses.free(p.subnet.Cidr) < p.count {
		return fail("InsufficientFreeAddressesInSubnet", "The specified subnet does not have enough free addresses to satisfy the request.")
	}
	if p.address == "" {
		return nil
	}
	address, err := netip.ParseAddr(p.address)
	switch {
	case err != nil || !p.subnet.Cidr.Contains(address):
		return fail("InvalidParameterValue", "Address %s does not fall within the subnet's address range", p.address)
	case p.count > 1:
		return fail("InvalidParameterCombination", "A private IP address can only be given to a single instance.")
	case !r.service.addresses.isFree(address, p.subnet.Cidr):
		return fail("InvalidIPAddress.InUse", "Address %s is in use.", p.address)
	}
	return nil
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

// note says what the caller of RunInstances must be permitted
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ExamplePolicies_EC2.html#iam-example-runinstances).
func (r *region) note(c *api.Call, p *plan) {
	c.On(r.arn("image", p.image.Id), r.arn("instance", "*"), r.arn("network-interface", "*"), r.arn("subnet", p.subnet.Id), r.arn("volume", "*"))
	for _, id := range p.groups {
		c.On(r.arn("security-group", id))
	}
	if p.data.KeyName != "" {
		c.On(r.arn("key-pair", p.data.KeyName))
	}
	if p.data.IamInstanceProfile != nil {
		c.Needs("iam:PassRole")
	}
	r.tagOnCreate(c, p.tagged)
}

// run carries a plan out. It cannot fail any more.
func (r *region) run(p *plan) []*instance {
	reservation := api.NewID("r")
	p.image.Launched = r.now()
	ran := make([]*instance, 0, p.count)
	for n := range p.count {
		on, _ := p.tagged["instance"].with(p.extra) // checked by plan
		i := &instance{
			resource: r.newResource("i", on), State: Pending, ReservationId: reservation, LaunchIndex: n, ClientToken: p.token,
			Launched: r.now(), ImageId: p.image.Id, Type: p.kind.Name, Architecture: p.image.Architecture,
			VirtualizationType: p.image.VirtualizationType, BootMode: p.image.BootMode, EnaSupport: p.image.EnaSupport,
			SriovNetSupport: p.image.SriovNetSupport, TpmSupport: p.image.TpmSupport, RootDeviceName: p.image.RootDeviceName,
			SubnetId: p.subnet.Id, Zone: p.subnet.Zone, Interface: r.newResource("eni", p.tagged["network-interface"]),
			SecurityGroupIds: p.groups, Metadata: p.options, Launch: p.data, Template: p.template,
		}
		i.Address = r.giveAddress(p)
		for _, device := range p.devices {
			v := r.newVolume(device.volume, device.snapshotID, i.Zone, p.tagged["volume"])
			r.attach(v, i, device.name, device.deleteOnTermination)
		}
		r.Instances[i.Id] = i
		r.start(i)
		ran = append(ran, i)
	}
	return ran
}

func (r *region) giveAddress(p *plan) netip.Addr {
	wanted, err := netip.ParseAddr(p.address)
	if err != nil { // none is wanted
		return r.service.addresses.give(p.subnet.Cidr)
	}
	r.service.addresses.take(wanted, p.subnet.Cidr)
	return wanted
}
