package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/pgtest"
)

// pg_verifybackup of 18 and later reads a backup's volume as it is stored, by the name that it expects, and that of 19 also
// the WAL in a tar archive; pg_waldump of 19 lists what is in that.
func TestToolsReadVolumes(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		c := r.start("primary", nil)
		space := filepath.Join(r.dir, "space")
		r.mkdir(space)
		r.must(c.Exec(r.ctx(), "CREATE TABLESPACE space LOCATION '"+space+"'"))
		r.must(c.Exec(r.ctx(), "CREATE TABLE far TABLESPACE space AS SELECT generate_series(1, 10000) n"))
		r.load(c, 20, 1)
		var stored []string
		for _, codec := range []string{"zstd", "lz4"} {
			id := r.backup(c, "--codec", codec, "--backup-from", "stream") // in one volume
			stored = append(stored, filepath.Join(r.spool, "backups", id))
		}
		r.cut(c)
		wal := r.walTar()
		verify, err := pgtest.Tool(major, "pg_verifybackup")
		r.must(err)
		for _, backup := range stored {
			volumes, err := filepath.Glob(filepath.Join(backup, "data-*.tar.*"))
			r.must(err)
			if len(volumes) != 1 {
				t.Fatalf("got volumes %q, want one", volumes)
			}
			dir := backup + ".tar"
			r.mkdir(dir)
			ending := strings.SplitN(filepath.Base(volumes[0]), ".", 2)[1]
			expand := map[string]string{"tar.zst": "zstd", "tar.lz4": "lz4"}[ending]
			r.must(os.Symlink(volumes[0], filepath.Join(dir, "base."+ending)))
			r.shell(expand+` -dcq "$1" | tar -xf - -C "$2" backup_manifest`, volumes[0], dir)
			checks := [][]string{{"--no-parse-wal", dir}}
			if major >= 19 {
				checks = append(checks, []string{"--wal-path", wal, dir})
			}
			for _, args := range checks {
				out, err := pgtest.Command(r.ctx(), verify, args...).CombinedOutput()
				if err != nil || string(out) != "backup successfully verified\n" {
					t.Errorf("pg_verifybackup %q: %v\n%s", args, err, out)
				}
			}
		}
		if major < 19 {
			return
		}
		waldump, err := pgtest.Tool(major, "pg_waldump")
		r.must(err)
		var manifest struct {
			Start string `json:"start_lsn"`
		}
		r.must(json.Unmarshal([]byte(r.read(filepath.Join(stored[0], "manifest.json"))), &manifest))
		args := []string{"--limit", "5", "--path", wal, "--start", manifest.Start}
		if out, err := pgtest.Command(r.ctx(), waldump, args...).CombinedOutput(); err != nil || strings.Count(string(out), ", lsn: ") != 5 {
			t.Errorf("pg_waldump %q: %v\n%s", args, err, out)
		}
	}, 18, 19)
}

// walTar expands all complete segments of timeline 1 into a tar archive.
func (r *rig) walTar() string {
	r.t.Helper()
	file := filepath.Join(r.dir, "pg_wal.tar")
	r.shell(`mkdir "$2.d" && for f in "$1"/????????????????????????.zst; do zstd -dcq "$f" >"$2.d/$(basename "$f" .zst)" || exit; done && tar -cf "$2" -C "$2.d" .`,
		filepath.Join(r.spool, "wal", "0000000100000000"), file)
	return file
}

// shell runs a script with ordinary tools.
func (r *rig) shell(script string, args ...string) {
	r.t.Helper()
	out, err := pgtest.Command(r.ctx(), "sh", append([]string{"-c", script, "sh"}, args...)...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}
