package pgdata_test

import (
	"os"
	"path/filepath"
	"testing"

	"walkeep/common/pgdata"
)

func TestReadRecovery(t *testing.T) {
	elsewhere := dataDir(t, map[string]string{"my.conf": "recovery_target_timeline = 5", "postgresql.conf": "include 'my.conf'"})
	opts := func(args string) string { return "/usr/lib/postgresql/15/bin/postgres " + args + "\n" }
	for _, test := range []struct {
		name     string
		files    map[string]string
		timeline string // empty: it does not recover
		standby  bool
	}{
		{"open", map[string]string{"postgresql.conf": "recovery_target_timeline = 3"}, "", false},
		{"the default since 12", map[string]string{"recovery.signal": ""}, "latest", false},
		{"a standby", map[string]string{"standby.signal": "", "postgresql.conf": "port = 1"}, "latest", true},
		{"a number", map[string]string{"recovery.signal": "", "postgresql.conf": "recovery_target_timeline = '3'"}, "3", false},
		{"the last one counts", map[string]string{"recovery.signal": "", "postgresql.conf": "Recovery_Target_Timeline = 3",
			"postgresql.auto.conf": "recovery_target_timeline = 'current'"}, "current", false},
		{"included", map[string]string{"recovery.signal": "", "postgresql.conf": "include_dir 'conf.d'", "conf.d/a.conf": "recovery_target_timeline = 4"}, "4", false},
		{"started with it", map[string]string{"recovery.signal": "", "postgresql.auto.conf": "recovery_target_timeline = 3",
			"postmaster.opts": opts(`"-D" "x" "-c" "recovery_target_timeline=2"`)}, "2", false},
		{"another way to say it", map[string]string{"recovery.signal": "", "postmaster.opts": opts(`"--recovery-target-timeline=2"`)}, "2", false},
		{"configured elsewhere", map[string]string{"standby.signal": "", "postgresql.conf": "recovery_target_timeline = 3",
			"postmaster.opts": opts(`"-D" "/nowhere" "-c" "config_file=` + filepath.Join(elsewhere, "my.conf") + `"`)}, "5", true},
		{"the directory that it was started with", map[string]string{"standby.signal": "", "postmaster.opts": opts(`"-D" "` + elsewhere + `"`)}, "5", true},
		{"the default up to 11", map[string]string{"recovery.conf": "restore_command = 'x'"}, "current", false},
		{"up to 11", map[string]string{"recovery.conf": "standby_mode = on\nrecovery_target_timeline = 'latest'"}, "latest", true},
		{"a number up to 11", map[string]string{"recovery.conf": "recovery_target_timeline = '2'", "postgresql.conf": "recovery_target_timeline = 3"}, "2", false},
	} {
		got, recovers, err := pgdata.ReadRecovery(dataDir(t, test.files))
		if err != nil || recovers != (test.timeline != "") || recovers && got != (pgdata.Recovery{Standby: test.standby, Timeline: test.timeline}) {
			t.Errorf("%s: got %+v, %t, %v", test.name, got, recovers, err)
		}
	}
}

func TestStartDir(t *testing.T) {
	root := t.TempDir()
	data := filepath.Join(root, "pg", "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ opts, want string }{
		{"", data},
		{`postgres "-D" "` + data + `"`, data},
		{`postgres "-D" "data"`, filepath.Join(root, "pg")},
		{`postgres "-Dpg/data" "-c" "port=1"`, root},
		{`postgres "-D" "."`, data},
		{`postgres "-D" "../data"`, filepath.Join(root, "pg", "data")},
		{`postgres "-D" "../pg/data"`, filepath.Join(root, "pg")},
		{`postgres "-D" "elsewhere"`, ""},
	} {
		if err := os.WriteFile(filepath.Join(data, "postmaster.opts"), []byte(test.opts), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, ok, err := pgdata.StartDir(data); got != test.want || ok != (test.want != "") || err != nil {
			t.Errorf("%s: got %q, %v, %v, want %q", test.opts, got, ok, err, test.want)
		}
	}
}
