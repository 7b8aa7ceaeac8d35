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
		r.reaches(s, rows)
		r.must(primary.Kill())
		out := r.promote(s)
		if !strings.Contains(out, "that only the standby had are archived") || strings.Count(out, "warning") != 1 || !strings.Contains(out, "warning: took ") {
			t.Errorf("promote says\n%s", out)
		}
		recovered := func(name string, want int, args ...string) {
			t.Helper()
			dir := filepath.Join(r.dir, name)
			r.run(append([]string{"restore", "--target-dir", dir}, args...)...)
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
		recovered("at-once", rows-1, "--target-timeline", "1") // the last one is in what a standby would be offered
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

// A standby that replays with a delay is not waited for, and not opened without a word; --force opens it with all that it has
// received, which the archive gets, too.
func TestPromoteDelayed(t *testing.T) {
	t.Parallel()
	for _, force := range []bool{false, true} {
		t.Run(fmt.Sprintf("force=%t", force), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, restoreMajor)
			primary := r.start("primary", nil)
			r.must(primary.Exec(r.ctx(), ledgerTable))
			r.backup(primary)
			s := r.standby("standby", map[string]string{"recovery_min_apply_delay": "1h", "archive_command": r.archiveCommand()}, "--primary-conninfo", primary.ConnString())
			r.feeds(primary, 1)
			r.must(primary.Configure(map[string]string{"archive_command": "false"}))
			r.must(primary.Reload(r.ctx()))
			r.must(primary.Exec(r.ctx(), "INSERT INTO ledger VALUES (1, 'x')"))
			_, err := primary.SwitchWAL(r.ctx())
			r.must(err)
			r.must(primary.Exec(r.ctx(), "INSERT INTO ledger VALUES (2, 'x')"))
			at, err := primary.CurrentLSN(r.ctx())
			r.must(err)
			r.until("the rows to be received", func() bool {
				got, err := s.QueryString(r.ctx(), "SELECT (pg_last_wal_receive_lsn() >= '"+at+"')::text")
				return err == nil && got == "true"
			})
			r.must(primary.Kill())
			r.refused(s, 1, []string{"recovery_min_apply_delay", "3600000 ms", "hint: "})
			if force {
				if out := r.promote(s, "--force"); !strings.Contains(out, "because of --force") {
					t.Errorf("promote --force says\n%s", out)
				}
			} else {
				r.must(s.Configure(map[string]string{"recovery_min_apply_delay": "0"}))
				r.must(s.Reload(r.ctx()))
				r.reaches(s, 2)
				r.promote(s)
			}
			if r.rows(s) != 2 {
				t.Errorf("%d rows", r.rows(s))
			}
			r.cut(s)
			r.run("verify")
			back := r.restore("back")
			r.must(back.Start(r.ctx()))
			r.must(back.WaitOpen(r.ctx()))
			if r.rows(back) != 2 {
				t.Errorf("%d rows are restored", r.rows(back))
			}
		})
	}
}
