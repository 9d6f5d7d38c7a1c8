package gate

import (
	"cmp"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// keep is what a filter answers for a segment that is not dropped: how much of it to keep.
const keep = 1 << 18

// admit drops what comes to a socket, but for segments to the ports. The segment is seen from its TCP header on.
func admit(fd int, ports []Ports) error {
	const destination = 2 // offset of the destination port in the TCP header
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: destination}}
	for _, p := range joined(ports) {
		program = append(program,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: uint32(p.From), Jf: 2},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: uint32(p.To), Jt: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: keep},
		)
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0})
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}))
}

// Shut has a listening socket drop all connections that are to be made to it, or let all in.
func Shut(raw syscall.RawConn, shut bool) error {
	ports := []Ports{{0, 65535}}
	if shut {
		ports = nil
	}
	return onSocket(raw, func(fd int) error { return admit(fd, ports) })
}

// joined joins ranges that touch: a filter has room for some 1,300 of them, and security groups may have many rules.
func joined(ports []Ports) []Ports {
	slices.SortFunc(ports, func(a, b Ports) int { return cmp.Compare(a.From, b.From) })
	var all []Ports
	for _, p := range ports {
		if last := len(all) - 1; last >= 0 && int(p.From) <= int(all[last].To)+1 {
			all[last].To = max(all[last].To, p.To)
			continue
		}
		all = append(all, p)
	}
	return all
}
