package bake

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"syscall"
)

// environment is all that a command inside finds in its environment, besides
// what is given with it: the host's variables, credentials among them, stay
// outside.
var environment = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root",
	"USER=root",
	"LOGNAME=root",
	"SHELL=/bin/sh",
	"LANG=C.UTF-8",
}

// confined takes from root what would reach the host: its clock, its kernel's
// modules and memory, its network's settings.
var confined = []string{"setpriv", "--bounding-set", "-sys_time,-sys_module,-sys_rawio,-sys_boot,-net_admin", "--"}

// login starts a command as a login does: in the home directory, with the
// usual file mode mask, whatever packer's is.
var login = []string{"/bin/sh", "-c", `umask 022; cd 2>/dev/null; exec "$@"`, "sh"}

// entrance is a machine that a command line enters.
type entrance []string

// Run implements Machine.
func (e entrance) Run(ctx context.Context, c Command) (status int, err error) {
	if len(c.Argv) == 0 {
		return 0, errors.New("run a command in the machine: the command is empty")
	}
	argv := slices.Concat(e, login, c.Argv)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = slices.Concat(environment, c.Env)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // makes it a tree to kill
	cmd.Cancel = func() error { return killTree(cmd.Process.Pid) }

	stdin, err := newInlet(cmd, c.Stdin)
	if err != nil {
		return 0, err
	}
	stdout, err := newOutlet(c.Stdout)
	if err != nil {
		return 0, err
	}
	stderr, err := newOutlet(c.Stderr)
	if err != nil {
		return 0, errors.Join(err, stdout.drop())
	}
	cmd.Stdout, cmd.Stderr = stdout.end(), stderr.end()
	if err := cmd.Start(); err != nil {
		return 0, errors.Join(fmt.Errorf("run a command in the machine: %w", err), stdout.drop(), stderr.drop())
	}
	stdin.start()
	stdout.start()
	stderr.start()
	err = cmd.Wait()
	carried := errors.Join(stdin.result(), stdout.finish(), stderr.finish())

	var exit *exec.ExitError
	switch {
	case err != nil && ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case carried != nil:
		return 0, carried
	case errors.As(err, &exit):
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			return 128 + int(s.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}
