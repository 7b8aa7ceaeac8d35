package pgtest

import "syscall"

// dieWithParent makes a server shut down at once when this process ends, however it ends.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
