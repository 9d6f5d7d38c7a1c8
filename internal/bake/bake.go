// Package bake carries out one bake on one disk: it mounts the disk's root
// partition, starts a machine on it, hands the machine to the provisioners and
// leaves a clean filesystem behind.
//
// Everything a bake needs of the host (mounts, processes, the loop device)
// hangs on a private set of namespaces whose first process reads from a pipe
// that only this process holds. However this process ends, kill -9 included,
// the pipe closes, the kernel ends the namespaces, and nothing is left but
// files in the work directory.
package bake

import (
	"context"
	"errors"
	"io"
)

// The kinds of machine that a disk can be baked in.
const (
	// Chroot enters the disk's root by chroot: no service runs.
	Chroot = "chroot"
	// Container boots the disk's own systemd in systemd-nspawn, so that
	// services can be started and checked.
	Container = "container"
)

// Kinds lists every machine kind.
var Kinds = []string{Chroot, Container}

// Reporter is told what is being done, a line a time. packersdk.Ui is one.
type Reporter interface {
	Say(line string)
}

// Command is a process to run inside a machine.
type Command struct {
	// Argv is the program and its arguments; no shell reads it. A program
	// without a slash is looked up in the machine's PATH.
	Argv []string
	// Env is added to the machine's own small environment; nothing of the
	// host's environment is passed on.
	Env []string
	// Stdin, Stdout and Stderr may be nil: empty, and discarded.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Machine is the disk as a running machine.
type Machine interface {
	// Run runs a command as root and waits for its end. A command that ran is
	// no error, whatever its exit status; one that was ended by signal n has
	// status 128+n. When ctx ends, the command and all its descendants are
	// killed, and the error is the context's cause.
	Run(ctx context.Context, c Command) (status int, err error)
}

// Bake describes a bake.
type Bake struct {
	// Disk is the path of a raw disk image, which is changed in place.
	Disk string
	// Machine is Chroot or Container.
	Machine string
	// Dir is an existing private directory for the mount point and small files.
	Dir string
	// Size is what the disk and its root filesystem are grown to first, in
	// bytes; zero leaves them as they are.
	Size int64
	// Ui is told the progress.
	Ui Reporter
}

// Run bakes: it starts the machine, hands it to provision, and finishes or,
// when anything failed, aborts.
func (b Bake) Run(ctx context.Context, provision func(context.Context, Machine) error) (err error) {
	baking, err := b.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, baking.Close()) }()
	if err := provision(ctx, baking.Machine()); err != nil {
		return baking.Explain(err)
	}
	return baking.Finish(ctx)
}
