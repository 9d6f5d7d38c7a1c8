package ec2

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/machine"
)

// enforce puts the security groups as they are now into force, in all regions:
// in the network that instances have in common, and at the gates to them. Where
// instances are only states there is nothing to enforce. The books must be held.
func (s *Service) enforce() {
	if !s.real {
		return
	}
	host := hostAddresses()
	var network machine.Network
	for _, name := range s.pages.Regions() {
		r := s.in(name)
		network.Groups = append(network.Groups, r.machineGroups()...)
		network.Groups = append(network.Groups, r.ungoverned())
		for _, i := range ordered(r.ServiceInterfaces) {
			network.Nodes = append(network.Nodes, i.Address)
		}
		for _, i := range r.Instances {
			r.admit(i, host)
		}
	}
	if err := s.runs.host.Configure(network); err != nil {
		s.report(fmt.Errorf("enforce the security groups: %w", err))
	}
}

// machineGroups gives the security groups as the host of machines has them.
func (r *region) machineGroups() []machine.Group {
	members := map[string][]netip.Addr{}
	for _, i := range r.Instances {
		if i.ended() {
			continue
		}
		for _, id := range i.SecurityGroupIds {
			members[id] = append(members[id], i.Address)
		}
	}
	for _, i := range ordered(r.ServiceInterfaces) {
		for _, id := range i.SecurityGroupIds {
			members[id] = append(members[id], i.Address)
		}
	}
	var groups []machine.Group
	for _, g := range ordered(r.SecurityGroups) {
		group := machine.Group{ID: g.Id, Members: members[g.Id]}
		for _, one := range g.Rules {
			switch rule, ok := one.machineRule(); {
			case !ok:
			case one.IsEgress:
				group.Out = append(group.Out, rule)
			default:
				group.In = append(group.In, rule)
			}
		}
		groups = append(groups, group)
	}
	return groups
}

// protocols are the numbers of the protocols that have names
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_IpPermission.html).
var protocols = map[string]uint8{"-1": 0, "icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}

// machineRule gives a rule as the host of machines has it. One for IPv6
// addresses is none there: the default VPC has no IPv6.
func (r rule) machineRule() (machine.Rule, bool) {
	made := machine.Rule{PeerGroup: r.ReferencedGroupId}
	if r.ReferencedGroupId == "" {
		var err error
		if made.Peer, err = netip.ParsePrefix(r.CidrIpv4); err != nil {
			return made, false
		}
	}
	number, named := protocols[r.IpProtocol]
	if !named {
		n, _ := strconv.ParseUint(r.IpProtocol, 10, 8) // checked when the rule was made
		number = uint8(n)
	}
	made.Protocol = number
	switch r.IpProtocol {
	case "tcp", "udp":
		made.From, made.To = uint16(*r.FromPort), uint16(*r.ToPort)
	case "icmp":
		made.ICMP = r.icmp()
	}
	return made, true
}

// icmp gives the type and the code of ICMP that a rule has as its ports: -1 is
// all of them.
func (r rule) icmp() *machine.ICMP {
	if orZero(r.FromPort) < 0 || r.FromPort == nil {
		return nil
	}
	message := &machine.ICMP{Type: uint8(*r.FromPort)}
	if r.ToPort != nil && *r.ToPort >= 0 {
		message.Code = new(uint8(*r.ToPort))
	}
	return message
}
