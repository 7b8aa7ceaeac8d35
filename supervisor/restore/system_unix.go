//go:build unix

package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// An owner is to whom files are given; nobody, where they are the restoring user's own.
type owner struct {
	uid, gid int
	given    bool
}

// ownerOf finds out whose the files of a data directory are to be. PostgreSQL does not run as root, so root's would be of
// no use.
func ownerOf(dir string) (owner, error) {
	if os.Geteuid() != 0 {
		return owner{}, nil
	}
	info, err := os.Stat(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return owner{}, err
	}
	if err == nil {
		if st := info.Sys().(*syscall.Stat_t); st.Uid != 0 {
			return owner{int(st.Uid), int(st.Gid), true}, nil
		}
	}
	return owner{}, fmt.Errorf("%s: %w", dir, ErrOwner)
}

// giveDir gives a directory, and nothing that took its name meanwhile.
func (o owner) giveDir(dir string) error {
	if !o.given {
		return nil
	}
	f, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return o.giveFile(f)
}

// giveLink gives a symbolic link that was just made in root.
func (o owner) giveLink(root *os.Root, name string) error {
	if !o.given {
		return nil
	}
	info, err := root.Lstat(name)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return err
	}
	return root.Lchown(name, o.uid, o.gid)
}

// enters reports whether the owner can enter a directory and all those that it lies in, as far as they exist and that can
// be seen by their modes; if not, it returns the one that is closed.
func (o owner) enters(dir string) (string, bool) {
	for ; o.given; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil {
			open := info.Mode().Perm() & 0o011 // whatever groups the user is in
			if int(info.Sys().(*syscall.Stat_t).Uid) == o.uid {
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

func (o owner) giveFile(f *os.File) error {
	if !o.given {
		return nil
	}
	return f.Chown(o.uid, o.gid)
}

// hasOneName tells whether a file has no other name by a hard link.
func hasOneName(info fs.FileInfo) bool { return info.Sys().(*syscall.Stat_t).Nlink == 1 }
