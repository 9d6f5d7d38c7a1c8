package gate

import (
	"errors"
	"net/netip"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// maxGates is how many addresses can be steered at once.
const maxGates = 1 << 10

// steering takes connections to an address, whatever their port, to the address's socket.
type steering struct {
	sockets *ebpf.Map // by address
	program *ebpf.Program
	link    link.Link
}

func newSteering() (_ *steering, err error) {
	s := &steering{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.sockets, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.SockHash, KeySize: 4, ValueSize: 8, MaxEntries: maxGates}); err != nil {
		return nil, err
	}
	s.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SkLookup, AttachType: ebpf.AttachSkLookup, License: "MPL-2.0", Instructions: lookup(s.sockets),
	})
	if err != nil {
		return nil, err
	}
	namespace, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer func() { _ = namespace.Close() }() // nothing was written
	s.link, err = link.AttachNetNs(int(namespace.Fd()), s.program)
	return s, err
}

// lookup is the program: it looks the local address of a TCP connection over IPv4 up among the sockets. What is
// not there goes the usual way. The offsets are those of struct bpf_sk_lookup in linux/bpf.h.
func lookup(sockets *ebpf.Map) asm.Instructions {
	const family, protocol, localAddress = 8, 12, 40
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R6, family, asm.Word),
		asm.JNE.Imm(asm.R2, unix.AF_INET, "pass"),
		asm.LoadMem(asm.R2, asm.R6, protocol, asm.Word),
		asm.JNE.Imm(asm.R2, unix.IPPROTO_TCP, "pass"),

		asm.LoadMem(asm.R2, asm.R6, localAddress, asm.Word),
		asm.StoreMem(asm.RFP, -4, asm.R2, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, sockets.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),

		asm.Mov.Reg(asm.R7, asm.R0),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkAssign.Call(),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.FnSkRelease.Call(),

		asm.Mov.Imm(asm.R0, 1).WithSymbol("pass"), // SK_PASS
		asm.Return(),
	}
}

func (s *steering) add(address netip.Addr, fd int) error {
	return s.sockets.Put(address.As4(), uint64(fd))
}

func (s *steering) close() error {
	var errs []error
	if s.link != nil {
		errs = append(errs, s.link.Close())
	}
	if s.program != nil {
		errs = append(errs, s.program.Close())
	}
	if s.sockets != nil {
		errs = append(errs, s.sockets.Close())
	}
	return errors.Join(errs...)
}
