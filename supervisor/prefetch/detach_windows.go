package prefetch

import (
	"os/exec"
	"syscall"
)

// Detach makes a program run where signals to the group of this process do not reach it.
func Detach(cmd *exec.Cmd) {
	const detachedProcess = 0x8
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP | detachedProcess, HideWindow: true}
}
