package walmgr_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"walkeep/common/config"
	"walkeep/common/conninfo"
	"walkeep/supervisor/service"
	"walkeep/supervisor/walmgr"
)

var options = walmgr.Options{
	File: "/etc/walmgr/wal-master.ini",
	Host: "db1",
	Home: func(user string) string {
		return map[string]string{"": "/home/pg", "ann": "/home/ann", "root": "/"}[user]
	},
}

func convert(t *testing.T, content string) walmgr.Result {
	t.Helper()
	r, err := walmgr.Convert([]byte(content), options)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// load reads a result as walkeep's programs do.
func load(t *testing.T, text []byte) config.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "walkeep.ini")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := read(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return c
}

func read(file string) (config.Config, error) {
	c := config.Default()
	if err := c.Load(file); err != nil {
		return c, err
	}
	if err := c.Validate(); err != nil && !errors.Is(err, config.ErrNoSpool) {
		return c, err
	}
	for _, schedule := range []string{c.BackupSchedule, c.CleanupSchedule} {
		if schedule == "" {
			continue
		}
		if _, err := service.ParseSchedule(schedule); err != nil {
			return c, err
		}
	}
	return c, nil
}

const data = "../../testdata/walmgr"

func TestGolden(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(data, "*.ini"))
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, file := range files {
		name := filepath.Base(file)
		if strings.HasSuffix(name, ".walkeep.ini") {
			continue
		}
		tried++
		t.Run(name, func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			o := options
			o.File = "/etc/walmgr/" + name
			r, err := walmgr.Convert(content, o)
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(file, ".ini") + ".walkeep.ini"
			if os.Getenv("WALKEEP_GOLDEN") != "" {
				if err := os.WriteFile(golden, r.Text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if string(r.Text) != strings.ReplaceAll(string(want), "\r\n", "\n") {
				t.Errorf("got\n%s\nwant\n%s", r.Text, want)
			}
			c := load(t, r.Text)
			if c.Spool == "" || c.PGData == "" {
				t.Errorf("got the spool %q and the data directory %q, want both", c.Spool, c.PGData)
			}
			if conninfo.HasPassword(c.Conninfo) || conninfo.HasPassword(c.PrimaryConninfo) {
				t.Errorf("a password is in %q or %q", c.Conninfo, c.PrimaryConninfo)
			}
			for _, secret := range []string{"hunter22", "it's me", `it\'s me`, "tr0ub4dor", "x1y2", "swordfish"} {
				if strings.Contains(string(r.Text)+strings.Join(r.Warnings, "\n"), secret) {
					t.Errorf("the result holds the password %s", secret)
				}
			}
		})
	}
	if tried < 5 {
		t.Errorf("there are %d files, want at least 5", tried)
	}
}

// Every parameter becomes the expected key.
func TestKeys(t *testing.T) {
	for _, test := range []struct {
		name, content string
		want          func(c *config.Config)
	}{
		{"SkyTools 2, primary", "[wal-master]\nmaster_data = /d\nslave = db2:/srv/ws\n", func(c *config.Config) { c.PGData, c.Spool = "/d", "/srv/ws-walkeep" }},
		{"SkyTools 2, standby", "[wal-slave]\nslave_data = /d\nslave = /srv/ws/\n", func(c *config.Config) { c.PGData, c.Spool = "/d", "/srv/ws-walkeep" }},
		{"SkyTools 3, primary", "[walmgr]\nmaster_data = ~/d\nmaster_bin = /b\nslave = db2\nwalmgr_data = ~/ws", func(c *config.Config) {
			c.PGData, c.Bindir, c.Spool = "/home/pg/d", "/b", "/home/pg/ws-walkeep"
		}},
		{"SkyTools 3, standby", "[walmgr]\nslave_data = ~ann/d\nslave_bin = ~root/b\nwalmgr_data = ~ann", func(c *config.Config) {
			c.PGData, c.Bindir, c.Spool = "/home/ann/d", "/b", "/home/ann-walkeep"
		}},
		{"only completed_wals", "[walmgr]\ncompleted_wals = postgres@[::1]:/srv/ws/logs.complete/", func(c *config.Config) { c.Spool = "/srv/ws-walkeep" }},
		{"completed_wals at the root", "[walmgr]\ncompleted_wals = db2:/logs.complete", func(c *config.Config) {}},
		{"nothing absolute", "[walmgr]\nslave = db2:ws\nslave_data = d\nwalmgr_data = ~nobody/x", func(c *config.Config) {}},
		{"both sides in one section", "[walmgr]\nmaster_data = /m\nslave_data = /s\nkeep_backups = 4", func(c *config.Config) { c.PGData, c.KeepBackups = "/m", 4 }},
		{"both sections", "[wal-slave]\nslave_data = /s\nkeep_backups = 4\n[wal-master]\nmaster_data = /m", func(c *config.Config) { c.PGData, c.KeepBackups = "/m", 4 }},
		{"defaults", "[DEFAULT]\nmaster_data = /m\n[walmgr]\nx = 1", func(c *config.Config) { c.PGData = "/m" }},
		{"colons and spaces", "[walmgr]\nslave_data: /a=b\nwalmgr_data  =   /c:d   ", func(c *config.Config) { c.PGData, c.Spool = "/a=b", "/c:d-walkeep" }},
		{"names in capitals", "[walmgr]\nSlave_Data = %(BASE)s/d\nBase = /x", func(c *config.Config) { c.PGData = "/x/d" }},
		{"a reference in a reference", "[walmgr]\na = /%(b)s\nb = %(c)s/%(c)s\nc = %%d\nslave_data = %(a)s", func(c *config.Config) { c.PGData = "/%d/%d" }},
		{"what SkyTools provides", "[walmgr]\nslave_data = /%(job_name)s/%(service_name)s/%(host_name)s%(config_dir)s%(config_file)s", func(c *config.Config) {
			c.PGData = "/wal-master/walmgr/db1/etc/walmgr/etc/walmgr/wal-master.ini"
		}},
		{"what the file says goes before it", "[walmgr]\njob_name = j\nslave_data = /%(job_name)s", func(c *config.Config) { c.PGData = "/j" }},
		{"the last of two", "[walmgr]\nkeep_backups = 4\nkeep_backups = 6", func(c *config.Config) { c.KeepBackups = 6 }},
		{"a section in two parts", "[walmgr]\nkeep_backups = 4\n[x]\ny = 1\n[walmgr]\nslave_data = /d", func(c *config.Config) { c.KeepBackups, c.PGData = 4, "/d" }},
		{"comments", "# a\n; b\nrem c\n[walmgr]\nslave_data = /d ; e\n#slave_bin = /b\nkeep_backups = 2", func(c *config.Config) { c.PGData, c.KeepBackups = "/d", 2 }},
		{"no comments", "[walmgr]\nslave_data = /d;e #f", func(c *config.Config) { c.PGData = "/d;e #f" }},
		{"a conninfo in two lines", "[walmgr]\nmaster_data = /d\nmaster_db = host=a\n\n   port=1", func(c *config.Config) { c.PGData, c.Conninfo = "/d", "host=a port=1" }},
		{"an odd space at the end", "[walmgr]\nslave_data = /d\u00a0%(nil)s\nnil = \"\"", func(c *config.Config) { c.PGData = "/d\u00a0" }},
		{"Windows' ends of lines", "\uFEFF[walmgr]\r\nslave_data = /d\r\nkeep_backups = 2\r\n", func(c *config.Config) { c.PGData, c.KeepBackups = "/d", 2 }},
		{"no history of backups", "[walmgr]\nkeep_backups = 0", func(c *config.Config) { c.KeepBackups = 1 }},
		{"no number of backups", "[walmgr]\nkeep_backups = many", func(c *config.Config) {}},
		{"less than none", "[walmgr]\nkeep_backups = -1", func(c *config.Config) {}},
		{"a standby's loop_delay", "[walmgr]\nslave_data = /d\nloop_delay = 10", func(c *config.Config) { c.PGData = "/d" }},
		{"syncdaemon", "[walmgr]\nmaster_data = /d\nloop_delay = 10.0", func(c *config.Config) { c.PGData, c.Streaming, c.FlushInterval = "/d", true, 10*time.Second }},
		{"a quick one", "[walmgr]\nmaster_data = /d\nloop_delay = 1e-9", func(c *config.Config) { c.PGData, c.Streaming, c.FlushInterval = "/d", true, time.Millisecond }},
		{"a slow one", "[walmgr]\nmaster_data = /d\nloop_delay = 1e300", func(c *config.Config) { c.PGData, c.Streaming, c.FlushInterval = "/d", true, time.Minute }},
		{"a stopped one", "[walmgr]\nmaster_data = /d\nloop_delay = -1", func(c *config.Config) { c.PGData, c.Streaming = "/d", true }},
		{"none at all", "[walmgr]\nmaster_data = /d", func(c *config.Config) { c.PGData = "/d" }},
		{"a backup now and then", "[walmgr]\nperiodic_command = /x/walmgr.py /y.ini backup\ncommand_interval = 21600", func(c *config.Config) {
			c.BackupSchedule, c.CleanupSchedule = "0 */6 * * *", "30 */6 * * *"
		}},
		{"a purge now and then", "[walmgr]\nperiodic_command = walmgr3 /y.ini xpurgewals\ncommand_interval = 600", func(c *config.Config) { c.CleanupSchedule = "*/10 * * * *" }},
		{"a backup at odd times", "[walmgr]\nperiodic_command = walmgr3 /y.ini backup\ncommand_interval = 4711", func(c *config.Config) {}},
		{"another command", "[walmgr]\nperiodic_command = rsync -a /etc/ backup:/etc/\ncommand_interval = 600", func(c *config.Config) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := convert(t, test.content)
			got, want := load(t, r.Text), config.Default()
			test.want(&want)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v\nwant %+v\n%s", got, want, r.Text)
			}
		})
	}
}

func TestConninfo(t *testing.T) {
	for _, test := range []struct{ given, want, secret string }{
		{"host=a password=zzz7 port=1", "host=a port=1", "zzz7"},
		{"password = 'z zz7' host = a", "host=a", "z zz7"},
		{`host=a password='z\'zz7' user='o''`, "", "zz7"},
		{`host='a b' user=\'x PASSWORD=zzz7`, `host='a b' user='\'x'`, "zzz7"},
		{"host='' passfile=/p sslpassword=zzz7", "host='' passfile=/p", "zzz7"},
		{"postgres://u:zzz7@h/d", "postgres://u@h/d", "zzz7"},
		{"postgresql://:zzz7@h1:1,[::1]:2/d?x=1&password=yyy7", "postgresql://h1:1,[::1]:2/d?x=1", "zzz7"},
		{"postgresql://h/d?%70assword=zzz7", "postgresql://h/d", "zzz7"},
		{"postgresql://u:zz/z7@h/d", "", "z7"},
		{"postgresql://u:z@zz7@h/d", "", "zz7"},
		{"host=a options='-c password=zzz7'", "", "zzz7"},
		{"zzz7", "", "zzz7"},
		{"host=a 'password'=zzz7", "", "zzz7"},
		{"dbname=template1", "dbname=template1", ""},
	} {
		escaped := strings.ReplaceAll(test.given, "%", "%%")
		r := convert(t, "[walmgr]\nmaster_data = /d\nmaster_db = "+escaped+"\nprimary_conninfo = "+escaped+"\nother_db = "+escaped)
		c := load(t, r.Text)
		if c.Conninfo != test.want || c.PrimaryConninfo != test.want {
			t.Errorf("%s: got %q and %q, want %q", test.given, c.Conninfo, c.PrimaryConninfo, test.want)
		}
		if conninfo.HasPassword(c.Conninfo) {
			t.Errorf("%s: a password is in %s", test.given, c.Conninfo)
		}
		if known, _, _ := strings.Cut(string(r.Text), "other_db"); test.secret != "" && strings.Contains(known, test.secret) {
			t.Errorf("%s: the password is in the result:\n%s", test.given, r.Text)
		}
	}
}

// Everything that looks like a password is hidden, wherever it is; nothing else is.
func TestSecrets(t *testing.T) {
	r := convert(t, `[walmgr]
master_data = /var/lib/postgresql
word = postgres
master_db = user=postgres password=%(word)s
spare = host=x password=zzz1
link = https://u:zzz2@example.org/
vault_secret = zzz3
archive_command = PGPASSWORD="zzz4 zzz5" copy $BACKUPDIR /var/lib/postgresql/old
bad = password=zzz6 100%
`)
	for _, secret := range []string{"zzz1", "zzz2", "zzz3", "zzz4", "zzz5", "zzz6", "word = postgres"} {
		if strings.Contains(string(r.Text), secret) {
			t.Errorf("%s is in the result:\n%s", secret, r.Text)
		}
	}
	if !r.Password || !strings.Contains(string(r.Text), "copy $BACKUPDIR /var/lib/postgresql/old") {
		t.Errorf("got Password %t, want true, and the command:\n%s", r.Password, r.Text)
	}
}

// The result contains every parameter, known or unknown.
func TestNothingIsLost(t *testing.T) {
	for _, section := range []string{"walmgr", "wal-master", "wal-slave"} {
		for _, value := range []string{"", "1", "/x", "%(nonesuch)s", "%"} {
			content := "[" + section + "]\nnobody_knows = " + value + "\n"
			for _, name := range walmgr.Parameters() {
				content += name + " = " + value + "\n"
			}
			r := convert(t, content)
			load(t, r.Text)
			for _, name := range append(walmgr.Parameters(), "nobody_knows") {
				if !strings.Contains(string(r.Text), "# walmgr: "+name+" =") {
					t.Errorf("[%s], %q: %s is not in the result", section, value, name)
				}
			}
			if n := strings.Count(string(r.Text), "walkeep does not know this parameter"); n != 1 {
				t.Errorf("[%s], %q: %d parameters are not known, want 1", section, value, n)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	deep := "[walmgr]\nslave_data = /%(a0)s\n"
	for i := range 12 {
		deep += fmt.Sprintf("a%d = %%(a%d)s\n", i, i+1)
	}
	wide := "[walmgr]\nslave_data = /%(a0)s\na9 = " + strings.Repeat("x", 100) + "\n"
	for i := range 9 {
		wide += fmt.Sprintf("a%d = %s\n", i, strings.Repeat(fmt.Sprintf("%%(a%d)s", i+1), 20))
	}
	empty := strings.Replace(wide, strings.Repeat("x", 100), "", 1)
	for _, test := range []struct{ name, content, want string }{
		{"empty", "", "no section [walmgr]"},
		{"another program's", "[londiste]\njob_name = x", "no section [walmgr]"},
		{"another program's section of that name", "[Walmgr]\njob_name = x", "no section [walmgr]"},
		{"no section", "job_name = x\n[walmgr]", "line 1: there is no section"},
		{"indented", "[walmgr]\n  job_name = x", "line 2: an indented line"},
		{"no sign", "[walmgr]\njob_name x", "line 2 is neither"},
		{"no name", "[walmgr]\n= x", "line 2 is neither"},
		{"no end of a header", "[walmgr\nx = y", "line 1: there is no section"},
		{"a program", "\x7fELF\x00\x00", "not text"},
		{"huge", "[walmgr]\n" + strings.Repeat("#\n", 1<<20), "more than"},
	} {
		_, err := walmgr.Convert([]byte(test.content), options)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
	for name, content := range map[string]string{"deep": deep, "wide": wide, "empty in the end": empty, "in a circle": "[walmgr]\nslave_data = %(slave_data)s"} {
		if r := convert(t, content); !reflect.DeepEqual(load(t, r.Text), config.Default()) || !strings.Contains(string(r.Text), "could not be read") {
			t.Errorf("%s: got\n%s", name, r.Text)
		}
	}
}

func FuzzConvert(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(data, "*.ini"))
	if err != nil || len(files) < 5 {
		f.Fatalf("there are %d files (%v)", len(files), err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	for _, s := range []string{
		"[walmgr]\nslave_data=/\u0085\nslave=[", "[wal-slave]\nslave=a:/\"b\nkeep_backups=99999999999", "[walmgr]\nmaster_data=\"/x\"\nmaster_db=a='\\",
		"[walmgr]\nx=%(x)s%(x)s\n\u2028=\u2029", "[walmgr]\nmaster_data=/\nloop_delay=nan\nslave_data=~", "[walmgr]\nmaster_db=a=b\n]\n=[walkeep]", "[a\rb]\n\rc",
	} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := walmgr.Convert(content, options)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("the error has several lines: %q", err)
			}
			return
		}
		file := filepath.Join(dir, "walkeep.ini")
		if err := os.WriteFile(file, r.Text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := read(file)
		if err != nil {
			t.Fatalf("%v\n%q", err, r.Text)
		}
		if conninfo.HasPassword(c.Conninfo) || conninfo.HasPassword(c.PrimaryConninfo) {
			t.Fatalf("a password is in %q or %q", c.Conninfo, c.PrimaryConninfo)
		}
		if c.Spool != "" && !strings.HasPrefix(c.Spool, "/") || c.PGData != "" && !strings.HasPrefix(c.PGData, "/") {
			t.Fatalf("not absolute: %q, %q", c.Spool, c.PGData)
		}
	})
}
