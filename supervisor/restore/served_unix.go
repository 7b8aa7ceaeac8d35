//go:build unix

package restore

import (
	"fmt"
	"os"
	"path/filepath"

	"walkeep/common/pgdata"
)

// servers returns the data directories of the servers that run on this host, as far as this system shows them
// (/proc).
func servers() []string {
	processes, _ := filepath.Glob("/proc/[0-9]*") // with "/cwd", Glob would list each process's directory
	seen := make(map[string]bool)
	var dirs []string
	for _, process := range processes {
		dir, err := os.Readlink(filepath.Join(process, "cwd"))
		if err == nil && !seen[dir] && exists(filepath.Join(dir, "postmaster.pid")) {
			dirs = append(dirs, dir)
		}
		seen[dir] = true
	}
	return dirs
}

// servedBeside returns the data directory of another server of the same cluster that runs on this host; empty if none
// does.
func (r *restorer) servedBeside() string {
	for _, dir := range servers() {
		if id, err := pgdata.SystemID(dir); err == nil && id == r.m.SystemID && dir != r.Dir {
			return dir
		}
	}
	return ""
}

// checkNotServed refuses a directory that a running server of another data directory uses for a tablespace or its
// WAL: a data directory that was copied with its links leads to the original's.
func checkNotServed(location, data string) error {
	for _, dir := range servers() {
		if dir == data {
			continue
		}
		links, _ := filepath.Glob(filepath.Join(dir, "pg_tblspc", "*"))
		for _, l := range append(links, filepath.Join(dir, "pg_wal")) {
			if to, err := filepath.EvalSymlinks(l); err == nil && to == location {
				return fmt.Errorf("%s %w by the server in %s", location, ErrInUse, dir)
			}
		}
	}
	return nil
}
