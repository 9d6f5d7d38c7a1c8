package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// shutdownGrace is how long a shutdown may take before the machine is killed.
	shutdownGrace = time.Minute
	// releaseGrace is how long the kernel may take to let go of what a dead container held.
	releaseGrace = 30 * time.Second
	// rebooted is the exit status of a systemd-nspawn that keeps its unit, when the container wants to be started again.
	rebooted = 133
	// halt asks the systemd of a container to shut down: SIGRTMIN+3, see systemd(1).
	halt = syscall.Signal(34 + 3)
)

// instance is a container that runs, and the thread that keeps its mounts.
type instance struct {
	id       string
	volumes  volumes
	process  atomic.Pointer[os.Process] // unshare, whose child is systemd-nspawn
	group    *os.File                   // its control group; closed when it has ended
	kill     context.CancelFunc
	done     chan struct{}
	released error // why the volume is perhaps still in use; set before done is closed
}

// start boots an instance inside a network namespace. It returns when the container manager runs, which
// is killed when ctx ends; ended is called when all of the instance is gone, before Done tells.
func start(ctx context.Context, spec Spec, network *os.File, ended func()) (*instance, error) {
	ctx, kill := context.WithCancel(ctx)
	i := &instance{id: spec.ID, kill: kill, done: make(chan struct{}), volumes: volumes{attached: map[string]*attached{}}}
	started := make(chan error)
	onThread(func() {
		// The kernel kills the container when this thread ends: it must last as long.
		group, cleanup, err := prepare(spec, network, &i.volumes)
		if err == nil {
			i.group = group
			err = i.run(ctx, spec, group, func() { started <- nil })
		}
		if i.process.Load() == nil {
			started <- errors.Join(err, cleanup())
			return
		}
		i.released = cleanup()
		ended()
		kill()
		close(i.done)
	})
	if err := <-started; err != nil {
		kill()
		return nil, fmt.Errorf("start instance %s: %w", spec.ID, err)
	}
	return i, nil
}

// run runs the container until it ends, and again when it ended by a reboot. begun is called when it
// runs for the first time; an error before that is why it does not. How it ended is on its console.
func (i *instance) run(ctx context.Context, spec Spec, group *os.File, begun func()) error {
	for {
		command := container(ctx, spec, group, i.volumes.binds())
		if err := command.Start(); err != nil {
			return err
		}
		if i.process.Swap(command.Process) == nil {
			begun()
		}
		var exit *exec.ExitError
		if err := command.Wait(); ctx.Err() != nil || !errors.As(err, &exit) || exit.ExitCode() != rebooted {
			return err
		}
	}
}

// prepare mounts what an instance needs on the calling thread, and makes its control group. cleanup, never
// nil, takes it back in reverse order and returns when the disk is free.
func prepare(spec Spec, network *os.File, further *volumes) (group *os.File, cleanup func() error, _ error) {
	var undo []func() error
	cleanup = func() error {
		var errs []error
		for n := len(undo) - 1; n >= 0; n-- {
			errs = append(errs, undo[n]())
		}
		return errors.Join(errs...)
	}

	if err := ownMounts(); err != nil {
		return nil, cleanup, err
	}
	if err := bindNetwork(network); err != nil {
		return nil, cleanup, err
	}
	disk, err := os.OpenFile(spec.Disk, os.O_RDWR, 0)
	if err != nil {
		return nil, cleanup, fmt.Errorf("open the root volume: %w", err)
	}
	undo = append(undo, disk.Close)
	device, err := mountRoot(disk)
	if err != nil {
		return nil, cleanup, err
	}
	undo = append(undo, func() error { return release(device, disk) })
	undo = append(undo, further.release)
	for _, volume := range spec.Volumes {
		if _, err := further.add(volume); err != nil {
			return nil, cleanup, err
		}
	}
	groupDir, err := makeCgroup(spec.ID)
	if err != nil {
		return nil, cleanup, err
	}
	undo = append(undo, func() error { return removeCgroup(groupDir, releaseGrace) })
	if group, err = os.Open(groupDir); err != nil {
		return nil, cleanup, err
	}
	undo = append(undo, group.Close)
	return group, cleanup, nil
}

// container is the command that boots what is mounted at rootDir. systemd-nspawn is the init of a process
// namespace: when it is killed, the kernel kills the container too, which it would otherwise outlive.
func container(ctx context.Context, spec Spec, group *os.File, binds []string) *exec.Cmd {
	command := exec.CommandContext(ctx, "unshare", append([]string{
		"--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=slave",
		"systemd-nspawn",
		"--quiet",
		"--boot",
		"--directory=" + rootDir,
		"--machine=" + spec.ID,
		"--hostname=" + spec.Hostname,
		"--network-namespace-path=" + networkFile,
		"--console=read-only",
		// Nothing of the machine underneath is asked, told, or let in.
		"--register=no",
		"--keep-unit",
		"--settings=no",
		"--link-journal=no",
		"--resolv-conf=off",
		"--timezone=off",
	}, binds...)...)
	// unshare that is killed before its child asks to die with it would leave the child behind; the control
	// group has them all.
	command.Cancel = func() error { return errors.Join(killCgroup(group), command.Process.Kill()) }
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "TERM=vt220"}
	command.Stdout, command.Stderr = spec.Console, spec.Console
	command.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig:   syscall.SIGKILL, // --kill-child is the same for the next in line
		Setpgid:     true,            // Ctrl-C in a terminal is for the sandbox, which shuts down in order
		UseCgroupFD: true,
		CgroupFD:    int(group.Fd()),
	}
	return command
}

// release unmounts the root volume and waits until its loop device is free. The container's own
// mounts of it go a little after its last process.
func release(device string, disk *os.File) error {
	if err := unix.Unmount(rootDir, 0); err != nil {
		return &os.PathError{Op: "unmount", Path: rootDir, Err: err}
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseGrace)
	defer cancel()
	return untilFree(ctx, device, disk)
}

// Stop asks the machine's init to shut down, again and again, because one that has only
// just begun does not hear it yet.
func (i *instance) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, shutdownGrace, fmt.Errorf("it took longer than %s", shutdownGrace))
	defer cancel()
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for {
		i.halt()
		select {
		case <-i.done:
			return i.released
		case <-again.C:
		case <-ctx.Done():
			i.Kill()
			<-i.done
			return errors.Join(fmt.Errorf("instance %s was killed instead of shut down: %w", i.id, context.Cause(ctx)), i.released)
		}
	}
}

// halt asks the container's init to shut down, if there is one.
func (i *instance) halt() {
	_ = i.withInit(func(handle int) error { return unix.PidfdSendSignal(handle, halt, nil, 0) }) // it may have ended by now
}

// withInit calls f with a handle of the container's init.
func (i *instance) withInit(f func(handle int) error) error {
	unshare := i.process.Load()
	for _, init := range inits(unshare.Pid) {
		handle, err := unix.PidfdOpen(init, 0)
		if err != nil {
			continue // it has ended
		}
		// The number may have become another process's before it was opened, but not since. It is the container's
		// if that is so now and unshare, which nobody has waited for yet, still has its own number.
		if slices.Contains(inits(unshare.Pid), init) && unshare.Signal(syscall.Signal(0)) == nil {
			return errors.Join(f(handle), unix.Close(handle))
		}
		_ = unix.Close(handle)
	}
	return fmt.Errorf("instance %s has no init: it begins or has ended", i.id)
}

// inits are those of the container: the children of systemd-nspawn, and it is the child of unshare.
func inits(unshare int) []int {
	var inits []int
	for _, manager := range children(unshare) {
		inits = append(inits, children(manager)...)
	}
	return inits
}

func children(pid int) []int {
	process := strconv.Itoa(pid)
	list, err := os.ReadFile(filepath.Join("/proc", process, "task", process, "children"))
	if err != nil {
		return nil // it has ended
	}
	var children []int
	for _, field := range strings.Fields(string(list)) {
		if child, err := strconv.Atoi(field); err == nil {
			children = append(children, child)
		}
	}
	return children
}

func (i *instance) Kill() { i.kill() }

func (i *instance) Done() <-chan struct{} { return i.done }
