package main_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"walkeep/common/pgtest"
)

// each runs a test on the oldest and the newest server and on one whose programs are all there.
func each(t *testing.T, test func(r *rig)) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) { test(newRig(t, major)) }, 10, 15, pgtest.MaxMajor)
}

// backups lists what is in the archive's directories of backups.
func (r *rig) backups() []string {
	r.t.Helper()
	files, err := filepath.Glob(filepath.Join(r.spool, "backups", "*", "*"))
	r.must(err)
	return files
}

// leases lists the leases.
func (r *rig) leases() []string {
	r.t.Helper()
	files, err := filepath.Glob(filepath.Join(r.spool, "leases", "*.json"))
	r.must(err)
	return files
}

// nothingLeft checks that a backup that failed has left nothing in the archive.
func (r *rig) nothingLeft() {
	r.t.Helper()
	if got := append(r.backups(), r.leases()...); len(got) > 0 {
		r.t.Errorf("it left %q", got)
	}
}

// A backup that could not be restored is none, whatever the reason.
func TestBackupNeedsArchiving(t *testing.T) {
	each(t, func(r *rig) {
		r.t.Run("off", func(t *testing.T) {
			r := r.in(t)
			c := r.start("off", map[string]string{"archive_mode": "off"})
			r.fails(1, []string{"archive_mode is off", "hint: "}, "backup", "--conninfo", c.ConnString())
			r.nothingLeft()
		})
		r.t.Run("failing", func(t *testing.T) {
			r := r.in(t)
			c := r.start("failing", map[string]string{"archive_command": "false"})
			_, err := c.SwitchWAL(r.ctx())
			r.must(err)
			r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "a failure to archive", func(ctx context.Context) (bool, error) {
				n, err := c.QueryInt(ctx, "SELECT failed_count FROM pg_stat_archiver")
				return n > 0, err
			}))
			begun := time.Now()
			r.fails(1, []string{"did not come within 3s", "archive_command fails since", "hint: "},
				"backup", "--conninfo", c.ConnString(), "--archive-timeout", "3s")
			if took := time.Since(begun); took < 3*time.Second {
				t.Errorf("it gave up after %s", took)
			}
			r.nothingLeft()
		})
		r.t.Run("elsewhere", func(t *testing.T) {
			r := r.in(t)
			other := *r
			other.spool = filepath.Join(r.dir, "other")
			r.mkdir(other.spool)
			c := other.start("elsewhere", nil)
			r.fails(1, []string{"of another cluster"}, "backup", "--conninfo", c.ConnString())
			r.nothingLeft()
		})
	})
}

// A backup of a standby is as good as one of its primary, once the primary has archived its WAL.
func TestBackupOfStandby(t *testing.T) {
	each(t, func(r *rig) {
		c := r.start("primary", nil)
		r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
		r.load(c, 20, 1)
		r.backup(c)
		standby := r.restore("standby")
		r.must(standby.Standby(map[string]string{
			"restore_command": r.restoreCommand(),
		}))
		r.must(standby.Start(r.ctx()))
		r.load(c, 20, 2)
		want := r.sum(c)
		r.cut(c)
		at, err := c.CurrentLSN(r.ctx())
		r.must(err)
		r.cut(c)
		r.must(standby.WaitReplayed(r.ctx(), at))
		r.must(standby.Checkpoint(r.ctx()))

		id := r.backup(standby)
		manifest, err := os.ReadFile(filepath.Join(r.spool, "backups", id, "manifest.json"))
		r.must(err)
		for _, word := range []string{`"from_standby": true`, `"method": "files"`} {
			if !strings.Contains(string(manifest), word) {
				r.t.Errorf("the manifest does not say %s:\n%s", word, manifest)
			}
		}
		to := r.restore("restored", id)
		r.opens(to, want)
	})
}

// Page checksums that are wrong make the backup fail, with the file named.
func TestBackupOfDamagedPages(t *testing.T) {
	each(t, func(r *rig) {
		ways := []string{"files", "stream"}
		if r.major < 11 {
			ways = ways[:1] // the server does not verify checksums
		}
		c := r.start("primary", nil)
		r.must(c.Exec(r.ctx(), "CREATE TABLE victim AS SELECT generate_series(1, 1000) AS n"))
		file, err := c.QueryString(r.ctx(), "SELECT pg_relation_filepath('victim')")
		r.must(err)
		clean := r.backup(c)
		r.must(c.Stop(r.ctx(), pgtest.Fast))
		content, err := os.ReadFile(c.Path(file))
		r.must(err)
		f, err := os.OpenFile(c.Path(file), os.O_WRONLY, 0)
		r.must(err)
		_, err = f.WriteAt(bytes.Repeat([]byte{content[9000] + 1}, 100), 9000)
		r.must(err)
		r.must(f.Close())
		r.must(c.Start(r.ctx()))
		for _, way := range ways {
			r.fails(1, []string{"page checksums are wrong", file + `", block 1: calculated`, "hint: "}, "backup", "--conninfo", c.ConnString(), "--backup-from", way)
		}
		for _, file := range append(r.backups(), r.leases()...) {
			if filepath.Base(filepath.Dir(file)) != clean {
				r.t.Errorf("it left %s", file)
			}
		}

		// With --page-errors warn the backup is taken, and is used only where there is no other one.
		id := r.backup(c, "--page-errors", "warn")
		r.cut(c)
		if out := r.run("list"); !strings.Contains(out, "NOT RESTORABLE") || !strings.Contains(out, "damaged on the server") {
			r.t.Errorf("list does not mark it:\n%s", out)
		}
		dir := filepath.Join(r.dir, "restored")
		r.fails(1, []string{"--accept-page-errors"}, "restore", id, "--target-dir", dir)
		r.run("cleanup", "--keep-backups", "1")
		if out := r.run("restore", "--target-dir", filepath.Join(r.dir, "clean")); !strings.Contains(out, clean) {
			r.t.Errorf("restore does not use the last clean backup:\n%s", out)
		}
		if out := r.run("restore", "--accept-page-errors", "--target-dir", dir); !strings.Contains(out, id) {
			r.t.Errorf("restore does not use the backup whose damaged pages are accepted:\n%s", out)
		}
		to, err := pgtest.Open(dir)
		r.must(err)
		r.must(to.Configure(map[string]string{"archive_mode": "off"}))
		to = pgtest.Attach(r.t, to)
		r.must(to.Start(r.ctx()))
		r.must(to.WaitOpen(r.ctx()))
	})
}

// An interrupted or killed backup leaves nothing that counts as a backup, and its files are removed.
func TestBackupInterrupted(t *testing.T) {
	each(t, func(r *rig) {
		c := r.start("primary", nil)
		r.must(c.Exec(r.ctx(), "CREATE TABLE filler AS SELECT repeat(md5(n::text), 20) FROM generate_series(1, 20000) n"))
		for i, signal := range []os.Signal{os.Interrupt, os.Kill, os.Interrupt, os.Kill} {
			cmd := r.command("backup", "--conninfo", c.ConnString(), "--max-rate", "1MB", "--backup-from", []string{"stream", "files"}[i/2])
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			before := r.backups()
			r.must(cmd.Start())
			r.must(c.WaitFor(r.ctx(), 30*time.Second, "the backup to store", func(context.Context) (bool, error) {
				return slices.ContainsFunc(r.backups(), func(file string) bool { return !slices.Contains(before, file) }), nil
			}))
			r.must(cmd.Process.Signal(signal))
			err := cmd.Wait()
			if code := err.(*exec.ExitError).ExitCode(); signal == os.Interrupt && (code != 1 || !strings.Contains(stderr.String(), "interrupted")) {
				r.t.Errorf("got %v and %q, want exit code 1 and a word", err, &stderr)
			}
			if signal == os.Interrupt {
				r.nothingLeft()
			}
			r.must(c.WaitFor(r.ctx(), 30*time.Second, "the server to end the session", func(ctx context.Context) (bool, error) {
				n, err := c.QueryInt(ctx, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'walkeep'")
				return n == 0, err
			}))
		}
		id := r.backup(c)
		for _, file := range append(r.backups(), r.leases()...) {
			if filepath.Base(filepath.Dir(file)) != id {
				r.t.Errorf("the killed backup's %s is still there", file)
			}
		}
	})
}

// Several backups at once do not get in each other's way.
func TestBackupsTogether(t *testing.T) {
	each(t, func(r *rig) {
		c := r.start("primary", nil)
		r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
		r.load(c, 20, 1)
		want := r.sum(c)
		ids := make([]string, 3)
		var group sync.WaitGroup
		for i := range ids {
			group.Go(func() {
				out, err := r.command("backup", "--conninfo", c.ConnString()).CombinedOutput()
				if err != nil {
					r.t.Errorf("backup: %v\n%s", err, out)
				}
				ids[i] = idForm.FindString(string(out))
			})
		}
		group.Wait()
		for i, id := range ids {
			if r.t.Failed() {
				break
			}
			to := r.restore("restored-"+id, id)
			r.opens(to, want)
			r.must(to.Close())
			for _, other := range ids[:i] {
				if id == other {
					r.t.Errorf("two backups have the id %s", id)
				}
			}
		}
	})
}

// A password on the command line is warned about, and stands in no message.
func TestPasswordInArguments(t *testing.T) {
	each(t, func(r *rig) {
		c := r.start("primary", nil)
		for _, conninfo := range []string{c.ConnString() + " password=hush", c.ConnString() + " password = 'hush'"} {
			out, err := r.command("backup", "--conninfo", conninfo).CombinedOutput()
			r.must(err)
			if s := string(out); !strings.Contains(s, "can see the password") || strings.Contains(s, "hush") {
				r.t.Errorf("got %q", out)
			}
		}
		out, err := r.command("backup", "--conninfo", c.ConnString()).CombinedOutput()
		r.must(err)
		if strings.Contains(string(out), "password") {
			r.t.Errorf("got %q", out)
		}
	})
}

// A role that may replicate and monitor is enough for a backup and for status.
func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		c := r.start("primary", nil)
		r.must(c.Exec(r.ctx(), "CREATE ROLE walkeep LOGIN REPLICATION IN ROLE pg_monitor"))
		conninfo := strings.Replace(c.ConnString(), "user=postgres", "user=walkeep", 1)
		if conninfo == c.ConnString() {
			t.Fatalf("no user in %q", conninfo)
		}
		r.run("backup", "--conninfo", conninfo)
		out := r.run("status", "--conninfo", conninfo)
		if !strings.Contains(out, "archive_mode on") || strings.Contains(out, "permission denied") {
			t.Errorf("status does not see how archiving goes:\n%s", out)
		}
		r.run("check", "--conninfo", conninfo)
	}, pgtest.Turns()...)
}
