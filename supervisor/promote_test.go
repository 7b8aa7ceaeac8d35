//go:build unix

package main_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
	"walkeep/supervisor/report"
)

// What lies in partial/ when the primary is lost is used as far as it is whole and belongs to the cluster, and what is not
// used is reported.
func TestPromotePartial(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		l := r.lose(3, 2)
		all := rowsPerSegment * 6
		overwrite := func(at int64, b []byte) func(l *wreck) {
			return func(l *wreck) {
				f, err := os.OpenFile(l.partial(l.last+".partial"), os.O_WRONLY, 0)
				l.must(err)
				_, err = f.WriteAt(b, at)
				l.must(errors.Join(err, f.Close()))
			}
		}
		for name, c := range map[string]struct {
			every  bool // major version
			change func(l *wreck)
			rows   int
			says   string
		}{
			"whole": {every: true, rows: all, says: "had been streamed"},
			"none": {every: true, change: func(l *wreck) { l.must(os.Remove(l.partial(l.last + ".partial"))) },
				rows: all - rowsPerSegment, says: "the standby has all WAL that was streamed"},
			// Eight bytes are less than the last commit.
			"torn": {every: true, change: func(l *wreck) {
				events := l.streamedEvents()
				end := uint64(events[len(events)-1].End) % uint64(l.segmentSize())
				l.must(os.Truncate(l.partial(l.last+".partial"), int64(end-8)))
			}, rows: all - 1, says: "of a record that is not complete"},
			"garbage behind it": {change: func(l *wreck) {
				garbage := make([]byte, 20_000)
				rand.Read(garbage)
				overwrite(int64(len(l.streamedFile(l.last+".partial"))), garbage)(l)
			}, rows: all},
			"broken header":      {change: overwrite(0, bytes.Repeat([]byte{0xff}, 16)), rows: all - rowsPerSegment, says: "it cannot be used"},
			"of another cluster": {change: overwrite(24, bytes.Repeat([]byte{0x11}, 8)), rows: all - rowsPerSegment, says: "of another cluster"},
			"empty":              {change: func(l *wreck) { l.must(os.Truncate(l.partial(l.last+".partial"), 0)) }, rows: all - rowsPerSegment},
			"of another timeline": {change: func(l *wreck) {
				l.must(os.Rename(l.partial(l.last+".partial"), l.partial("00000007"+l.last[8:]+".partial")))
			}, rows: all - rowsPerSegment},
			"beside one that was overtaken": {change: func(l *wreck) {
				whole := l.archived(l.stored[2])
				l.must(os.WriteFile(l.partial(l.stored[2]+".partial"), whole[:len(whole)/3], 0o600))
				l.give(l.spool)
			}, rows: all},
		} {
			if !c.every && major != restoreMajor {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				l := l.copy(t, strings.ReplaceAll(name, " ", "-"))
				if c.change != nil {
					c.change(l)
				}
				s := l.laid("standby")
				l.unarchive()
				l.must(s.Start(l.ctx()))
				out := l.promote(s, "--primary-conninfo", l.primary.ConnString())
				if got := l.rows(s); got != c.rows {
					t.Errorf("got %d rows, want %d: promote says\n%s", got, c.rows, out)
				}
				if !strings.Contains(out, c.says) || l.timeline(s) != 2 {
					t.Errorf("it is on timeline %d, and promote says\n%s", l.timeline(s), out)
				}
				l.offersNothing()
				l.must(s.Exec(l.ctx(), "INSERT INTO ledger VALUES (-1, 'new')"))
				l.cut(s)
				l.never(l.last)
				l.run("verify")
			})
		}
	}, pgtest.Few()...)
}

// WAL that is missing before the end keeps a standby from being promoted, unless that is forced.
func TestPromoteHole(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	l := r.lose(3, 2)
	for name, c := range map[string]struct {
		hide func(l *wreck) string
		rows int
	}{
		"in the archive":                      {func(l *wreck) string { l.remove(l.stored[1]); return l.stored[1] }, rowsPerSegment},
		"before what was streamed to its end": {func(l *wreck) string { l.must(os.Remove(l.partial(l.complete[0]))); return l.complete[0] }, 3 * rowsPerSegment},
		"before what was streamed in part": {func(l *wreck) string {
			l.must(os.Remove(l.partial(l.complete[0])))
			l.must(os.Remove(l.partial(l.complete[1])))
			return l.complete[0]
		}, 3 * rowsPerSegment},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := l.copy(t, strings.ReplaceAll(name, " ", "-"))
			s := l.laid("standby")
			l.unarchive()
			missing := c.hide(l)
			l.must(s.Start(l.ctx()))
			l.refused(s, 1, []string{missing + " is missing", "hint: "}, "--primary-conninfo", l.primary.ConnString())
			out := l.promote(s, "--primary-conninfo", l.primary.ConnString(), "--force")
			if !strings.Contains(out, missing+" is missing") || !strings.Contains(out, "which the server has not replayed") {
				t.Errorf("promote --force says\n%s", out)
			}
			if got := l.rows(s); got != c.rows || l.timeline(s) != 2 {
				t.Errorf("got %d rows on timeline %d, want %d", got, l.timeline(s), c.rows)
			}
			l.offersNothing()
		})
	}
}

// The part of a segment is handed to the standby that is promoted, and to no other. Where its restore_command fails, it is
// not promoted without what is there, and the next call completes what was begun.
func TestPromoteOffer(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		l := r.lose(1, 1)
		s, other := r.laid("standby"), r.laid("other")
		r.must(other.Start(r.ctx()))
		// Its restore_command fails while this file is there.
		block := filepath.Join(r.dir, "block")
		fetch := fmt.Sprintf(`test ! -e %s || exit 1; "%s" -c %s --spool "%s" --retry-time 1s %%f "%%p" %%r`, block, cmdtest.Path("restore-cmd"), os.DevNull, r.spool)
		r.must(s.Standby(map[string]string{"restore_command": fetch, "recovery_target_timeline": "latest"}))
		r.must(s.Start(r.ctx()))
		for _, c := range []*pgtest.Cluster{s, other} {
			r.reaches(c, 2*rowsPerSegment)
		}
		args := []string{"--primary-conninfo", l.primary.ConnString()}

		store := r.command("promote", "--conninfo", s.ConnString(), "--primary-conninfo", l.primary.ConnString(), "-v")
		var said bytes.Buffer
		store.Stdout, store.Stderr = &said, &said
		r.must(os.WriteFile(block, nil, 0o644))
		r.refused(s, 1, []string{"has not replayed all WAL", "hint: "}, append(args, "--timeout", "5s")...)
		r.refused(s, 1, []string{"in time", "hint: ", "--timeout"}, append(args, "--timeout", "1us")...)
		r.must(store.Start())
		r.until("the offer", func() bool { return len(r.offers()) == 1 })
		ask := func(c *pgtest.Cluster, want int) {
			t.Helper()
			to := filepath.Join(r.dir, "asked")
			cmd := pgtest.Command(r.ctx(), cmdtest.Path("restore-cmd"), "-c", os.DevNull, "--spool", r.spool, l.last, to)
			cmd.Dir = c.Dir
			out, _ := cmd.CombinedOutput()
			_, err := os.Stat(to)
			if got := cmd.ProcessState.ExitCode(); got != want || (err == nil) != (want == 0) {
				t.Errorf("%s asks for %s: exit code %d, want %d: %v\n%s", c.Dir, l.last, got, want, err, out)
			}
			os.Remove(to)
		}
		ask(other, 1)
		ask(s, 0)
		r.never(l.last)
		r.must(os.Remove(block))
		if err := r.soon("promote", store.Wait); err != nil {
			t.Fatalf("promote: %v\n%s", err, &said)
		}
		if r.rows(s) != 3*rowsPerSegment || r.timeline(s) != 2 {
			t.Errorf("%d rows on timeline %d", r.rows(s), r.timeline(s))
		}
		if got := r.rows(other); got != 2*rowsPerSegment {
			t.Errorf("the other standby has %d rows", got)
		}
		r.offersNothing()
		r.never(l.last)
		r.cut(s)
		r.reaches(other, 3*rowsPerSegment)
	}, 10, restoreMajor, pgtest.MaxMajor)
}

// A standby that was started a moment ago is waited for, and one that is paused continues.
func TestPromoteEarly(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		l := r.lose(2, 0)
		all := 3 * rowsPerSegment
		s := r.laid("early")
		// It is not consistent before it has these.
		away := filepath.Join(r.dir, "away")
		r.must(os.Rename(filepath.Join(r.spool, "wal"), away))
		r.mkdir(filepath.Join(r.spool, "wal"))
		r.must(s.Launch())
		r.until("it to listen", func() bool { // for which it has three seconds
			_, err := os.Stat(filepath.Join(s.RunDir(), ".s.PGSQL.5432"))
			return err == nil
		})
		time.AfterFunc(2*time.Second, func() {
			os.Remove(filepath.Join(r.spool, "wal"))
			os.Rename(away, filepath.Join(r.spool, "wal"))
		})
		out := r.promote(s, "--primary-conninfo", l.primary.ConnString())
		if r.rows(s) != all {
			t.Errorf("%d rows: promote says\n%s", r.rows(s), out)
		}
	}, 10, 12, restoreMajor, pgtest.MaxMajor)
}

func TestPromotePaused(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		l := r.lose(2, 1)
		away := filepath.Join(r.dir, "away")
		s := r.laid("standby")
		r.must(os.Rename(r.object(l.stored[1]), away))
		r.must(s.Start(r.ctx()))
		r.reaches(s, rowsPerSegment)
		r.run("pause", "--conninfo", s.ConnString())
		r.must(os.Rename(away, r.object(l.stored[1])))
		out := r.promote(s, "--primary-conninfo", l.primary.ConnString())
		if got := r.rows(s); got != 4*rowsPerSegment || !strings.Contains(out, "was paused") {
			t.Errorf("%d rows: promote says\n%s", got, out)
		}
	}, 10, restoreMajor, pgtest.MaxMajor)
}

// basebackupConninfo is primary_conninfo as pg_basebackup -R of a version writes it.
func basebackupConninfo(c *pgtest.Cluster) string {
	text := "user=postgres passfile='/nonexistent/.pgpass' "
	if c.Major >= 13 {
		text += "channel_binding=prefer "
	}
	text += fmt.Sprintf("host='%s' port=5432 ", c.RunDir())
	if c.Major >= 13 {
		text += "sslmode=prefer sslcompression=0 sslsni=1 ssl_min_protocol_version=TLSv1.2 gssencmode=prefer krbsrvname=postgres "
	} else {
		text += "sslmode=prefer sslcompression=0 "
		if c.Major == 12 {
			text += "gssencmode=prefer krbsrvname=postgres "
		}
	}
	if c.Major == 13 {
		text = strings.Replace(text, "sslsni=1 ", "", 1)
	}
	return text + "target_session_attrs=any"
}

// refusedBeside calls promote beside a primary that lives, which must be refused, and say how it lives. One that a slow machine
// lets answer later than within the three seconds that it has is reported to hang.
func (r *rig) refusedBeside(s *pgtest.Cluster, says string, args ...string) {
	r.t.Helper()
	begun := time.Now()
	out := r.refused(s, 1, []string{"the old primary still answers", "hint: ", "--force"}, args...)
	if late := time.Since(begun) > 3*time.Second && strings.Contains(out, "and does not answer"); !late && !strings.Contains(out, says) {
		r.t.Errorf("promote does not say %q:\n%s", says, out)
	}
}

// A standby that streams is not promoted while its primary lives, nor while that hangs; when it is killed, it is.
func TestFence(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		primary := r.start("primary", nil)
		r.must(primary.Exec(r.ctx(), ledgerTable))
		r.backup(primary)
		s := r.standby("standby", nil)
		r.must(s.Stop(r.ctx(), pgtest.Fast))
		r.must(s.Standby(map[string]string{
			"primary_conninfo": basebackupConninfo(primary), "recovery_target_timeline": "latest",
			"restore_command": r.restoreCommand(),
		}))
		r.must(s.Start(r.ctx()))
		r.must(primary.WaitFor(r.ctx(), pgtest.Timeout, "the standby to stream", func(ctx context.Context) (bool, error) {
			n, err := primary.QueryInt(ctx, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")
			return n > 0, err
		}))
		r.must(primary.Exec(r.ctx(), "INSERT INTO ledger SELECT generate_series(1, 10), 'x'"))
		r.reaches(s, 10)
		r.refusedBeside(s, ", and is open for writing")
		r.pause(primary, func() {
			r.refused(s, 1, []string{"the old primary still answers: it accepts connections", "and does not answer", "hint: "})
		})
		r.must(primary.Kill())
		out := r.promote(s)
		if r.rows(s) != 10 || !strings.Contains(out, "warning: took "+primary.RunDir()) || strings.Count(out, "warning") != 1 {
			t.Errorf("%d rows: promote says\n%s", r.rows(s), out)
		}
		r.offersNothing()
	}, pgtest.Few()...)
}

// promote warns of each place that the fence cannot examine, and examines each of several servers.
func TestFencePlaces(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	primary := r.start("primary", nil)
	r.must(primary.Exec(r.ctx(), ledgerTable))
	r.backup(primary)
	r.must(primary.Exec(r.ctx(), "INSERT INTO ledger SELECT generate_series(1, 10), 'x'"))
	r.cut(primary)
	s := r.standby("standby", nil)
	hosts := func(c ...*pgtest.Cluster) string {
		var dirs []string
		for _, one := range c {
			dirs = append(dirs, one.RunDir())
		}
		return "host=" + strings.Join(dirs, ",") + " port=5432 user=postgres sslmode=disable"
	}
	for _, conninfo := range []string{hosts(s, primary), hosts(s, primary) + " target_session_attrs=read-only", hosts(primary, s) + " target_session_attrs=standby"} {
		r.refusedBeside(s, ", and is open for writing", "--primary-conninfo", conninfo)
	}
	r.refused(s, 1, []string{"cannot be checked", "hint: "}, "--primary-conninfo", "host=a sslmode=prefer sslrootcert=/nonexistent sslmode=verify-full")
	r.refusedBeside(s, ", and it is not known whether it is open for writing", "--primary-conninfo", primary.ConnString()+" user=nobody")
	// It streams from a standby.
	third := r.standby("third", nil)
	out := r.promote(third, "--primary-conninfo", s.ConnString())
	if !strings.Contains(out, "is itself in recovery, so it is not known") {
		t.Errorf("promote says\n%s", out)
	}
	out = r.promote(s, "--primary-conninfo", "host=primary.invalid connect_timeout=1")
	if !strings.Contains(out, "warning: the old primary's host") {
		t.Errorf("promote says\n%s", out)
	}
}

// --force promotes beside a primary that lives, or hangs, with what was streamed of its segment.
func TestFenceForced(t *testing.T) {
	t.Parallel()
	for _, hangs := range []bool{false, true} {
		t.Run(fmt.Sprintf("hangs=%t", hangs), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, restoreMajor)
			primary := r.start("primary", nil)
			stream := r.sync(primary)
			r.must(primary.Exec(r.ctx(), ledgerTable))
			r.backup(primary)
			s := r.standby("standby", nil, "--primary-conninfo", primary.ConnString())
			r.must(primary.WaitFor(r.ctx(), pgtest.Timeout, "both streams", func(ctx context.Context) (bool, error) {
				n, err := primary.QueryInt(ctx, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")
				return n == 2, err
			}))
			// What sends to the standby stands still, and it lacks what the archive has.
			sender, err := primary.QueryInt(r.ctx(), "SELECT pid FROM pg_stat_replication WHERE application_name <> 'walkeep'")
			r.must(err)
			r.must(syscall.Kill(int(sender), syscall.SIGSTOP))
			defer syscall.Kill(int(sender), syscall.SIGCONT)
			r.must(primary.Exec(r.ctx(), "INSERT INTO ledger SELECT generate_series(1, 10), 'x'"))
			r.flushed(primary)
			stream.stop()
			promote := func() {
				out := r.promote(s, "--force", "--timeout", "1h") // for which it does not wait
				if r.rows(s) != 10 || !strings.Contains(out, "because of --force") {
					t.Errorf("%d rows: promote --force says\n%s", r.rows(s), out)
				}
			}
			if hangs {
				r.pause(primary, promote)
			} else {
				promote()
				r.cut(s)
				if out := r.promote(primary); !strings.Contains(out, "writes to timeline 1, and the archive has timeline 2") {
					t.Errorf("of the old primary promote says\n%s", out)
				}
				for range 2 { // the answer of one server does not replace that of the other
					r.check(primary, report.Critical, []string{"on timeline 1", "a standby was promoted in its place, to timeline 2, which left its timeline at 0/"})
					if got := r.status("--conninfo", primary.ConnString()); got.Production != 2 {
						t.Errorf("the production server's timeline is %d, not 2", got.Production)
					}
					r.check(s, report.OK, nil)
				}
			}
			r.offersNothing()
		})
	}
}
