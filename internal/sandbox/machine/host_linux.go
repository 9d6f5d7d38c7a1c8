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
	return &host{vpc: vpc, instances: map[netip.Addr]*instance{}}, nil
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
	vpc *vpc

	mu        sync.Mutex
	closed    bool
	instances map[netip.Addr]*instance // nil for one that is being launched
}

func (h *host) Launch(ctx context.Context, spec Spec) (Machine, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := h.reserve(spec); err != nil {
		return nil, err
	}
	instance, err := h.launch(spec)
	if err != nil {
		h.forget(spec)
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, reserved := h.instances[spec.Address]; reserved {
		h.instances[spec.Address] = instance
	}
	if h.closed {
		instance.Kill()
	}
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
	return start(spec, network, func() { h.forget(spec) })
}

// reserve takes the address for an instance.
func (h *host) reserve(spec Spec) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errors.New("the host of instances is closed")
	}
	if !h.vpc.prefix.Contains(spec.Address) || spec.Address == h.vpc.gateway() || !spec.Address.Is4() {
		return fmt.Errorf("address %s of instance %s is none that instances of the network %s can have", spec.Address, spec.ID, h.vpc.prefix)
	}
	if _, taken := h.instances[spec.Address]; taken {
		return fmt.Errorf("address %s of instance %s is in use", spec.Address, spec.ID)
	}
	h.instances[spec.Address] = nil
	return nil
}

// forget lets go of an instance's address.
func (h *host) forget(spec Spec) {
	h.vpc.metadata.remove(spec)
	_ = h.vpc.detach(spec.Address) // else it goes by itself, with the namespace
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.instances, spec.Address)
}

func (h *host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return h.vpc.dial(ctx, network, address)
}

func (h *host) Close() error {
	h.mu.Lock()
	h.closed = true
	var left []*instance
	for _, instance := range h.instances {
		if instance != nil {
			left = append(left, instance)
		}
	}
	h.mu.Unlock()
	for _, instance := range left {
		instance.Kill()
	}
	var errs []error
	for _, instance := range left {
		<-instance.done
		errs = append(errs, instance.released)
	}
	return errors.Join(append(errs, h.vpc.close())...)
}
