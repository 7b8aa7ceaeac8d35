//go:build unix

package account

import (
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// An Account is a user and a group of this system. Nothing is given to the zero value.
type Account struct {
	Name     string // the user's; its number if it has none
	uid, gid int
	gives    bool // this program is root, so it can give files and run programs as any user
}

// Root reports whether this program runs as root.
func Root() bool { return os.Geteuid() == 0 }

// OwnerOf returns the account to which a file or directory belongs.
func OwnerOf(path string) (Account, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Account{}, err
	}
	st := info.Sys().(*syscall.Stat_t)
	a := Account{uid: int(st.Uid), gid: int(st.Gid), Name: strconv.Itoa(int(st.Uid)), gives: Root()}
	if u, err := user.LookupId(a.Name); err == nil {
		a.Name = u.Username
	}
	return a, nil
}

// IsRoot reports whether the account is root's.
func (a Account) IsRoot() bool { return a.uid == 0 }

// Gives reports whether files are given to the account.
func (a Account) Gives() bool { return a.gives }

// Ours reports whether this program can act as the account.
func (a Account) Ours() bool { return a.gives || a.uid == os.Geteuid() }

// Give gives a file, or a symbolic link itself, that this program has made.
func (a Account) Give(path string) error {
	if !a.gives {
		return nil
	}
	return os.Lchown(path, a.uid, a.gid)
}

// Named reports whether it is known who the account is.
func (a Account) Named() bool { return true }

// Protect does nothing: the mode of a file or directory that this program has made protects it already.
func (a Account) Protect(string) error { return nil }

// Admit does nothing: the service runs as the owner of its files.
func Admit(string) error { return nil }

// GiveFile gives an open file.
func (a Account) GiveFile(f *os.File) error {
	if !a.gives {
		return nil
	}
	return f.Chown(a.uid, a.gid)
}

// GiveDir gives a directory, and nothing that took its name meanwhile.
func (a Account) GiveDir(dir string) error {
	if !a.gives {
		return nil
	}
	f, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return a.GiveFile(f)
}

// GiveLink gives a symbolic link that was just made in root.
func (a Account) GiveLink(root *os.Root, name string) error {
	if !a.gives {
		return nil
	}
	info, err := root.Lstat(name)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return err
	}
	return root.Lchown(name, a.uid, a.gid)
}

// Owns reports whether a file belongs to the account.
func (a Account) Owns(info fs.FileInfo) bool { return int(info.Sys().(*syscall.Stat_t).Uid) == a.uid }

// Reads reports whether the mode of a file lets the account read it.
func (a Account) Reads(info fs.FileInfo) bool {
	st, mode := info.Sys().(*syscall.Stat_t), info.Mode().Perm()
	switch {
	case int(st.Uid) == a.uid:
		return mode&0o400 != 0
	case int(st.Gid) == a.gid:
		return mode&0o040 != 0
	}
	return mode&0o004 != 0
}

// Enters reports whether an account to which files are given can enter a directory and all those that it lies in, as far as
// they exist and as their modes show it; if not, it returns the one that is closed.
func (a Account) Enters(dir string) (closed string, ok bool) {
	for ; a.gives; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil {
			open := info.Mode().Perm() & 0o011 // whatever groups the user is in
			if a.Owns(info) {
				open = info.Mode().Perm() & 0o100
			}
			if open == 0 {
				return dir, false
			}
		}
		if filepath.Dir(dir) == dir {
			break
		}
	}
	return "", true
}

// Use makes a command run as the account, with all groups of its user, if this program is root and the account is not.
func (a Account) Use(cmd *exec.Cmd) {
	if !a.gives || a.uid == 0 {
		return
	}
	c := &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	if u, err := user.LookupId(strconv.Itoa(a.uid)); err == nil {
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
