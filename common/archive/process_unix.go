//go:build unix

package archive

import (
	"errors"
	"syscall"
)

// running tells whether there is a process with this number.
func running(pid int) bool {
	err := syscall.Kill(pid, 0)
	return pid > 0 && (err == nil || errors.Is(err, syscall.EPERM))
}
