package cli

import "syscall"

// forbidCores makes this process leave no core, which would hold keys and plain bytes, neither as a file nor for the program that
// Linux hands cores to. What it starts is free to leave some.
func forbidCores() error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
