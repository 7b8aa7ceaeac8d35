package main_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// standby restores a standby, with the tablespace of fed moved, and starts it. It archives when it is promoted.
func (r *rig) standby(name string, settings map[string]string, args ...string) *pgtest.Cluster {
	r.t.Helper()
	dir := filepath.Join(r.dir, name)
	if _, err := os.Stat(r.space()); err == nil {
		args = append(args, "--tablespace-map", r.space()+"="+dir+"-space")
	}
	r.run(append([]string{"restore", "--standby", "--target-dir", dir}, args...)...)
	r.verifyBackup(dir)
	c, err := pgtest.Open(dir)
	r.must(err)
	more := map[string]string{"wal_retrieve_retry_interval": "100ms"}
	for key, value := range settings {
		more[key] = value
	}
	r.must(c.Configure(more))
	pgtest.Attach(r.t, c)
	r.must(c.Start(r.ctx()))
	return c
}

func (r *rig) space() string { return filepath.Join(r.dir, "space") }

// fed starts a cluster with a tablespace and takes a backup of it.
func (r *rig) fed() *pgtest.Cluster {
	r.t.Helper()
	c := r.start("primary", nil)
	r.mkdir(r.space())
	r.must(c.Exec(r.ctx(), "CREATE TABLESPACE aside LOCATION '"+r.space()+"'"))
	r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int) TABLESPACE aside"))
	r.must(c.Exec(r.ctx(), "INSERT INTO elsewhere SELECT generate_series(1, 1000)"))
	r.load(c, 20, 1)
	r.backup(c)
	r.load(c, 20, 2)
	return c
}

// follows waits until a standby has what its primary has, by the archive alone, and compares the rows.
func (r *rig) follows(standby, primary *pgtest.Cluster) {
	r.t.Helper()
	at, err := primary.CurrentLSN(r.ctx())
	r.must(err)
	want := r.sum(primary)
	r.cut(primary)
	r.must(standby.WaitReplayed(r.ctx(), at))
	if got := r.sum(standby); got != want {
		r.t.Errorf("the standby's rows are not the primary's\n%s", standby.LogTail(20))
	}
}

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
	})
}

// archiveCommand is that of the rig's clusters.
func (r *rig) archiveCommand() string {
	return fmt.Sprintf(`"%s" -c %s --spool "%s" %%p`, cmdtest.Path("archive-cmd"), os.DevNull, r.spool)
}

func (r *rig) read(file string) string {
	r.t.Helper()
	content, err := os.ReadFile(file)
	r.must(err)
	return string(content)
}

// A standby that was promoted to try something, and has archived what it did then, comes back to the timeline that is named
// the newest by its primary's promotion, also where it was booted on a timeline of the same number.
func TestRejoinBooted(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	primary := r.fed()
	second, booted := r.standby("second", nil), r.standby("booted", map[string]string{"archive_mode": "off"})
	r.follows(booted, primary)
	r.follows(second, primary)
	r.must(booted.Promote(r.ctx()))
	r.load(booted, 30, 10)
	r.must(booted.Stop(r.ctx(), pgtest.Fast))
	r.diverge(primary, second) // both are on a timeline 2 now
	out := r.rejoined(booted, "--primary-conninfo", second.ConnString())
	if !strings.Contains(out, "was shut down on timeline 2") {
		t.Errorf("rejoin says\n%s", out)
	}
	if kept, err := filepath.Glob(booted.Path("pg_wal/walkeep.kept/00000002*")); err != nil || len(kept) < 2 {
		t.Errorf("its own timeline 2 was not kept: %v, %v", kept, err)
	}
	// What comes now comes by streaming.
	r.load(second, 10, 11)
	at, err := second.CurrentLSN(r.ctx())
	r.must(err)
	r.must(booted.WaitReplayed(r.ctx(), at))
	if got, want := r.sum(booted), r.sum(second); got != want {
		t.Error("the rows differ")
	}
	host, err := os.Hostname()
	r.must(err)
	if got, err := second.QueryString(r.ctx(), "SELECT application_name FROM pg_stat_replication"); err != nil || got != host {
		t.Errorf("the standby streams as %q, %v, want %s", got, err, host)
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
	r.must(pgtest.Command(r.ctx(), "mkdir", old.Path("conf.d")).Run())
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
		cmd.Wait()
	}
	out := r.rejoined(old)
	if !strings.Contains(out, "had diverged") && !strings.Contains(out, "timeline 2 is the newest") {
		t.Errorf("rejoin says\n%s", out)
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
	kept, err := filepath.Glob(old.Path("pg_wal/walkeep.kept/*"))
	r.must(err)
	if len(kept) == 0 || len(kept) > len(walBefore) {
		t.Errorf("kept %v of %v", kept, walBefore)
	}
	r.follows(old, next)
}

// What rejoin cannot do is refused, and nothing is changed.
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

// started calls pg_ctl to stop what --start has started.
func (r *rig) stopStarted(c *pgtest.Cluster, dir string) {
	r.t.Helper()
	r.must(pgtest.Command(r.ctx(), filepath.Join(c.Bindir(), "pg_ctl"), "-D", dir, "-m", "immediate", "-w", "stop").Run())
}

// With --start a standby is waited for, hot or warm, and it is said how far it has replayed.
func TestRestoreStandby(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		c := r.fed()
		want := r.sum(c)
		r.cut(c)
		r.must(c.Stop(r.ctx(), pgtest.Fast)) // the standby listens where this one did
		dir := filepath.Join(r.dir, "standby")
		args := []string{"restore", "--conninfo", "user=postgres", "--bindir", c.Bindir(), "--start", "--target-dir", dir, "--tablespace-map", r.space() + "=" + dir + "-space"}
		hot := append(args, "--standby", "--delta")
		out := r.run(hot...)
		if !strings.Contains(out, "accepts connections: replayed up to 0/") || !strings.Contains(out, "is a standby, follows the newest timeline") {
			t.Errorf("restore --standby --start says\n%s", out)
		}
		to, err := pgtest.Open(dir)
		r.must(err)
		r.must(to.WaitFor(r.ctx(), pgtest.Timeout, "all rows", func(context.Context) (bool, error) { return r.sum(to) == want, nil }))
		id := r.noteOf(dir, "")
		r.stopStarted(c, dir)

		// The directory's own configuration stays, and so do its tablespaces where they are.
		r.must(to.Configure(map[string]string{"hot_standby": "off"}))
		if out := r.run(append(append([]string{}, args[:len(args)-2]...), "--standby", "--delta")...); !strings.Contains(out, "nobody can connect to it (hot_standby = off): replayed up to 0/") {
			t.Errorf("a warm standby: restore says\n%s", out)
		}
		r.stopStarted(c, dir)

		// What was a standby is none after it was restored to a target, and the other way round.
		r.must(to.Configure(map[string]string{"hot_standby": "on"}))
		if out := r.run(append(args, "--delta", "--target-timeline", "1")...); !strings.Contains(out, "the database is open") {
			t.Errorf("restored to the end: restore says\n%s", out)
		}
		if files, err := filepath.Glob(filepath.Join(r.spool, "standbys", "*")); err != nil || len(files) > 0 {
			t.Errorf("notes of a standby that is none: %v, %v", files, err)
		}
		r.stopStarted(c, dir)
		if out := r.run(hot...); !strings.Contains(out, "accepts connections") {
			t.Errorf("a standby again: restore says\n%s", out)
		}
		if got := r.noteOf(dir, ""); got != id {
			t.Errorf("the standby has the note %s, and had %s", got, id)
		}
		r.stopStarted(c, dir)
	})
}

// noteOf finds the note of the only standby, and checks which directory it is of, and from where on it needs WAL if that is
// given.
func (r *rig) noteOf(dir, segment string) (id string) {
	r.t.Helper()
	got := r.status().Standbys
	if len(got) != 1 || got[0].DataDirectory != dir || segment != "" && got[0].Restartpoint != segment {
		r.t.Fatalf("standbys: got %+v, want %s in %s", got, segment, dir)
	}
	return got[0].ID
}

// The WAL that a restored standby needs stays, before it was ever started.
func TestStandbyHoldsWAL(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	c := r.fed()
	first := r.status().Backups[0]
	dir := filepath.Join(r.dir, "standby")
	// A note of an earlier life that is further on must not count.
	host, err := os.Hostname()
	r.must(err)
	r.must(pgtest.Command(r.ctx(), "mkdir", filepath.Join(r.spool, "standbys")).Run())
	args := []string{"restore", "--standby", "--target-dir", dir, "--tablespace-map", r.space() + "=" + dir + "-space"}
	r.run(args...)
	id := r.noteOf(dir, first.FirstSegment)
	note := filepath.Join(r.spool, "standbys", id+".json")
	r.must(os.WriteFile(note, []byte(fmt.Sprintf(`{"host":%q,"data_directory":%q,"restartpoint":"0000000100000000000000F0"}`, host, dir)), 0o600))
	r.run(append(args, "--delta")...)
	r.noteOf(dir, first.FirstSegment)

	r.load(c, 20, 4)
	r.backup(c)
	r.cut(c)
	r.run("cleanup", "--keep-backups", "1")
	got := r.status()
	if len(got.Backups) != 1 || got.Timelines[0].Ranges[0].First != first.FirstSegment {
		t.Fatalf("%d backups, and WAL from %s on; the standby needs it from %s on", len(got.Backups), got.Timelines[0].Ranges[0].First, first.FirstSegment)
	}
	to, err := pgtest.Open(dir)
	r.must(err)
	pgtest.Attach(t, to)
	r.must(to.Start(r.ctx()))
	r.follows(to, c)
	r.must(to.Stop(r.ctx(), pgtest.Fast))
	r.run("cleanup", "--keep-backups", "1", "--forget-standby", id)
	if got := r.status(); len(got.Standbys) > 0 || got.Timelines[0].Ranges[0].First <= first.FirstSegment {
		t.Errorf("forgotten: standbys %+v, and WAL from %s on", got.Standbys, got.Timelines[0].Ranges[0].First)
	}
}

// What contradicts --standby is wrong usage.
func TestRestoreStandbyRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	for _, args := range [][]string{
		{"--standby", "--target-name", "x"}, {"--standby", "--target-immediate"}, {"--standby", "--target-action", "promote"},
		{"--standby", "--target-time", "2026-01-01"}, {"--standby", "--primary-conninfo", "host=a password=b"},
		{"--standby", "--primary-slot", "a"}, {"--primary-conninfo", "host=a"}, {"--primary-slot", "a"},
	} {
		cmd := r.command(append([]string{"restore", "--target-dir", filepath.Join(r.dir, "x")}, args...)...)
		out, err := cmd.CombinedOutput()
		if _, ok := err.(*exec.ExitError); !ok || cmd.ProcessState.ExitCode() != 2 {
			t.Errorf("%q: got %v\n%s", args, err, out)
		}
	}
}
