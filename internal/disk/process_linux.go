package disk

import (
	"os/exec"
	"syscall"
)

// endWithParent has the kernel kill a command when this process is killed.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
