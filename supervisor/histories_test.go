//go:build linux

package main_test

import (
	"os"
	"strings"
	"testing"

	"walkeep/common/pgtest"
)

// A cluster that failed over before it archived here does not archive the histories of its timelines; the first backup, or
// setup, does, and it can be restored.
func TestEarlierFailovers(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		c := r.start("primary", map[string]string{"archive_mode": "off"})
		r.must(c.Exec(r.ctx(), ledgerTable))
		r.must(c.Exec(r.ctx(), "INSERT INTO ledger VALUES (1, 'x')"))
		for range 2 {
			r.must(c.Stop(r.ctx(), pgtest.Fast))
			r.must(c.Standby(map[string]string{"recovery_target_timeline": "latest"}))
			r.must(c.Start(r.ctx()))
			r.must(c.Promote(r.ctx()))
			r.must(c.Exec(r.ctx(), "CHECKPOINT"))
		}
		r.must(c.Configure(map[string]string{"archive_mode": "on"}))
		r.must(c.Restart(r.ctx()))
		r.backup(c)
		r.run("verify", "--deep")
		if out := r.run("list"); !strings.Contains(out, "timeline 3") {
			t.Errorf("list says\n%s", out)
		}
		s := r.standby("standby", map[string]string{"archive_mode": "off"})
		if r.rows(s) != 1 {
			t.Errorf("%d rows", r.rows(s))
		}

		// What neither has is named, with what to do.
		other := *r
		other.spool = r.dir + "/other"
		other.mkdir(other.spool)
		r.must(c.Configure(map[string]string{"archive_command": other.archiveCommand()}))
		r.must(c.Reload(r.ctx()))
		r.must(os.Rename(c.Path("pg_wal/00000003.history"), c.Path("00000003.history")))
		other.fails(1, []string{"the archive does not have 00000003.history, and the server does not either", "hint: "}, "backup", "--conninfo", c.ConnString())
		other.nothingLeft()
		r.must(os.Rename(c.Path("00000003.history"), c.Path("pg_wal/00000003.history")))
		other.backup(c)
		other.run("verify")
	}, 11, 15)
}
