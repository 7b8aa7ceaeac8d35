//go:build unix

package main_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"walkeep/common/pgtest"
)

// Two promotions, of which nothing but the histories was archived, parted in the segment that the first primary was writing.
// What was streamed of that is handed out up to where it was left, and nothing behind that.
func TestPromoteOverTwoForksInOneSegment(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	primary := r.start("primary", nil)
	s := r.sync(primary)
	r.must(primary.Exec(r.ctx(), ledgerTable))
	r.backup(primary)
	insert := func(from, to int) string {
		t.Helper()
		r.must(primary.Exec(r.ctx(), fmt.Sprintf("INSERT INTO ledger SELECT i, 'x' FROM generate_series(%d, %d) i", from, to)))
		at, err := primary.QueryString(r.ctx(), "SELECT pg_current_wal_insert_lsn()::text")
		r.must(err)
		return at
	}
	insert(1, 100)
	r.cut(primary)
	first := insert(101, 200)
	second := insert(201, 300)
	r.flushed(primary)
	s.kill()
	r.must(primary.Kill())
	write := func(name, text string) {
		t.Helper()
		r.must(os.WriteFile(r.spool+"/wal/"+name, []byte(text), 0o600))
		r.give(r.spool)
	}
	write("00000002.history", "1\t"+first+"\ttest\n")
	write("00000003.history", "1\t"+first+"\ttest\n\n2\t"+second+"\ttest\n")

	standby := r.standby("standby", map[string]string{"archive_mode": "off"})
	out := r.says("promote", "-v", "--conninfo", standby.ConnString(), "--force")
	if n, err := standby.QueryInt(r.ctx(), "SELECT count(*) FROM ledger"); err != nil || n != 200 {
		t.Errorf("got %d rows (%v), want 200\n%s", n, err, out)
	}
	if n, err := standby.QueryInt(r.ctx(), "SELECT max(id) FROM ledger"); err != nil || n != 200 {
		t.Errorf("the last row is %d (%v), want 200", n, err)
	}
	if timeline, err := standby.Timeline(r.ctx()); err != nil || timeline != 4 {
		t.Errorf("timeline: got %d (%v), want 4\n%s", timeline, err, standby.LogTail(30))
	}
	if !strings.Contains(out, "the standby gets what was streamed of") {
		t.Errorf("promote says:\n%s", out)
	}
	r.must(standby.Stop(r.ctx(), pgtest.Fast))
	if text, err := os.ReadFile(standby.Path("pg_wal/00000004.history")); err != nil || !strings.Contains(string(text), first) {
		t.Errorf("the new timeline's history: %q, %v", text, err)
	}
}
