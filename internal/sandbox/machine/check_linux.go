package machine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// Check tells whether this machine can run instances: everything that is missing, each with its remedy.
func Check() error {
	var errs []error
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("instances need root rights (namespaces, mounts): run the sandbox with sudo, or with --machines none"))
	}
	if _, err := exec.LookPath("systemd-nspawn"); err != nil {
		errs = append(errs, errors.New("instances run in systemd-nspawn, which is not here: install systemd-container (apt-get install systemd-container, dnf install systemd-container), or use --machines none"))
	}
	if _, err := exec.LookPath("unshare"); err != nil {
		errs = append(errs, errors.New("instances need unshare, which is not here: install util-linux, or use --machines none"))
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		errs = append(errs, fmt.Errorf("instances mount their volumes by loop devices: %w; load the kernel module (modprobe loop), or use --machines none", err))
	}
	return errors.Join(errs...)
}
