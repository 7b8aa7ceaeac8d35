package recovery_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walkeep/common/pgtest"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

// What the WAL does outside of the data directory is found in the servers' own WAL, also where a record continues on another
// page, and exactly as far as recovery replays it.
func TestChanges(t *testing.T) {
	for _, major := range []int{11, 15, 19} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			pgtest.Need(t, major)
			s := newSite(t, major)
			ctx := t.Context()
			s.switchWAL()
			s.backup("20260101T000000Z")
			var want []wal.NewTablespace
			var before []wal.LSN // a position before each
			for i := range 40 {
				name := fmt.Sprintf("s%d", i)
				dir := filepath.Join(s.dir, name+strings.Repeat("x", 200))
				s.must(pgtest.Mkdir(dir))
				before = append(before, s.lsn("SELECT pg_current_wal_insert_lsn()"))
				s.exec("CREATE TABLESPACE " + name + " LOCATION '" + dir + "'")
				var oid uint32
				_, err := fmt.Sscan(s.query("SELECT oid::text FROM pg_tablespace WHERE spcname = '"+name+"'"), &oid)
				s.must(err)
				want = append(want, wal.NewTablespace{OID: oid, Location: dir})
			}
			s.must(s.c.Configure(map[string]string{"max_connections": "123", "max_worker_processes": "9", "max_prepared_transactions": "7", "max_locks_per_transaction": "99"}))
			s.must(s.c.Stop(ctx, pgtest.Fast))
			s.must(s.c.Start(ctx))
			s.switchWAL()
			inv := s.inventory()
			changes := func(target recovery.Target) ([]wal.NewTablespace, recovery.Changes) {
				t.Helper()
				p, err := inv.Plan(ctx, target, "")
				s.must(err)
				found, err := inv.Changes(ctx, p, nil)
				s.must(err)
				var all []wal.NewTablespace
				for _, c := range found.Tablespaces {
					all = append(all, *c.Tablespace)
				}
				return all, found
			}
			all, found := changes(recovery.Target{Kind: recovery.ToLatest})
			if !slices.Equal(all, want) {
				t.Errorf("got %v, want %v", all, want)
			}
			if l := found.Limits; l.Connections != 123 || l.WorkerProcesses != 9 || l.PreparedTransactions != 7 || l.LocksPerTransaction != 99 || (l.WALSenders > 0) != (major >= 12) {
				t.Errorf("got the limits %+v", l)
			}
			if found.Last < before[len(before)-1] {
				t.Errorf("the last record is at %s", found.Last)
			}
			third := found.Tablespaces[2].Start
			for _, test := range []struct {
				target recovery.Target
				want   int
			}{
				{recovery.Target{Kind: recovery.ToImmediate}, 0},
				{recovery.Target{Kind: recovery.ToLSN, LSN: third, Exclusive: true}, 2},
				{recovery.Target{Kind: recovery.ToLSN, LSN: third}, 3},
				{recovery.Target{Kind: recovery.ToLSN, LSN: third + 8}, 3},
				{recovery.Target{Kind: recovery.ToLSN, LSN: third + 8, Exclusive: true}, 3},
				{recovery.Target{Kind: recovery.ToLSN, LSN: found.Tablespaces[2].Prev}, 2},
			} {
				if got, _ := changes(test.target); len(got) != test.want {
					t.Errorf("to %s, exclusive %v: got %d tablespaces, want %d", test.target, test.target.Exclusive, len(got), test.want)
				}
			}
		})
	}
}

// A database whose DROP is not replayed to its end is named, with a position before which it is whole.
func TestChangesDroppedDatabase(t *testing.T) {
	for _, major := range []int{11, 15, 19} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			pgtest.Need(t, major)
			s := newSite(t, major)
			s.exec("CREATE DATABASE kept")
			s.exec("CREATE DATABASE victim")
			s.switchWAL()
			s.backup("20260101T000000Z")
			// Files that are moved to another tablespace are removed without a transaction.
			space := filepath.Join(s.dir, "space")
			s.must(pgtest.Mkdir(space))
			s.exec("CREATE TABLESPACE space LOCATION '" + space + "'")
			s.exec("ALTER DATABASE kept SET TABLESPACE space")
			s.exec("VACUUM FULL pg_database") // gives it another file
			oid := s.query("SELECT oid::text FROM pg_database WHERE datname = 'victim'")
			var last uint32
			_, err := fmt.Sscan(s.query("SELECT (txid_current() % 4294967296)::text"), &last)
			s.must(err)
			before := s.lsn("SELECT pg_current_wal_insert_lsn()")
			s.exec("DROP DATABASE victim")
			s.switchWAL()
			inv := s.inventory()
			changes := func(target recovery.Target) recovery.Changes {
				t.Helper()
				p, err := inv.Plan(t.Context(), target, "")
				s.must(err)
				found, err := inv.Changes(t.Context(), p, nil)
				s.must(err)
				return found
			}
			if all := changes(recovery.Target{Kind: recovery.ToLatest}); len(all.Dropped) != 0 {
				t.Errorf("all is replayed, and %+v", all.Dropped)
			}
			if none := changes(recovery.Target{Kind: recovery.ToLSN, LSN: before}); len(none.Dropped) != 0 {
				t.Errorf("nothing of it is replayed, and %+v", none.Dropped)
			}
			found := changes(recovery.Target{Kind: recovery.ToXID, XID: last + 1, Exclusive: true})
			if len(found.Dropped) != 1 || fmt.Sprint(found.Dropped[0].OID) != oid {
				t.Fatalf("got %+v, want database %s", found.Dropped, oid)
			}
			if d := found.Dropped[0]; d.Before < before || d.Before > d.At {
				t.Errorf("it is whole before %s, and its files go at %s; DROP DATABASE began at %s", d.Before, d.At, before)
			} else {
				t.Logf("%+v began %s", d, before)
			}
			if again := changes(recovery.Target{Kind: recovery.ToLSN, LSN: found.Dropped[0].Before, Exclusive: true}); len(again.Dropped) != 0 {
				t.Errorf("before %s: %+v", found.Dropped[0].Before, again.Dropped)
			}
		})
	}
}
