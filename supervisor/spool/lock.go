package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"walkeep/common/cli"
	"walkeep/common/durable"
	"walkeep/common/host"
)

// Errors of the locks, to be found with errors.Is. They last until the other process ends.
var (
	// ErrLocked reports that another supervisor of this host works on the spool.
	ErrLocked = cli.NewError("another supervisor runs on this host with this spool",
		"stop that one first, or give each cluster a spool of its own")
	// ErrStreaming reports that another supervisor streams into the spool.
	ErrStreaming = cli.NewError("another supervisor streams into this archive",
		"stop that one first, or give each cluster a spool of its own")
	// ErrShipping reports that another process ships from the spool to the repository.
	ErrShipping = cli.NewError("another process ships to this repository",
		"it may be {run}, which ships what the spool holds by itself; {status} shows how far it has come")
)

// Lock makes this process the only supervisor of this host that works on the spool; supervisors of other hosts can
// work on it, too. The lock lasts until the file is closed, or the process ends. The file is never removed, which
// would be a race.
func (s *Spool) Lock() (*os.File, error) {
	here := host.Here()
	name := here.Host
	if here.Machine != "" { // two hosts can have the same name
		name += "-" + here.Machine
	}
	name = strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' || r == ':' {
			return '_'
		}
		return r
	}, name)
	return lock(filepath.Join(s.Dir, ".supervisor-"+name+".lock"), s.Dir, ErrLocked)
}

// LockPartial makes this process the only one of any host that streams into the spool. The lock lasts as that of Lock
// does.
func (s *Spool) LockPartial() (*os.File, error) {
	return lock(s.Partial(".lock"), filepath.Join(s.Dir, partialDir), ErrStreaming)
}

// LockShipping makes this process the only one that ships from the spool to the repository with this name. The lock lasts as
// that of Lock does.
func (s *Spool) LockShipping(repository string) (*os.File, error) {
	return lock(filepath.Join(s.Dir, ".ship-"+repository+".lock"), s.Dir, ErrShipping)
}

// lock locks a file. It fails with taken if another process holds the lock.
func lock(path, of string, taken error) (*os.File, error) {
	f, err := durable.OpenFile(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	locked, err := durable.Lock(f)
	if err == nil && !locked {
		err = fmt.Errorf("%s: %w", of, taken)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
