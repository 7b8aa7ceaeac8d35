package recovery_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"walkeep/common/backup"
	"walkeep/common/pgtest"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

// The server ends a recovery where the plan says, and fails where the plan is refused.
func TestPlanAgreesWithServer(t *testing.T) {
	pgtest.Each(t, func(t *testing.T, major int) {
		s := newSite(t, major)
		ctx := t.Context()
		s.exec("CREATE TABLE t (a int, b text)")
		old := s.now()
		s.switchWAL()
		first := s.backup("20260101T000000Z")
		xids := make(map[string]uint32)
		xid := func(name string, statements ...string) {
			t.Helper()
			conn, err := s.c.Conn(ctx)
			s.must(err)
			defer conn.Close(ctx)
			for i, sql := range statements {
				_, err := conn.Exec(ctx, sql)
				s.must(err)
				if i == 0 {
					var id uint32
					s.must(conn.QueryRow(ctx, "SELECT (txid_current() % 4294967296)::bigint").Scan(&id))
					xids[name] = id
				}
			}
		}
		xid("plain", "BEGIN", "INSERT INTO t VALUES (1, 'x')", "COMMIT")
		between := s.now()
		xid("rolled back", "BEGIN", "INSERT INTO t VALUES (2, 'x')", "ROLLBACK")
		xid("prepared", "BEGIN", "CREATE TABLE u (a int)", "SAVEPOINT s", "DROP TABLE t", "CREATE TABLE t (a int, b text)", "RELEASE s",
			"PREPARE TRANSACTION 'p'", "COMMIT PREPARED 'p'")
		xid("given up", "BEGIN", "DROP TABLE u", "PREPARE TRANSACTION 'q'", "ROLLBACK PREPARED 'q'")
		// A commit with thousands of subtransactions and dropped tables continues on other pages and segments.
		xid("long", "BEGIN", `DO $$ BEGIN FOR i IN 1..6000 LOOP BEGIN INSERT INTO u VALUES (i); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$`, "COMMIT")
		_, err := s.c.CreateRestorePoint(ctx, "one")
		s.must(err)
		middle := s.lsn("SELECT pg_current_wal_insert_lsn()")
		s.exec("INSERT INTO t VALUES (3, 'x')")
		s.switchWAL()
		second := s.backup("20260102T000000Z")
		s.exec("INSERT INTO t VALUES (4, repeat('x', 3000000))", "INSERT INTO t SELECT g, 'y' FROM generate_series(1, 20000) g")
		late := s.now()
		_, err = s.c.CreateRestorePoint(ctx, "two")
		s.must(err)
		for range 2 {
			_, err = s.c.CreateRestorePoint(ctx, "again")
			s.must(err)
			s.exec("INSERT INTO t VALUES (5, 'x')")
		}
		xid("last", "BEGIN", "INSERT INTO t VALUES (5, 'x')", "COMMIT")
		s.switchWAL()
		s.must(s.c.Checkpoint(ctx))
		s.switchWAL() // nothing but a checkpoint
		end := s.now()

		inv := s.inventory()
		at := func(k recovery.TargetKind, set func(*recovery.Target)) recovery.Target {
			target := recovery.Target{Kind: k}
			set(&target)
			return target
		}
		ofXID := func(name string, exclusive bool) recovery.Target {
			return recovery.Target{Kind: recovery.ToXID, XID: xids[name], Exclusive: exclusive}
		}
		ofTime := func(at time.Time) recovery.Target { return recovery.Target{Kind: recovery.ToTime, Time: at} }
		ofLSN := func(lsn wal.LSN) recovery.Target { return recovery.Target{Kind: recovery.ToLSN, LSN: lsn} }
		ofName := func(name string) recovery.Target { return recovery.Target{Kind: recovery.ToName, Name: name} }
		for _, test := range []struct {
			what   string
			target recovery.Target
			backup *backup.Manifest // nil: refused
			unsure bool             // refused although the server may end somewhere
		}{
			{"a commit", ofXID("plain", false), first, false},
			{"before a commit", ofXID("plain", true), first, false},
			{"a rollback", ofXID("rolled back", false), first, false},
			{"a prepared commit", ofXID("prepared", false), first, false},
			{"before a prepared commit", ofXID("prepared", true), first, false},
			{"a prepared rollback", ofXID("given up", false), first, false},
			{"a long commit", ofXID("long", false), first, false},
			{"the last commit", ofXID("last", false), second, false},
			{"no transaction", at(recovery.ToXID, func(t *recovery.Target) { t.XID = 4_000_000_000 }), nil, false},
			{"a restore point", ofName("one"), first, false},
			{"the other restore point", ofName("two"), second, false},
			{"a restore point whose name is used again", ofName("again"), second, false},
			{"no restore point", ofName("three"), nil, false},
			{"a time between commits", ofTime(between), first, false},
			{"a time after the second backup", ofTime(late), second, false},
			{"the second backup's end", ofTime(second.Ended), second, false},
			{"a time before all backups", ofTime(old), nil, true},
			{"a time after all commits", ofTime(end), nil, false},
			{"a position", ofLSN(middle), first, false},
			{"a backup's end", ofLSN(second.Stop), second, false},
			{"before a position", at(recovery.ToLSN, func(t *recovery.Target) { t.LSN, t.Exclusive = middle, true }), first, false},
			{"a position before all backups", ofLSN(first.Start), nil, false},
			{"a position that was not reached", ofLSN(s.lsn("SELECT pg_current_wal_insert_lsn()") + 1<<20), nil, false},
			{"a consistent state", recovery.Target{Kind: recovery.ToImmediate}, second, false},
		} {
			t.Run(test.what, func(t *testing.T) {
				s := *s
				s.T = t
				p, err := inv.Plan(ctx, test.target, "")
				if test.backup == nil {
					if !errors.Is(err, recovery.ErrUnreachable) {
						t.Fatalf("got %+v, %v, want a refusal", p, err)
					}
					if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), first.Stop.String()) {
						t.Errorf("the refusal does not say in a line what is possible: %v", err)
					}
					if major < 13 || test.unsure {
						return // up to 12 it opens the database wherever the WAL ends
					}
					if at, err := s.recover(first.ID, test.target); err == nil {
						t.Errorf("refused, but the server recovered to %s", at)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if p.Backup.ID != test.backup.ID {
					t.Errorf("backup: got %s, want %s", p.Backup.ID, test.backup.ID)
				}
				if again := test.target.Name == "again"; again != (len(p.Again) == 1 && p.Again[0] > p.At) {
					t.Errorf("the same name again: got %s, recovery ends at %s", p.Again, p.At)
				}
				got, err := s.recover(p.Backup.ID, test.target)
				if err != nil {
					t.Fatalf("planned to %s, but: %v", p.At, err)
				}
				end := p.At
				switch test.target.Kind {
				case recovery.ToImmediate:
					end = second.Stop
				case recovery.ToLSN:
					end = got // the plan does not look for the record's end
					if got < p.At && !test.target.Exclusive || got > p.At+wal.LSN(inv.SegmentSize) {
						t.Errorf("the server stopped at %s, want soon after %s", got, p.At)
					}
				}
				// Between two records there may be the header of a page.
				if got > end || got+40 < end {
					t.Errorf("the server stopped at %s, the plan says %s", got, end)
				}
				if until := wal.SegmentAt(p.Timeline, got-1, inv.SegmentSize); wal.Compare(p.Until, until) < 0 {
					t.Errorf("the server replayed up to %s, the plan says %s", until, p.Until)
				}
			})
		}
	}, 10, 13, 15, pgtest.MaxMajor) // between these nothing changed that a plan goes by
}

// Plans go along the timelines that lead to the one that is wanted, through the segment in which they meet.
func TestPlanAcrossTimelines(t *testing.T) {
	s := newSite(t, 15)
	ctx := t.Context()
	xid := func() uint32 {
		t.Helper()
		id, err := strconv.ParseUint(s.query("INSERT INTO t VALUES (1) RETURNING xmin::text"), 10, 32)
		s.must(err)
		return uint32(id)
	}
	s.exec("CREATE TABLE t (a int)")
	s.switchWAL()
	b := s.backup("20260101T000000Z")
	early := s.now()
	before := xid()
	atFork := s.now()
	_, err := s.c.CreateRestorePoint(ctx, "fork")
	s.must(err)
	behind := xid()
	onBoth := s.now()
	xid()
	s.switchWAL()

	// The server continues from the restore point, on timeline 2.
	s.must(s.c.Stop(ctx, pgtest.Fast))
	next, err := pgtest.Open(s.copyOf(b.ID))
	s.must(err)
	pgtest.Attach(t, next)
	set := settings(recovery.Target{Kind: recovery.ToName, Name: "fork"})
	set["restore_command"] = "cp " + s.wal + "/%f %p"
	s.must(next.Recover(set))
	s.must(next.Start(ctx))
	s.must(next.WaitOpen(ctx))
	s.c = next
	other := xid()
	for other <= behind {
		other = xid()
	}
	between := s.now()
	last := xid()
	s.switchWAL()

	inv := s.inventory()
	for _, test := range []struct {
		what   string
		target recovery.Target
		want   wal.Timeline // 0: refused
		beside wal.Timeline // also has the time; 0: none
	}{
		{"the end", recovery.Target{Kind: recovery.ToLatest}, 2, 0},
		{"the end of the first", recovery.Target{Kind: recovery.ToLatest, Timeline: 1}, 1, 0},
		{"before the fork", recovery.Target{Kind: recovery.ToXID, XID: before}, 2, 0},
		{"the fork itself", recovery.Target{Kind: recovery.ToName, Name: "fork"}, 2, 0},
		{"behind the fork", recovery.Target{Kind: recovery.ToXID, XID: last}, 2, 0},
		{"behind the fork, on the first", recovery.Target{Kind: recovery.ToXID, XID: behind, Timeline: 1}, 1, 0},
		{"a time", recovery.Target{Kind: recovery.ToTime, Time: between}, 2, 0},
		{"a time before the fork", recovery.Target{Kind: recovery.ToTime, Time: early}, 2, 0},
		{"a time at the fork", recovery.Target{Kind: recovery.ToTime, Time: atFork}, 2, 0},
		{"a time on both", recovery.Target{Kind: recovery.ToTime, Time: onBoth}, 2, 1},
		{"a time on both, on the first", recovery.Target{Kind: recovery.ToTime, Time: onBoth, Timeline: 1}, 1, 0},
		{"a time that only the second has", recovery.Target{Kind: recovery.ToTime, Time: between, Timeline: 1}, 0, 0},
		{"a transaction that only the second has", recovery.Target{Kind: recovery.ToXID, XID: last, Timeline: 1}, 0, 0},
	} {
		p, err := inv.Plan(ctx, test.target, "")
		if test.want == 0 {
			if !errors.Is(err, recovery.ErrUnreachable) {
				t.Errorf("%s: got %+v, %v, want a refusal", test.what, p, err)
			}
			continue
		}
		if err != nil || p.Timeline != test.want || p.Until.Timeline != test.want {
			t.Errorf("%s: got timeline %d up to %s, %v, want timeline %d", test.what, p.Timeline, p.Until, err, test.want)
			continue
		}
		var beside wal.Timeline
		for _, b := range p.Beside {
			beside = b.Timeline
		}
		if len(p.Beside) > 1 || beside != test.beside {
			t.Errorf("%s: beside the way: got %v, want timeline %d", test.what, p.Beside, test.beside)
		}
		if test.target.Kind == recovery.ToLatest {
			continue
		}
		target := test.target
		target.Timeline = p.Timeline
		if got, err := s.recover(b.ID, target); err != nil || got > p.At || got+40 < p.At {
			t.Errorf("%s: the server stopped at %s, %v, the plan says %s", test.what, got, err, p.At)
		}
	}
}
