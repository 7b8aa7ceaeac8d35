package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// A replay that has stopped at a raised setting is not at its target: restore --start reports this, and names the setting, also
// where the WAL that asks for it was archived after the restore.
func TestStartSaysWhyReplayStopped(t *testing.T) {
	t.Parallel()
	for _, major := range []int{13, 15} { // 13 ends there, 14 and newer pause
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			r := newRig(t, major)
			c := r.start("primary", map[string]string{"max_connections": "30"})
			r.must(c.Exec(r.ctx(), "CREATE TABLE t AS SELECT generate_series(1, 100) AS n"))
			r.backup(c)
			r.cut(c)
			before, err := filepath.Glob(filepath.Join(r.spool, "wal", "*", "*"))
			r.must(err)
			r.must(c.Configure(map[string]string{"max_connections": "60"}))
			r.must(c.Stop(r.ctx(), pgtest.Fast))
			r.must(c.Start(r.ctx()))
			r.must(c.Exec(r.ctx(), "INSERT INTO t SELECT generate_series(1, 200)"))
			r.cut(c)
			// Looked at beforehand, it is raised.
			dir := filepath.Join(r.dir, "raised")
			r.must(c.Stop(r.ctx(), pgtest.Fast))
			args := []string{"restore", "--conninfo", "user=postgres", "--bindir", c.Bindir(), "--start", "--target-timeline", "1", "--target-dir"}
			stop := func(dir string) {
				t.Helper()
				r.must(pgtest.Command(r.ctx(), filepath.Join(c.Bindir(), "pg_ctl"), "-D", dir, "-m", "immediate", "-w", "stop").Run())
			}
			r.run(append(args, dir)...)
			restored, err := pgtest.Open(dir)
			r.must(err)
			if n, err := restored.QueryInt(r.ctx(), "SELECT count(*) * 1000 + current_setting('max_connections')::int FROM t"); err != nil || n != 300_060 {
				t.Errorf("got %d (%v), want 300 rows with 60 connections", n, err)
			}
			stop(dir)
			// Archived after the restore, as seen by the restore_command alone.
			after, err := filepath.Glob(filepath.Join(r.spool, "wal", "*", "*"))
			r.must(err)
			known := make(map[string]bool)
			for _, object := range before {
				known[object] = true
			}
			histories, err := filepath.Glob(filepath.Join(r.spool, "wal", "*.history.*")) // of the copy that was opened, if it came to that
			r.must(err)
			for _, history := range histories {
				r.must(os.Remove(history))
			}
			hidden := filepath.Join(r.dir, "hidden")
			r.mkdir(hidden)
			for _, object := range after {
				if !known[object] {
					r.must(os.Rename(object, filepath.Join(hidden, filepath.Base(object))))
				}
			}
			command := fmt.Sprintf("mv %s/* %s 2> /dev/null; %s -c %s --spool %s %%f %%p", hidden, filepath.Dir(before[0]), cmdtest.Path("restore-cmd"), os.DevNull, r.spool)
			dir = filepath.Join(r.dir, "later")
			r.fails(1, []string{"max_connections", "60"}, append(args, dir, "--restore-command", command)...)
			if major > 13 {
				r.fails(1, []string{"is in use"}, append(args, dir)...)
				stop(dir)
			}
		})
	}
}
