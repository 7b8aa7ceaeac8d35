package main_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// TestRecovery archives under load, with a crash in its middle, loses the server, and recovers it from the spool alone: to
// its last state, to points on the way, and along timelines that fork.
func TestRecovery(t *testing.T) {
	t.Parallel()
	for _, v := range variants() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, v)
			h := r.live()
			for _, p := range h.points {
				t.Run(p.name, func(t *testing.T) { r.in(t).reach(h, p) })
			}
			t.Run("immediate", func(t *testing.T) { r.in(t).reachConsistency(h) })
			t.Run("latest", func(t *testing.T) { r.in(t).reachEnd(h, "oldest", nil) })
			r.fork(h)
			if v.major == 15 {
				t.Run("waldump", func(t *testing.T) { r.in(t).dump() })
			}
			r.checkSpool()
		})
	}
}

// A history is what a cluster went through before it was lost.
type history struct {
	backup  string
	points  []point
	first   *journal // written during the backup
	stopped lsn      // the end of the backup
	last    *journal // written when the server was lost
}

// A point is one to which recovery can be asked to go, and what is there then.
type point struct {
	name     string
	settings map[string]string
	want     state
}

// live takes a cluster from its beginning to its end.
func (r *rig) live() *history {
	r.t.Helper()
	h := &history{backup: filepath.Join(r.dir, "backup")}
	c := r.start("primary")
	r.load(c, 40, 1)
	r.takeBackup(c, h)
	r.cut(c)
	r.addPoints(c, h)
	r.crash(c)

	// The end that is known exactly is that of an archived segment.
	r.load(c, 40, 20)
	r.cut(c)
	h.last = r.write(c)
	go c.Load(r.ctx(), pgtest.Load{Duration: time.Minute, Clients: 2, Seed: 21}) // fails when the server is killed
	r.wait(c, h.last, 30)
	r.must(c.Kill())
	h.last.end()
	r.must(os.RemoveAll(c.Dir))
	return h
}

// takeBackup makes a backup of a server that is at work, or of one that is shut down.
func (r *rig) takeBackup(c *pgtest.Cluster, h *history) {
	r.t.Helper()
	h.first = r.write(c)
	r.wait(c, h.first, 5)
	if !r.online {
		h.first.end()
		r.must(c.Stop(r.ctx(), pgtest.Fast))
		r.must(c.ColdBackup(h.backup))
		h.stopped = 1 << 62 // all that was written before
		r.must(c.Start(r.ctx()))
		return
	}
	b, err := c.OnlineBackup(r.ctx(), h.backup)
	r.must(err)
	r.wait(c, h.first, 5)
	h.first.end()
	h.stopped, err = parseLSN(b.StopLSN)
	r.must(err)
	r.must(c.WaitBackupArchived(r.ctx(), b))
	start, err := parseLSN(b.StartLSN)
	r.must(err)
	r.object(c, fmt.Sprintf("%s.%08X.backup", b.StartSegment, uint64(start)%(uint64(r.size)<<20)))
}

// addPoints makes points to recover to, in the order in which they are in the WAL. Nothing else runs meanwhile.
func (r *rig) addPoints(c *pgtest.Cluster, h *history) {
	r.t.Helper()
	add := func(name, setting, value string, more ...string) {
		p := point{name, map[string]string{setting: value, "recovery_target_action": "promote"}, r.state(c)}
		for i := 0; i < len(more); i += 2 {
			p.settings[more[i]] = more[i+1]
		}
		h.points = append(h.points, p)
	}

	r.load(c, 20, 10)
	_, err := c.CreateRestorePoint(r.ctx(), "a name")
	r.must(err)
	add("name", "recovery_target_name", "a name")

	r.load(c, 20, 11)
	r.pause(c)
	now, err := c.QueryString(r.ctx(), "SELECT clock_timestamp()")
	r.must(err)
	r.pause(c)
	add("time", "recovery_target_time", now)

	r.load(c, 20, 12)
	before := r.state(c)
	at := r.commitAt(c)
	if before == r.state(c) {
		r.t.Fatal("a commit changes nothing")
	}
	add("lsn", "recovery_target_lsn", at)
	add("lsn-exclusive", "recovery_target_lsn", at, "recovery_target_inclusive", "off", "recovery_target_action", "pause")
	h.points[len(h.points)-1].want = before

	r.load(c, 20, 13)
	xid, err := c.QueryString(r.ctx(), "INSERT INTO mark VALUES ('by its number') RETURNING txid_current()")
	r.must(err)
	add("xid", "recovery_target_xid", xid, "recovery_target_action", "pause")
	r.cut(c)
}

// commitAt commits a row and returns where in the WAL the commit's record begins. When the server has written something
// of its own between that and the rest of the transaction, it takes another row.
func (r *rig) commitAt(c *pgtest.Cluster) (at string) {
	r.t.Helper()
	conn, err := c.Conn(r.ctx())
	r.must(err)
	defer conn.Close(r.ctx())
	for {
		var end string
		_, err := conn.Exec(r.ctx(), "BEGIN; INSERT INTO mark VALUES ('by its position')")
		r.must(err)
		r.must(conn.QueryRow(r.ctx(), "SELECT pg_current_wal_insert_lsn()::text", pgx.QueryExecModeSimpleProtocol).Scan(&at))
		_, err = conn.Exec(r.ctx(), "COMMIT")
		r.must(err)
		r.must(conn.QueryRow(r.ctx(), "SELECT pg_current_wal_insert_lsn()::text", pgx.QueryExecModeSimpleProtocol).Scan(&end))
		from, err := parseLSN(at)
		r.must(err)
		to, err := parseLSN(end)
		r.must(err)
		if to-from <= 96 { // a commit's record and perhaps a page's header
			return at
		}
	}
}

// crash kills the server under load, and starts it again: what was acknowledged is there.
func (r *rig) crash(c *pgtest.Cluster) {
	r.t.Helper()
	before := r.state(c).transactions
	j := r.write(c)
	acknowledged := make(chan int, 1)
	go func() {
		result, _ := c.Load(r.ctx(), pgtest.Load{Duration: time.Minute, Clients: 2, Seed: 14}) // fails when the server is killed
		acknowledged <- result.Transactions
	}()
	r.wait(c, j, 30)
	r.must(c.Kill())
	j.end()
	loaded := <-acknowledged
	r.must(c.Start(r.ctx()))
	after := r.state(c).transactions
	if least := before + int64(loaded); after < least || after > least+2 {
		r.t.Errorf("after the crash there are %d transactions, want %d and at most one more for each client", after, least)
	}
	r.wantJournal(c, j, 1<<62)
}

// reach recovers to a point.
func (r *rig) reach(h *history, p point) {
	c := r.copyOf(h.backup, p.name)
	defer r.remove(c)
	r.must(c.Recover(r.settings(p.settings)))
	r.must(c.Start(r.ctx()))
	if p.settings["recovery_target_action"] == "pause" {
		r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "pause at the target", func(context.Context) (bool, error) {
			s, err := c.QueryString(r.ctx(), "SELECT pg_is_wal_replay_paused()")
			return s == "t", err
		}))
		r.wantState(c, p.want)
		r.must(c.Exec(r.ctx(), "SELECT pg_wal_replay_resume()"))
	}
	r.must(c.WaitOpen(r.ctx()))
	r.wantState(c, p.want)
	r.wantTimeline(c, 2)
}

func (r *rig) wantTimeline(c *pgtest.Cluster, want uint32) {
	r.t.Helper()
	if got, err := c.Timeline(r.ctx()); err != nil || got != want {
		r.t.Errorf("timeline: got %d (%v), want %d", got, err, want)
	}
}

// reachConsistency recovers no further than the end of the backup.
func (r *rig) reachConsistency(h *history) {
	c := r.recovered(h.backup, "immediate", map[string]string{"recovery_target": "immediate", "recovery_target_action": "promote"})
	defer r.remove(c)
	r.wantJournal(c, h.first, h.stopped)
}

// reachEnd recovers all that was archived of the first timeline.
func (r *rig) reachEnd(h *history, name string, settings map[string]string) {
	segments := r.segments(1)
	c := r.recovered(h.backup, name, settings)
	defer r.remove(c)
	r.wantJournal(c, h.last, segmentEnd(r.t, segments[len(segments)-1], r.size))
}

// checkSpool has a look at the whole layout. Larger archives are not read.
func (r *rig) checkSpool() {
	r.t.Helper()
	if r.size > 16 {
		return
	}
	objects, _, err := cmdtest.Spool(r.spool).Objects()
	r.must(err)
	for name, o := range objects {
		if len(name) == 24 && o.WALCheck() != cmdtest.Intact {
			r.t.Errorf("%s: the check of its WAL says %d", o.Path, o.WALCheck())
		}
	}
}
