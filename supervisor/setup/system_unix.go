//go:build unix

package setup

import (
	"io/fs"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// apart makes a program run in a session of its own, which the terminal's interrupt or hangup does not reach.
func apart(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
}

// othersRead reports whether a directory is open to other users.
func othersRead(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 != 0 }

// writable returns an error if files cannot be made in a directory.
func writable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }
