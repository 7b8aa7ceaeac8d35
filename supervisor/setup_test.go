package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/config"
	"walkeep/common/pgtest"
)

const setupMajor = 15

// A setupRig has a server that does not archive, and a spool and a configuration file that are not there yet.
type setupRig struct {
	*rig
	c   *pgtest.Cluster
	ini string
}

func newSetupRig(t *testing.T, major int, settings map[string]string) *setupRig {
	t.Helper()
	cmdtest.Long(t)
	pgtest.Need(t, major)
	dir := pgtest.TempDir(t)
	// The names are to be quoted for the shell, for PostgreSQL and in the configuration file.
	r := &rig{t: t, major: major, dir: dir, spool: filepath.Join(dir, `the server's 100%p "spool"`)}
	etc := filepath.Join(dir, "etc")
	r.mkdir(etc)
	c := pgtest.New(t, pgtest.Options{Major: major, Dir: filepath.Join(dir, "data"), Settings: settings})
	r.must(c.Start(r.ctx()))
	return &setupRig{r, c, filepath.Join(etc, "walkeep.ini")}
}

// minimal is a server as far from archiving as it can be.
var minimal = map[string]string{"wal_level": "minimal", "max_wal_senders": "0", "max_replication_slots": "0"}

// args are those of setup, for who may set the server up.
func (r *setupRig) args(more ...string) []string {
	return append([]string{"setup", "--config", r.ini, "--spool", r.spool, "--conninfo", r.c.ConnString(), "--bindir", r.c.Bindir()}, more...)
}

// setup calls the command as the servers' user, and gives what it said.
func (r *setupRig) setup(more ...string) string {
	r.t.Helper()
	out, err := pgtest.Command(r.ctx(), cmdtest.Path("supervisor"), r.args(more...)...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("setup %q: %v\n%s", more, err, out)
	}
	return string(out)
}

// says calls it, and looks for words in what it says.
func (r *setupRig) says(words string, more ...string) {
	r.t.Helper()
	if out := r.setup(more...); !strings.Contains(out, words) {
		r.t.Errorf("setup %q does not say %q:\n%s", more, words, out)
	}
}

// refuses calls setup, which must change nothing, and print the words and a hint.
func (r *setupRig) refuses(words string, more ...string) {
	r.t.Helper()
	before := r.state()
	cmd := pgtest.Command(r.ctx(), cmdtest.Path("supervisor"), r.args(more...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		r.t.Errorf("setup %q: got %v, want exit code 1", more, err)
	}
	for _, want := range []string{words, "supervisor: hint: "} {
		if !strings.Contains(stderr.String(), want) {
			r.t.Errorf("setup %q does not say %q:\n%s", more, want, stderr.String())
		}
	}
	r.same(before, "a setup that was refused")
}

// state is all that setup may change: the entries that ALTER SYSTEM has made, slots, roles, and what is in the directories
// of the spool and of the configuration file. What is in an archive is left out.
func (r *setupRig) state() string {
	r.t.Helper()
	auto, err := os.ReadFile(r.c.Path("postgresql.auto.conf"))
	r.must(err)
	lines := strings.Split(string(auto), "\n")
	slices.Sort(lines)
	lines = slices.DeleteFunc(lines, func(l string) bool { return l == "" || l[0] == '#' })
	for _, sql := range []string{
		`SELECT string_agg(name || '=' || coalesce(setting, ''), ' ' ORDER BY name) FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'`,
		`SELECT string_agg(concat_ws(' ', slot_name, slot_type, plugin), ', ' ORDER BY slot_name) FROM pg_replication_slots`,
		`SELECT string_agg(concat_ws(' ', rolname, rolsuper, rolreplication, rolcanlogin, pg_has_role(oid, 'pg_monitor', 'member')), ', ' ORDER BY rolname) FROM pg_roles`,
		`SELECT string_agg(concat_ws(' ', proname, proacl), ', ' ORDER BY proname) FROM pg_proc WHERE proname ~ '^pg_(backup_start|backup_stop|start_backup|stop_backup)$'`,
	} {
		s, err := r.c.QueryString(r.ctx(), sql)
		r.must(err)
		lines = append(lines, s)
	}
	r.must(filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == r.c.Dir, filepath.Dir(path) == r.spool && slices.Contains([]string{"wal", "backups", "leases"}, d.Name()):
			return fs.SkipDir
		case path == filepath.Join(r.spool, "server.json"):
			return nil // belongs to the archive
		case path == r.ini:
			content, err := os.ReadFile(path)
			path += ": " + string(content)
			if err != nil {
				return err
			}
		case path == r.c.LogPath():
			return nil
		}
		lines = append(lines, path)
		return nil
	}))
	return strings.Join(lines, "\n")
}

func (r *setupRig) same(before, after string) {
	r.t.Helper()
	if now := r.state(); now != before {
		r.t.Errorf("after %s: got\n%s\nwant\n%s", after, now, before)
	}
}

// autoConf is the content of the file that ALTER SYSTEM writes.
func (r *setupRig) autoConf() string {
	r.t.Helper()
	content, err := os.ReadFile(r.c.Path("postgresql.auto.conf"))
	r.must(err)
	return string(content)
}

// A server is set up, archives and is backed up by the role that was made, and is put back to what it was.
func TestSetup(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newSetupRig(t, major, minimal)
		r.must(r.c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
		for _, setting := range []string{"work_mem = '5MB'", "max_wal_senders = 0", `log_line_prefix = '%m it''s \here '`} {
			r.must(r.c.Exec(r.ctx(), "ALTER SYSTEM SET "+setting))
		}
		before, auto := r.state(), r.autoConf()

		dry := r.setup("--role", "walker", "--synchronous", "--dry-run")
		for _, words := range []string{"wal_level: minimal -> replica", "max_wal_senders: 0 -> 10", "archive_mode: off -> on", "make the spool", "make the role walker",
			"make the physical replication slot walkeep", "write " + r.ini, "synchronous_standby_names: (empty) -> walkeep"} {
			if !strings.Contains(dry, words) {
				t.Errorf("a dry run does not say %q:\n%s", words, dry)
			}
		}
		r.same(before, "a dry run")
		if now := r.autoConf(); now != auto {
			t.Errorf("after a dry run postgresql.auto.conf is\n%s\nwant\n%s", now, auto)
		}

		first := r.setup("--role", "walker")
		for _, words := range []string{"restart needed, for wal_level, max_wal_senders, max_replication_slots, archive_mode", "call setup again after it"} {
			if !strings.Contains(first, words) {
				t.Errorf("setup does not say %q:\n%s", words, first)
			}
		}
		r.says("done: restarted the server", "--restart", "--role", "walker")
		r.says("nothing to do", "--role", "walker", "--restart")
		r.checkINI()
		r.load(r.c, 20, 1)
		r.cut(r.c)
		if slot, err := r.c.QueryString(r.ctx(), "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'walkeep' AND slot_type = 'physical'"); err != nil || slot == "" {
			t.Errorf("the slot keeps no WAL (%q, %v)", slot, err)
		}
		if out, err := pgtest.Command(r.ctx(), cmdtest.Path("supervisor"), "--config", r.ini, "backup", "--backup-from", "files").CombinedOutput(); err != nil || !idForm.Match(out) {
			t.Errorf("a backup with the role that was made: %v\n%s", err, out)
		}
		want := r.sum(r.c)

		r.says("drop the replication slot", "--undo", "--dry-run")
		r.says("nothing to do", "--role", "walker")
		r.says("keep the spool", "--undo")
		r.says("restart needed", "--undo")
		r.says("done: restarted the server", "--undo", "--restart")
		r.says("nothing to undo", "--undo", "--restart")
		r.same(before+"\n"+r.spool+"\n"+filepath.Join(r.spool, "archive.json"), "undo")
		for name, value := range minimal {
			if now, err := r.c.QueryString(r.ctx(), "SHOW "+name); err != nil || now != value {
				t.Errorf("after undo %s is %s (%v)", name, now, err)
			}
		}
		r.must(r.c.Stop(r.ctx(), pgtest.Fast))
		r.opens(r.restore("restored"), want)
	}, pgtest.Turns()...)
}

// checkINI loads the file that was written, and compares what a program reads out of it.
func (r *setupRig) checkINI() {
	r.t.Helper()
	c, _, err := config.ReadFile(r.ini)
	r.must(err)
	if c.Spool != r.spool || c.PGData != r.c.Dir || c.Slot != "walkeep" || !c.Streaming || !strings.Contains(c.Conninfo, "user=walker") {
		r.t.Errorf("the configuration file says %+v", c)
	}
	if info, err := os.Stat(r.ini); err != nil || info.Mode().Perm() != 0o600 {
		r.t.Errorf("the configuration file's mode is %v (%v)", info.Mode(), err)
	}
	if info, err := os.Stat(r.spool); err != nil || info.Mode().Perm() != 0o700 {
		r.t.Errorf("the spool's mode is %v (%v)", info.Mode(), err)
	}
}

// setup refuses to change a setting that the server's command line has.
// From 15 on a role that is not superuser may be granted all that is needed.
// Up to PostgreSQL 11 WAL senders are among the connections, and a server with too many of them does not start.
// setup refuses what it cannot do, with a hint, before it has changed anything.
// A logical slot of the name is somebody else's.
// A file that is there stays as it is, and what it lacks is reported.
func TestSetupKeepsFile(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, nil)
	content := "# mine\nslot = other\nkeep-backups = 3\n"
	r.must(os.WriteFile(r.ini, []byte(content), 0o644))
	out := r.setup("--slot", "walkeep", "--flush-interval", "2s")
	for _, words := range []string{"add the line: stream = true", "add the line: flush-interval = 2s", "add the line: " + config.Line("spool", r.spool), "it has another value than: slot = walkeep"} {
		if !strings.Contains(out, words) {
			t.Errorf("setup does not say %q:\n%s", words, out)
		}
	}
	keep := func(after string) {
		t.Helper()
		if now, err := os.ReadFile(r.ini); err != nil || string(now) != content {
			t.Errorf("after %s the file is %q (%v)", after, now, err)
		}
	}
	keep("setup")
	r.setup("--undo")
	keep("undo")

	// One that setup has made is removed, unless it was changed since.
	r.must(os.Remove(r.ini))
	before := r.state()
	r.setup()
	r.setup("--undo")
	r.same(before, "undo")
	r.setup()
	made, err := os.ReadFile(r.ini)
	r.must(err)
	content = string(made) + "keep-days = 3\n"
	r.must(os.WriteFile(r.ini, []byte(content), 0o600))
	r.says("was changed since", "--undo")
	keep("undo")
}

// A password is neither written nor said.
func TestSetupPassword(t *testing.T) {
	t.Parallel()
	for i, conninfo := range []string{
		"%s password=s3cr3t user=postgres",
		"%s password = 's3cr3t'",
		"postgresql://postgres:s3cr3t@/postgres?host=%s&sslmode=disable",
		"postgresql:///postgres?host=%s&sslmode=disable&password=s3cr3t&user=postgres",
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			r := newSetupRig(t, setupMajor, nil)
			if strings.HasPrefix(conninfo, "%s") {
				conninfo = fmt.Sprintf(conninfo, r.c.ConnString())
			} else {
				conninfo = fmt.Sprintf(conninfo, r.c.RunDir())
			}
			out := r.setup("--conninfo", conninfo)
			if !strings.Contains(out, "the password in conninfo is not written") || strings.Contains(out, "s3cr3t") {
				t.Errorf("setup says\n%s", out)
			}
			for _, file := range []string{r.ini, filepath.Join(r.spool, "setup.json"), r.c.Path("postgresql.auto.conf")} {
				if content, err := os.ReadFile(file); err != nil || bytes.Contains(content, []byte("s3cr3t")) {
					t.Errorf("%s: %v\n%s", file, err, content)
				}
			}
			out2, err := pgtest.Command(r.ctx(), cmdtest.Path("supervisor"), "--config", r.ini, "status").CombinedOutput()
			if err != nil && !strings.Contains(string(out2), "archive.json") {
				t.Errorf("the conninfo that was written: %v\n%s", err, out2)
			}
			if c, _, err := config.ReadFile(r.ini); err != nil || !strings.Contains(c.Conninfo, "host="+r.c.RunDir()) {
				t.Errorf("the conninfo that was written is %q (%v)", c.Conninfo, err)
			}
		})
	}
}

// A role that is there gets what it lacks, and only that is taken from it again.
func TestSetupRole(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, nil)
	r.must(r.c.Exec(r.ctx(), `CREATE ROLE "it's ""one" LOGIN; CREATE ROLE two REPLICATION; GRANT pg_monitor TO two`))
	before := r.state()
	r.says("REPLICATION, pg_monitor", "--role", `it's "one`)
	r.says("give the role two LOGIN, EXECUTE on the functions", "--role", "two")
	r.says("nothing to do", "--role", "two")
	r.setup("--undo")
	r.same(before, "undo")
}
