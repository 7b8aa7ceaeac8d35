//go:build unix

package main_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"walkeep/common/pgtest"
)

// A commit whose record goes over the border of two segments, and is all that was streamed of the second, is confirmed to
// its client, and is there after a promotion.
func TestPromoteOverTheBorder(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	primary := r.start("primary", map[string]string{"synchronous_standby_names": "walkeep"})
	r.sync(primary, "--synchronous")
	r.must(primary.Exec(r.ctx(), ledgerTable))
	r.backup(primary)
	standby := r.standby("standby", nil)
	conn, err := primary.Conn(r.ctx())
	r.must(err)
	defer conn.Close(context.Background())
	exec := func(sql string) {
		t.Helper()
		_, err := conn.Exec(r.ctx(), sql)
		r.must(err)
	}
	left := func() (n int64) { // bytes of the segment that is being written
		r.must(conn.QueryRow(r.ctx(), fmt.Sprintf("SELECT (%d - (pg_current_wal_insert_lsn() - '0/0') %% %[1]d)::bigint", r.segmentSize())).Scan(&n))
		return n
	}
	emit := func(n int64) { exec(fmt.Sprintf("SELECT pg_logical_emit_message(false, 'w', repeat('x', %d))", n)) }
	last, crossed := 0, false // a record of the background writer may come between, and then it is tried in the next segment
	for ; !crossed && last < 5; last++ {
		exec("SELECT pg_switch_wal()")
		exec("BEGIN")
		exec(fmt.Sprintf("INSERT INTO ledger VALUES (%d, 'confirmed')", last+1))
		for left() > 200_000 {
			emit(100_000)
		}
		for left() > 14_000 {
			emit(5000)
		}
		for left() > 7000 {
			emit(800)
		}
		before := left()
		emit(1000)
		over := before - left() - 1000
		emit(left() - over - 32) // what is left is less than the record of a commit
		exec("COMMIT")
		crossed = int(left()) >= r.segmentSize()-200
	}
	if !crossed {
		t.Fatalf("no commit has crossed the border: %d bytes are left", left())
	}
	r.must(primary.Kill())
	out := r.run("promote", "--conninfo", standby.ConnString(), "--primary-conninfo", primary.ConnString())
	if n, err := standby.QueryInt(r.ctx(), "SELECT count(*) FROM ledger WHERE id = $1", last); err != nil || n != 1 {
		t.Errorf("the confirmed commit is lost (%d, %v), and promote says %s", n, err, out)
	}
}

// The primary dies when the standby has received but a part of a long record.
func TestPromoteBehindHalfARecord(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	primary := r.start("primary", map[string]string{"max_wal_senders": "10"})
	r.must(primary.Exec(r.ctx(), ledgerTable))
	r.backup(primary)
	standby := r.standby("standby", nil, "--primary-conninfo", primary.ConnString())
	streams := func(ctx context.Context) (bool, error) {
		n, err := standby.QueryInt(ctx, "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'")
		return n > 0, err
	}
	r.must(standby.WaitFor(r.ctx(), pgtest.Timeout, "the standby to stream", streams))
	r.must(primary.Exec(r.ctx(), "INSERT INTO ledger VALUES (1, 'x')"))
	conn, err := primary.Conn(r.ctx())
	r.must(err)
	defer conn.Close(context.Background())
	writer, err := primary.QueryInt(r.ctx(), "SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'")
	r.must(err)
	r.must(syscall.Kill(int(writer), syscall.SIGSTOP)) // its snapshots flush the rest of the record
	_, err = conn.Exec(r.ctx(), "BEGIN; SELECT pg_logical_emit_message(false, 'w', repeat('x', 2500000))")
	r.must(err)
	half := func(ctx context.Context) (bool, error) {
		s, err := standby.QueryString(ctx, "SELECT (pg_last_wal_receive_lsn() - pg_last_wal_replay_lsn() > 1000000)::text")
		return s == "true", err
	}
	r.must(standby.WaitFor(r.ctx(), pgtest.Timeout, "a part of the record", half))
	r.must(primary.Kill())
	r.run("promote", "--conninfo", standby.ConnString(), "--timeout", "20s")
	if n, err := standby.QueryInt(r.ctx(), "SELECT count(*) FROM ledger"); err != nil || n != 1 {
		t.Errorf("got %d rows (%v), want 1", n, err)
	}
}

// With --force, promote reports the loss of commits that were confirmed and are in the archive.
func TestPromoteSaysWhatForceLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	primary := r.start("primary", map[string]string{"synchronous_standby_names": "walkeep"})
	r.sync(primary, "--synchronous")
	r.must(primary.Exec(r.ctx(), ledgerTable))
	r.backup(primary)
	standby := r.standby("standby", nil)
	r.must(primary.Exec(r.ctx(), "INSERT INTO ledger VALUES (1, 'confirmed')"))
	r.must(primary.Kill())
	r.settings(standby, map[string]string{"restore_command": "false"})
	out := r.run("promote", "--conninfo", standby.ConnString(), "--primary-conninfo", primary.ConnString(), "--force", "--timeout", "10s")
	if !strings.Contains(out, "has not replayed") {
		t.Errorf("promote says %s", out)
	}
}
