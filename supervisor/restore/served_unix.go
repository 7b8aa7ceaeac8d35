//go:build unix

package restore

import (
	"fmt"
	"os"
	"path/filepath"
)

// checkNotServed refuses a directory that a running server of another data directory uses for a tablespace or its WAL, as
// far as this system tells (/proc): a data directory that was copied with its links leads to the original's.
func checkNotServed(location, data string) error {
	servers, _ := filepath.Glob("/proc/[0-9]*/cwd")
	seen := make(map[string]bool)
	for _, link := range servers {
		dir, err := os.Readlink(link)
		if err != nil || seen[dir] || dir == data {
			continue
		}
		seen[dir] = true
		if !exists(filepath.Join(dir, "postmaster.pid")) {
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
