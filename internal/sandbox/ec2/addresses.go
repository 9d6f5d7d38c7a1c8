package ec2

import "net/netip"

// addresses are the private addresses in use. They are of all regions
// together: the regions' default VPCs have the same addresses, as on AWS, but
// real machines are all on one network here, so no address is given twice.
type addresses struct {
	taken map[netip.Addr]bool
	count map[netip.Prefix]int        // of the taken ones
	next  map[netip.Prefix]netip.Addr // where to look for a free one
}

func newAddresses() *addresses {
	return &addresses{taken: map[netip.Addr]bool{}, count: map[netip.Prefix]int{}, next: map[netip.Prefix]netip.Addr{}}
}

// In each subnet AWS keeps the first four addresses and the last for itself
// (https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html).
const keptFirst, keptLast = 4, 1

// lowest is the first address of a subnet that can be given.
func lowest(of netip.Prefix) netip.Addr {
	address := of.Masked().Addr()
	for range keptFirst {
		address = address.Next()
	}
	return address
}

// free counts the addresses of a subnet that can be given.
func (a *addresses) free(of netip.Prefix) int {
	return 1<<(32-of.Bits()) - keptFirst - keptLast - a.count[of]
}

// isFree tells whether an address is one that the subnet can give now.
func (a *addresses) isFree(address netip.Addr, of netip.Prefix) bool {
	return of.Contains(address) && !address.Less(lowest(of)) && of.Contains(address.Next()) && !a.taken[address]
}

// take marks an address of the subnet as in use.
func (a *addresses) take(address netip.Addr, of netip.Prefix) {
	if !a.taken[address] {
		a.taken[address] = true
		a.count[of]++
	}
}

// give takes a free address of a subnet that has one. It goes on from the one
// given last, so that an address is not given again soon.
func (a *addresses) give(of netip.Prefix) netip.Addr {
	address, ok := a.next[of]
	for !ok || !a.isFree(address, of) {
		if address, ok = address.Next(), true; !of.Contains(address) || !of.Contains(address.Next()) {
			address = lowest(of)
		}
	}
	a.next[of] = address.Next()
	a.take(address, of)
	return address
}

// release gives an address of the subnet back.
func (a *addresses) release(address netip.Addr, of netip.Prefix) {
	if a.taken[address] {
		delete(a.taken, address)
		a.count[of]--
	}
}
