package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
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
	own       netlink.Link    // has the network's own addresses
	nodes     []netip.Addr    // addresses of it too
	firewall  *firewall
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
	if err := within(v.namespace, route); err != nil {
		return nil, err
	}
	if err := v.addOwn(); err != nil {
		return nil, err
	}
	v.firewall = &firewall{v.namespace, v.gateway()}
	if err := v.firewall.apply(nil); err != nil {
		return nil, err
	}
	return v, v.serveMetadata()
}

func handle(namespace *os.File) (*netlink.Handle, error) {
	return netlink.NewHandleAt(netns.NsHandle(namespace.Fd()))
}

func (v *vpc) gateway() netip.Addr { return v.prefix.Addr().Next() }

// route has the calling thread's network namespace carry packets between instances. Each of them has a link
// to it of its own; that they are on one Ethernet they are made believe by answers to their ARP requests.
func route() error {
	return errors.Join(
		set("ip_forward", "1"),
		set("conf/default/proxy_arp", "1"),
		set("conf/default/rp_filter", "1"), // no instance has another's address
	)
}

// set changes an IPv4 setting of the calling thread's network namespace.
func set(setting, value string) error {
	return os.WriteFile(filepath.Join("/proc/sys/net/ipv4", setting), []byte(value), 0)
}

// addOwn makes the link that has the network's own addresses: the gateway's, and that of the metadata service,
// which instances reach by their default route. Its other end is loose, and it doesn't ask who has an address:
// what is sent to one that nobody has is lost.
func (v *vpc) addOwn() error {
	if err := linkUp(v.links, "lo"); err != nil {
		return err
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name = "vpc"
	if err := v.links.LinkAdd(&netlink.Veth{LinkAttrs: attributes, PeerName: "loose"}); err != nil {
		return fmt.Errorf("add the link for the network's own addresses: %w", err)
	}
	var err error
	if v.own, err = v.links.LinkByName(attributes.Name); err != nil {
		return err
	}
	if err := errors.Join(v.links.LinkSetARPOff(v.own), v.links.LinkSetUp(v.own)); err != nil {
		return fmt.Errorf("set the link for the network's own addresses up: %w", err)
	}
	for _, address := range []netip.Prefix{
		netip.PrefixFrom(v.gateway(), v.prefix.Bits()),
		netip.PrefixFrom(metadataAddress, 32),
	} {
		if err := v.links.AddrAdd(v.own, &netlink.Addr{IPNet: ipNet(address)}); err != nil {
			return fmt.Errorf("give the network the address %s: %w", address, err)
		}
	}
	return nil
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
	v.server = &http.Server{Handler: v.metadata, ReadHeaderTimeout: 10 * time.Second, ConnContext: withConnection}
	go func() { _ = v.server.Serve(listener) }() // ends with close, and says only that it did
	return nil
}

// attach joins a namespace to the network by a link of its own, and gives it an address and the default route.
// The link goes when the namespace does.
func (v *vpc) attach(namespace *os.File, address netip.Addr) error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name = fmt.Sprintf("i%x", address.As4())
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
	outside, err := v.links.LinkByName(attributes.Name)
	if err != nil {
		return err
	}
	// An answer on another's behalf is otherwise given late.
	if err := within(v.namespace, func() error { return set("neigh/"+attributes.Name+"/proxy_delay", "0") }); err != nil {
		return err
	}
	to := &netlink.Route{LinkIndex: outside.Attrs().Index, Dst: ipNet(netip.PrefixFrom(address, 32)), Src: v.gateway().AsSlice(), Scope: netlink.SCOPE_LINK}
	if err := v.links.RouteAdd(to); err != nil {
		return fmt.Errorf("add the route to %s: %w", address, err)
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

// dial connects from a node, or from the gateway where node is not valid.
func (v *vpc) dial(ctx context.Context, node netip.Addr, network, address string) (conn net.Conn, err error) {
	// A name would be resolved in goroutines of their own, outside the namespace.
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("connect inside the sandbox's network: %w", err)
	}
	dialer := net.Dialer{}
	if node.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(node, 0))
	}
	err = within(v.namespace, func() (err error) {
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// setNodes gives the network the addresses of nodes, and takes those away that it had before.
func (v *vpc) setNodes(nodes []netip.Addr) error {
	var errs []error
	for _, node := range v.nodes {
		if !slices.Contains(nodes, node) {
			errs = append(errs, v.links.AddrDel(v.own, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(node, 32))}))
		}
	}
	for _, node := range nodes {
		if !slices.Contains(v.nodes, node) {
			errs = append(errs, v.links.AddrAdd(v.own, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(node, 32))}))
		}
	}
	v.nodes = slices.Clone(nodes)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("give load balancers their addresses: %w", err)
	}
	return nil
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
