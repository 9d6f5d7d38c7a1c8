// Package machine runs the sandbox's instances: a real root volume, booted with systemd in a
// systemd-nspawn container, on a network of its own.
//
// A host is one virtual private cloud. Its network namespace has no name and is a router with the gateway's
// address, the instance metadata service and the firewall that security groups are; each instance has a
// namespace of its own, joined to it by a veth. Nothing of it can be seen in the namespace of the machine
// underneath, and instances reach each other as far as their groups let them, but not the world.
//
// Whatever a host holds, it holds by open files, threads and child processes that the kernel ends with
// the process. A sandbox that is killed leaves no process, mount, loop device or network interface.
package machine

import (
	"context"
	"io"
	"net"
	"net/netip"
)

// Spec is what an instance is started from.
type Spec struct {
	ID       string     // instance id, also the name of the container
	Hostname string     // private DNS name
	Disk     string     // raw image of the root volume; exclusively this instance's until Done
	Volumes  []Volume   // besides the root volume
	Address  netip.Addr // private IPv4 address, inside the host's network
	UserData []byte     // as given to RunInstances, decoded; served by the metadata service

	// Metadata answers for the rest of the metadata service: path is what follows /latest/, as in
	// "meta-data/instance-id". A path that ends in a slash, or is empty, is a directory's listing.
	// Tree makes such a function from the leaves alone.
	Metadata func(path string) (content string, found bool)

	// MetadataOptions are asked for at each request; nil are those of the zero value.
	MetadataOptions func() MetadataOptions

	Console io.Writer // what the instance prints while it boots and stops; may be nil
}

// Volume is a disk that an instance has besides its root volume.
type Volume struct {
	Device string // its name in the instance, such as xvdf: /dev/xvdf
	Disk   string // raw image; exclusively the instance's until it is detached, or Done
}

// MetadataOptions are the options of an instance's metadata service.
type MetadataOptions struct {
	Disabled      bool
	TokenOptional bool // version 1 is answered too
	HopLimit      int  // how far the answer with a token goes; 0 is as far as any packet
}

// Host starts machines on one network.
type Host interface {
	// Launch starts a machine and returns when its root volume is mounted and its init has been started;
	// booting goes on afterwards. ctx is for the launch alone.
	Launch(ctx context.Context, spec Spec) (Machine, error)
	// Configure puts nodes and security groups into force, in place of those before. Until then there are
	// none, and machines reach nothing but the metadata service.
	Configure(Network) error
	// Dial connects to an address of the host's network, as its gateway would, whatever security groups say.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	// DialFrom connects to an address as a node.
	DialFrom(ctx context.Context, node netip.Addr, network, address string) (net.Conn, error)
	// Close kills the machines that are left and takes the network down.
	Close() error
}

// Machine is an instance that was launched.
type Machine interface {
	// Stop shuts the machine down, and kills it where that takes longer than ctx or a minute allows,
	// which is an error. The root volume is then whole and no longer in use, as after Done.
	Stop(ctx context.Context) error
	// Kill ends the machine as a power cut does, and returns at once.
	Kill()
	// Attach gives the machine, while it runs, a further volume.
	Attach(Volume) error
	// Detach takes a volume away and returns when its disk is free. While the machine has it mounted that is
	// not so, and ctx decides how long to wait for it.
	Detach(ctx context.Context, device string) error
	// Hold calls read while all that runs in the machine stands still, and what it has written is on its root
	// volume: what is read there is of one moment. A machine that ends meanwhile stands still too.
	Hold(read func()) error
	// Done is closed when the machine has ended, by whatever cause (its own poweroff, for one),
	// and its root volume is free.
	Done() <-chan struct{}
}
