//go:build unix && !linux

package cli

import "syscall"

// forbidCores makes this process, and what it starts, leave no core file, which would hold keys and plain bytes.
func forbidCores() error { return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }
