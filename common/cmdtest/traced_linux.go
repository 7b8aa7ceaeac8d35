package cmdtest

import (
	"os/exec"
	"os/user"
	"strconv"
	"testing"
)

// Traced makes strace run a call. If root runs the call as another user, only the call gets that user, and strace stays root:
// walkeep's programs leave no core, and of such a process Linux shows the open files to root alone.
func Traced(t testing.TB, cmd *exec.Cmd, args ...string) *exec.Cmd {
	t.Helper()
	attr := cmd.SysProcAttr
	if attr == nil || attr.Credential == nil {
		return Through(cmd, "strace", args...)
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(attr.Credential.Uid), 10))
	if err != nil {
		t.Fatal(err)
	}
	by := Through(cmd, "strace", append([]string{"-u", u.Username}, args...)...)
	rest := *attr
	rest.Credential = nil
	by.SysProcAttr = &rest
	return by
}
