//go:build unix

package main_test

import (
	"context"
	"strings"
	"testing"

	"walkeep/common/pgtest"
	"walkeep/supervisor/report"
)

// Two standbys of a primary that is lost are opened, of which one cannot see the archive then, and both write a timeline 2. The
// archive holds that of the one that was first, whole; the other one archives nothing, and its check reports this.
func TestTwoServersOnOneTimeline(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		primary := r.start("primary", nil)
		r.must(primary.Exec(r.ctx(), ledgerTable))
		r.backup(primary)
		production, copied := r.standby("production", nil), r.standby("copied", nil)
		r.must(primary.Exec(r.ctx(), "INSERT INTO ledger SELECT generate_series(1, 10), 'both'"))
		r.cut(primary)
		for _, c := range []*pgtest.Cluster{production, copied} {
			r.reaches(c, 10)
		}
		r.must(primary.Stop(r.ctx(), pgtest.Fast))
		r.settings(copied, map[string]string{"restore_command": "false", "archive_command": "false"})
		r.promote(production, "--primary-conninfo", primary.ConnString())
		r.must(copied.Promote(r.ctx()))
		waiting := 0
		for _, c := range []*pgtest.Cluster{production, copied} {
			if got := r.timeline(c); got != 2 {
				t.Fatalf("%s is on timeline %d", c.Dir, got)
			}
			r.must(c.Exec(r.ctx(), "INSERT INTO ledger SELECT generate_series(11, 20), '"+c.Dir+"'"))
		}
		for range 3 { // all of it waits when the copy may archive
			r.must(copied.Exec(r.ctx(), "INSERT INTO ledger SELECT max(id) + 1, 'copied' FROM ledger"))
			_, err := copied.SwitchWAL(r.ctx())
			r.must(err)
			waiting++
		}
		r.cut(production)
		r.settings(copied, map[string]string{"archive_command": r.archiveCommand()})
		r.must(copied.WaitFor(r.ctx(), pgtest.Timeout, "the copy to be refused", func(ctx context.Context) (bool, error) {
			// Its history, which is the same, is archived before.
			n, err := copied.QueryInt(ctx, "SELECT count(*) FROM pg_stat_archiver WHERE last_archived_wal = '00000002.history' AND last_failed_time > last_archived_time")
			return n == 1 && strings.Contains(copied.Log(), "another content is archived under this name"), err
		}))
		r.check(copied, report.Critical, []string{"archiving fails: 00000002"})
		r.cut(production)
		r.check(production, report.OK, nil)
		r.run("verify")
		back := r.restore("back")
		r.must(back.Start(r.ctx()))
		r.must(back.WaitOpen(r.ctx()))
		const sum = "SELECT md5(string_agg(l::text, ';' ORDER BY id)) FROM ledger l"
		want, err := production.QueryString(r.ctx(), sum)
		r.must(err)
		if got, err := back.QueryString(r.ctx(), sum); err != nil || got != want {
			t.Errorf("the rows that are restored are not production's: %s, %v", got, err)
		}
		if r.rows(copied) != 20+waiting {
			t.Errorf("the copy has %d rows", r.rows(copied))
		}
	}, 15, pgtest.MaxMajor)
}
