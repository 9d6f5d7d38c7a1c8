package machine

import "net/netip"

// Network is who is in a host's network besides its machines, and what its security groups let through.
type Network struct {
	// Nodes are addresses that connections come from which are not a machine's: those of load balancers.
	Nodes  []netip.Addr
	Groups []Group
}

// Group is a security group: what traffic is let through to and from its members. A member of several groups
// has the rules of all of them; what no rule lets through is dropped. Answers to what was let through are too.
type Group struct {
	ID      string
	Members []netip.Addr // private addresses of machines and nodes
	In, Out []Rule
}

// Rule lets traffic through.
type Rule struct {
	Protocol uint8  // as IP has it; 0 for all
	From, To uint16 // ports of the receiver, for TCP and UDP
	ICMP     *ICMP  // for ICMP alone; nil for all of it

	// Peer is the other side. Where it is not valid it is the members of PeerGroup.
	Peer      netip.Prefix
	PeerGroup string
}

// ICMP is a type of messages, and one code of it unless Code is nil.
type ICMP struct {
	Type uint8
	Code *uint8
}
