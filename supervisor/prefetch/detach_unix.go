//go:build unix

package prefetch

import (
	"os/exec"
	"syscall"
)

// Detach makes a program run in a session of its own, so that signals to the group of this process, such as those of a server that
// stops, do not reach it.
func Detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
