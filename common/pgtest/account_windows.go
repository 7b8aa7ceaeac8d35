package pgtest

import (
	"io/fs"
	"os/exec"
)

// account is unused on Windows: pg_ctl itself drops an administrator's rights.
type account struct {
	name, home string
	uid, gid   int
}

func serverAccount() (*account, error) { return nil, nil }

func (a *account) use(*exec.Cmd) {}

func (a *account) mayEnter(fs.FileInfo) bool { return true }

func (a *account) owns(string) (bool, error) { return true, nil }
