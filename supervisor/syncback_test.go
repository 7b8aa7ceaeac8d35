package main_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// A stream that has followed one server to a new timeline comes to another that is still on the old one, and follows that to
// the new one again: over what is there already, not behind it.
func TestSyncBackToAnOlderTimeline(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	primary := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off", "max_wal_senders": "10"}))
	r.load(primary, 20, 1)
	s1 := r.cascade(primary, "s1", "off")
	s2 := r.cascade(primary, "s2", "off")
	sync := r.sync(s1)
	r.load(primary, 20, 2)
	end, err := primary.CurrentLSN(r.ctx())
	r.must(err)
	r.must(s1.WaitReplayed(r.ctx(), end))
	r.must(s2.WaitReplayed(r.ctx(), end))
	r.settings(s2, map[string]string{"primary_conninfo": "", "restore_command": "false"})
	r.must(primary.Kill())
	r.must(s1.Promote(r.ctx()))
	r.write(s1, 200, 8000) // over the next borders
	r.flushed(s1)
	r.settled()
	sync.stop()

	sync = r.sync(s2)
	r.settings(s2, map[string]string{"primary_conninfo": s1.ConnString()})
	r.write(s1, 200, 8000)
	end, err = s1.CurrentLSN(r.ctx())
	r.must(err)
	r.must(s2.WaitReplayed(r.ctx(), end))
	r.must(s2.WaitFor(r.ctx(), pgtest.Timeout, "the stream to come to the end", reaches(s2, end)))
	last, err := s2.QueryString(r.ctx(), "SELECT max(flush_lsn)::text FROM pg_stat_replication WHERE flush_lsn > pg_last_wal_receive_lsn()")
	if err == nil && last != "" {
		t.Errorf("it reports %s as flushed, which the server has not", last)
	}
	r.settled()
	sync.stop()
	r.compare(s1, 2, end)
	r.run("verify", "--deep")
}

// settings changes settings of a server that takes them when it is reloaded.
func (r *rig) settings(c *pgtest.Cluster, settings map[string]string) {
	r.t.Helper()
	for name, value := range settings {
		r.must(c.Exec(r.ctx(), "ALTER SYSTEM SET "+name+" = '"+value+"'"))
	}
	r.must(c.Reload(r.ctx()))
}

// reaches reports whether what streams from a server has come to a position.
func reaches(c *pgtest.Cluster, lsn string) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		n, err := c.QueryInt(ctx, "SELECT count(*) FROM pg_stat_replication WHERE flush_lsn >= '"+lsn+"'")
		return n > 0, err
	}
}

// A slot that the server has given up is created again: it would keep no WAL, whatever it reports.
func TestSyncSlotGivenUp(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		size := r.segmentSize() >> 20
		c := r.start("primary", map[string]string{"max_slot_wal_keep_size": fmt.Sprintf("%dMB", 2*size), "max_wal_size": fmt.Sprintf("%dMB", 2*size)})
		s := r.sync(c)
		s.stop()
		for range 6 {
			r.write(c, 30, 8000)
			_, err := c.SwitchWAL(r.ctx())
			r.must(err)
			r.must(c.Checkpoint(r.ctx()))
		}
		s.start()
		s.says("has given up the replication slot")
		r.streaming(c)
		r.write(c, 10, 8000)
		r.flushed(c)
		lost, err := c.QueryString(r.ctx(), "SELECT (wal_status IN ('reserved', 'extended') AND to_jsonb(s)->>'invalidation_reason' IS NULL)::text FROM pg_replication_slots s")
		r.must(err)
		if lost != "true" {
			t.Error("the slot is not a sound one")
		}
		s.stop()
	}, 13, 15, 16, 17, pgtest.MaxMajor)
}

// The same for one that nobody has used for too long, which 18 gives up.
func TestSyncSlotIdle(t *testing.T) {
	t.Parallel()
	r := newRig(t, 18)
	c := r.start("primary", map[string]string{"idle_replication_slot_timeout": "1s"})
	s := r.sync(c)
	s.stop()
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "the slot to be given up", func(ctx context.Context) (bool, error) {
		r.must(c.Checkpoint(ctx))
		n, err := c.QueryInt(ctx, "SELECT count(*) FROM pg_replication_slots WHERE invalidation_reason IS NOT NULL")
		return n == 1, err
	}))
	s.start()
	s.says("has given up the replication slot")
	r.streaming(c)
	s.stop()
}

// A restore archives what was streamed to its end, as the spool's owner, whichever user calls it; and what cannot be archived is
// said, and does not keep it from recovering what can be recovered.
func TestRestoreStoresStreamed(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", nil)
	r.must(c.Exec(r.ctx(), ledgerTable))
	r.backup(c)
	r.must(c.Exec(r.ctx(), "INSERT INTO ledger VALUES (1, 'streamed')"))
	segment := r.cut(c)
	content, err := os.ReadFile(c.Path("pg_wal/" + segment))
	r.must(err)
	r.must(c.Kill())
	// As if nothing but the stream had it.
	object := filepath.Join(r.spool, "wal", segment[:16], segment+".zst")
	r.must(os.Remove(object))
	partial := filepath.Join(r.spool, "partial")
	r.mkdir(partial)
	lay := func(content []byte) {
		t.Helper()
		r.must(os.WriteFile(filepath.Join(partial, segment), content, 0o644))
	}
	lay(content)
	root := exec.Command(cmdtest.Path("supervisor"), "-c", os.DevNull, "--spool", r.spool, "restore", "--target-dir", filepath.Join(r.dir, "of-root"))
	out, err := root.CombinedOutput()
	if os.Geteuid() == 0 && err == nil {
		t.Errorf("root restored to a directory of its own:\n%s", out)
	}
	back := r.restore("restored") // the servers' user can read what root has had archived
	r.must(back.Start(r.ctx()))
	r.must(back.WaitOpen(r.ctx()))
	if n, err := back.QueryInt(r.ctx(), "SELECT count(*) FROM ledger"); err != nil || n != 1 {
		t.Errorf("got %d rows (%v), want the one that was streamed", n, err)
	}
	content[9000]++
	lay(content)
	said, err := r.command("restore", "--target-dir", filepath.Join(r.dir, "again")).CombinedOutput()
	if err != nil || !strings.Contains(string(said), "cannot be archived, and is not used") {
		t.Errorf("restore beside a segment that is refused: %v\n%s", err, said)
	}
}
