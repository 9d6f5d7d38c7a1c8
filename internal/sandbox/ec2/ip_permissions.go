package ec2

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// ipPermission is what rules of one protocol and port range allow together.
type ipPermission struct {
	FromPort         *int
	IpProtocol       string
	IpRanges         []ipRange
	Ipv6Ranges       []ipv6Range
	PrefixListIds    []prefixList
	ToPort           *int
	UserIdGroupPairs []groupPair `wire:"Groups,groups"`
}

type ipRange struct{ CidrIp, Description string }

type ipv6Range struct{ CidrIpv6, Description string }

type prefixList struct{ Description, PrefixListId string }

type groupPair struct{ Description, GroupId, GroupName, UserId string }

// permissions groups rules as ipPermissions, in the order of the rules.
func permissions(rules []rule, egress bool) []ipPermission {
	byPort := map[string]int{}
	all := []ipPermission{}
	for _, rl := range rules {
		if rl.IsEgress != egress {
			continue
		}
		key := rl.IpProtocol + " " + rl.ports()
		at, known := byPort[key]
		if !known {
			at = len(all)
			byPort[key] = at
			all = append(all, ipPermission{FromPort: rl.FromPort, IpProtocol: rl.IpProtocol, ToPort: rl.ToPort})
		}
		p := &all[at]
		switch {
		case rl.CidrIpv4 != "":
			p.IpRanges = append(p.IpRanges, ipRange{rl.CidrIpv4, rl.Description})
		case rl.CidrIpv6 != "":
			p.Ipv6Ranges = append(p.Ipv6Ranges, ipv6Range{rl.CidrIpv6, rl.Description})
		default:
			p.UserIdGroupPairs = append(p.UserIdGroupPairs, groupPair{Description: rl.Description, GroupId: rl.ReferencedGroupId, UserId: api.Account})
		}
	}
	return all
}

// rules gives the rules that a permission stands for, one for each peer.
func (r *region) rules(p ipPermission, egress bool) ([]rule, error) {
	like, err := p.traffic()
	if err != nil {
		return nil, err
	}
	like.IsEgress = egress
	var rules []rule
	add := func(description string, to func(*rule)) error {
		one := like
		one.Description = description
		to(&one)
		rules = append(rules, one)
		return checkText("rule description", description)
	}
	for _, peer := range p.IpRanges {
		network, err := cidr(peer.CidrIp, netip.Addr.Is4)
		if err != nil {
			return nil, err
		}
		if err := add(peer.Description, func(to *rule) { to.CidrIpv4 = network }); err != nil {
			return nil, err
		}
	}
	for _, peer := range p.Ipv6Ranges {
		network, err := cidr(peer.CidrIpv6, netip.Addr.Is6)
		if err != nil {
			return nil, err
		}
		if err := add(peer.Description, func(to *rule) { to.CidrIpv6 = network }); err != nil {
			return nil, err
		}
	}
	if len(p.PrefixListIds) > 0 {
		return nil, fail("InvalidPrefixListID.NotFound", "The prefix list ID '%s' does not exist: the sandbox has no prefix lists", p.PrefixListIds[0].PrefixListId)
	}
	for _, peer := range p.UserIdGroupPairs {
		if peer.UserId != "" && peer.UserId != api.Account {
			return nil, fail("InvalidGroup.NotFound", "You have specified two resources that belong to different networks: account %s has no security groups here.", peer.UserId)
		}
		group, err := r.referred(securityGroupRef{peer.GroupId, peer.GroupName})
		if err != nil {
			return nil, err
		}
		if err := add(peer.Description, func(to *rule) { to.ReferencedGroupId = group.Id }); err != nil {
			return nil, err
		}
	}
	if len(rules) == 0 {
		return nil, fail("MissingParameter", "A permission must contain an address range, a prefix list or a group")
	}
	return rules, nil
}

// cidr gives a block in its canonical form (AuthorizeSecurityGroupIngress, CidrIp).
func cidr(block string, is func(netip.Addr) bool) (string, error) {
	network, err := netip.ParsePrefix(block)
	if err != nil || !is(network.Addr()) {
		return "", fail("InvalidParameterValue", "CIDR block %s is malformed", block)
	}
	return network.Masked().String(), nil
}

// protocolNames are the protocols that are shown by name, whichever way they
// were given.
var protocolNames = map[string]string{"1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6"}

// traffic checks the protocol and the ports: of TCP and UDP a range of them, of
// ICMP a type and a code, of other protocols none
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_IpPermission.html).
func (p ipPermission) traffic() (rule, error) {
	protocol := strings.ToLower(p.IpProtocol)
	if name, known := protocolNames[protocol]; known {
		protocol = name
	}
	switch protocol {
	case "":
		return rule{}, missing("ipProtocol")
	case "-1":
		return rule{IpProtocol: protocol}, nil
	case "tcp", "udp":
		return rule{IpProtocol: protocol, FromPort: p.FromPort, ToPort: p.ToPort}, p.checkPorts()
	case "icmp", "icmpv6":
		return rule{IpProtocol: protocol, FromPort: p.FromPort, ToPort: p.ToPort}, p.checkICMP()
	}
	if _, err := strconv.ParseUint(protocol, 10, 8); err != nil {
		return rule{}, fail("InvalidParameterValue", "Invalid value '%s' for IP protocol. Unknown protocol.", p.IpProtocol)
	}
	return rule{IpProtocol: protocol}, nil
}

func (p ipPermission) checkPorts() error {
	if p.FromPort == nil || p.ToPort == nil {
		return fail("InvalidParameterValue", "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.")
	}
	for _, port := range []int{*p.FromPort, *p.ToPort} {
		if port < 0 || port > 65535 {
			return fail("InvalidParameterValue", "TCP/UDP port (%d) out of range", port)
		}
	}
	if *p.FromPort > *p.ToPort {
		return fail("InvalidParameterValue", "Invalid TCP/UDP port range (%d:%d)", *p.FromPort, *p.ToPort)
	}
	return nil
}

// checkICMP checks a type and a code, each of which is -1 for all; all types
// have all codes.
func (p ipPermission) checkICMP() error {
	if p.FromPort == nil || p.ToPort == nil {
		return fail("InvalidParameterValue", "Invalid value 'ICMP type and code must both be specified' for portRange.")
	}
	kind, code := *p.FromPort, *p.ToPort
	switch {
	case kind < -1 || kind > 255:
		return fail("InvalidParameterValue", "ICMP type (%d) out of range", kind)
	case code < -1 || code > 255 || kind == -1 && code != -1:
		return fail("InvalidParameterValue", "ICMP code (%d) out of range", code)
	}
	return nil
}

// permissionsInput names rules: by permissions, or one by parameters of its own.
type permissionsInput struct {
	securityGroupRef
	CidrIp        string
	FromPort      *int
	IpPermissions []ipPermission
	IpProtocol    string
	ToPort        *int
}

func (in permissionsInput) permissions() ([]ipPermission, error) {
	if in.IpProtocol == "" && in.CidrIp == "" {
		if len(in.IpPermissions) == 0 {
			return nil, missing("ipPermissions")
		}
		return in.IpPermissions, nil
	}
	if len(in.IpPermissions) > 0 {
		return nil, fail("InvalidParameterCombination", "The parameter ipPermissions may not be used in combination with ipProtocol or cidrIp")
	}
	return []ipPermission{{FromPort: in.FromPort, IpProtocol: in.IpProtocol, IpRanges: []ipRange{{CidrIp: in.CidrIp}}, ToPort: in.ToPort}}, nil
}

func (r *region) namedRules(in permissionsInput, egress bool) ([]rule, error) {
	wanted, err := in.permissions()
	if err != nil {
		return nil, err
	}
	var rules []rule
	for _, p := range wanted {
		some, err := r.rules(p, egress)
		if err != nil {
			return nil, err
		}
		for _, one := range some {
			if slices.ContainsFunc(rules, one.same) {
				return nil, fail("InvalidParameterValue", "The same permission must not appear multiple times")
			}
			rules = append(rules, one)
		}
	}
	return rules, nil
}
