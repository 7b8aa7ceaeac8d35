package main_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

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
			r.replay(h)
			r.fork(h)
			if slices.Contains(pgtest.ToolMajors, v.major) {
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

// live makes a cluster's history, up to the loss of the server.
func (r *rig) live() *history {
	r.t.Helper()
	h := &history{backup: filepath.Join(r.dir, "backup")}
	c := r.start("primary")
	r.load(c, 40, 1)
	r.takeBackup(c, h)
	r.cut(c)
	r.addPoints(c, h)
	r.crash(c)

	// All up to here is archived; what comes after it is lost but for the segments that are full.
	r.load(c, 40, 20)
	r.cut(c)
	r.mustArchiveAll(c)
	h.last = r.write(c)
	loaded := r.loadOn(c, 21)
	r.wait(c, h.last, 30)
	r.must(c.Kill())
	h.last.end()
	loaded()
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
	add := func(name string, want state, settings map[string]string) {
		h.points = append(h.points, point{name, settings, want})
	}

	r.load(c, 20, 10)
	_, err := c.CreateRestorePoint(r.ctx(), "a name")
	r.must(err)
	add("name", r.state(c), map[string]string{"recovery_target_name": "a name"})

	r.load(c, 20, 11)
	// No commit is near the time.
	now, err := c.QueryString(r.ctx(), "SELECT clock_timestamp() FROM pg_sleep(0.02)")
	r.must(err)
	r.must(c.Exec(r.ctx(), "SELECT pg_sleep(0.02)"))
	add("time", r.state(c), map[string]string{"recovery_target_time": now})

	r.load(c, 20, 12)
	before := r.state(c)
	at := r.commitAt(c)
	after := r.state(c)
	if before == after {
		r.t.Fatal("a commit changes nothing")
	}
	add("lsn-exclusive", before, map[string]string{"recovery_target_lsn": at, "recovery_target_inclusive": "off"})
	add("lsn", after, map[string]string{"recovery_target_lsn": at})

	r.load(c, 20, 13)
	xid, err := c.QueryString(r.ctx(), "INSERT INTO mark VALUES ('by its number') RETURNING txid_current()")
	r.must(err)
	add("xid", r.state(c), map[string]string{"recovery_target_xid": xid})
	r.cut(c)
}

// commitAt commits a row and returns where in the WAL the commit's record begins. When the server has written something
// of its own between that and the rest of the transaction, it takes another row.
func (r *rig) commitAt(c *pgtest.Cluster) (at string) {
	r.t.Helper()
	conn, err := c.Conn(r.ctx())
	r.must(err)
	defer conn.Close(r.ctx())
	const position = "SELECT pg_current_wal_insert_lsn()::text"
	for range 100 {
		var end string
		_, err := conn.Exec(r.ctx(), "BEGIN; INSERT INTO mark VALUES ('by its position')")
		r.must(err)
		r.must(conn.QueryRow(r.ctx(), position).Scan(&at))
		_, err = conn.Exec(r.ctx(), "COMMIT")
		r.must(err)
		r.must(conn.QueryRow(r.ctx(), position).Scan(&end))
		from, err := parseLSN(at)
		r.must(err)
		to, err := parseLSN(end)
		r.must(err)
		if to-from <= 96 { // a commit's record and perhaps a page's header
			return at
		}
	}
	r.t.Fatal("no commit is where it should be")
	return ""
}

// crash kills the server under load, and starts it again: what was acknowledged is there.
func (r *rig) crash(c *pgtest.Cluster) {
	r.t.Helper()
	before := r.state(c).transactions
	j := r.write(c)
	loaded := r.loadOn(c, 14)
	r.wait(c, j, 30)
	r.must(c.Kill())
	j.end()
	r.must(c.Start(r.ctx()))
	after := r.state(c).transactions
	if least := before + int64(loaded()); after < least || after > least+2 {
		r.t.Errorf("after the crash there are %d transactions, want %d and at most one more for each client", after, least)
	}
	r.wantJournal(c, j, 1<<62)
}

// replay recovers one data directory to each point in turn, and then to the end, where it opens the database.
func (r *rig) replay(h *history) {
	r.t.Helper()
	c := r.copyOf(h.backup, "replayed")
	r.t.Run("immediate", func(t *testing.T) {
		r := r.in(t)
		r.pauseAt(c, map[string]string{"recovery_target": "immediate"})
		r.wantJournal(c, h.first, h.stopped)
	})
	for _, p := range h.points {
		r.t.Run(p.name, func(t *testing.T) {
			r := r.in(t)
			r.pauseAt(c, p.settings)
			r.wantState(c, p.want)
		})
	}
	r.t.Run("latest", func(t *testing.T) {
		r := r.in(t)
		r.must(c.Stop(r.ctx(), pgtest.Fast))
		r.must(c.Recover(r.settings(nil)))
		r.mustOpen(c, 2)
		r.wantJournal(c, h.last, r.archivedUpTo(1))
	})
	r.remove(c)
}

// pauseAt replays to a target and pauses there.
func (r *rig) pauseAt(c *pgtest.Cluster, target map[string]string) {
	r.t.Helper()
	r.must(c.Stop(r.ctx(), pgtest.Fast))
	settings := r.settings(target)
	settings["recovery_target_action"] = "pause"
	r.must(c.Recover(settings))
	r.must(c.Start(r.ctx()))
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "pause at the target", func(context.Context) (bool, error) {
		s, err := c.QueryString(r.ctx(), "SELECT pg_is_wal_replay_paused()")
		return s == "t", err
	}))
}

// archivedUpTo is the end of a timeline in the spool.
func (r *rig) archivedUpTo(timeline int) lsn {
	r.t.Helper()
	segments := r.segments(timeline)
	return segmentEnd(r.t, segments[len(segments)-1], r.size)
}

// checkSpool has a look at the whole layout. Larger archives are not read.
func (r *rig) checkSpool() {
	r.t.Helper()
	count := make(map[string]int)
	for name := range r.stored() {
		count[filepath.Ext(name)]++
	}
	// A server that leaves a timeline in the middle of an archived segment does not archive a part of it as well.
	want := map[string]int{"": count[""], ".history": 2}
	if r.online {
		want[".backup"] = 1
	}
	if !maps.Equal(count, want) {
		r.t.Errorf("files in the spool, by kind: got %v, want %v", count, want)
	}
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
