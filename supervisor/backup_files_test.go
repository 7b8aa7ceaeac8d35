package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

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

// A backup that is read while the server works, and while tables grow, shrink, come and go, is as good as one that the server
// sends.
func TestBackupFromFilesUnderLoad(t *testing.T) {
	each(t, func(r *rig) {
		space := filepath.Join(r.dir, "space")
		r.mkdir(space)
		c := r.start("primary", map[string]string{"shared_buffers": "2MB", "bgwriter_delay": "10ms", "checkpoint_timeout": "30s"})
		for _, sql := range []string{
			"CREATE TABLE elsewhere (n int)", fmt.Sprintf("CREATE TABLESPACE outside LOCATION '%s'", space),
			"CREATE TABLE busy TABLESPACE outside AS SELECT n, repeat(md5(n::text), 10) AS x FROM generate_series(1, 20000) n", "CREATE INDEX ON busy (n)",
		} {
			r.must(c.Exec(r.ctx(), sql))
		}
		r.load(c, 20, 1)
		ctx, stop := context.WithCancel(r.ctx())
		churned := make(chan int)
		go func() {
			rounds := 0
			for ctx.Err() == nil {
				for _, sql := range []string{
					"UPDATE busy SET x = repeat(md5(random()::text), 10) WHERE n % 7 = (random() * 7)::int",
					"CREATE TABLE IF NOT EXISTS passing AS SELECT generate_series(1, 20000) AS n", "CREATE UNLOGGED TABLE IF NOT EXISTS light AS SELECT 1 AS n",
					"CHECKPOINT", "TRUNCATE passing", "DROP TABLE passing, light", "VACUUM busy",
				} {
					if err := c.Exec(ctx, sql); err != nil && ctx.Err() == nil {
						r.t.Errorf("%s: %v", sql, err)
					}
				}
				rounds++
				time.Sleep(50 * time.Millisecond)
			}
			churned <- rounds
		}()
		var ids []string
		r.loadWhile(c, 2, func() {
			for range 2 {
				ids = append(ids, r.backup(c, "--backup-from", "files", "--jobs", "3"))
			}
			stop()
			if rounds := <-churned; rounds == 0 {
				r.t.Log("the tables have not been changed once during the backups")
			}
		})
		want := r.sum(c)
		busy, err := c.QueryString(r.ctx(), "SELECT md5(string_agg(n || x, ' ' ORDER BY n)) FROM busy")
		r.must(err)
		r.cut(c)
		for i, id := range ids {
			if i > 0 && r.major != 15 {
				break // one will do
			}
			to := r.restore("restored-"+id, id, "--tablespace-map", space+"="+space+"-"+id)
			r.opens(to, want)
			if got, err := to.QueryString(r.ctx(), "SELECT md5(string_agg(n || x, ' ' ORDER BY n)) FROM busy"); err != nil || got != busy {
				r.t.Errorf("backup %s: other rows in busy (%v)", id, err)
			}
			r.amcheck(to)
			r.must(to.Close())
		}
	})
}

// amcheck checks all tables and indexes of a server that has the extension.
func (r *rig) amcheck(c *pgtest.Cluster) {
	r.t.Helper()
	if n, err := c.QueryInt(r.ctx(), "SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'"); err != nil || n == 0 {
		r.t.Logf("PostgreSQL %d has no amcheck here (%v)", r.major, err)
		return
	}
	r.must(c.Exec(r.ctx(), "CREATE EXTENSION IF NOT EXISTS amcheck"))
	r.must(c.Exec(r.ctx(), `SELECT bt_index_check(c.oid, true) FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p'`))
	if r.major >= 14 {
		n, err := c.QueryInt(r.ctx(), `SELECT count(*) FROM pg_class c, verify_heapam(c.oid) WHERE c.relkind IN ('r', 't', 'm') AND c.relpersistence = 'p'`)
		if err != nil || n > 0 {
			r.t.Errorf("amcheck reports %d faults (%v)", n, err)
		}
	}
}

// Where files cannot be read, auto has the server send them, and files says what is missing.
func TestBackupFromFilesElsewhere(t *testing.T) {
	each(t, func(r *rig) {
		c := r.start("primary", map[string]string{"max_replication_slots": "2"})
		r.must(c.Exec(r.ctx(), "CREATE ROLE keeper LOGIN REPLICATION; GRANT pg_monitor TO keeper"))
		keeper := c.ConnString() + " user=keeper"
		copied := filepath.Join(r.dir, "copied")
		other := r.start("other", nil)
		r.asServer(fmt.Sprintf("cp -a %s %s; mkdir %s-closed", c.Dir, copied, r.dir+"/dir"))
		for name, test := range map[string]struct {
			conninfo string
			words    []string
			args     []string
		}{
			"right":     {keeper, []string{"the role keeper may not begin a backup", "GRANT EXECUTE ON FUNCTION pg_", `TO "keeper"`, "--backup-from stream"}, nil},
			"copy":      {c.ConnString(), []string{"is a copy of the server's data directory"}, []string{"--pgdata", copied}},
			"other":     {c.ConnString(), []string{"of another cluster"}, []string{"--pgdata", other.Dir}},
			"nothing":   {c.ConnString(), []string{"is no data directory of this host"}, []string{"--pgdata", r.dir}},
			"no access": {c.ConnString(), []string{"permission denied"}, []string{"--pgdata", "/root/data"}},
		} {
			args := append([]string{"backup", "--conninfo", test.conninfo}, test.args...)
			if name == "no access" && os.Geteuid() != 0 {
				continue
			}
			r.fails(1, append(test.words, "the server's files cannot be read for a backup", "hint: "), append(args, "--backup-from", "files")...)
			r.nothingLeft()
			out, err := r.command(append(args, "-v")...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), test.words[0]) {
				r.t.Errorf("%s: got %v\n%s", name, err, out)
			}
			if m, _ := r.index(idForm.FindString(string(out))); m.Method != "stream" {
				r.t.Errorf("%s: the files came by %s", name, m.Method)
			}
			r.asServer("rm -r " + r.spool + "/backups/*")
		}

		// The role is let do it by what the hint says.
		said := r.fails(1, nil, "backup", "--conninfo", keeper, "--backup-from", "files")
		grant := regexp.MustCompile(`GRANT .* TO "keeper"`).FindString(said)
		r.must(c.Exec(r.ctx(), grant))
		out, err := r.command("backup", "--conninfo", keeper).CombinedOutput()
		r.must(err)
		if m, _ := r.index(idForm.FindString(string(out))); m.Method != "files" {
			r.t.Errorf("with the right, the files came by %s", m.Method)
		}

		// All slots are in use.
		r.must(c.Exec(r.ctx(), "SELECT pg_create_physical_replication_slot('one'), pg_create_physical_replication_slot('two')"))
		r.fails(1, []string{"all replication slots are in use", "max_replication_slots"}, "backup", "--conninfo", keeper, "--backup-from", "files")
		r.backup(c)
	})
}

// A backup of files that is disturbed fails, names the reason, and leaves nothing.
func TestBackupFromFilesFails(t *testing.T) {
	each(t, func(r *rig) {
		c := r.start("primary", nil)
		r.must(c.Exec(r.ctx(), "CREATE TABLE filler AS SELECT repeat(md5(n::text), 20) AS x FROM generate_series(1, 20000) n"))
		file, err := c.QueryString(r.ctx(), "SELECT pg_relation_filepath('filler')")
		r.must(err)
		r.must(c.Checkpoint(r.ctx())) // so that the server itself has nothing to write to it
		r.asServer("chmod 000 " + c.Path(file))
		r.fails(1, []string{"back up: ", file, "permission denied"}, "backup", "--conninfo", c.ConnString())
		r.nothingLeft()
		r.asServer("chmod 600 " + c.Path(file) + "; mkdir -m 0 " + c.Path("closed"))
		r.fails(1, []string{"back up: ", "closed", "permission denied"}, "backup", "--conninfo", c.ConnString())
		r.nothingLeft()
		r.asServer("rmdir " + c.Path("closed"))
		if r.major >= 12 { // before, a name with a backslash is none that the server knows
			r.asServer(`touch '` + c.Path(`back\slash`) + `'`)
			r.fails(1, []string{"cannot be backed up", `back\slash`}, "backup", "--conninfo", c.ConnString())
			r.nothingLeft()
			r.asServer(`rm '` + c.Path(`back\slash`) + `'`)
		}

		// The session in which the backup began is lost.
		cmd := r.command("backup", "--conninfo", c.ConnString(), "--max-rate", "100kB")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		r.must(cmd.Start())
		r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "the backup to store", func(context.Context) (bool, error) { return len(r.backups()) > 0, nil }))
		r.must(c.Exec(r.ctx(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'walkeep'"))
		if err := cmd.Wait(); err == nil || !strings.Contains(stderr.String(), "the session in which the backup began was lost") {
			r.t.Errorf("got %v and %q", err, &stderr)
		}
		r.nothingLeft()
		r.backup(c, "--backup-from", "files")
	})
}
