//go:build !linux

package machine

import (
	"errors"
	"net/netip"
)

// New makes a host on Linux; here its error is that of Check.
func New(netip.Prefix) (Host, error) { return nil, Check() }

// Check tells whether this machine can run instances, which only Linux can.
func Check() error {
	return errors.New("instances run in systemd-nspawn, which is of Linux alone: use --machines none")
}
