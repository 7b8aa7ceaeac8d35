package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walkeep/common/pgtest"
	"walkeep/supervisor/report"
)

// check calls check, which must print one line that begins with the state and has the words in it.
func (r *rig) check(c *pgtest.Cluster, state report.State, words []string, args ...string) {
	r.t.Helper()
	out, err := r.command(append([]string{"check", "--conninfo", c.ConnString()}, args...)...).Output()
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
		if len(exit.Stderr) > 0 {
			r.t.Errorf("check says on standard error: %s", exit.Stderr)
		}
	} else {
		r.must(err)
	}
	line := string(out)
	if code != int(state) || !strings.HasPrefix(line, state.String()+": ") || strings.Count(line, "\n") != 1 || strings.Count(line, "|") != 1 {
		r.t.Fatalf("check: exit code %d, want %d\n%s", code, state, line)
	}
	for _, word := range words {
		if !strings.Contains(line, word) {
			r.t.Errorf("check does not say %q: %s", word, line)
		}
	}
}

func (r *rig) status(args ...string) report.Report {
	r.t.Helper()
	var got report.Report
	printed := []byte(r.run(append([]string{"status", "--json"}, args...)...))
	fits(r.t, "report", printed)
	r.must(json.Unmarshal(printed, &got))
	return got
}

// The reports of list, status and check agree with what was done to a real archive.
func TestStatus(t *testing.T) {
	each(t, func(r *rig) {
		c := r.start("primary", nil)
		r.load(c, 20, 1)
		r.cut(c)
		r.check(c, report.Critical, []string{"there is no backup"})
		first := r.backup(c)
		r.load(c, 20, 2)
		r.cut(c)
		middle := r.cut(c)
		r.load(c, 20, 3)
		r.cut(c)
		before := time.Now()
		second := r.backup(c)
		r.load(c, 20, 4)
		r.cut(c)

		r.check(c, report.OK, []string{"2 backups", "restorable=2", "faults=0", "lag=0s"})
		r.check(c, report.Warning, []string{"the newest backup is"}, "--max-backup-age", "1ns")
		got := r.status("--conninfo", c.ConnString())
		if len(got.Backups) != 2 || got.Backups[0].ID != first || got.Backups[1].ID != second || !got.Backups[0].Restorable {
			r.t.Errorf("backups: got %+v", got.Backups)
		}
		if len(got.Windows) != 1 || got.Windows[0].Gap != nil || got.Windows[0].ToTime == nil || got.Windows[0].ToTime.Before(before.Add(-time.Minute)) {
			r.t.Errorf("windows: got %+v", got.Windows)
		}
		if s := got.Server; s == nil || s.Standby || s.ArchiveMode != "on" || s.Failing || s.Lag == nil || s.Lag.Segments != 0 || s.LastArchivedTime == nil {
			r.t.Errorf("server: got %+v, %s", s, got.ServerError)
		}
		text := r.run("list")
		for _, word := range []string{first, second, "CAN BE RECOVERED", got.Windows[0].ToLSN} {
			if !strings.Contains(text, word) {
				r.t.Errorf("list does not say %q:\n%s", word, text)
			}
		}
		if text := r.run("status", "--conninfo", c.ConnString()); !strings.HasPrefix(text, "all is well\n") || !strings.Contains(text, "primary on timeline 1") {
			r.t.Errorf("status:\n%s", text)
		}
		if text := r.run("status", "--conninfo", "host=/nonexistent"); !strings.Contains(text, second) {
			r.t.Errorf("status without a server:\n%s", text)
		}

		// A hole between the backups is a warning, one behind the newest is critical.
		away := filepath.Join(r.dir, "away")
		r.mkdir(away)
		take := func(segment string) (undo func()) {
			files, err := filepath.Glob(filepath.Join(r.spool, "wal", "*", segment+".zst"))
			r.must(err)
			if len(files) != 1 {
				r.t.Fatalf("%s is there as %q", segment, files)
			}
			to := filepath.Join(away, segment)
			r.must(os.Rename(files[0], to))
			return func() { r.must(os.Rename(to, files[0])) }
		}
		undo := take(middle)
		r.check(c, report.Warning, []string{middle + " is missing"})
		if text := r.run("list"); !strings.Contains(text, "GAP: "+middle+" is missing") || !strings.Contains(text, "NO FURTHER: "+middle) {
			r.t.Errorf("list:\n%s", text)
		}
		undo()
		last := got.Windows[0].Last
		r.cut(c)
		undo = take(last)
		r.check(c, report.Critical, []string{last + " is missing", "can be recovered only up to"})
		r.fails(1, []string{last + " is missing", "hint: "}, "restore", "--target-dir", filepath.Join(r.dir, "nowhere"))
		undo()
		undo = take(got.Backups[0].LastSegment)
		r.check(c, report.Warning, []string{"backup " + first + " cannot be restored", "restorable=1"})
		if text := r.run("list"); !strings.Contains(text, "NOT RESTORABLE: backup "+first) {
			r.t.Errorf("list:\n%s", text)
		}
		undo()
		r.check(c, report.OK, nil)

		// What a backup that was killed leaves.
		left := filepath.Join(r.spool, "backups", "20200101T000000Z")
		r.mkdir(left)
		r.must(os.WriteFile(filepath.Join(left, "data-0001.tar.zst"), nil, 0o666))
		r.check(c, report.Warning, []string{"backup 20200101T000000Z is unfinished"})
		r.must(os.RemoveAll(left))

		// An archiver that fails.
		r.must(c.Exec(r.ctx(), "ALTER SYSTEM SET archive_command = 'false'"))
		r.must(c.Reload(r.ctx()))
		stuck, err := c.SwitchWAL(r.ctx())
		r.must(err)
		r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "a failure to archive", func(ctx context.Context) (bool, error) {
			n, err := c.QueryInt(ctx, "SELECT failed_count FROM pg_stat_archiver WHERE last_failed_wal = $1", stuck)
			return n > 0, err
		}))
		r.check(c, report.Critical, []string{"archiving fails: " + stuck}, "--pgdata", c.Dir)
		r.run("status", "--conninfo", c.ConnString(), "--html", filepath.Join(r.dir, "page.html"))
		shown, err := os.ReadFile(filepath.Join(r.dir, "page.html"))
		r.must(err)
		for _, word := range []string{"Archiving fails: " + stuck, "primary on timeline 1", second, got.SystemID} {
			if !strings.Contains(string(shown), word) {
				r.t.Errorf("the page does not say %q:\n%s", word, shown)
			}
		}
		got = r.status("--conninfo", c.ConnString(), "--pgdata", c.Dir)
		if s := got.Server; s == nil || s.Ready == nil || *s.Ready < 1 || s.Lag == nil || s.Lag.Segments < 1 {
			r.t.Errorf("server: got %+v", s)
		}
		r.check(c, report.Critical, []string{"the given server does not archive here", "another cluster"}, "--conninfo", r.start("other", map[string]string{"archive_mode": "off"}).ConnString())
	})
}

// To a monitoring system, wrong usage is unknown, and an archive that is not there is critical.
func TestCheckExitCodes(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		args []string
		want int
	}{
		{[]string{"check", "--bogus"}, 3},
		{[]string{"--bogus", "check"}, 3},
		{[]string{"--spool", "check", "list", "--bogus"}, 2},
		{[]string{"check", "--max-lag", "soon", "--spool", dir}, 3},
		{[]string{"check", "--max-ready=-1", "--spool", dir}, 3},
		{[]string{"status", "--max-lag=-1s", "--spool", dir}, 2},
		{[]string{"check"}, 3},
		{[]string{"check", "--spool", filepath.Join(dir, "none")}, 2},
		{[]string{"check", "--spool", dir}, 2},
		{[]string{"list", "--bogus"}, 2},
		{[]string{"list", "--spool", dir}, 1},
		{[]string{"status", "--spool", dir}, 1},
	} {
		r := &rig{t: t, dir: dir}
		cmd := pgtest.Command(r.ctx(), r.command().Path, append([]string{"-c", os.DevNull}, test.args...)...)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != test.want {
			t.Errorf("supervisor %q: got %v, want exit code %d\n%s", test.args, err, test.want, out)
		}
	}
}
