//go:build unix

package restore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/supervisor/launch"
	"walkeep/supervisor/pgconf"
	"walkeep/supervisor/restore"
)

// A delta keeps files that no backup contains: links, and the configuration that is found through them.
func TestDeltaKeepsWhatNoBackupHas(t *testing.T) {
	files := cluster()
	delete(files, "postgresql.conf")
	r := newRig(t, files)
	o := r.options(r.target("data"))
	r.run(o)
	etc := r.target("etc")
	r.write(filepath.Join(etc, "postgresql.conf"), "include 'more.conf'\nssl_key_file = 'keys/server.key'\nhba_file = 'hba'\n")
	in := func(name string) string { return filepath.Join(o.Dir, name) }
	for name, to := range map[string]string{"postgresql.conf": "../etc/postgresql.conf", "pg_ident.conf": "/etc/nowhere", "log": etc, "base/6": etc, "pg_stat_tmp": etc} {
		r.must(os.Symlink(to, in(name)))
	}
	r.must(os.Mkdir(in("keys"), 0o700))
	for _, name := range []string{"more.conf", "keys/server.key", "hba", "stray", "base/5/stray"} {
		r.write(in(name), "x = 1\n")
	}
	o.Delta = true
	r.run(o)
	for name, want := range map[string]bool{"postgresql.conf": true, "pg_ident.conf": true, "log": true, "more.conf": true, "keys/server.key": true, "hba": true,
		"stray": false, "base/5/stray": false, "base/6": false, "pg_stat_tmp": false} {
		if _, err := os.Lstat(in(name)); (err == nil) != want {
			t.Errorf("%s: there is %v, want %v", name, err == nil, want)
		}
	}
}

// A server with its configuration in Debian's directories is started with it, in its own directory, and writes to
// none of that cluster's directories.
func TestConfigurationElsewhere(t *testing.T) {
	files := cluster()
	delete(files, "postgresql.conf")
	r := newRig(t, files)
	root := r.target("etc")
	t.Setenv("PG_CLUSTER_CONF_ROOT", root)
	conf := func(cluster, dir string) string {
		at := filepath.Join(root, "15", cluster)
		r.must(os.MkdirAll(at, 0o700))
		r.write(filepath.Join(at, "postgresql.conf"), "data_directory = '"+dir+"'\nexternal_pid_file = '/run/x.pid'\nhba_file = '/etc/hba'\nlog_directory = '/var/log/x'\n")
		r.write(filepath.Join(at, "pg_ident.conf"), "")
		return filepath.Join(at, "postgresql.conf")
	}
	o := r.options(r.target("data"))
	o.Starts = true
	if _, err := restore.Run(t.Context(), archive.New(r.backend), r.inv, o); !errors.Is(err, pgconf.ErrNone) {
		t.Errorf("without a configuration: got %v", err)
	}
	if entries, _ := os.ReadDir(o.Dir); len(entries) > 0 {
		t.Errorf("something was written: %v", entries)
	}
	expect := func(words, not []string) {
		t.Helper()
		line := launch.Command("/bin", o.Dir, o.Plan.Backup.Major)
		for _, word := range words {
			if !strings.Contains(line, word) {
				t.Errorf("got %s, want %s", line, word)
			}
		}
		for _, word := range not {
			if strings.Contains(line, word) {
				t.Errorf("got %s, not %s", line, word)
			}
		}
	}
	other := conf("main", "/var/lib/other")
	foreign := []string{"-D " + o.Dir, "config_file=" + other, "data_directory=" + o.Dir, "external_pid_file=", "log_directory=log", "ident_file=" + root}
	expect(foreign, []string{"hba_file"})
	r.run(o)
	second := conf("second", "/var/lib/second")
	expect(nil, []string{"config_file"}) // which of the two is unknown
	own := conf("own", o.Dir)
	expect([]string{"config_file=" + own, "data_directory=" + o.Dir}, []string{"external_pid_file", "log_directory", second})
	// A configuration in the directory that names another data directory is not used, either.
	r.write(filepath.Join(o.Dir, "postgresql.conf"), "data_directory = '/var/lib/other'\nexternal_pid_file = '/run/x.pid'\n")
	expect([]string{"data_directory=" + o.Dir, "external_pid_file="}, []string{"config_file"})
	r.write(filepath.Join(o.Dir, "postgresql.conf"), "external_pid_file = '/run/x.pid'\n")
	expect(nil, []string{"-o"})
}
