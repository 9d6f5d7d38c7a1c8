package bake

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
)

// tool is a program of the host, and the package that has it.
type tool struct{ name, pkg string }

var (
	tools = []tool{
		{"nsenter", "util-linux"}, {"setpriv", "util-linux"}, {"mount", "util-linux or mount"},
		{"umount", "util-linux or mount"}, {"fstrim", "util-linux"},
		{"env", "coreutils"}, {"cat", "coreutils"}, {"chroot", "coreutils"}, {"mknod", "coreutils"},
		{"xfs_repair", "xfsprogs"},
	}
	nspawn = tool{"systemd-nspawn", "systemd-container"}
)

// Check reports what this host lacks for baking in such a machine: root
// rights, programs. Each error names its remedy.
func Check(machine string) []error {
	var errs []error
	if !slices.Contains(Kinds, machine) {
		return []error{fmt.Errorf("machine: there is no kind %q; it is one of %q", machine, Kinds)}
	}
	if runtime.GOOS != "linux" {
		return []error{fmt.Errorf("baking a disk needs Linux, and this is %s; run packer on a Linux machine", runtime.GOOS)}
	}
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("baking a disk needs root rights, to mount it; run packer as root (sudo -E packer build …)"))
	}
	need := tools
	if machine == Container {
		need = append(slices.Clip(need), nspawn)
	}
	for _, t := range need {
		if err := t.find(); err != nil {
			errs = append(errs, fmt.Errorf("machine %q: %w", machine, err))
		}
	}
	return errs
}

func (t tool) find() error {
	if _, err := exec.LookPath(t.name); err != nil {
		return fmt.Errorf("the program %s is not found on this host; install %s", t.name, t.pkg)
	}
	return nil
}
