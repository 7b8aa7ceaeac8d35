package account

import (
	"io/fs"
	"os"
	"os/exec"
)

// An Account is a user of this system. Here files get the rights of the directory that they are made in.
type Account struct{ Name string }

// Root reports whether this program can give files.
func Root() bool { return false }

// OwnerOf returns the account to which a file or directory belongs. Its name is not known here.
func OwnerOf(path string) (Account, error) {
	_, err := os.Stat(path)
	return Account{"the server's user"}, err
}

func (Account) IsRoot() bool                    { return false }
func (Account) Gives() bool                     { return false }
func (Account) Ours() bool                      { return true }
func (Account) Give(string) error               { return nil }
func (Account) GiveFile(*os.File) error         { return nil }
func (Account) GiveDir(string) error            { return nil }
func (Account) GiveLink(*os.Root, string) error { return nil }
func (Account) Owns(fs.FileInfo) bool           { return true }
func (Account) Reads(fs.FileInfo) bool          { return true }
func (Account) Enters(string) (string, bool)    { return "", true }
func (Account) Use(*exec.Cmd)                   {}
