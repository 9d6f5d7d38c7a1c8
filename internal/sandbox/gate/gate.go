// Package gate makes the instances of the sandbox reachable from this machine: each has a loopback address,
// its public address, whose TCP ports are passed on to it.
//
// An address is held by one socket, which the kernel gives the connections to all of its ports: that is what
// programs of the type BPF_PROG_TYPE_SK_LOOKUP are for (https://docs.kernel.org/bpf/prog_sk_lookup.html). No
// port is bound, so that a server of this machine that listens on all addresses is in nobody's way. What is
// not let in is dropped by a filter of the same socket, as security groups drop it: the client hears nothing.
//
// Program and sockets are held by open files alone, and go with the process.
package gate

import (
	"context"
	"net"
)

// Dial connects to a TCP port of what is behind a gate.
type Dial func(ctx context.Context, port uint16) (net.Conn, error)

// Ports are TCP ports, from the first to the last of them.
type Ports struct{ From, To uint16 }
