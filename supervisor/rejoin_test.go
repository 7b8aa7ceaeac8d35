package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
	"walkeep/common/wal"
)

// diverge loses the primary with WAL that was never archived, and promotes the standby.
func (r *rig) diverge(primary, standby *pgtest.Cluster) {
	r.t.Helper()
	r.follows(standby, primary)
	r.must(primary.Configure(map[string]string{"archive_command": "exit 1", "work_mem": "7MB"}))
	r.must(primary.Reload(r.ctx()))
	r.must(primary.WaitFor(r.ctx(), pgtest.Timeout, "the reload", func(ctx context.Context) (bool, error) {
		s, err := primary.QueryString(ctx, "SHOW work_mem")
		return s == "7MB", err
	}))
	r.must(primary.Exec(r.ctx(), "CREATE TABLE lost AS SELECT n, repeat('x', 500) FROM generate_series(1, 5000) n"))
	r.must(primary.Exec(r.ctx(), "UPDATE elsewhere SET n = -n"))
	r.load(primary, 20, 3)
	_, err := primary.SwitchWAL(r.ctx())
	r.must(err)
	r.must(primary.Checkpoint(r.ctx()))
	r.load(primary, 10, 4)
	r.must(primary.Kill())
	r.must(standby.Promote(r.ctx()))
	r.load(standby, 30, 5)
	r.cut(standby)
}

// rejoined calls rejoin, and starts the server.
func (r *rig) rejoined(c *pgtest.Cluster, args ...string) string {
	r.t.Helper()
	out := r.run(append([]string{"rejoin", "--pgdata", c.Dir}, args...)...)
	r.must(c.Start(r.ctx()))
	return out
}

// An old primary with rows that were never shipped becomes a standby of the one that was promoted, and that one, once it is
// lost, of the first.
func TestRejoin(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		old := r.fed()
		next := r.standby("next", nil)
		r.diverge(old, next)

		conf := r.read(old.Path("postgresql.conf"))
		out := r.rejoined(old)
		for _, word := range []string{"was not shut down on timeline 1", "had diverged: timeline 2, the newest, left timeline 1 at", "delta: compared"} {
			if !strings.Contains(out, word) {
				t.Errorf("rejoin does not say %q:\n%s", word, out)
			}
		}
		if kept, err := filepath.Glob(old.Path("pg_wal/walkeep.kept/0000000100000000*")); err != nil || len(kept) < 2 {
			t.Errorf("kept: %v, %v", kept, err)
		}
		if r.read(old.Path("postgresql.conf")) != conf {
			t.Error("the server's own postgresql.conf has changed")
		}
		r.follows(old, next)
		r.load(next, 10, 6)
		r.follows(old, next)
		if s, err := old.QueryString(r.ctx(), "SELECT coalesce(to_regclass('lost')::text, 'gone')"); err != nil || s != "gone" {
			t.Errorf("the table that was lost: %q, %v", s, err)
		}

		r.fails(1, []string{"is in use", "hint: stop the server"}, "rejoin", "--pgdata", old.Dir)
		r.must(old.Stop(r.ctx(), pgtest.Fast))
		if out := r.rejoined(old); !strings.Contains(out, "timeline 2 is the newest") {
			t.Errorf("rejoin again says\n%s", out)
		}
		r.follows(old, next)

		// It is promoted in its turn, archives again, and the other one rejoins.
		r.must(old.Configure(map[string]string{"archive_command": r.archiveCommand()}))
		r.must(old.Restart(r.ctx()))
		r.diverge(next, old)
		r.rejoined(next)
		r.follows(next, old)
		r.run("verify")
	}, pgtest.Few()...)
}

// archiveCommand is that of the rig's clusters.
func (r *rig) archiveCommand() string {
	return fmt.Sprintf(`"%s" -c %s --spool "%s" %%p`, cmdtest.Path("archive-cmd"), os.DevNull, r.spool)
}

// restoreCommand is the restore_command with this archive.
func (r *rig) restoreCommand() string {
	return fmt.Sprintf(`"%s" -c %s --spool "%s" %%f "%%p" %%r`, cmdtest.Path("restore-cmd"), os.DevNull, r.spool)
}

func (r *rig) read(file string) string {
	r.t.Helper()
	content, err := os.ReadFile(file)
	r.must(err)
	return string(content)
}

// A standby that was promoted to try something comes back to the timeline of its primary's promotion, which has the same
// number as the one that it made, also where both began at the same position.
func TestRejoinBooted(t *testing.T) {
	t.Parallel()
	for _, together := range []bool{false, true} {
		t.Run(fmt.Sprintf("together=%t", together), func(t *testing.T) { newRig(t, restoreMajor).booted(together) })
	}
}

func (r *rig) booted(together bool) {
	primary := r.fed()
	second, booted := r.standby("second", nil), r.standby("booted", map[string]string{"archive_mode": "off"})
	r.follows(booted, primary)
	r.follows(second, primary)
	want := "had diverged: timeline 2, the newest, left timeline 1 at"
	if together {
		r.must(primary.Kill())
		at, err := second.CurrentLSN(r.ctx())
		r.must(err)
		r.must(booted.WaitReplayed(r.ctx(), at))
		want = "had diverged: the archive holds WAL of another server under the same names (00000002"
	}
	r.must(booted.Promote(r.ctx()))
	r.load(booted, 30, 10)
	r.must(booted.Stop(r.ctx(), pgtest.Fast))
	if together {
		r.must(second.Promote(r.ctx()))
		r.load(second, 30, 9)
		r.cut(second)
	} else {
		r.diverge(primary, second)
	}
	out := r.rejoined(booted, "--primary-conninfo", second.ConnString())
	if !strings.Contains(out, "was shut down on timeline 2") || !strings.Contains(out, want) {
		r.t.Errorf("rejoin does not say %q:\n%s", want, out)
	}
	if kept, err := filepath.Glob(booted.Path("pg_wal/walkeep.kept/00000002*")); err != nil || len(kept) == 0 {
		r.t.Errorf("its own timeline 2 was not kept: %v, %v", kept, err)
	}
	// What comes now comes by streaming.
	r.load(second, 10, 11)
	at, err := second.CurrentLSN(r.ctx())
	r.must(err)
	r.must(booted.WaitReplayed(r.ctx(), at))
	if got, want := r.sum(booted), r.sum(second); got != want {
		r.t.Error("the rows differ")
	}
	host, err := os.Hostname()
	r.must(err)
	if got, err := second.QueryString(r.ctx(), "SELECT application_name FROM pg_stat_replication"); err != nil || got != host {
		r.t.Errorf("the standby streams as %q, %v, want %s", got, err, host)
	}
}

// A rejoin that is killed at any moment leaves a directory that does not start or is complete, and in the end the server
// has its configuration and all of its own WAL.
func TestRejoinKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	old := r.fed()
	next := r.standby("next", nil)
	r.diverge(old, next)
	conf := r.read(old.Path("postgresql.conf"))
	r.must(os.WriteFile(old.Path("postgresql.auto.conf"), []byte("maintenance_work_mem = '77MB'\n"), 0o600))
	r.mkdir(old.Path("conf.d"))
	r.must(pgtest.Command(r.ctx(), "touch", old.Path("conf.d/own.conf")).Run())
	walBefore, err := filepath.Glob(old.Path("pg_wal/0000000100000000*"))
	r.must(err)
	scratch := filepath.Join(r.dir, "scratch")
	r.must(pgtest.Command(r.ctx(), "cp", "-a", old.Dir, scratch).Run())

	random := cmdtest.Rand(t)
	usually, killed := 500*time.Millisecond, 0
	for i := range 30 {
		if i%3 == 0 { // else it completes what the one before has left
			r.must(pgtest.Command(r.ctx(), "sh", "-c", `rm -rf "$2" && cp -a "$1" "$2"`, "sh", scratch, old.Dir).Run())
		}
		cmd := r.command("rejoin", "--pgdata", old.Dir)
		r.must(cmd.Start())
		begun := time.Now()
		timer := time.AfterFunc(time.Duration(random.Int64N(int64(usually))), func() { cmd.Process.Kill() })
		err := cmd.Wait()
		timer.Stop()
		switch {
		case err == nil:
			usually = time.Since(begun)
		case cmd.ProcessState.ExitCode() != -1:
			t.Fatalf("rejoin failed by itself: %v", err)
		default:
			killed++
		}
		_, marked := os.Stat(old.Path("walkeep.restore"))
		_, control := os.Stat(old.Path("global/pg_control"))
		if marked != nil && control != nil {
			t.Fatal("there is neither a control file nor the mark of a restore")
		}
	}
	t.Logf("killed %d times", killed)
	if killed < 10 {
		t.Errorf("only %d were killed", killed)
	}
	r.must(pgtest.Command(r.ctx(), "sh", "-c", `rm -rf "$2" && cp -a "$1" "$2"`, "sh", scratch, old.Dir).Run())
	for i := range 4 {
		cmd := r.command("rejoin", "--pgdata", old.Dir)
		r.must(cmd.Start())
		time.AfterFunc(usually*time.Duration(i+1)/5, func() { cmd.Process.Kill() })
		if cmd.Wait() == nil {
			break // the next one would only see what this one has made
		}
	}
	said := "and had diverged"
	control := "global/pg_control"
	if _, err := os.Stat(old.Path("walkeep.restore")); err != nil && r.read(old.Path(control)) != r.read(filepath.Join(scratch, control)) {
		said = "and had not diverged" // the last one that was killed had come to its end
	}
	if out := r.rejoined(old); !strings.Contains(out, said) {
		t.Errorf("rejoin does not say %q:\n%s", said, out)
	}
	if r.read(old.Path("postgresql.conf")) != conf {
		t.Error("the server's own postgresql.conf has changed")
	}
	if s, err := old.QueryString(r.ctx(), "SHOW maintenance_work_mem"); err != nil || s != "77MB" {
		t.Errorf("the setting of postgresql.auto.conf: %q, %v", s, err)
	}
	if _, err := os.Stat(old.Path("conf.d/own.conf")); err != nil {
		t.Error(err)
	}
	wanted := 0
	for _, file := range walBefore {
		n, err := wal.ParseName(filepath.Base(file))
		r.must(err)
		own, err := os.ReadFile(filepath.Join(scratch, "pg_wal", n.String()))
		r.must(err)
		h, err := wal.ParseHeader(own[:wal.HeaderSize])
		stored, _ := filepath.Glob(filepath.Join(r.spool, "wal", "*", n.String()+".zst"))
		if err != nil || h.Check(n) != nil || len(stored) > 0 {
			continue // made ready for later use, or in the archive
		}
		wanted++
		if kept, err := os.ReadFile(old.Path("pg_wal/walkeep.kept/" + n.String())); err != nil || !bytes.Equal(kept, own) {
			t.Errorf("%s was not kept as it was (%v)", n, err)
		}
	}
	kept, err := filepath.Glob(old.Path("pg_wal/walkeep.kept/*"))
	r.must(err)
	if wanted < 2 || len(kept) != wanted {
		t.Errorf("kept %v of %v, wanted %d", kept, walBefore, wanted)
	}
	r.follows(old, next)
}

// rejoin refuses what it cannot do, and changes nothing.
func TestRejoinRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	old := r.fed()
	other := newRig(t, restoreMajor)
	stranger := other.start("stranger", nil)
	r.cut(old)
	empty := filepath.Join(r.dir, "empty")
	r.mkdir(empty)
	r.must(stranger.Stop(r.ctx(), pgtest.Fast))
	broken := filepath.Join(r.dir, "broken")
	r.must(pgtest.Command(r.ctx(), "cp", "-a", stranger.Dir, broken).Run())
	r.must(os.Remove(filepath.Join(broken, "global", "pg_control")))
	for _, call := range []struct {
		code  int
		words []string
		args  []string
	}{
		{2, []string{"--pgdata"}, nil},
		{1, []string{"is in use"}, []string{"--pgdata", old.Dir}},
		{1, []string{"two different clusters"}, []string{"--pgdata", stranger.Dir}},
		{1, []string{"it has no control file"}, []string{"--pgdata", broken}},
		{1, []string{"restore --standby"}, []string{"--pgdata", empty}},
		{1, []string{"restore --standby"}, []string{"--pgdata", empty + "/none"}},
		{2, []string{"password", "passfile"}, []string{"--pgdata", old.Dir, "--primary-conninfo", "host=a password=secret"}},
		{2, []string{"--primary-slot needs"}, []string{"--pgdata", old.Dir, "--primary-slot", "a"}},
		{2, []string{"--primary-slot", "A B"}, []string{"--pgdata", old.Dir, "--primary-conninfo", "host=a", "--primary-slot", "A B"}},
		{1, []string{"20200101T000000Z"}, []string{"--pgdata", old.Dir, "20200101T000000Z"}},
	} {
		r.fails(call.code, call.words, append([]string{"rejoin"}, call.args...)...)
	}
	if out, _ := r.command("rejoin", "--pgdata", old.Dir, "--primary-conninfo", "host=a password=secret").CombinedOutput(); strings.Contains(string(out), "secret") {
		t.Errorf("the password is shown: %s", out)
	}
	for _, dir := range []string{old.Dir, stranger.Dir, broken, empty} {
		if _, err := os.Lstat(filepath.Join(dir, "walkeep.restore")); err == nil {
			t.Errorf("%s was begun", dir)
		}
	}
}

// Where the archive lacks WAL, rejoin says that the server's own pg_wal may have it, and works once it was stored from there.
func TestRejoinOverGap(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.MaxMajor)
	old := r.start("primary", nil)
	r.must(old.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
	r.backup(old)
	r.cut(old)
	next := r.standby("next", nil)
	r.load(old, 5, 1)
	missing := r.cut(old)
	r.load(old, 5, 2)
	r.cut(old)
	r.follows(next, old)
	r.must(old.Kill())
	r.must(next.Promote(r.ctx()))
	r.load(next, 5, 3)
	r.cut(next)
	stored, err := filepath.Glob(filepath.Join(r.spool, "wal", "*", missing+".*"))
	if err != nil || len(stored) != 1 {
		t.Fatalf("%s is stored as %q (%v)", missing, stored, err)
	}
	r.must(os.Remove(stored[0]))
	r.fails(1, []string{missing, "pg_wal of this server", "archive-cmd stores them"}, "rejoin", "--pgdata", old.Dir)
	r.must(pgtest.Command(r.ctx(), cmdtest.Path("archive-cmd"), "-c", os.DevNull, "--spool", r.spool, old.Path("pg_wal/"+missing)).Run())
	r.rejoined(old)
	r.follows(old, next)
}

// The whole story by walkeep's own commands: a standby that streams is promoted, the old primary rejoins and is started, and
// streams from there. The archive holds WAL for the one that is a standby, and for no other.
func TestFailedOver(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	old := r.fed()
	next := r.standby("next", nil, "--primary-conninfo", old.ConnString())
	r.load(old, 10, 3)
	at, err := old.CurrentLSN(r.ctx())
	r.must(err)
	r.must(next.WaitReplayed(r.ctx(), at))
	r.noteOf(next.Dir, "")
	r.must(old.Kill())
	r.run("promote", "--conninfo", next.ConnString(), "--primary-conninfo", old.ConnString())
	if got := r.status().Standbys; len(got) > 0 {
		t.Errorf("a standby that was promoted holds WAL: %+v", got)
	}
	r.load(next, 10, 4)
	r.cut(next)
	// A control file of a version to come does not say what the server had come to.
	control, err := os.OpenFile(old.Path("global/pg_control"), os.O_WRONLY, 0)
	r.must(err)
	_, err = control.WriteAt([]byte{0xD0, 0x07}, 8) // 2000
	r.must(errors.Join(err, control.Close()))
	if out := r.run("rejoin", "--pgdata", old.Dir, "--primary-conninfo", next.ConnString()); !strings.Contains(out, "the position of the server is unknown") {
		t.Errorf("rejoin says of an unknown control file\n%s", out)
	}
	out := r.run("rejoin", "--pgdata", old.Dir, "--primary-conninfo", next.ConnString(), "--start", "--conninfo", "user=postgres", "--bindir", old.Bindir())
	if !strings.Contains(out, "the standby is consistent, and accepts connections: replayed up to") {
		t.Errorf("rejoin --start says\n%s", out)
	}
	defer r.stopStarted(old, old.Dir)
	r.noteOf(old.Dir, "")
	r.load(next, 10, 5)
	at, err = next.CurrentLSN(r.ctx())
	r.must(err)
	r.must(old.WaitReplayed(r.ctx(), at))
	if got, want := r.sum(old), r.sum(next); got != want {
		t.Error("the rows differ")
	}
}
