//go:build unix

package setup

import (
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"walkeep/supervisor/pgserver"
)

// An account is the user whom the server runs as.
type account struct {
	uid, gid int
	name     string
	root     bool // this program may act as any user
}

// serverUser is whom the data directory belongs to: PostgreSQL refuses one of another user.
func serverUser(data string) (account, error) {
	info, err := os.Stat(data)
	if err != nil {
		return account{}, err
	}
	st := info.Sys().(*syscall.Stat_t)
	a := account{uid: int(st.Uid), gid: int(st.Gid), name: strconv.Itoa(int(st.Uid)), root: os.Geteuid() == 0}
	if u, err := user.LookupId(a.name); err == nil {
		a.name = u.Username
	}
	return a, nil
}

// ours tells whether this program can do what is to be done as the server's user.
func (a account) ours() bool { return a.root || a.uid == os.Geteuid() }

// give gives a file that root has made to the server's user.
func (a account) give(path string) error {
	if !a.root {
		return nil
	}
	return os.Lchown(path, a.uid, a.gid)
}

func (a account) giveFile(f *os.File) error {
	if !a.root {
		return nil
	}
	return f.Chown(a.uid, a.gid)
}

// use has a program run by the server's user, with all groups of it.
func (a account) use(cmd *exec.Cmd) {
	if a.root {
		pgserver.RunAs(cmd, a.uid, a.gid)
	}
}

// apart has a program run where a terminal's interrupt, and its end, do not reach it.
func apart(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
}

func (a account) owns(info fs.FileInfo) bool { return int(info.Sys().(*syscall.Stat_t).Uid) == a.uid }

// reads tells whether the mode of a file lets the user read it.
func (a account) reads(info fs.FileInfo) bool {
	st, mode := info.Sys().(*syscall.Stat_t), info.Mode().Perm()
	switch {
	case int(st.Uid) == a.uid:
		return mode&0o400 != 0
	case int(st.Gid) == a.gid:
		return mode&0o040 != 0
	}
	return mode&0o004 != 0
}

// othersRead tells whether a directory is open to other users.
func othersRead(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 != 0 }

// writable tells why files cannot be made in a directory.
func writable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }
