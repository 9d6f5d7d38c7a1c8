package machine

import (
	"net"
	"net/netip"
)

// MAC is the hardware address of the interface that has a private IPv4 address. It follows from the
// address, so that a neighbour that remembers the last instance with that address is right about the next.
func MAC(address netip.Addr) net.HardwareAddr {
	four := address.As4()
	return net.HardwareAddr{0x02, 0x00, four[0], four[1], four[2], four[3]}
}
