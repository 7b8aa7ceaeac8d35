package service

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"walkeep/common/durable"
	"walkeep/common/host"
)

// ErrLocked says that another supervisor of this host works on the spool.
var ErrLocked = errors.New("another supervisor runs on this host with this spool")

// Lock makes sure that one supervisor of a host works on a spool; those of other hosts are not its concern. The lock
// lasts until the file is closed, or the process ends. The file stays: to remove it would be a race.
func Lock(spool string) (*os.File, error) {
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
	f, err := durable.OpenFile(filepath.Join(spool, ".supervisor-"+name+".lock"), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	locked, err := durable.Lock(f)
	if err == nil && !locked {
		err = fmt.Errorf("%s: %w", spool, ErrLocked)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
