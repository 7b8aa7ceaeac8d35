package main_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
	more := map[string]string{"wal_retrieve_retry_interval": "500ms"}
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

// stopStarted calls pg_ctl to stop what --start has started.
func (r *rig) stopStarted(c *pgtest.Cluster, dir string) {
	r.t.Helper()
	r.must(pgtest.Command(r.ctx(), filepath.Join(c.Bindir(), "pg_ctl"), "-D", dir, "-m", "immediate", "-w", "stop").Run())
}

// With --start a standby is waited for, hot or warm, and it is reported how far it has replayed.
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
	}, pgtest.Turns()...)
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
	r.mkdir(filepath.Join(r.spool, "standbys"))
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

// A standby that streams never asks for a segment, and yet the archive hears how far it has come.
func TestStreamingStandbyHoldsNoMore(t *testing.T) {
	t.Parallel()
	for _, major := range []int{11, 15} {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			r := newRig(t, major)
			c := r.start("primary", nil)
			r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
			r.backup(c)
			r.cut(c)
			dir := filepath.Join(r.dir, "standby")
			r.run("restore", "--standby", "--target-dir", dir, "--primary-conninfo", c.ConnString())
			s, err := pgtest.Open(dir)
			r.must(err)
			pgtest.Attach(t, s)
			r.must(s.Start(r.ctx()))
			r.feeds(c, 1)
			before := r.status().Standbys[0].Restartpoint
			for range 8 {
				_, err := c.SwitchWAL(r.ctx())
				r.must(err)
			}
			r.must(c.Checkpoint(r.ctx()))
			r.cut(c)
			r.until("the standby to have replayed the checkpoint", func() bool {
				r.must(s.Exec(r.ctx(), "CHECKPOINT"))
				return r.status().Standbys[0].Restartpoint > before
			})
		})
	}
}

// An option that contradicts --standby is wrong usage.
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

// Root restores for the server's user, and what it notes in the archive is that user's, who must be able to change it.
func TestRootRestoresStandby(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("this needs root")
	}
	r := newRig(t, restoreMajor)
	c := r.start("primary", nil)
	r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
	r.load(c, 10, 1)
	r.backup(c)
	dir := filepath.Join(r.dir, "standby")
	r.mkdir(dir)
	cmd := exec.CommandContext(r.ctx(), r.command().Path, "-c", os.DevNull, "--spool", r.spool, "restore", "--standby", "--target-dir", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("restore by root: %v\n%s", err, out)
	}
	r.noteOf(dir, "")
	to, err := pgtest.Open(dir)
	r.must(err)
	pgtest.Attach(t, to)
	r.must(to.Start(r.ctx()))
	r.follows(to, c)
	r.must(to.Stop(r.ctx(), pgtest.Fast)) // else its restore_command makes and removes files while find looks
	foreign, err := pgtest.Command(r.ctx(), "find", r.spool, dir, "-user", "root").Output()
	if err != nil || len(foreign) > 0 {
		t.Errorf("root's own are\n%s(%v)", foreign, err)
	}
	for _, user := range []string{"root", "its own"} {
		cmd := r.command("rejoin", "--pgdata", dir)
		if user == "root" {
			cmd = exec.CommandContext(r.ctx(), cmd.Args[0], "-c", os.DevNull, "--spool", r.spool, "rejoin", "--pgdata", dir)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("rejoin by %s: %v\n%s", user, err, out)
		}
		if foreign, err := pgtest.Command(r.ctx(), "find", dir, "-user", "root").Output(); err != nil || len(foreign) > 0 {
			t.Errorf("root's own are\n%s(%v)", foreign, err)
		}
	}
}
