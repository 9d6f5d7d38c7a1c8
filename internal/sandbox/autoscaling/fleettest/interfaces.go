package fleettest

import (
	"fmt"
	"net/netip"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
)

// AddInterface gives interfaces their addresses in turn.
func (f *Fleet) AddInterface(string, []string) (ec2.Interface, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	return ec2.Interface{ID: fmt.Sprintf("eni-%017x", f.n), Address: netip.AddrFrom4([4]byte{172, 31, byte(f.n >> 8), byte(f.n)})}, nil
}

// RemoveInterface does nothing.
func (f *Fleet) RemoveInterface(string) {}

// DefaultSecurityGroup is the only one.
func (f *Fleet) DefaultSecurityGroup() string { return "sg-00000000000000001" }

// LetsIn lets everybody in.
func (f *Fleet) LetsIn([]string, uint16) bool { return true }

// SubscribeToRules never tells, because there are no rules.
func (f *Fleet) SubscribeToRules(func()) {}
