package ec2

import (
	"net/netip"
	"slices"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/machine"
)

// Interfaces are the network interfaces that another service has in a region's
// VPC, as a load balancer has its nodes. The methods are called with the books
// held. Errors are *wire.Error with EC2's codes.
type Interfaces interface {
	// AddInterface makes a network interface in the subnet. Without security
	// groups it is as that of a Network Load Balancer without them: everything
	// may leave it.
	AddInterface(subnetID string, securityGroupIDs []string) (Interface, error)

	// RemoveInterface takes a network interface away, if it is there.
	RemoveInterface(id string)

	// DefaultSecurityGroup is the id of the VPC's default security group.
	DefaultSecurityGroup() string

	// LetsIn tells whether security groups let this machine in to a TCP port,
	// which they do if there are none.
	LetsIn(securityGroupIDs []string, port uint16) bool

	// SubscribeToRules calls changed, with the books held, after each change of
	// the rules of security groups.
	SubscribeToRules(changed func())
}

// Interface is a network interface of a service.
type Interface struct {
	ID      string
	Address netip.Addr
}

// serviceInterface is a network interface that is not an instance's.
type serviceInterface struct {
	resource
	Address          netip.Addr
	SubnetId         string
	SecurityGroupIds []string `json:",omitempty"`
}

func (f fleet) AddInterface(subnetID string, securityGroupIDs []string) (Interface, error) {
	r := f.region()
	in, err := r.subnet(subnetID)
	if err != nil {
		return Interface{}, err
	}
	if err := r.allGroups(securityGroupIDs); err != nil {
		return Interface{}, err
	}
	if r.service.addresses.free(in.Cidr) == 0 {
		return Interface{}, errNoAddresses
	}
	made := &serviceInterface{
		resource: r.newResource("eni", nil), Address: r.service.addresses.give(in.Cidr), SubnetId: in.Id, SecurityGroupIds: slices.Clone(securityGroupIDs),
	}
	r.ServiceInterfaces[made.Id] = made
	r.service.enforce()
	return Interface{made.Id, made.Address}, nil
}

func (f fleet) RemoveInterface(id string) {
	r := f.region()
	found := r.ServiceInterfaces[id]
	if found == nil {
		return
	}
	delete(r.ServiceInterfaces, id)
	r.service.addresses.release(found.Address, r.Subnets[found.SubnetId].Cidr)
	r.service.enforce()
}

func (f fleet) DefaultSecurityGroup() string { return fixedID("sg", f.name) }

func (f fleet) LetsIn(securityGroupIDs []string, port uint16) bool {
	r, host := f.region(), hostAddresses()
	for _, id := range securityGroupIDs {
		for _, open := range r.SecurityGroups[id].admits(host) {
			if open.From <= port && port <= open.To {
				return true
			}
		}
	}
	return len(securityGroupIDs) == 0
}

func (f fleet) SubscribeToRules(changed func()) {
	f.service.ruled = append(f.service.ruled, changed)
}

// rulesChanged puts changed rules into force and tells who has subscribed.
func (s *Service) rulesChanged() {
	s.enforce()
	for _, changed := range s.ruled {
		changed()
	}
}

// ungoverned is the group of the interfaces that have no security group: what
// comes to them is an answer, what leaves them is let through.
const ungoverned = "none"

func (r *region) ungoverned() machine.Group {
	group := machine.Group{ID: ungoverned + "-" + r.name, Out: []machine.Rule{{Peer: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}}}
	for _, i := range ordered(r.ServiceInterfaces) {
		if len(i.SecurityGroupIds) == 0 {
			group.Members = append(group.Members, i.Address)
		}
	}
	return group
}
