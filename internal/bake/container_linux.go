package bake

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// masked are units that must not run in a container that shares the host's
// network, whoever asks for them: they would serve or set up the host's
// network, or take the host's instance metadata and user data for their own.
var masked = []string{
	"sshd.service", "ssh.service", "sshd.socket", "ssh.socket", "sshd-keygen.target", "sshd-keygen.service",
	"systemd-networkd.service", "systemd-networkd.socket", "systemd-networkd-wait-online.service",
	"systemd-resolved.service", "NetworkManager.service", "NetworkManager-wait-online.service", "network.service",
	"cloud-init-local.service", "cloud-init-main.service", "cloud-init-network.service", "cloud-init.service",
	"cloud-config.service", "cloud-final.service", "cloud-init.target",
	"amazon-ssm-agent.service", "first-boot.service", "first-boot-user-data.service",
	"systemd-firstboot.service",
}

// initArguments are what the container's systemd reads as its kernel command
// line. It stops at sysinit.target: none of the image's own services run but
// those that a provisioner starts.
func initArguments() []string {
	arguments := []string{"systemd.unit=sysinit.target", "cloud-init=disabled"}
	for _, unit := range masked {
		arguments = append(arguments, "systemd.mask="+unit)
	}
	return arguments
}

//go:embed container.sh
var containerScript string

// How long a container may take to boot and to shut down. Services have 90
// seconds to stop by systemd's default.
const (
	bootPatience     = 3 * time.Minute
	shutdownPatience = 2 * time.Minute
)

// container is a running systemd-nspawn.
type container struct {
	cmd     *exec.Cmd
	console *tail
	ended   chan struct{}
	leader  int // the host's number of its first process
}

// startContainer boots the image's systemd.
func (k *Baking) startContainer(ctx context.Context) error {
	if err := k.lendMachineID(ctx); err != nil {
		return err
	}
	groups, err := newControlGroups(k.bake.Dir)
	if err != nil {
		return err
	}
	k.begun.Add("remove the container's control groups", func(ctx context.Context) error {
		return errors.Join(k.ns.end(), groups.remove(ctx))
	})

	argv := slices.Concat(k.ns.enter(), []string{"/bin/sh", "-c", containerScript, "container"}, groups.paths, []string{
		"--", nspawn.name, "--quiet", "--settings=no", "--register=no", "--keep-unit",
		"--directory=" + k.top, "--machine=bake", "--link-journal=no", "--timezone=off", "--resolv-conf=off",
		"--console=pipe", "--boot", "--",
	}, initArguments())
	c := &container{console: new(tail), ended: make(chan struct{})}
	// It must outlive the context, so that it can be shut down in order; the
	// end of the namespace is the end of it too.
	c.cmd = exec.CommandContext(context.WithoutCancel(ctx), argv[0], argv[1:]...)
	c.cmd.Env = environment
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	c.cmd.Stdout, c.cmd.Stderr = c.console, c.console
	if err := c.cmd.Start(); err != nil {
		return fmt.Errorf("start the container: %w", err)
	}
	go func() {
		_ = c.cmd.Wait() // how it ended matters only while it boots, and shows on the console
		close(c.ended)
	}()
	if err := c.boot(ctx); err != nil {
		return fmt.Errorf("boot the image in a container: %w", err)
	}
	k.machine = c.entrance()
	k.shutdown = func(ctx context.Context) error {
		select {
		case <-c.ended: // a provisioner has shut it down
			return nil
		default:
		}
		// Its own services are for its systemd to stop; that would wait long
		// for what is none.
		if err := k.stop(ctx, c.leader, groups.have); err != nil {
			return err
		}
		return k.stopContainer(ctx, c)
	}
	// Services that speak over D-Bus need it; an image may also be without.
	_, err = k.machine.Run(ctx, Command{Argv: []string{"systemctl", "start", "dbus.socket"}})
	return err
}

// boot waits until systemd has started everything that it was asked to.
func (c *container) boot(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bootPatience, fmt.Errorf("it was not up after %v", bootPatience))
	defer cancel()
	for {
		state, err := c.state(ctx)
		if err == nil && (state == "running" || state == "degraded") {
			return nil
		}
		select {
		case <-c.ended:
			return fmt.Errorf("it ended: %s", c.console)
		case <-ctx.Done():
			return fmt.Errorf("%w; its console: %s", context.Cause(ctx), c.console)
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// state is what systemd says of itself; an error while it is not there yet.
func (c *container) state(ctx context.Context) (string, error) {
	if c.leader == 0 {
		leader, err := findLeader(c.cmd.Process.Pid)
		if err != nil {
			return "", err
		}
		c.leader = leader
	}
	var state strings.Builder
	_, err := c.entrance().Run(ctx, Command{Argv: []string{"systemctl", "is-system-running"}, Stdout: &state})
	return strings.TrimSpace(state.String()), err
}

// findLeader finds the first process of the container that pid started: it is
// process 1 in the PID namespace within the bake's.
func findLeader(pid int) (int, error) {
	all, err := tree(pid)
	if err != nil {
		return 0, err
	}
	for _, p := range all {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
		if err != nil {
			continue
		}
		_, line, _ := strings.Cut(string(status), "\nNSpid:")
		line, _, _ = strings.Cut(line, "\n")
		if pids := strings.Fields(line); len(pids) == 3 && pids[2] == "1" {
			return p.pid, nil
		}
	}
	return 0, errors.New("the container has no first process yet")
}

// entrance enters the container beside its systemd.
func (c *container) entrance() entrance {
	return slices.Concat([]string{"nsenter", "--target", strconv.Itoa(c.leader), "--mount", "--pid", "--ipc", "--uts", "--root", "--"}, confined)
}

// stopContainer shuts the container down as its own poweroff would.
func (k *Baking) stopContainer(ctx context.Context, c *container) error {
	const halt = syscall.Signal(34 + 3) // SIGRTMIN+3, see systemd(1)
	if err := signal(c.leader, halt); err != nil {
		return fmt.Errorf("shut the container down: %w", err)
	}
	select {
	case <-c.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(shutdownPatience):
		k.say("The container did not shut down within %v, and is killed", shutdownPatience)
		return killTree(c.cmd.Process.Pid)
	}
}

const machineIDPath = "/etc/machine-id"

var machineID = regexp.MustCompile(`^[0-9a-f]{32}\n?$`)

// lendMachineID gives an image that has no machine ID one for the time of the
// bake. Without, systemd would take this for the first boot, which is that of
// an instance made from the image, and would leave its ID behind for all.
func (k *Baking) lendMachineID(ctx context.Context) error {
	present, err := k.inRoot(ctx, "", "/bin/sh", "-c", `[ ! -f "$1" ] || cat "$1"`, "sh", machineIDPath)
	if err != nil {
		return fmt.Errorf("read the image's %s: %w", machineIDPath, err)
	}
	if machineID.MatchString(present) {
		return nil
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return fmt.Errorf("make a machine ID: %w", err)
	}
	return k.lend(ctx, machineIDPath, hex.EncodeToString(id)+"\n")
}
