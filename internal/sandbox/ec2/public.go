package ec2

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/gate"
)

// public is the public addresses of instances. Where instances are machines
// they are loopback addresses of this one, behind which gates pass connections
// on. What it holds is changed with the books held.
type public struct {
	service   *Service
	pool      netip.Prefix // of all regions together
	addresses *addresses
	gates     *gate.Gates           // nil where instances cannot be reached
	open      map[string]*gate.Gate // by instance
}

func newPublic(s *Service, pool netip.Prefix, gates *gate.Gates) *public {
	return &public{service: s, pool: pool, addresses: newAddresses(), gates: gates, open: map[string]*gate.Gate{}}
}

// amazon is who owns a public address that is not an Elastic IP address.
const amazon = "amazon"

// association is the public address of a network interface on the wire.
type association struct{ IpOwnerId, PublicDnsName, PublicIp string }

// publicAddress is an instance's public address and DNS name as text, empty
// where it has none. The name is the address, which resolves without a DNS.
func (i *instance) publicAddress() string {
	if !i.PublicAddress.IsValid() {
		return ""
	}
	return i.PublicAddress.String()
}

func (i *instance) association() *association {
	if !i.PublicAddress.IsValid() {
		return nil
	}
	return &association{amazon, i.publicAddress(), i.publicAddress()}
}

// wantsPublic tells whether an instance is to have a public address: unless its
// network interface is not to, because default subnets give one
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-instance-addressing.html#concepts-public-addresses).
func (d launchData) wantsPublic() bool {
	if len(d.NetworkInterfaces) == 0 || d.NetworkInterfaces[0].AssociatePublicIpAddress == nil {
		return true
	}
	return *d.NetworkInterfaces[0].AssociatePublicIpAddress
}

// addressesFor tells how many instances of a plan a subnet has addresses for,
// and the error of there not being more.
func (r *region) addressesFor(p *plan, s *subnet) (int, error) {
	private, public := r.service.addresses.free(s.Cidr), r.service.public.free()
	if p.data.wantsPublic() && public < private {
		return public, fail("InsufficientAddressCapacity", "The sandbox has %d public addresses left. Terminate instances, or run them with AssociatePublicIpAddress=false.", public)
	}
	return private, errNoAddresses
}

// free counts the public addresses that are left.
func (p *public) free() int { return p.addresses.free(p.pool) }

// givePublic gives an instance that starts a public address if it wants one: a
// new one at each start, as AWS does.
func (r *region) givePublic(i *instance) {
	p := r.service.public
	if !i.Launch.wantsPublic() || i.PublicAddress.IsValid() || p.free() == 0 {
		return
	}
	i.PublicAddress = p.addresses.give(p.pool)
}

// keepPublic takes up the public address that an instance has from an earlier
// run of the sandbox, or gives it another where that is not its to give.
func (r *region) keepPublic(i *instance) {
	p := r.service.public
	if !i.PublicAddress.IsValid() {
		return
	}
	if !p.addresses.isFree(i.PublicAddress, p.pool) {
		i.PublicAddress = netip.Addr{}
		r.givePublic(i)
		return
	}
	p.addresses.take(i.PublicAddress, p.pool)
}

// releasePublic takes the public address of an instance that has stopped.
func (r *region) releasePublic(i *instance) {
	p := r.service.public
	if !i.PublicAddress.IsValid() {
		return
	}
	if open := p.open[i.Id]; open != nil {
		delete(p.open, i.Id)
		if err := open.Close(); err != nil {
			r.service.report(fmt.Errorf("close the way to instance %s: %w", i.Id, err))
		}
	}
	p.addresses.release(i.PublicAddress, p.pool)
	i.PublicAddress = netip.Addr{}
}

// openGate makes an instance whose machine runs reachable at its public address.
func (r *region) openGate(i *instance) {
	p := r.service.public
	if p.gates == nil || !i.PublicAddress.IsValid() || p.open[i.Id] != nil {
		return
	}
	private, host := i.Address.String(), r.service.runs.host
	opened, err := p.gates.Open(i.PublicAddress, func(ctx context.Context, port uint16) (net.Conn, error) {
		return host.Dial(ctx, "tcp", net.JoinHostPort(private, strconv.Itoa(int(port))))
	})
	if err != nil {
		r.service.report(fmt.Errorf("make instance %s reachable: %w", i.Id, err))
		return
	}
	p.open[i.Id] = opened
	r.admit(i, hostAddresses())
}

// admit lets in at an instance's gate what its security groups let in from this
// machine.
func (r *region) admit(i *instance, host []netip.Addr) {
	opened := r.service.public.open[i.Id]
	if opened == nil {
		return
	}
	var ports []gate.Ports
	for _, id := range i.SecurityGroupIds {
		ports = append(ports, r.SecurityGroups[id].admits(host)...)
	}
	if err := opened.Admit(ports); err != nil {
		r.service.report(fmt.Errorf("apply the security groups of instance %s: %w", i.Id, err))
	}
}

// admits are the TCP ports that a group lets any of the addresses in to.
func (g *securityGroup) admits(host []netip.Addr) []gate.Ports {
	if g == nil {
		return nil
	}
	var ports []gate.Ports
	for _, rule := range g.Rules {
		from, err := netip.ParsePrefix(rule.CidrIpv4)
		if rule.IsEgress || err != nil || !slices.ContainsFunc(host, from.Contains) {
			continue
		}
		switch rule.IpProtocol {
		case "-1":
			ports = append(ports, gate.Ports{From: 0, To: 65535})
		case "tcp":
			ports = append(ports, gate.Ports{From: uint16(*rule.FromPort), To: uint16(*rule.ToPort)})
		}
	}
	return ports
}

// hostAddresses are the addresses that this machine counts as, for the rules of
// security groups: those of its network interfaces, the loopback's included.
func hostAddresses() []netip.Addr {
	addresses := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	own, _ := net.InterfaceAddrs() // without them there is the loopback's
	for _, address := range own {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil && prefix.Addr().Is4() {
			addresses = append(addresses, prefix.Addr())
		}
	}
	return addresses
}

// close closes the gates that are left. The books must not be held.
func (p *public) close() error {
	var errs []error
	p.service.books.Read(func() {
		for _, open := range p.open {
			errs = append(errs, open.Close())
		}
		clear(p.open)
	})
	return errors.Join(errs...)
}
