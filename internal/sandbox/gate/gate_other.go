//go:build !linux

package gate

import (
	"errors"
	"net/netip"
	"syscall"
)

// Gates are the gates of one sandbox.
type Gates struct{}

// New makes gates on Linux; here it is an error.
func New() (*Gates, error) {
	return nil, errors.New("instances are reachable on Linux alone: use --machines none")
}

// Close does nothing.
func (*Gates) Close() error { return nil }

// Open is not reached, because there are no gates.
func (*Gates) Open(netip.Addr, Dial) (*Gate, error) { return nil, errors.ErrUnsupported }

// Shut does nothing: there are no security groups without machines.
func Shut(syscall.RawConn, bool) error { return nil }

// Gate is one open address.
type Gate struct{}

// Admit is not reached, because there are no gates.
func (*Gate) Admit([]Ports) error { return errors.ErrUnsupported }

// Close does nothing.
func (*Gate) Close() error { return nil }
