package main_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walkeep/common/backup"
	"walkeep/common/pgtest"
	"walkeep/common/storage/local"
)

// index reads what a backup in the spool consists of.
func (r *rig) index(id string) (*backup.Manifest, map[string]backup.File) {
	r.t.Helper()
	b, err := local.Open(r.spool)
	r.must(err)
	m, err := backup.ReadManifest(r.ctx(), b, id)
	r.must(err)
	files, err := m.ReadFiles(r.ctx(), b, nil)
	r.must(err)
	all := make(map[string]backup.File)
	for _, f := range files {
		all[f.Path] = f
	}
	return m, all
}

// asServer runs a shell script as the servers' user.
func (r *rig) asServer(script string) {
	r.t.Helper()
	if out, err := pgtest.Command(r.ctx(), "sh", "-ec", script).CombinedOutput(); err != nil {
		r.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// A cluster with everything that a backup treats in its own way.
func (r *rig) strange(name string) *pgtest.Cluster {
	r.t.Helper()
	settings := map[string]string{"autovacuum": "off", "max_replication_slots": "5", "bgwriter_lru_maxpages": "0"}
	if r.major <= 14 {
		settings["stats_temp_directory"] = "stats of now"
	}
	if r.major >= 15 {
		settings["allow_in_place_tablespaces"] = "on"
	}
	dir := filepath.Join(r.dir, name)
	c := r.start(name, map[string]string{"autovacuum": "off"})
	r.must(c.Stop(r.ctx(), pgtest.Fast))
	r.asServer(fmt.Sprintf("cd %s; mkdir 'stats of now'; mv pg_wal ../wal-of-%s; ln -s ../wal-of-%s pg_wal", dir, name, name))
	r.must(c.Configure(settings))
	r.must(c.Start(r.ctx()))
	for _, space := range []string{dir + "-space", dir + "/inside", dir + "-empty"} {
		r.mkdir(space)
	}
	statements := []string{
		"CREATE TABLE elsewhere (n int)",
		fmt.Sprintf("CREATE TABLESPACE outside LOCATION '%s-space'", dir),
		fmt.Sprintf("CREATE TABLESPACE vacant LOCATION '%s-empty'", dir),
		fmt.Sprintf("CREATE TABLESPACE inside LOCATION '%s/inside'", dir),
		"CREATE TABLE t_outside TABLESPACE outside AS SELECT n, repeat(md5(n::text), 10) AS x FROM generate_series(1, 5000) n",
		"CREATE TABLE t_inside TABLESPACE inside AS SELECT n FROM generate_series(1, 1000) n",
		"CREATE UNLOGGED TABLE unlogged AS SELECT n FROM generate_series(1, 10000) n",
		"CREATE UNLOGGED TABLE unlogged_outside TABLESPACE outside AS SELECT n FROM generate_series(1, 10000) n",
		"CREATE TABLE large AS SELECT n, repeat(md5(n::text), 20) AS x FROM generate_series(1, 8000) n", "CREATE INDEX ON large (n)", "VACUUM large",
		"CREATE TABLE nothing (n int)", "SELECT pg_create_physical_replication_slot('kept', true)",
	}
	if r.major >= 15 {
		statements = append(statements, "CREATE TABLESPACE in_place LOCATION ''",
			"CREATE TABLE t_in_place TABLESPACE in_place AS SELECT n FROM generate_series(1, 1000) n")
	}
	for _, sql := range statements {
		r.must(c.Exec(r.ctx(), sql))
	}
	r.asServer("cd " + dir + `
		mkdir -p base/pgsql_tmp/deeper log of-mine/pg_subtrans of-mine/empty
		for f in base/pgsql_tmp/pgsql_tmp1.0 base/pgsql_tmp/deeper/x pgsql_tmp_of_mine log/server.log of-mine/pg_subtrans/x \
			of-mine/backup_label backup_manifest postgresql.auto.conf.tmp current_logfiles.tmp global/pg_internal.init.77 'stats of now/x' \
			pg_stat_tmp/x pg_notify/x pg_snapshots/x pg_dynshmem/x pg_serial/x base/1/t3_16384 base/1/t3_16384_fsm.1 base/1/t3_ base/1/012 \
			base/1/16000_init base/1/16000 base/1/16000.1 base/1/16000_vm base/1/16001_vm base/t4_5 global/16002 global/16002_init \
			'of-mine/a "quoted" name' "of-mine/$(printf 'latin-\344')"; do
			printf 'content of %s' "$f" > "$f"
		done
		: > of-mine/nothing
		chmod 640 of-mine/nothing log/server.log
		ln -s server.log log/link
		mkfifo of-mine/fifo
		head -c 262144 /dev/urandom > of-mine/one-block
		head -c 262145 /dev/urandom > of-mine/two-blocks
	`)
	return c
}

// What is read from the files is what the server sends, on an idle server: the same names, attributes and bytes, and the same
// checksums in PostgreSQL's manifest.
func TestBackupFromFilesEqualsStream(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		c := r.strange("primary")
		r.load(c, 20, 1)
		want := r.sum(c)
		conn, err := c.Conn(r.ctx())
		r.must(err)
		defer conn.Close(r.ctx())
		_, err = conn.Exec(r.ctx(), "CREATE TEMP TABLE passing AS SELECT generate_series(1, 1000) AS n")
		r.must(err)
		r.must(c.Checkpoint(r.ctx()))

		streamed, _ := r.index(r.backup(c, "--backup-from", "stream"))
		id := r.backup(c, "--backup-from", "files", "--jobs", "3")
		m, files := r.index(id)
		_, sent := r.index(streamed.ID)
		if streamed.Method != "stream" || m.Method != "files" {
			t := []string{streamed.Method, m.Method}
			r.t.Errorf("the manifests say %q", t)
		}
		if !slices.Equal(m.Tablespaces, streamed.Tablespaces) {
			slices.SortFunc(m.Tablespaces, func(a, b backup.Tablespace) int { return int(a.OID) - int(b.OID) })
			slices.SortFunc(streamed.Tablespaces, func(a, b backup.Tablespace) int { return int(a.OID) - int(b.OID) })
			if !slices.Equal(m.Tablespaces, streamed.Tablespaces) {
				r.t.Errorf("tablespaces: got %v, want %v", m.Tablespaces, streamed.Tablespaces)
			}
		}
		r.sameFiles(files, sent)
		for _, path := range []string{"of-mine/fifo", "log/link", "pg_notify/x", "of-mine/pg_subtrans/x", "postmaster.pid"} {
			if _, there := files[path]; there {
				r.t.Errorf("it holds %s", path)
			}
		}

		// The restored clusters are sound, and have equal manifests of PostgreSQL's but for what depends on the moment.
		var restored []string
		for _, id := range []string{streamed.ID, id} {
			dir := filepath.Join(r.dir, "of-"+id)
			args := []string{"restore", id, "--target-dir", dir}
			for _, space := range []string{c.Dir + "-space", c.Dir + "/inside", c.Dir + "-empty"} {
				args = append(args, "--tablespace-map", space+"="+dir+"-"+filepath.Base(space))
			}
			r.run(args...)
			restored = append(restored, dir)
		}
		if r.major >= 13 {
			r.sameManifests(filepath.Join(restored[1], "backup_manifest"), filepath.Join(restored[0], "backup_manifest"))
		}
		r.opens(r.open(restored[1]), want)
	})
}

// ofTheMoment are files that are never the same in two backups.
var ofTheMoment = []string{"backup_label", "backup_manifest", "global/pg_control"}

// touched reports whether a server gives a file another time although it does not change it.
func touched(path string) bool { return path == "pg_replslot" || strings.HasPrefix(path, "pg_logical") }

func (r *rig) sameFiles(got, want map[string]backup.File) {
	r.t.Helper()
	for path := range maps.Keys(want) {
		if _, there := got[path]; !there {
			r.t.Errorf("it lacks %s", path)
		}
	}
	for path, f := range got {
		w, there := want[path]
		if !there {
			r.t.Errorf("it holds %s, which the server does not send", path)
			continue
		}
		if f.Dir != w.Dir || f.Mode != w.Mode {
			r.t.Errorf("%s: got directory %t, mode %o; want %t, %o", path, f.Dir, f.Mode, w.Dir, w.Mode)
		}
		if slices.Contains(ofTheMoment, path) {
			continue
		}
		if f.Size != w.Size || !slices.Equal(f.Hashes, w.Hashes) {
			r.t.Errorf("%s: it has %d bytes, and the server sends %d, or others", path, f.Size, w.Size)
		}
		// The server does not send a tablespace's own directory.
		if !touched(path) && !f.ModTime.Equal(w.ModTime) && !(f.Dir && filepath.Dir(path) == "pg_tblspc") {
			r.t.Errorf("%s: it is of %s, and the server says %s", path, f.ModTime, w.ModTime)
		}
	}
}

// sameManifests compares two manifests of PostgreSQL's.
func (r *rig) sameManifests(got, want string) {
	r.t.Helper()
	read := func(path string) (head map[string]any, files map[string]string) {
		content, err := os.ReadFile(path)
		r.must(err)
		r.must(json.Unmarshal(content, &head))
		files = make(map[string]string)
		for _, f := range head["Files"].([]any) {
			line, err := json.Marshal(f)
			r.must(err)
			f := f.(map[string]any)
			name := fmt.Sprint(f["Path"], f["Encoded-Path"])
			if touched(name) || slices.ContainsFunc(ofTheMoment, func(moment string) bool { return strings.HasPrefix(name, moment) }) {
				line = nil
			}
			files[name] = string(line)
		}
		return head, files
	}
	gotHead, gotFiles := read(got)
	wantHead, wantFiles := read(want)
	if !maps.Equal(gotFiles, wantFiles) {
		for name, line := range wantFiles {
			if gotFiles[name] != line {
				r.t.Errorf("backup_manifest: got %s, want %s", gotFiles[name], line)
			}
		}
		for name, line := range gotFiles {
			if _, there := wantFiles[name]; !there {
				r.t.Errorf("backup_manifest: got %s", line)
			}
		}
	}
	for _, key := range []string{"PostgreSQL-Backup-Manifest-Version", "System-Identifier"} {
		if gotHead[key] != wantHead[key] {
			r.t.Errorf("backup_manifest: %s: got %v, want %v", key, gotHead[key], wantHead[key])
		}
	}
	if slices.Sorted(maps.Keys(gotHead)) == nil || !slices.Equal(slices.Sorted(maps.Keys(gotHead)), slices.Sorted(maps.Keys(wantHead))) {
		r.t.Errorf("backup_manifest: got the keys of %v, want those of %v", slices.Sorted(maps.Keys(gotHead)), slices.Sorted(maps.Keys(wantHead)))
	}
}
