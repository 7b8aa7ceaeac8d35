package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// standby makes a standby of a backup, which has nothing but the spool to follow.
func (r *rig) standby(backup, name string, settings map[string]string) *pgtest.Cluster {
	r.t.Helper()
	c := r.copyOf(backup, name)
	r.must(c.Configure(map[string]string{"wal_retrieve_retry_interval": "500ms"}))
	r.must(c.Standby(r.settings(settings)))
	r.must(c.Start(r.ctx()))
	return c
}

// backUp makes an online backup of a running server, with all its WAL in the spool.
func (r *rig) backUp(c *pgtest.Cluster) (dir string) {
	r.t.Helper()
	b, err := c.OnlineBackup(r.ctx(), filepath.Join(r.dir, "backup"))
	r.must(err)
	r.must(c.WaitBackupArchived(r.ctx(), b))
	return b.Dir
}

// mustFollow waits until a standby has all that a server has archived.
func (r *rig) mustFollow(standby, primary *pgtest.Cluster) {
	r.t.Helper()
	at, err := primary.CurrentLSN(r.ctx())
	r.must(err)
	want := r.state(primary)
	r.cut(primary)
	r.must(standby.WaitReplayed(r.ctx(), at))
	r.wantState(standby, want)
}

// TestRecoveryStandby has a standby follow through the spool, over a hole that comes and goes, and then promotes it in
// the middle of a segment.
func TestRecoveryStandby(t *testing.T) {
	eachTurn(t, func(r *rig) {
		primary := r.start("primary")
		r.load(primary, 40, 1)
		backup := r.backUp(primary)
		standby := r.standby(backup, "standby", nil)
		r.load(primary, 40, 2)
		r.mustFollow(standby, primary)
		r.checkNote(primary, standby)
		r.passHole(primary, standby)
		r.promote(primary, standby, backup)
	})
}

// checkNote waits for the note of what the standby still needs, and for the next.
func (r *rig) checkNote(primary, standby *pgtest.Cluster) {
	r.t.Helper()
	before := ""
	for range 2 {
		r.must(primary.Checkpoint(r.ctx()))
		r.mustFollow(standby, primary)
		r.must(standby.Checkpoint(r.ctx()))
		what := "a note of the restartpoint after " + before
		r.must(standby.WaitFor(r.ctx(), pgtest.Timeout, what, func(context.Context) (bool, error) {
			needed, err := r.noteOf(standby)
			if err != nil || needed <= before {
				return false, err
			}
			before = needed
			return true, nil
		}))
		if r.stored()[before] == "" {
			r.t.Errorf("the standby needs %s, which it never got", before)
		}
	}
}

// noteOf reads in the spool from which segment on the standby still needs WAL; "" if there is no note.
func (r *rig) noteOf(standby *pgtest.Cluster) (string, error) {
	notes, err := filepath.Glob(filepath.Join(r.spool, "standbys", "*.json"))
	if err != nil || len(notes) == 0 {
		return "", err
	}
	if len(notes) > 1 {
		return "", fmt.Errorf("one standby has the notes %q", notes)
	}
	text, err := os.ReadFile(notes[0])
	if err != nil {
		return "", err
	}
	var note struct {
		Host, Restartpoint string
		Data               string `json:"data_directory"`
	}
	if err := json.Unmarshal(text, &note); err != nil {
		return "", err
	}
	if note.Data != standby.Dir || note.Host == "" || len(note.Restartpoint) != 24 {
		return "", fmt.Errorf("got the note %s", text)
	}
	return note.Restartpoint, nil
}

// passHole removes a segment that has later ones from the spool, and puts it back.
func (r *rig) passHole(primary, standby *pgtest.Cluster) {
	r.t.Helper()
	r.must(standby.Stop(r.ctx(), pgtest.Fast))
	r.load(primary, 20, 3)
	missing := r.cut(primary)
	r.load(primary, 20, 4)
	r.cut(primary)
	object := r.stored()[missing]
	hidden := filepath.Join(pgtest.TempDir(r.t), "hidden")
	r.must(os.Rename(object, hidden))

	r.must(standby.Start(r.ctx()))
	server := standby.PID()
	r.waitLog(standby, "cannot deliver the file; the standby keeps running and asks again: "+missing+" is missing from the archive", 3)
	r.must(os.Rename(hidden, object))
	r.mustFollow(standby, primary)
	if standby.PID() != server || strings.Contains(standby.Log(), "FATAL:  could not restore file") {
		r.t.Errorf("the standby went down:\n%s", standby.LogTail(40))
	}
}

// promote has the standby stream, so that it has a part of a segment when its primary is lost, and promotes it. It archives
// that part and its new timeline.
func (r *rig) promote(primary, standby *pgtest.Cluster, backup string) {
	r.t.Helper()
	r.must(standby.Stop(r.ctx(), pgtest.Fast))
	r.must(standby.Standby(r.settings(map[string]string{"primary_conninfo": primary.ConnString(), "archive_mode": "on"})))
	r.must(standby.Start(r.ctx()))
	r.load(primary, 20, 5)
	at, err := primary.CurrentLSN(r.ctx())
	r.must(err)
	r.must(standby.WaitReplayed(r.ctx(), at))
	last, err := primary.QueryString(r.ctx(), "SELECT pg_walfile_name(pg_current_wal_lsn())")
	r.must(err)
	r.must(primary.Kill())
	r.must(standby.Promote(r.ctx()))
	if timeline, err := standby.Timeline(r.ctx()); err != nil || timeline != 2 {
		r.t.Errorf("timeline: got %d (%v), want 2", timeline, err)
	}
	r.load(standby, 20, 6)
	want := r.state(standby)
	first := r.cut(standby)
	r.object(standby, "00000002.history")
	r.object(standby, last+".partial")
	if first[8:] != last[8:] {
		r.t.Errorf("the new timeline begins with %s, the old one ended in %s", first, last)
	}

	c := r.recovered(backup, "latest", 3, map[string]string{"recovery_target_timeline": "latest"})
	r.wantState(c, want)
	r.remove(c)

	// The old primary comes back and ends its segment in its own way, which is another name.
	r.must(primary.Start(r.ctx()))
	r.load(primary, 20, 7)
	r.cut(primary)
	r.mustArchiveAll(primary)
	r.mustArchiveAll(standby)
	_, _, err = cmdtest.Spool(r.spool).Objects()
	r.must(err)
}

// TestRecoveryArchiveModeAlways has a standby archive what its primary archives, into the same spool.
func TestRecoveryArchiveModeAlways(t *testing.T) {
	t.Parallel()
	r := newRig(t, newest())
	primary := r.start("primary")
	r.load(primary, 40, 1)
	standby := r.standby(r.backUp(primary), "standby",
		map[string]string{"primary_conninfo": primary.ConnString(), "archive_mode": "always"})
	for i := range 5 {
		r.load(primary, 20, uint64(i+2))
		segment := r.cut(primary)
		r.must(standby.WaitArchived(r.ctx(), segment))
	}
	for name, c := range map[string]*pgtest.Cluster{"primary": primary, "standby": standby} {
		r.mustArchiveAll(c)
		if !strings.Contains(c.Log(), "archive-cmd: ") {
			t.Errorf("the %s archived nothing", name)
		}
	}
	if log := primary.Log() + standby.Log(); !strings.Contains(log, "was archived before") {
		t.Errorf("nothing was archived twice:\n%s", standby.LogTail(40))
	}
	_, _, err := cmdtest.Spool(r.spool).Objects()
	r.must(err)
}
