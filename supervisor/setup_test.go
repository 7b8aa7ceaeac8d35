package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
	pgtest.Need(t, major)
	dir := pgtest.TempDir(t)
	// The names are to be quoted for the shell, for PostgreSQL and in the configuration file.
	r := &rig{t, major, dir, filepath.Join(dir, `the server's 100%p "spool"`)}
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

// refuses calls it, which must change nothing and say the words and a hint.
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
		if out, err := pgtest.Command(r.ctx(), cmdtest.Path("supervisor"), "--config", r.ini, "backup").CombinedOutput(); err != nil || !idForm.Match(out) {
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
	})
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

// Where the settings were changed between two setups, it is that which undo puts back.
func TestSetupAgain(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, nil)
	r.setup()
	set := func(setting string) {
		t.Helper()
		r.must(r.c.Exec(r.ctx(), "ALTER SYSTEM "+setting))
		r.must(r.c.Reload(r.ctx()))
	}
	set("SET archive_command = 'cp %p /new/%f'")
	set("RESET archive_mode")
	r.says("set archive_command: cp %p /new/%f -> ", "--replace")
	r.says("nothing to do")
	r.setup("--undo")
	if auto := r.autoConf(); !strings.Contains(auto, "'cp %p /new/%f'") || strings.Contains(auto, "archive_mode") {
		t.Errorf("postgresql.auto.conf is\n%s", auto)
	}

	// A command that does what it should is left alone, whatever its options.
	command := fmt.Sprintf("%s --codec lz4 -v --spool=%q %%p", cmdtest.Path("archive-cmd"), filepath.Join(r.dir, "here"))
	set("SET archive_command = '" + command + "'")
	r.refuses("archives into another spool")
	r.spool = filepath.Join(r.dir, "here")
	r.setup()
	if auto := r.autoConf(); !strings.Contains(auto, command) {
		t.Errorf("postgresql.auto.conf is\n%s", auto)
	}
	r.setup("--undo")
	if auto := r.autoConf(); !strings.Contains(auto, command) {
		t.Errorf("postgresql.auto.conf is\n%s", auto)
	}
}

// From 15 on a role that is not superuser may be granted all that is needed.
func TestSetupGranted(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, nil)
	r.must(r.c.Exec(r.ctx(), `CREATE ROLE admin LOGIN REPLICATION; GRANT pg_read_all_settings TO admin;
		GRANT ALTER SYSTEM ON PARAMETER wal_level, max_wal_senders, max_replication_slots, archive_mode, archive_command, synchronous_standby_names TO admin;
		GRANT SELECT ON pg_file_settings TO admin; GRANT EXECUTE ON FUNCTION pg_show_all_file_settings() TO admin`))
	as := []string{"--conninfo", strings.Replace(r.c.ConnString(), "user=postgres", "user=admin", 1)}
	r.refuses("lacks EXECUTE ON FUNCTION pg_reload_conf()", as...)
	r.must(r.c.Exec(r.ctx(), "GRANT EXECUTE ON FUNCTION pg_reload_conf() TO admin"))
	before := r.state()
	r.says("done: set archive_command", append(as, "--restart")...)
	r.must(r.c.Exec(r.ctx(), "SELECT pg_switch_wal()"))
	r.says("done: restarted", append(as, "--undo", "--restart")...)
	if now := r.state(); !strings.HasPrefix(now, before) {
		t.Errorf("after undo: got\n%s\nwant\n%s", now, before)
	}
}

// Up to PostgreSQL 11 WAL senders are among the connections, and a server with too many of them does not start.
func TestSetupFewConnections(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newSetupRig(t, major, map[string]string{"wal_level": "minimal", "max_wal_senders": "0", "max_connections": "8"})
		before := r.state()
		r.says("done: restarted", "--restart")
		r.setup("--undo", "--restart")
		if now := r.state(); !strings.HasPrefix(now, before) {
			t.Errorf("after undo: got\n%s\nwant\n%s", now, before)
		}
		r.must(r.c.Configure(map[string]string{"max_connections": "6"}))
		r.must(r.c.Restart(r.ctx()))
		if major < 12 {
			r.refuses("max_connections = 6 is too low")
		}
	}, 10, 11, 12)
}

// What cannot be set up is refused with a hint, before anything is changed.
func TestSetupRefuses(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, map[string]string{"archive_mode": "on", "archive_command": "cp %p /nowhere/%f"})
	r.must(r.c.Exec(r.ctx(), "CREATE ROLE mere LOGIN"))
	r.must(r.c.Exec(r.ctx(), `ALTER SYSTEM SET archive_command = 'false "it''s \\here" %p'`))
	r.must(r.c.Reload(r.ctx()))

	r.refuses("archive_command is that of another archiver: false \"it's")
	r.refuses("role mere is not superuser", "--conninfo", strings.Replace(r.c.ConnString(), "user=postgres", "user=mere", 1))
	r.refuses("is no directory that is there", "--replace", "--config", filepath.Join(r.dir, "no", "walkeep.ini"))
	r.refuses("cannot be made", "--replace", "--spool", filepath.Join(r.dir, "no", "spool"))
	r.refuses("is not a directory", "--replace", "--spool", r.c.LogPath())
	r.refuses("cannot be restarted", "--replace", "--restart", "--bindir", r.dir)

	r.refuses("in the data directory", "--replace", "--spool", r.c.Path("spool"))

	// Another cluster's spool.
	other := filepath.Join(r.dir, "other")
	r.mkdir(other)
	r.must(os.WriteFile(filepath.Join(other, "archive.json"), []byte(`{"version":1,"system_identifier":"7","segment_size":16777216}`), 0o644))
	r.refuses("of another cluster", "--replace", "--spool", other)
	r.must(os.WriteFile(filepath.Join(other, "archive.json"), []byte(`{}`), 0o644))
	r.refuses("refused", "--replace", "--spool", other)
	r.must(os.RemoveAll(other))

	r.must(r.c.Exec(r.ctx(), "SELECT pg_create_physical_replication_slot('walkeep')"))
	r.must(r.c.Exec(r.ctx(), "ALTER SYSTEM SET archive_library = 'basic_archive'"))
	r.must(r.c.Reload(r.ctx()))
	r.refuses("archive_library is set", "--replace")
	r.must(r.c.Exec(r.ctx(), "ALTER SYSTEM RESET archive_library"))
	r.must(r.c.Reload(r.ctx()))

	// A wrong use is one before all else.
	cmd := pgtest.Command(r.ctx(), cmdtest.Path("supervisor"), r.args("--undo", "--role", "x")...)
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 2 {
		t.Errorf("--undo --role: %v", err)
	}

	// The foreign command is replaced only when that is asked for, and put back.
	before := r.state()
	r.says(`set archive_command: false "it's \\here" %p -> `, "--replace")
	r.says("nothing to do")
	r.says("set archive_command: ", "--undo")
	r.same(before, "undo")
}

// A logical slot of the name is somebody else's.
func TestSetupLogicalSlot(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, map[string]string{"wal_level": "logical"})
	conn, err := r.c.Conn(r.ctx())
	r.must(err)
	defer conn.Close(r.ctx())
	if _, err := conn.Exec(r.ctx(), "SELECT pg_create_logical_replication_slot('walkeep', 'test_decoding')"); err != nil {
		_, err = conn.Exec(r.ctx(), "SELECT pg_create_logical_replication_slot('walkeep', 'pgoutput')")
		r.must(err)
	}
	r.refuses("logical")
	r.says("make the physical replication slot other", "--slot", "other")
	if level, err := r.c.QueryString(r.ctx(), "SELECT count(*) FROM pg_file_settings WHERE name = 'wal_level' AND sourcefile LIKE '%auto.conf'"); err != nil || level != "0" {
		t.Errorf("wal_level was changed (%s, %v)", level, err)
	}
}

func TestSetupStandby(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newSetupRig(t, major, map[string]string{"hot_standby": "on"})
		r.must(r.c.Stop(r.ctx(), pgtest.Fast))
		if major < 12 {
			r.must(os.WriteFile(r.c.Path("recovery.conf"), []byte("standby_mode = 'on'\n"), 0o644))
		} else {
			r.must(os.WriteFile(r.c.Path("standby.signal"), nil, 0o644))
		}
		r.must(r.c.Start(r.ctx()))
		r.refuses("in recovery")
	}, 11, setupMajor, 18)
}

// A file that is there stays as it is, and what it lacks is said.
func TestSetupKeepsFile(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, nil)
	content := "# mine\nslot = other\nkeep-backups = 3\n"
	r.must(os.WriteFile(r.ini, []byte(content), 0o644))
	out := r.setup("--slot", "walkeep")
	for _, words := range []string{"add the line: stream = true", "add the line: " + config.Line("spool", r.spool), "it says something else than: slot = walkeep"} {
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
	r.says("give the role two LOGIN", "--role", "two")
	r.says("nothing to do", "--role", "two")
	r.setup("--undo")
	r.same(before, "undo")
}

// What somebody else has changed since is not undone, and an active slot is not dropped.
func TestSetupUndoLeaves(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, nil)
	before := r.state()
	r.setup("--synchronous")
	r.must(r.c.Exec(r.ctx(), "ALTER SYSTEM SET archive_command = 'true'"))
	r.must(r.c.Reload(r.ctx()))
	receiver, err := pgtest.ClientTool("pg_receivewal")
	r.must(err)
	r.mkdir(filepath.Join(r.dir, "received"))
	cmd := pgtest.Command(r.ctx(), receiver, "-D", filepath.Join(r.dir, "received"), "-S", "walkeep", "-d", r.c.ConnString())
	r.must(cmd.Start())
	r.must(r.c.WaitFor(r.ctx(), pgtest.Timeout, "the slot to be in use", func(ctx context.Context) (bool, error) {
		n, err := r.c.QueryInt(ctx, "SELECT count(*) FROM pg_replication_slots WHERE active")
		return n == 1, err
	}))
	r.refuses("is in use", "--undo")
	r.must(cmd.Process.Signal(os.Interrupt))
	cmd.Wait()
	r.must(os.RemoveAll(filepath.Join(r.dir, "received")))
	r.must(r.c.WaitFor(r.ctx(), pgtest.Timeout, "the slot to be free", func(ctx context.Context) (bool, error) {
		n, err := r.c.QueryInt(ctx, "SELECT count(*) FROM pg_replication_slots WHERE active")
		return n == 0, err
	}))
	r.says("archive_command was changed since, and stays", "--undo")
	r.must(r.c.Exec(r.ctx(), "ALTER SYSTEM RESET archive_command"))
	r.same(before, "undo")
}

// Root sets up a server of another user, to whom all belongs that is made.
func TestSetupAsRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	r := newSetupRig(t, setupMajor, minimal)
	before := r.state()
	call := func(more ...string) {
		t.Helper()
		cmd := exec.CommandContext(r.ctx(), cmdtest.Path("supervisor"), r.args(more...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", more, err, out)
		}
	}
	call("--restart")
	r.load(r.c, 5, 1)
	r.cut(r.c)
	r.run("status", "--conninfo", r.c.ConnString()) // as the servers' user
	out, err := pgtest.Command(r.ctx(), "cat", r.ini, filepath.Join(r.spool, "setup.json")).CombinedOutput()
	if err != nil {
		t.Errorf("the servers' user cannot read what root has made: %s", out)
	}
	r.says("nothing to do")
	call("--undo", "--restart")
	r.must(r.c.Exec(r.ctx(), "DROP TABLE load_history, load_account, load_teller"))
	r.same(before+"\n"+r.spool+"\n"+filepath.Join(r.spool, "archive.json"), "undo")
}

// A setup, or an undo, that is killed at any time can be undone.
func TestSetupKilled(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, minimal)
	r.must(r.c.Exec(r.ctx(), "CREATE ROLE walker"))
	r.must(r.c.Exec(r.ctx(), "ALTER SYSTEM SET max_wal_senders = 0"))
	before := r.state()
	random := cmdtest.Rand(t)
	for _, made := range []bool{false, true} {
		if made { // now the slot can be made at once, and the spool is there
			r.must(r.c.Configure(map[string]string{"wal_level": "replica", "max_replication_slots": "5"}))
			r.must(r.c.Restart(r.ctx()))
			r.mkdir(r.spool)
			before = r.state()
		}
		begun := time.Now()
		r.setup("--role", "walker")
		took := time.Since(begun)
		r.setup("--undo")
		r.same(before, "undo")
		killed := 0
		for range 30 {
			if r.kill(random, took, "--role", "walker") {
				killed++
			}
			if random.IntN(2) == 0 {
				r.setup("--role", "walker") // completes it
			}
			r.kill(random, took, "--undo")
			r.setup("--undo")
			r.same(before, "a setup that was killed, and undo")
			if t.Failed() {
				return
			}
		}
		t.Logf("killed %d setups, in up to %s", killed, took)
		if killed < 10 {
			t.Errorf("only %d setups were killed", killed)
		}
	}
}

// kill calls setup, and kills it after up to the time that it takes.
func (r *setupRig) kill(random *rand.Rand, took time.Duration, more ...string) bool {
	r.t.Helper()
	cmd := pgtest.Command(r.ctx(), cmdtest.Path("supervisor"), r.args(more...)...)
	r.must(cmd.Start())
	timer := time.AfterFunc(time.Duration(random.Int64N(int64(took))), func() { cmd.Process.Kill() })
	defer timer.Stop()
	return cmd.Wait() != nil
}
