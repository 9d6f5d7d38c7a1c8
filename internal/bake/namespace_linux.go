package bake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// namespace is a private set of mount, process, IPC and host name namespaces.
// It lives as long as its first process, which reads from a pipe that only
// this process holds: when this process ends, in whatever way, so does that
// one, and with it the kernel kills every process inside and drops every mount.
type namespace struct {
	first *exec.Cmd
	rope  io.Closer
	ended bool
}

// newNamespace needs root.
func newNamespace() (*namespace, error) {
	// With SIGCHLD ignored, the kernel reaps the orphans that the first process
	// of a PID namespace inherits. It is no shell's and no user's process: it
	// must outlive the context of the bake, so that leaving can be orderly.
	first := exec.CommandContext(context.Background(), "env", "--ignore-signal=CHLD", "cat")
	first.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		// Unsharing, unlike cloning, also keeps mounts from propagating back.
		Unshareflags: syscall.CLONE_NEWNS,
		Setsid:       true, // the terminal's Ctrl-C is for packer alone
	}
	rope, err := first.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make a private namespace: %w", err)
	}
	if err := first.Start(); err != nil {
		return nil, fmt.Errorf("make a private namespace: %w; in a container, that container must be privileged", err)
	}
	return &namespace{first: first, rope: rope}, nil
}

// enter is the start of a command line that runs inside, still seeing the
// host's files.
func (n *namespace) enter() []string {
	return []string{"nsenter", "--target", strconv.Itoa(n.first.Process.Pid), "--mount", "--pid", "--ipc", "--uts", "--"}
}

// run runs a program of the host's inside, with script or data as its input.
// What it says on stderr, or else on stdout, is in the error.
func (n *namespace) run(ctx context.Context, stdin string, argv ...string) (stdout string, err error) {
	argv = append(n.enter(), argv...)
	return output(ctx, stdin, argv...)
}

// output runs a program and gives its output. What it says on stderr, or else
// on stdout, is in the error.
func output(ctx context.Context, stdin string, argv ...string) (stdout string, err error) {
	var out, complaint strings.Builder
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return killTree(cmd.Process.Pid) }
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &complaint
	err = cmd.Run()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		said := strings.TrimSpace(complaint.String())
		if said == "" {
			said = strings.TrimSpace(out.String())
		}
		if said != "" {
			err = fmt.Errorf("%s (%w)", said, err)
		}
	}
	return out.String(), err
}

// end lets the first process go, and waits until the kernel has killed every
// process inside and dropped the mounts.
func (n *namespace) end() error {
	if n.ended {
		return nil
	}
	n.ended = true
	return errors.Join(n.rope.Close(), n.first.Wait())
}
