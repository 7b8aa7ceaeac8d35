//go:build unix

package pgserver

import (
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// RunAs has root run a program as another user, with all groups of that user.
func RunAs(cmd *exec.Cmd, uid, gid int) {
	if os.Geteuid() != 0 || uid == 0 {
		return
	}
	c := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		if groups, err := u.GroupIds(); err == nil {
			for _, g := range groups {
				if n, err := strconv.ParseUint(g, 10, 32); err == nil {
					c.Groups = append(c.Groups, uint32(n))
				}
			}
		}
		cmd.Env = append(cmd.Environ(), "HOME="+u.HomeDir, "USER="+u.Username, "LOGNAME="+u.Username)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c}
}

// RunAsOwner has root run a program as the owner of a directory, so that what it makes there is not root's.
func RunAsOwner(cmd *exec.Cmd, dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	RunAs(cmd, int(st.Uid), int(st.Gid))
	return nil
}
