//go:build unix

package host

import (
	"errors"
	"syscall"
)

// Running reports whether there is a process with this number.
func Running(pid int) bool {
	err := syscall.Kill(pid, 0)
	return pid > 0 && (err == nil || errors.Is(err, syscall.EPERM))
}
