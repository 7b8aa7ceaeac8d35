package restore_test

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/restore"
)

// header returns the header of a segment's first page.
func header(tli uint32, lsn, system uint64) []byte {
	b := make([]byte, 8192)
	binary.LittleEndian.PutUint16(b, 0xD110)
	binary.LittleEndian.PutUint16(b[2:], 2)
	binary.LittleEndian.PutUint32(b[4:], tli)
	binary.LittleEndian.PutUint64(b[8:], lsn)
	binary.LittleEndian.PutUint64(b[24:], system)
	binary.LittleEndian.PutUint32(b[32:], 16<<20)
	binary.LittleEndian.PutUint32(b[36:], 8192)
	return b
}

func TestSettings(t *testing.T) {
	when := time.Date(2026, 11, 22, 21, 44, 0, 120_000_000, time.FixedZone("", 7200))
	for _, c := range []struct {
		name       string
		target     recovery.Target
		conf, auto string
		want       string // the block, or recovery.conf
		major      int
	}{
		{name: "latest", target: recovery.Target{Kind: recovery.ToLatest}, want: "recovery_target_timeline = '3'\n"},
		{name: "time", target: recovery.Target{Kind: recovery.ToTime, Time: when},
			want: "recovery_target_timeline = '3'\nrecovery_target_time = '2026-11-22 19:44:00.12+00:00'\nrecovery_target_inclusive = 'on'\nrecovery_target_action = 'pause'\n"},
		{name: "exclusive", target: recovery.Target{Kind: recovery.ToLSN, LSN: 0x1_0000_0028, Exclusive: true},
			want: "recovery_target_timeline = '3'\nrecovery_target_lsn = '1/28'\nrecovery_target_inclusive = 'off'\nrecovery_target_action = 'pause'\n"},
		{name: "name", target: recovery.Target{Kind: recovery.ToName, Name: `it's \ here`},
			want: "recovery_target_timeline = '3'\nrecovery_target_name = 'it''s \\\\ here'\nrecovery_target_inclusive = 'on'\nrecovery_target_action = 'pause'\n"},
		{name: "immediate", target: recovery.Target{Kind: recovery.ToImmediate},
			want: "recovery_target_timeline = '3'\nrecovery_target = 'immediate'\nrecovery_target_inclusive = 'on'\nrecovery_target_action = 'pause'\n"},
		{name: "the user's own target", target: recovery.Target{Kind: recovery.ToXID, XID: 800}, conf: "recovery_target_name = 'old'\n#recovery_target_time = 'x'\nRecovery_Target_LSN ''\n",
			want: "recovery_target_name = ''\nrecovery_target_timeline = '3'\nrecovery_target_xid = '800'\nrecovery_target_inclusive = 'on'\nrecovery_target_action = 'pause'\n"},
		{name: "included", target: recovery.Target{Kind: recovery.ToLatest}, conf: "include_if_exists 'missing'\ninclude_dir = 'postgresql.d'\n",
			want: "recovery_target_time = ''\nrecovery_target_timeline = '3'\n"},
		{name: "what a standby was set to", target: recovery.Target{Kind: recovery.ToXID, XID: 800},
			conf: "recovery_min_apply_delay = '1h'\narchive_cleanup_command = 'rm %r'\npromote_trigger_file = '/tmp/promote'\nprimary_conninfo = 'host=x'\nhot_standby = off\n",
			want: "recovery_min_apply_delay = '0'\narchive_cleanup_command = ''\npromote_trigger_file = ''\nprimary_conninfo = ''\nhot_standby = 'on'\n" +
				"recovery_target_timeline = '3'\nrecovery_target_xid = '800'\nrecovery_target_inclusive = 'on'\nrecovery_target_action = 'pause'\n"},
		{name: "less than the replay needs", target: recovery.Target{Kind: recovery.ToLatest}, conf: "max_connections = 20 # few\nmax_worker_processes = 16\n",
			want: "max_connections = '60'\nmax_prepared_transactions = '7'\nrecovery_target_timeline = '3'\n"},
		{name: "up to 11", target: recovery.Target{Kind: recovery.ToXID, XID: 800}, major: 11,
			want: "recovery_target_timeline = '3'\nrecovery_target_xid = '800'\nrecovery_target_inclusive = 'on'\nrecovery_target_action = 'pause'\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := cluster()
			files["postgresql.conf"] = c.conf
			files["postgresql.d/"], files["postgresql.d/a.conf"] = "", "recovery_target_time = '2020-01-01'\n"
			files["postgresql.auto.conf"] = "work_mem = '8MB'\nrecovery_target_name = 'earlier'\nprimary_conninfo = 'host=old'\n"
			r := newRig(t, files)
			if c.major != 0 {
				r.backup.Major = c.major
			}
			o := r.options(r.target("data"))
			o.Plan.Target, o.Plan.Timeline = c.target, 3
			if strings.Contains(c.conf, "few") {
				o.Changes.Limits = wal.Limits{Connections: 60, WorkerProcesses: 8, PreparedTransactions: 7, LocksPerTransaction: 64}
			}
			file, before := "postgresql.auto.conf", "work_mem = '8MB'\n# walkeep restore: of an earlier recovery: recovery_target_name = 'earlier'\n"+
				"# walkeep restore: of an earlier recovery: primary_conninfo = 'host=old'\n"
			if c.major == 11 {
				file, before = "recovery.conf", ""
			}
			for range 2 { // a second restore writes the same
				r.run(o)
				o.Delta = true
				content, err := os.ReadFile(filepath.Join(o.Dir, file))
				r.must(err)
				if got, want := strings.Replace(withoutComments(t, string(content)), "restore_command = 'restore-cmd %f %p'\n", "", 1), before+c.want; got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
				_, err = os.Stat(filepath.Join(o.Dir, "recovery.signal"))
				if got, want := err == nil, c.major != 11; got != want {
					t.Errorf("recovery.signal: got %v, want %v", got, want)
				}
			}
		})
	}
}

// withoutComments removes the lines that begin and end the block of a restore.
func withoutComments(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "# walkeep restore: how") && !strings.HasPrefix(line, "# walkeep restore: end") && !strings.HasPrefix(line, "# Written by") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestNotices(t *testing.T) {
	for _, c := range []struct{ name, conf, want string }{
		{"another data directory", "data_directory = '/var/lib/postgresql/15/main'\n", "would use that directory"},
		{"an include that is missing", "include 'missing.conf'\n", "was not read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := cluster()
			files["postgresql.conf"] = c.conf
			r := newRig(t, files)
			o := r.options(r.target("data"))
			var said []string
			o.Notice = func(_, message string) { said = append(said, message) }
			r.run(o)
			if got := strings.Join(said, "; "); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// The shell and PostgreSQL each replace their part of the command, and the program receives the paths unchanged.
func TestCommand(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no shell")
	}
	dir := filepath.Join(t.TempDir(), `it's a "dir" $HOME 100%`)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "restore-cmd")
	script := "#!/bin/sh\nfor a; do printf '<%s>' \"$a\"; done\nexit ${CODE:-0}\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	// As BuildRestoreCommand in PostgreSQL's src/common/archive.c replaces them.
	command := strings.NewReplacer("%%", "%", "%f", "NAME", "%p", "pg_wal/RECOVERYXLOG", "%r", "REDO").
		Replace(restore.Command(program, dir, filepath.Join(dir, "c.ini")))
	for code, want := range map[string]int{"0": 0, "1": 1, "2": 126, "126": 126, "143": 143} {
		cmd := exec.Command("sh", "-c", command)
		cmd.Env = []string{"HOME=/wrong", "CODE=" + code}
		out, _ := cmd.Output()
		if got, want := string(out), "<--spool><"+dir+"><--config><"+dir+"/c.ini><NAME><pg_wal/RECOVERYXLOG><REDO>"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("exit code %s: got %d, want %d", code, got, want)
		}
	}
}
