package recovery_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"walkeep/common/pgtest"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

// stopped stops the server's checkpointer, for which DROP DATABASE waits between its mark and the removal, and returns a
// function that lets it continue.
func (s *site) stopped() (goOn func()) {
	s.T.Helper()
	pid, err := strconv.Atoi(s.query("SELECT pid::text FROM pg_stat_activity WHERE backend_type = 'checkpointer'"))
	s.must(err)
	s.must(syscall.Kill(pid, syscall.SIGSTOP))
	return func() { s.must(syscall.Kill(pid, syscall.SIGCONT)) }
}

// inDrop begins DROP DATABASE victim, waits until it has deleted the row, and runs f. Then DROP DATABASE continues. It returns
// the error of DROP DATABASE.
func (s *site) inDrop(f func(pid string)) error {
	s.T.Helper()
	goOn := s.stopped()
	defer func() { goOn() }()
	conn, err := s.c.Conn(s.T.Context())
	s.must(err)
	defer conn.Close(context.Background())
	pid := fmt.Sprint(conn.PgConn().PID())
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Exec(s.T.Context(), "DROP DATABASE victim")
		ended <- err
	}()
	// Its transaction has a number when it deletes the row, which follows the mark.
	s.must(s.c.WaitFor(s.T.Context(), pgtest.Timeout, "the deleted row", func(ctx context.Context) (bool, error) {
		got, err := s.c.QueryString(ctx, "SELECT count(*)::text FROM pg_stat_activity a WHERE pid = "+pid+" AND backend_xid IS NOT NULL AND EXISTS (SELECT FROM pg_database WHERE datname = 'victim' AND datconnlimit = -2 AND xmax::text = a.backend_xid::text)")
		return got == "1", err
	}))
	f(pid)
	goOn()
	goOn = func() {}
	return <-ended
}

func (s *site) changes(target recovery.Target, id string) recovery.Changes {
	s.T.Helper()
	inv := s.inventory()
	p, err := inv.Plan(s.T.Context(), target, id)
	s.must(err)
	found, err := inv.Changes(s.T.Context(), p, nil)
	s.must(err)
	return found
}

// The position before which a database is whole is that of its own mark, whatever is changed in place until its files are
// removed, and however the record has the row. A target between the two is known, too.
func TestChangesBetweenMarkAndRemoval(t *testing.T) {
	for _, test := range []struct {
		major int
		how   string
	}{{11, "data"}, {15, "image"}, {pgtest.MaxMajor, "compressed"}, {pgtest.MaxMajor, "image"}} {
		t.Run(fmt.Sprint(test.major, test.how), func(t *testing.T) {
			pgtest.Need(t, test.major)
			s := newSite(t, test.major)
			s.exec("CREATE DATABASE kept", "CREATE DATABASE victim")
			s.switchWAL()
			const whole, late = "20260101T000000Z", "20260101T000001Z"
			m := s.backup(whole)
			if test.how == "compressed" {
				s.exec("ALTER SYSTEM SET wal_compression = on", "SELECT pg_reload_conf()")
				s.must(s.c.WaitFor(t.Context(), pgtest.Timeout, "the setting", func(ctx context.Context) (bool, error) {
					got, err := s.c.QueryString(ctx, "SHOW wal_compression")
					return got != "off", err
				}))
			}
			s.exec("CHECKPOINT") // the next change of each page logs it whole
			if test.how == "data" {
				s.exec("ALTER DATABASE kept CONNECTION LIMIT 5")
			}
			before := s.lsn("SELECT pg_current_wal_insert_lsn()")
			if err := s.inDrop(func(pid string) { s.exec("SELECT pg_cancel_backend(" + pid + ")") }); err == nil {
				t.Fatal("DROP DATABASE is not interrupted")
			}
			after := s.lsn("SELECT pg_current_wal_insert_lsn()")
			s.exec("SELECT txid_current()", "VACUUM (FREEZE)") // changes another row of pg_database in place
			if test.how != "data" {
				s.exec("CHECKPOINT")
			}
			var inside wal.LSN
			var xid uint32
			s.must(s.inDrop(func(pid string) {
				_, err := fmt.Sscan(s.query("SELECT backend_xid::text FROM pg_stat_activity WHERE pid = "+pid), &xid)
				s.must(err)
				s.exec("SELECT pg_switch_wal()", "SELECT txid_current()")
				inside = s.lsn("SELECT pg_current_wal_insert_lsn()")
				s.exec("VACUUM (FREEZE)") // again
			}))
			s.switchWAL()
			began := *m
			began.ID, began.Start, began.Stop, began.Ended = late, inside, inside+8, m.Ended.Add(1)
			putManifest(t, s.B, &began)

			open := s.changes(recovery.Target{Kind: recovery.ToLSN, LSN: inside}, whole)
			if len(open.Dropped) != 0 || len(open.Invalid) != 1 {
				t.Fatalf("between mark and removal: %+v, %+v", open.Dropped, open.Invalid)
			}
			name := "victim"
			if test.how == "compressed" {
				name = ""
			}
			if i := open.Invalid[0]; i.Before < before || i.Before >= after || i.Database != name {
				t.Errorf("got %+v; the first DROP DATABASE ran from %s to %s", i, before, after)
			}
			if aborted := s.changes(recovery.Target{Kind: recovery.ToLSN, LSN: after}, whole); len(aborted.Invalid) != 1 {
				t.Errorf("after the DROP DATABASE that was interrupted: %+v", aborted.Invalid)
			}
			removed := s.changes(recovery.Target{Kind: recovery.ToXID, XID: xid, Exclusive: true}, whole)
			if len(removed.Dropped) != 1 || len(removed.Invalid) != 0 {
				t.Fatalf("behind the removal: %+v, %+v", removed.Dropped, removed.Invalid)
			}
			if d := removed.Dropped[0]; !d.Marked || d.Before != open.Invalid[0].Before {
				t.Errorf("got %+v, want the position %s", d, open.Invalid[0].Before)
			}
			if early := s.changes(recovery.Target{Kind: recovery.ToLSN, LSN: open.Invalid[0].Before, Exclusive: true}, whole); len(early.Dropped) != 0 || len(early.Invalid) != 0 {
				t.Errorf("before the mark: %+v, %+v", early.Dropped, early.Invalid)
			}
			// A backup that begins behind the mark says that it does not know it.
			if got := s.changes(recovery.Target{Kind: recovery.ToXID, XID: xid, Exclusive: true}, late).Dropped; len(got) != 1 || got[0].Marked || got[0].Before != got[0].At {
				t.Errorf("a backup from behind the mark: %+v", got)
			}
			if end := s.changes(recovery.Target{Kind: recovery.ToLatest}, whole); len(end.Dropped) != 0 || len(end.Invalid) != 0 {
				t.Errorf("at the end: %+v, %+v", end.Dropped, end.Invalid)
			}
		})
	}
}

// A database whose making fails loses its files, and is listed nowhere.
func TestChangesFailedCreateDatabase(t *testing.T) {
	for _, test := range []struct {
		major int
		how   string
	}{{11, ""}, {pgtest.MaxMajor, " STRATEGY file_copy"}, {pgtest.MaxMajor, " STRATEGY wal_log"}} {
		t.Run(fmt.Sprint(test.major, test.how), func(t *testing.T) {
			pgtest.Need(t, test.major)
			s := newSite(t, test.major)
			s.exec("CREATE DATABASE source")
			s.switchWAL()
			s.backup("20260101T000000Z")
			oid := s.query("SELECT oid::text FROM pg_database WHERE datname = 'source'")
			dir := s.c.Path("base/" + oid)
			broken, err := os.ReadDir(dir)
			s.must(err)
			for _, e := range broken { // the copy fails at one of them
				if _, err := strconv.Atoi(e.Name()); err == nil {
					s.must(os.Truncate(filepath.Join(dir, e.Name()), 0))
					s.must(os.Chmod(filepath.Join(dir, e.Name()), 0))
				}
			}
			var last uint32
			_, err = fmt.Sscan(s.query("SELECT (txid_current() % 4294967296)::text"), &last)
			s.must(err)
			if err := s.c.Exec(t.Context(), "CREATE DATABASE failed TEMPLATE source"+test.how); err == nil || errors.Is(err, context.Canceled) {
				t.Fatalf("got %v", err)
			}
			s.exec("SELECT txid_current()")
			s.switchWAL()
			for _, exclusive := range []bool{true, false} {
				if got := s.changes(recovery.Target{Kind: recovery.ToXID, XID: last + 1, Exclusive: exclusive}, ""); len(got.Dropped) != 0 || len(got.Invalid) != 0 {
					t.Errorf("exclusive %v: %+v, %+v", exclusive, got.Dropped, got.Invalid)
				}
			}
		})
	}
}
