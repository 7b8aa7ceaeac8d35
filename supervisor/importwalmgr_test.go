package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/config"
	"walkeep/supervisor/walmgr"
)

// importOf writes walmgr's configuration to a file, and gives the arguments that import it.
func importOf(t *testing.T, content string, more ...string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "wal-master.ini")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return append([]string{"import-walmgr", file}, more...)
}

const walmgrPrimary = `[walmgr]
master_db = dbname=shop password=s3cret
master_data = /srv/%(job_name)s
walmgr_data = ~/ws
loop_delay = 2
keep_backups = -1
`

func TestImportWalmgr(t *testing.T) {
	t.Parallel()
	t.Run("to standard output", func(t *testing.T) {
		cmd := cmdtest.Command("supervisor", importOf(t, walmgrPrimary)...)
		cmd.Env = append(cmd.Env, "HOME=/home/pg", "USERPROFILE=/home/pg")
		r := cmdtest.Run(t, cmd)
		r.Expect(t, 0, "hint: ", "supervisor setup", ".pgpass", "keep_backups in line 6")
		for _, want := range []string{"\nspool = /home/pg/ws-walkeep\n", "\npgdata = /srv/wal-master\n", "\nconninfo = dbname=shop\n", "\nflush-interval = 2s\n"} {
			if !strings.Contains(r.Stdout, want) {
				t.Errorf("%q is not in the result:\n%s", want, r.Stdout)
			}
		}
		if strings.Contains(r.Stdout+r.Stderr, "s3cret") {
			t.Errorf("the password is told:\n%s\n%s", r.Stdout, r.Stderr)
		}
	})
	t.Run("to a file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "walkeep.ini")
		r := cmdtest.Run(t, cmdtest.Command("supervisor", importOf(t, walmgrPrimary, "--output", file, "-q")...))
		r.Expect(t, 0)
		if r.Stdout+r.Stderr != "" {
			t.Errorf("got %q and %q, want silence", r.Stdout, r.Stderr)
		}
		c := config.Default()
		if err := c.Load(file); err != nil || c.PGData != "/srv/wal-master" || !c.Streaming {
			t.Errorf("got %+v, %v", c, err)
		}
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r = cmdtest.Run(t, cmdtest.Command("supervisor", importOf(t, "[walmgr]\nkeep_backups = 2", "--output", file)...))
		r.Expect(t, 1, "already exists")
		after, err := os.ReadFile(file)
		if err != nil || string(after) != string(before) {
			t.Errorf("got %v, %s, want the file as it was", err, after)
		}
		r = cmdtest.Run(t, cmdtest.Command("supervisor", "-c", file, "list"))
		r.Expect(t, 1, "ws-walkeep") // there is no archive, but the configuration is one
	})
	for _, test := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"another program's file", importOf(t, "[londiste]\nx = y"), 1, "no section [walmgr], [wal-master] or [wal-slave]"},
		{"no file of that kind", importOf(t, "hello"), 1, "line 1: there is no section"},
		{"a missing file", []string{"import-walmgr", filepath.Join(t.TempDir(), "missing.ini")}, 1, "missing.ini"},
		{"no directory for the result", importOf(t, walmgrPrimary, "--output", filepath.Join(t.TempDir(), "missing", "x")), 1, "write the result"},
		{"no file", []string{"import-walmgr"}, 2, "FILE"},
		{"two files", []string{"import-walmgr", "a", "b"}, 2, "too many arguments"},
		{"an unknown option", []string{"import-walmgr", "a", "--force"}, 2, "force"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := cmdtest.Run(t, cmdtest.Command("supervisor", test.args...))
			r.Expect(t, test.code, test.want)
			if r.Stdout != "" {
				t.Errorf("got %q on standard output", r.Stdout)
			}
		})
	}
}

// All that walmgr had is on the page about it.
var (
	walmgrCommands = strings.Fields(`setup stop backup restore listbackups periodic sync syncdaemon synch-standby boot pause continue
		createslave init_master init_slave cleanup xarchive xrestore xlock xrelease xrotate xpurgewals xpartialsync`)
	walmgrOptions = strings.Fields(`--not-really --init-master --init-slave --config-dir --slave --pgdata --ssh-keygen --ssh-add-key
		--ssh-remove-key --add-password --remove-password --primary-conninfo --synch-standby --ini --set --daemon --reload --stop --kill
		--quiet --verbose --version`)
	walmgrFiles = strings.Fields(`logs.complete logs.partial data.master data.master.0 config.backup BACKUPLOCK STOP PAUSE PROGRESS
		PG_RECEIVEXLOG .walshipping.last .walshipping.periodic tmpspc recovery.conf skylog.ini wal-master.ini wal-slave.ini
		authorized_keys .pgpass`)
)

func TestFromWalmgr(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "from-walmgr.md"))
	if err != nil {
		t.Fatal(err)
	}
	// What stands in the first column of a table, as code.
	cell := regexp.MustCompile(`(?m)^\|([^|]*)\|`)
	code := regexp.MustCompile("`([^` ]+)[^`]*`")
	told := make(map[string]bool)
	for _, row := range cell.FindAllStringSubmatch(string(page), -1) {
		for _, name := range code.FindAllStringSubmatch(row[1], -1) {
			told[name[1]] = true
		}
	}
	for what, names := range map[string][]string{
		"command": walmgrCommands, "option": walmgrOptions, "file": walmgrFiles, "parameter": walmgr.Parameters(),
	} {
		if len(names) < 10 {
			t.Errorf("there are %d of %s", len(names), what)
		}
		for _, name := range names {
			if !told[name] {
				t.Errorf("the page does not tell what became of the %s %s", what, name)
			}
		}
	}
}
