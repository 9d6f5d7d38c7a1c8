package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// nic is what an instance's network interface is called: as on an EC2 instance of today.
const nic = "ens5"

// vpc is a network that only this process can reach: a namespace without a name, held by a file.
type vpc struct {
	prefix    netip.Prefix
	namespace *os.File
	links     *netlink.Handle // of the namespace
	bridge    netlink.Link
	metadata  *metadata
	server    *http.Server
}

// newVPC takes up a network whose first address is the gateway's.
func newVPC(prefix netip.Prefix) (_ *vpc, err error) {
	v := &vpc{prefix: prefix.Masked(), metadata: newMetadata()}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make the sandbox's network %s: %w", prefix, err), v.close())
		}
	}()
	if v.namespace, err = newNamespace(); err != nil {
		return nil, err
	}
	if v.links, err = handle(v.namespace); err != nil {
		return nil, err
	}
	if err := v.bridgeUp(); err != nil {
		return nil, err
	}
	return v, v.serveMetadata()
}

func handle(namespace *os.File) (*netlink.Handle, error) {
	return netlink.NewHandleAt(netns.NsHandle(namespace.Fd()))
}

func (v *vpc) gateway() netip.Addr { return v.prefix.Addr().Next() }

// bridgeUp makes the bridge that every instance is plugged into. It is the gateway,
// and the metadata service is on it too: instances reach that by their default route.
func (v *vpc) bridgeUp() error {
	if err := linkUp(v.links, "lo"); err != nil {
		return err
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name = "vpc"
	if err := v.links.LinkAdd(&netlink.Bridge{LinkAttrs: attributes}); err != nil {
		return fmt.Errorf("add the bridge: %w", err)
	}
	var err error
	if v.bridge, err = v.links.LinkByName(attributes.Name); err != nil {
		return err
	}
	for _, address := range []netip.Prefix{
		netip.PrefixFrom(v.gateway(), v.prefix.Bits()),
		netip.PrefixFrom(metadataAddress, 32),
	} {
		if err := v.links.AddrAdd(v.bridge, &netlink.Addr{IPNet: ipNet(address)}); err != nil {
			return fmt.Errorf("give the bridge the address %s: %w", address, err)
		}
	}
	return linkUp(v.links, attributes.Name)
}

func (v *vpc) serveMetadata() error {
	var listener net.Listener
	err := within(v.namespace, func() (err error) {
		address := netip.AddrPortFrom(metadataAddress, 80)
		listener, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(address))
		return err
	})
	if err != nil {
		return err
	}
	v.server = &http.Server{Handler: v.metadata, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = v.server.Serve(listener) }() // ends with close, and says only that it did
	return nil
}

// attach plugs a namespace into the bridge and gives it an address, the default route and a link of its own.
// The link goes when the namespace does.
func (v *vpc) attach(namespace *os.File, address netip.Addr) error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name = fmt.Sprintf("i%x", address.As4())
	attributes.MasterIndex = v.bridge.Attrs().Index
	veth := &netlink.Veth{
		LinkAttrs:        attributes,
		PeerName:         nic,
		PeerHardwareAddr: MAC(address),
		PeerNamespace:    netlink.NsFd(namespace.Fd()),
	}
	if err := v.links.LinkAdd(veth); err != nil {
		return fmt.Errorf("add the link of %s: %w", address, err)
	}
	if err := linkUp(v.links, attributes.Name); err != nil {
		return err
	}

	inside, err := handle(namespace)
	if err != nil {
		return err
	}
	defer inside.Close()
	if err := linkUp(inside, "lo"); err != nil {
		return err
	}
	link, err := inside.LinkByName(nic)
	if err != nil {
		return err
	}
	onLink := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(address, v.prefix.Bits()))}
	if err := inside.AddrAdd(link, onLink); err != nil {
		return fmt.Errorf("give %s the address %s: %w", nic, address, err)
	}
	if err := inside.LinkSetUp(link); err != nil {
		return err
	}
	if err := inside.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: v.gateway().AsSlice()}); err != nil {
		return fmt.Errorf("give %s its default route: %w", address, err)
	}
	return nil
}

// detach takes an instance's link away now; by itself it goes only after the last process.
func (v *vpc) detach(address netip.Addr) error {
	link, err := v.links.LinkByName(fmt.Sprintf("i%x", address.As4()))
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return err
	}
	return v.links.LinkDel(link)
}

func (v *vpc) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	// A name would be resolved in goroutines of their own, outside the namespace.
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("connect inside the sandbox's network: %w", err)
	}
	err = within(v.namespace, func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

func (v *vpc) close() error {
	var errs []error
	if v.server != nil {
		errs = append(errs, v.server.Close())
	}
	if v.links != nil {
		v.links.Close()
	}
	if v.namespace != nil {
		errs = append(errs, v.namespace.Close())
	}
	return errors.Join(errs...)
}

func linkUp(links *netlink.Handle, name string) error {
	link, err := links.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find the link %s: %w", name, err)
	}
	if err := links.LinkSetUp(link); err != nil {
		return fmt.Errorf("set the link %s up: %w", name, err)
	}
	return nil
}

func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}
