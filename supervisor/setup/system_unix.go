//go:build unix

package setup

import (
	"io/fs"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// apart has a program run where a terminal's interrupt, and its end, do not reach it.
func apart(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
}

// othersRead tells whether a directory is open to other users.
func othersRead(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 != 0 }

// writable tells why files cannot be made in a directory.
func writable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }
