//go:build unix

package restore

import (
	"fmt"
	"os"
	"path/filepath"
)

// checkNotServed refuses a tablespace's location that a running server of another data directory uses, as far as this
// system tells (/proc).
func checkNotServed(location, data string) error {
	servers, _ := filepath.Glob("/proc/[0-9]*/cwd")
	seen := make(map[string]bool)
	for _, link := range servers {
		dir, err := os.Readlink(link)
		if err != nil || seen[dir] || dir == data {
			continue
		}
		seen[dir] = true
		links, _ := os.ReadDir(filepath.Join(dir, "pg_tblspc"))
		for _, l := range links {
			to, err := filepath.EvalSymlinks(filepath.Join(dir, "pg_tblspc", l.Name()))
			if err == nil && to == location && exists(filepath.Join(dir, "postmaster.pid")) {
				return fmt.Errorf("%s %w: it is a tablespace of the server in %s", location, ErrInUse, dir)
			}
		}
	}
	return nil
}
