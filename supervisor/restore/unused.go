package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"walkeep/common/pgdata"
)

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func isHarmless(name string) bool { return slices.Contains(harmless, name) }

// checkUnused refuses a data directory whose server runs, or may.
func checkUnused(dir string) error {
	p, err := pgdata.ReadPostmaster(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s %w, as far as can be told: %w", dir, ErrInUse, err)
	}
	if pid := max(p.PID, -p.PID); runs(pid, dir) {
		return fmt.Errorf("%s %w by the server with process id %d", dir, ErrInUse, pid)
	}
	return nil
}

// Served tells whether a server runs on a data directory.
func Served(dir string) bool {
	p, err := pgdata.ReadPostmaster(dir)
	return err == nil && runs(max(p.PID, -p.PID), dir) // it is negative in single-user mode
}

func runs(pid int, dir string) bool { return alive(pid) && !runsElsewhere(pid, dir) }

// runsElsewhere tells whether it is known that a process is not the server of a data directory: a server's working
// directory is its data directory, and process ids are used again.
func runsElsewhere(pid int, dir string) bool {
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil && cwd != dir
}
