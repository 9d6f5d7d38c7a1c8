package ec2

import (
	"fmt"
	"net/netip"
	"slices"
)

// planNetwork settles the address and the security groups, which are given for
// the instance or for its only network interface, and gives the subnets that
// the instances may be run in, the best first.
func (r *region) planNetwork(p *plan) ([]*subnet, error) {
	subnetID, groups, named := p.subnetID, p.data.SecurityGroupIds, p.data.SecurityGroups
	switch interfaces := p.data.NetworkInterfaces; {
	case len(interfaces) > 1:
		return nil, fail("UnsupportedOperation", "The sandbox's instances have one network interface, not %d", len(interfaces))
	case len(interfaces) == 1:
		only := interfaces[0]
		if err := only.excludes(p); err != nil {
			return nil, err
		}
		groups = only.Groups
		if only.SubnetId != "" {
			subnetID = only.SubnetId
		}
		if only.PrivateIpAddress != "" {
			p.address = only.PrivateIpAddress
		}
	}
	if len(named) > 0 && subnetID != "" {
		return nil, fail("InvalidParameterCombination", "The parameter groupName cannot be used with the parameter subnet")
	}
	for _, name := range named {
		group, err := r.securityGroupByName(name)
		if err != nil {
			return nil, err
		}
		groups = append(slices.Clone(groups), group.Id)
	}
	if err := r.allGroups(groups); err != nil {
		return nil, err
	}
	if p.groups = groups; len(groups) == 0 {
		p.groups = []string{fixedID("sg", r.name)}
	}
	candidates, err := r.candidates(p, subnetID)
	if err != nil {
		return nil, err
	}
	return candidates, r.checkAddress(p, candidates)
}

// excludes refuses what cannot be given for an instance whose network interface
// is given: "If you specify a network interface, you must specify any security
// groups and subnets as part of the network interface" (RunInstances). A fleet
// and a group put their subnet into an interface that has none.
func (n networkInterface) excludes(p *plan) error {
	combined := ""
	switch {
	case orZero(n.DeviceIndex) != 0:
		return fail("InvalidParameterValue", "The network interface must have the device index 0, not %d", *n.DeviceIndex)
	case orZero(n.NetworkCardIndex) != 0:
		return fail("InvalidParameterValue", "The network interface must have the network card index 0, not %d", *n.NetworkCardIndex)
	case n.InterfaceType != "" && n.InterfaceType != "interface":
		return invalidValue(n.InterfaceType, "interfaceType", "The sandbox has network interfaces of the type 'interface' only.")
	case len(p.data.SecurityGroupIds)+len(p.data.SecurityGroups) > 0:
		combined = "security groups"
	case p.subnetID != "" && (!p.fleet || n.SubnetId != "" && n.SubnetId != p.subnetID):
		combined = "subnet ID"
	case p.address != "":
		combined = "private address"
	default:
		return nil
	}
	return fail("InvalidParameterCombination", "Network interfaces and an instance-level %s may not be specified on the same request", combined)
}

// candidates lists the subnets that an order allows.
func (r *region) candidates(p *plan, subnetID string) ([]*subnet, error) {
	zone, zoneID := "", ""
	if p.data.Placement != nil {
		zone, zoneID = p.data.Placement.AvailabilityZone, p.data.Placement.AvailabilityZoneId
	}
	if zone != "" && zoneID != "" {
		return nil, fail("InvalidParameterCombination", "The parameters availabilityZone and availabilityZoneId cannot be used together.")
	}
	all := ordered(r.Subnets)
	if zone != "" && !slices.ContainsFunc(all, func(s *subnet) bool { return s.Zone == zone }) {
		return nil, fail("InvalidParameterValue", "Invalid availability zone: [%s]", zone)
	}
	if zoneID != "" && !slices.ContainsFunc(all, func(s *subnet) bool { return s.ZoneId == zoneID }) {
		return nil, fail("InvalidParameterValue", "Invalid availability zone-id: [%s]", zoneID)
	}
	if subnetID != "" {
		only, err := r.subnet(subnetID)
		switch {
		case err != nil:
			return nil, err
		case zone != "" && only.Zone != zone:
			return nil, invalidValue(zone, "availabilityZone", fmt.Sprintf("Subnet '%s' is in the availability zone %s", only.Id, only.Zone))
		case zoneID != "" && only.ZoneId != zoneID:
			return nil, invalidValue(zoneID, "availabilityZoneId", fmt.Sprintf("Subnet '%s' is in the availability zone %s", only.Id, only.ZoneId))
		}
		return []*subnet{only}, nil
	}
	if p.address != "" {
		return nil, fail("InvalidParameterCombination", "A private IP address can only be given together with a subnet.")
	}
	all = slices.DeleteFunc(all, func(s *subnet) bool { return zone != "" && s.Zone != zone || zoneID != "" && s.ZoneId != zoneID })
	slices.SortStableFunc(all, func(a, b *subnet) int {
		return r.service.addresses.free(b.Cidr) - r.service.addresses.free(a.Cidr)
	})
	return all, nil
}

// checkAddress refuses an address that cannot be given in the only candidate.
func (r *region) checkAddress(p *plan, candidates []*subnet) error {
	if p.address == "" {
		return nil
	}
	address, err := netip.ParseAddr(p.address)
	switch {
	case err != nil || !candidates[0].Cidr.Contains(address):
		return fail("InvalidParameterValue", "Address %s does not fall within the subnet's address range", p.address)
	case p.count > 1:
		return fail("InvalidParameterCombination", "A private IP address can only be given to a single instance.")
	case !r.service.addresses.isFree(address, candidates[0].Cidr):
		return fail("InvalidIPAddress.InUse", "Address %s is in use.", p.address)
	}
	return nil
}

// place settles in which of the candidates the instances are run, and how many:
// in the first that has addresses and capacity for the least that is asked for.
// "If you specify a value that is more capacity than Amazon EC2 can launch in
// the target Availability Zone, Amazon EC2 launches the largest possible number
// of instances above the specified minimum count" (RunInstances, MaxCount).
func (r *region) place(p *plan, candidates []*subnet) error {
	if p.count == 0 { // it is only asked whether the order could be carried out
		p.subnet = candidates[0]
		return nil
	}
	var refusals []error
	for _, s := range candidates {
		room, short := r.room(p, s)
		if room >= max(p.least, 1) {
			p.subnet, p.count, p.short = s, room, short
			return nil
		}
		refusals = append(refusals, short)
	}
	if len(refusals) > 1 && codeOf(refusals[0]) == InsufficientInstanceCapacity && p.data.lifecycle() == onDemandLifecycle {
		return noCapacity(fmt.Sprintf("We currently do not have sufficient %s capacity in zones with support for '%s' volumes. Our system will be working on provisioning additional capacity.",
			p.kind.Name, p.rootType()))
	}
	return refusals[0]
}

// room tells how many of the instances of a plan a subnet has room for, and
// what it lacks for the others.
func (r *region) room(p *plan, s *subnet) (int, error) {
	free, none := r.addressesFor(p, s)
	if free < p.least {
		return free, none
	}
	from := pool{p.kind, s.Zone, p.data.lifecycle()}
	room, code := r.service.shortages.ask(r.name, from, max(p.least, 1), p.count)
	switch {
	case free < room:
		return free, none
	case code != "":
		return room, r.lacks(code, p, from)
	}
	return room, nil
}

var errNoAddresses = fail("InsufficientFreeAddressesInSubnet", "The specified subnet does not have enough free addresses to satisfy the request.")

// rootType is the type of the root volume.
func (p *plan) rootType() string {
	for _, device := range p.devices {
		if device.name == p.image.RootDeviceName {
			return device.volume.Type
		}
	}
	return ""
}
