package main_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"testing"

	"walkeep/common/pgtest"
)

var wholeBefore = regexp.MustCompile(`--target-lsn (\S+) --target-exclusive ends before that`)

// A target between the removal of a database's files and the end of the transaction that drops it is warned of, and the
// position that is named gives the database back.
func TestRestoreWarnsOfDroppedDatabase(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		c := r.start("primary", nil)
		r.must(c.Exec(r.ctx(), "CREATE DATABASE victim"))
		r.backup(c)
		last, err := c.QueryInt(r.ctx(), "SELECT txid_current() % 4294967296")
		r.must(err)
		r.must(c.Exec(r.ctx(), "DROP DATABASE victim"))
		r.cut(c)
		said := r.says("restore", "--target-dir", filepath.Join(r.dir, "empty"), "--target-xid", fmt.Sprint(last+1), "--target-exclusive")
		found := wholeBefore.FindStringSubmatch(said)
		if found == nil {
			t.Fatalf("restore does not warn:\n%s", said)
		}
		whole := r.restore("whole", "--target-lsn", found[1], "--target-exclusive", "--target-action", "promote")
		r.must(whole.Start(r.ctx()))
		r.must(whole.WaitOpen(r.ctx()))
		psql, err := pgtest.ClientTool("psql")
		r.must(err)
		if out, err := pgtest.Command(r.ctx(), psql, "-XAtc", "SELECT count(*) > 0 FROM pg_class", whole.ConnString()+" dbname=victim").CombinedOutput(); err != nil || string(out) != "t\n" {
			t.Errorf("the database is not whole: %v\n%s", err, out)
		}
	}, 11, 15, pgtest.MaxMajor)
}
