package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"walkeep/common/cli"
	"walkeep/common/host"
	"walkeep/common/pgdata"
)

// ErrInUse reports that a server runs, or may run, on the data directory.
var ErrInUse = cli.NewError("is in use",
	"stop the server (pg_ctl stop) or the restore that uses it; where neither seems to run, leave postmaster.pid alone: see which process has the id in it (ps -fp PID), or start the server and stop it (pg_ctl start, pg_ctl stop), which removes a file that was left over")

// CheckUnused fails with [ErrInUse] if a server runs, or may run, on the data directory.
func CheckUnused(dir string) error {
	p, err := pgdata.ReadPostmaster(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s %w, as far as walkeep can determine: %w", dir, ErrInUse, err)
	}
	pid := max(p.PID, -p.PID)
	if runs(pid, dir) {
		return fmt.Errorf("%s %w by the server with process id %d", dir, ErrInUse, pid)
	}
	if listens(p) {
		return fmt.Errorf("%s %w by the server that listens in %s, port %d, perhaps in another container", dir, ErrInUse, p.Host, p.Port)
	}
	return nil
}

// Served reports whether a server runs on a data directory.
func Served(dir string) bool {
	p, err := pgdata.ReadPostmaster(dir)
	return err == nil && (runs(max(p.PID, -p.PID), dir) || listens(p)) // it is negative in single-user mode
}

func runs(pid int, dir string) bool { return host.Running(pid) && !runsElsewhere(pid, dir) }

// runsElsewhere reports whether a process is known not to be the server of a data directory: a server's working
// directory is its data directory, and process ids are used again.
func runsElsewhere(pid int, dir string) bool {
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil && cwd != dir
}

// listens reports whether the server listens at its socket: a process accepts connections there, and the socket's lock
// file names the process of postmaster.pid. It works even if the process is in another container, and cannot be seen.
func listens(p pgdata.Postmaster) bool {
	if !filepath.IsAbs(p.Host) || p.PID <= 0 {
		return false
	}
	socket := filepath.Join(p.Host, fmt.Sprintf(".s.PGSQL.%d", p.Port))
	lock, err := os.ReadFile(socket + ".lock")
	if err != nil {
		return false
	}
	if pid, _, _ := strings.Cut(string(lock), "\n"); strings.TrimSpace(pid) != strconv.Itoa(p.PID) {
		return false
	}
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
