//go:build unix

package main_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/pgtest"
)

// Without a stream, what the lost primary had not archived is in the standby's pg_wal alone. It is archived before the standby
// is opened, so that the archive can be recovered across the promotion.
func TestPromoteStoresOwn(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		primary := r.start("primary", nil)
		r.must(primary.Exec(r.ctx(), ledgerTable))
		r.backup(primary)
		s := r.standby("standby", map[string]string{"archive_command": "false"}, "--primary-conninfo", primary.ConnString())
		r.feeds(primary, 1)
		r.must(primary.Configure(map[string]string{"archive_command": "false"}))
		r.must(primary.Reload(r.ctx()))
		rows := 0
		insert := func(c *pgtest.Cluster) {
			rows++
			r.must(c.Exec(r.ctx(), fmt.Sprintf("INSERT INTO ledger VALUES (%d, 'x')", rows)))
		}
		for range 3 {
			insert(primary)
			_, err := primary.SwitchWAL(r.ctx())
			r.must(err)
		}
		insert(primary)
		r.until("the rows to be streamed", func() bool { return r.rows(s) == rows })
		r.must(primary.Kill())
		out := r.promote(s)
		if !strings.Contains(out, "that only the standby had are archived") || strings.Contains(out, "warning") {
			t.Errorf("promote says\n%s", out)
		}
		recovered := func(name string, want int) {
			t.Helper()
			dir := filepath.Join(r.dir, name)
			r.run("restore", "--target-dir", dir)
			c, err := pgtest.Open(dir)
			r.must(err)
			pgtest.Attach(t, c)
			r.must(c.Configure(map[string]string{"archive_mode": "off"})) // it makes a timeline of its own
			r.must(c.Start(r.ctx()))
			r.until("the end of recovery", func() bool { return !r.recovers(c) })
			if got := r.rows(c); got != want {
				t.Errorf("%s: recovered %d rows, want %d", name, got, want)
			}
			r.must(c.Stop(r.ctx(), pgtest.Immediate))
		}
		recovered("at-once", rows-1) // the last one is in what a standby would be offered
		if parts, err := filepath.Glob(r.partial("*.partial")); err != nil || len(parts) != 1 {
			t.Errorf("partial/ has %q, %v", parts, err)
		}
		insert(s)
		r.must(s.Configure(map[string]string{"archive_command": r.archiveCommand()}))
		r.must(s.Reload(r.ctx()))
		r.cut(s)
		recovered("later", rows)
		r.run("verify")
	}, 10, 13, 15, 18, 19)
}
