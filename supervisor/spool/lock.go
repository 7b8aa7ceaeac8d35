package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"walkeep/common/durable"
	"walkeep/common/host"
)

// Errors of the locks, to be found with errors.Is.
var (
	// ErrLocked says that another supervisor of this host works on the spool.
	ErrLocked = errors.New("another supervisor runs on this host with this spool")
	// ErrStreaming says that another supervisor streams into the spool.
	ErrStreaming = errors.New("another supervisor streams into this archive")
)

// Lock makes sure that one supervisor of this host works on the spool; those of other hosts are not its concern. The lock
// lasts until the file is closed, or the process ends. The file stays: to remove it would be a race.
func (s *Spool) Lock() (*os.File, error) {
	here := host.Here()
	name := here.Host
	if here.Machine != "" { // hosts can have the same name
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

// LockPartial makes sure that one process streams into the spool, of whichever host. The lock is held as that of Lock is.
func (s *Spool) LockPartial() (*os.File, error) {
	return lock(s.Partial(".lock"), filepath.Join(s.Dir, partialDir), ErrStreaming)
}

// lock fails with taken if another process holds the lock of a file.
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
