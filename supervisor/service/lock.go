package service

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"walkeep/common/durable"
)

// ErrLocked says that another supervisor of this host works on the spool.
var ErrLocked = errors.New("another supervisor runs on this host with this spool")

// Lock makes sure that one supervisor of a host works on a spool; those of other hosts are not its concern. The lock
// lasts until the file is closed, or the process ends. The file stays: to remove it would be a race.
func Lock(spool string) (*os.File, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	host = strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' || r == ':' {
			return '_'
		}
		return r
	}, host)
	f, err := os.OpenFile(filepath.Join(spool, ".supervisor-"+host+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
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
