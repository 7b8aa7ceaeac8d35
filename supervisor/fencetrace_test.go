//go:build unix

package main_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"walkeep/common/pgtest"
	"walkeep/common/wal"
)

// deaf waits until a standby receives no WAL any more.
func (r *rig) deaf(c *pgtest.Cluster) {
	r.t.Helper()
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "the receiver to end", func(ctx context.Context) (bool, error) {
		n, err := c.QueryInt(ctx, "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'")
		return n == 0, err
	}))
}

// The last standby of a cascade has lost the standby before it. The primary, which it does not know, is running; a stream of
// the archive shows it.
func TestFenceCascadeWithAStream(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		primary := r.start("primary", map[string]string{"max_wal_senders": "10"})
		r.must(primary.Exec(r.ctx(), ledgerTable))
		r.backup(primary)
		middle := r.standby("middle", nil, "--primary-conninfo", primary.ConnString())
		r.feeds(primary, 1)
		last := r.standby("last", nil, "--primary-conninfo", middle.ConnString())
		r.feeds(middle, 1)
		stream := r.sync(primary)
		r.noted()
		r.must(middle.Stop(r.ctx(), pgtest.Fast))
		r.deaf(last)
		for _, more := range [][]string{nil, {"--primary-conninfo", middle.ConnString()}} {
			r.refused(last, 1, []string{"the old primary still answers: stream walkeep (on ", "hint: ", "--force"}, more...)
		}
		// A stream that was killed, and its primary with it.
		stream.kill()
		r.must(primary.Kill())
		out := r.promote(last)
		if !strings.Contains(out, "warning: took "+middle.RunDir()) || !strings.Contains(out, "its primary was not checked") {
			t.Errorf("promote says\n%s", out)
		}
	}, 15, pgtest.MaxMajor)
}

// A standby was told to stream from where nothing listens, while its primary lives and archives.
func TestFenceChangedConninfo(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	primary := r.start("primary", nil)
	r.must(primary.Exec(r.ctx(), ledgerTable))
	r.backup(primary)
	s := r.standby("standby", map[string]string{"archive_mode": "off"}, "--primary-conninfo", primary.ConnString())
	r.feeds(primary, 1)
	r.settings(s, map[string]string{"primary_conninfo": "host=" + r.dir + " port=1"})
	r.deaf(s)

	// It archives while the standby is promoted: each time that the standby asks for WAL, there is more.
	r.must(s.Exec(r.ctx(), "SELECT pg_wal_replay_pause()"))
	r.cut(primary)
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		for n := 1; ; n++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := primary.Exec(r.ctx(), fmt.Sprintf("INSERT INTO ledger VALUES (%d, 'x')", n)); err != nil {
				done <- err
				return
			}
			if _, err := primary.SwitchWAL(r.ctx()); err != nil {
				done <- err
				return
			}
		}
	}()
	r.refused(s, 1, []string{"cannot be checked: since the promotion began, the archive has received WAL of timeline 1", "hint: ", "--force"})
	close(stop)
	r.must(<-done)
	r.cut(primary)

	// One that is idle cannot be seen. What was looked at is reported, and that the archive has more than was streamed.
	r.reaches(s, r.rows(primary))
	out := r.promote(s)
	for _, words := range []string{"warning: took " + r.dir, "warning: the archive has WAL up to ", "the standby's stream ended at", "warning: archive_mode is off, so the server archives nothing"} {
		if !strings.Contains(out, words) {
			t.Errorf("promote does not say %q:\n%s", words, out)
		}
	}
}

// A stream that reads from a standby continues while that is fed, which the standby that is promoted is not.
func TestFenceStreamsFromStandbys(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	primary := r.start("primary", map[string]string{"max_wal_senders": "10"})
	r.must(primary.Exec(r.ctx(), ledgerTable))
	r.backup(primary)
	other := r.standby("other", nil, "--primary-conninfo", primary.ConnString())
	s := r.standby("standby", map[string]string{"archive_command": r.archiveCommand()}, "--primary-conninfo", primary.ConnString())
	r.feeds(primary, 2)
	stream := r.sync(other)
	r.settings(s, map[string]string{"primary_conninfo": "host=" + r.dir + " port=1"})
	r.deaf(s)
	load := r.ledger(primary, 1, 1)
	load.reach(20)
	r.until("the stream to note more than the standby has", func() bool {
		at, err := s.QueryString(r.ctx(), "SELECT pg_last_wal_receive_lsn()::text")
		r.must(err)
		has, err := wal.ParseLSN(at)
		r.must(err)
		return r.streamNote().Sent > has
	})
	r.refused(s, 1, []string{"cannot be checked: stream walkeep (on ", "beyond what this standby has", "hint: ", "--force"})
	load.close()

	// Once that stands still, it proves nothing.
	r.must(primary.Kill())
	r.promote(s)
	stream.stop()
}
