//go:build unix

package sealed

import "syscall"

// ForbidCores makes this process, and what it starts, leave no core file, which would hold plain bytes and keys.
func ForbidCores() error {
	return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}
