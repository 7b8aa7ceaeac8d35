package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/pgtest"
)

func TestSetupCommandLine(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, nil)
	r.must(r.c.Stop(r.ctx(), pgtest.Fast))
	start := []string{"-D", r.c.Dir, "-w", "-l", os.DevNull, "-o", "-c archive_mode=off -c max_wal_senders=5", "start"}
	r.must(pgtest.Command(r.ctx(), filepath.Join(r.c.Bindir(), "pg_ctl"), start...).Run())
	r.refuses("archive_mode is given on the server's command line")
}

// pg_ctl restart repeats a relative -D, which leads nowhere from another directory than that of the first start.
func TestSetupRestartsRelative(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, nil)
	r.must(r.c.Stop(r.ctx(), pgtest.Fast))
	ctl := pgtest.Command(r.ctx(), filepath.Join(r.c.Bindir(), "pg_ctl"), "-D", filepath.Base(r.c.Dir), "-w", "-l", os.DevNull, "start")
	ctl.Dir = filepath.Dir(r.c.Dir)
	r.must(ctl.Run())
	r.says("done: restarted the server", "--restart")
	r.says("done: restarted the server", "--undo", "--restart") // from what pg_ctl has written then
}

func TestSetupGranted(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, nil)
	r.must(r.c.Exec(r.ctx(), `CREATE ROLE admin LOGIN REPLICATION; GRANT pg_read_all_settings TO admin;
		GRANT ALTER SYSTEM ON PARAMETER wal_level, max_wal_senders, max_replication_slots, archive_mode, archive_command, synchronous_standby_names TO admin;
		GRANT SELECT ON pg_file_settings TO admin; GRANT EXECUTE ON FUNCTION pg_show_all_file_settings() TO admin`))
	as := []string{"--conninfo", strings.Replace(r.c.ConnString(), "user=postgres", "user=admin", 1)}
	r.refuses("lacks the rights that setup needs: EXECUTE ON FUNCTION pg_reload_conf()", as...)
	r.must(r.c.Exec(r.ctx(), "GRANT EXECUTE ON FUNCTION pg_reload_conf() TO admin"))
	before := r.state()
	r.says("done: set archive_command", append(as, "--restart")...)
	r.must(r.c.Exec(r.ctx(), "SELECT pg_switch_wal()"))
	r.says("done: restarted", append(as, "--undo", "--restart")...)
	if now := r.state(); !strings.HasPrefix(now, before) {
		t.Errorf("after undo: got\n%s\nwant\n%s", now, before)
	}
}

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

func TestSetupRefuses(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, map[string]string{"archive_mode": "on", "archive_command": "cp %p /nowhere/%f"})
	r.must(r.c.Exec(r.ctx(), "CREATE ROLE mere LOGIN"))
	r.must(r.c.Exec(r.ctx(), `ALTER SYSTEM SET archive_command = 'false "it''s \\here" %p'`))
	r.must(r.c.Reload(r.ctx()))

	r.refuses("archive_command belongs to another archiver, false")
	r.refuses("role mere is not superuser", "--conninfo", strings.Replace(r.c.ConnString(), "user=postgres", "user=mere", 1))
	r.refuses("is not an existing directory", "--replace", "--config", filepath.Join(r.dir, "no", "walkeep.ini"))
	r.refuses("cannot be made", "--replace", "--spool", filepath.Join(r.dir, "no", "spool"))
	r.refuses("is not a directory", "--replace", "--spool", r.c.LogPath())
	r.refuses("cannot be restarted", "--replace", "--restart", "--bindir", r.dir)

	r.refuses("in the data directory", "--replace", "--spool", r.c.Path("spool"))

	// Another directory of the cluster, as that of a standby would be.
	clone := filepath.Join(r.dir, "clone")
	r.mkdir(clone)
	r.must(pgtest.Command(r.ctx(), "cp", "-a", r.c.Path("global"), r.c.Path("PG_VERSION"), clone).Run())
	r.refuses("of another server of this cluster", "--replace", "--pgdata", clone)
	r.must(os.RemoveAll(clone))
	r.refuses("cannot be examined", "--replace", "--pgdata", clone)

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

	// The foreign command is replaced only when that is asked for, and put back.
	before := r.state()
	r.says(`set archive_command: false ... -> `, "--replace")
	r.says("nothing to do")
	r.says("set archive_command: ", "--undo")
	r.same(before, "undo")
}

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
	}, 11, setupMajor, pgtest.MaxMajor)
}
