package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// New makes a host with a network of its own, whose first address is the gateway's: the default VPC's
// is 172.31.0.0/16. The error of a machine that can't be a host is that of Check.
func New(network netip.Prefix) (Host, error) {
	if err := Check(); err != nil {
		return nil, err
	}
	if err := onMounts(sweepCgroups); err != nil {
		return nil, fmt.Errorf("remove what a killed sandbox left: %w", err)
	}
	vpc, err := newVPC(network)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	return &host{vpc: vpc, ctx: ctx, stop: stop, taken: map[netip.Addr]bool{}}, nil
}

// onMounts runs f on a thread with the mounts that instances have.
func onMounts(f func() error) error {
	result := make(chan error, 1)
	onThread(func() {
		err := ownMounts()
		if err == nil {
			err = f()
		}
		result <- err
	})
	return <-result
}

type host struct {
	vpc   *vpc
	ctx   context.Context // ends, and every instance with it, when the host is closed
	stop  context.CancelFunc
	alive sync.WaitGroup // launches and instances

	configuring sync.Mutex

	mu     sync.Mutex
	closed bool
	taken  map[netip.Addr]bool // addresses that instances have
	errs   []error             // of instances that did not let go of their volumes
}

func (h *host) Launch(ctx context.Context, spec Spec) (Machine, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := h.reserve(spec); err != nil {
		return nil, err
	}
	defer h.alive.Done()
	instance, err := h.launch(spec)
	if err != nil {
		h.forget(spec)
		return nil, err
	}
	h.alive.Go(func() {
		<-instance.done
		h.mu.Lock()
		defer h.mu.Unlock()
		h.errs = append(h.errs, instance.released)
	})
	return instance, nil
}

func (h *host) launch(spec Spec) (*instance, error) {
	network, err := newNamespace()
	if err != nil {
		return nil, err
	}
	defer func() { _ = network.Close() }() // the container holds it
	if err := h.vpc.attach(network, spec.Address); err != nil {
		return nil, fmt.Errorf("connect instance %s to the network: %w", spec.ID, err)
	}
	h.vpc.metadata.add(spec)
	return start(h.ctx, spec, network, func() { h.forget(spec) })
}

// reserve takes the address for an instance, and counts its launch as alive.
func (h *host) reserve(spec Spec) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return errors.New("the host of instances is closed")
	case !spec.Address.Is4() || !h.vpc.prefix.Contains(spec.Address) || spec.Address == h.vpc.gateway():
		return fmt.Errorf("address %s of instance %s is none that instances of the network %s can have", spec.Address, spec.ID, h.vpc.prefix)
	case h.taken[spec.Address]:
		return fmt.Errorf("address %s of instance %s is in use", spec.Address, spec.ID)
	}
	h.taken[spec.Address] = true
	h.alive.Add(1)
	return nil
}

// forget lets go of an instance's address.
func (h *host) forget(spec Spec) {
	h.vpc.metadata.remove(spec)
	_ = h.vpc.detach(spec.Address) // else it goes by itself, with the namespace
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.taken, spec.Address)
}

func (h *host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return h.vpc.dial(ctx, netip.Addr{}, network, address)
}

func (h *host) DialFrom(ctx context.Context, node netip.Addr, network, address string) (net.Conn, error) {
	return h.vpc.dial(ctx, node, network, address)
}

func (h *host) Configure(n Network) error {
	h.configuring.Lock()
	defer h.configuring.Unlock()
	return errors.Join(h.vpc.setNodes(n.Nodes), h.vpc.firewall.apply(n.Groups))
}

func (h *host) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.stop()
	h.alive.Wait()
	return errors.Join(append(h.errs, h.vpc.close(), onMounts(removeOwnCgroup))...)
}
