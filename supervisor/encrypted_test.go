//go:build unix

package main_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walkeep/common/pgtest"
	"walkeep/common/storage/s3/s3test"
)

// An archive that is encrypted holds nothing of the database in plain. A host without the private key archives, takes backups and
// verifies every byte; one with the key restores everything.
func TestEncrypted(t *testing.T) {
	each(t, func(r *rig) {
		encrypt, decrypt := r.keys()
		// Without compression a text of the database would be found in what is stored.
		const marker = "MARKER-7d1c90e4-b2"
		c := r.start("primary", map[string]string{"archive_command": r.encrypting(slices.Concat(encrypt, []string{"--codec", "none"})...), "full_page_writes": "on"})
		r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
		mark := func() { // in files and in WAL
			r.must(c.Exec(r.ctx(), "CREATE TABLE IF NOT EXISTS marked (t text)"))
			r.must(c.Exec(r.ctx(), "INSERT INTO marked SELECT '"+marker+"' FROM generate_series(1, 2000)"))
			r.must(c.Checkpoint(r.ctx()))
		}
		mark()
		r.load(c, 20, 1)
		r.cut(c)
		id := r.backup(c, slices.Concat(encrypt, []string{"--codec", "none"})...)
		mark()
		r.load(c, 20, 2)
		last := r.cut(c)
		want := r.sum(c)

		if len(r.holding(c.Dir, marker)) == 0 {
			r.t.Fatal("the server's own files do not hold the marker, so that this test shows nothing")
		}
		if found := r.holding(r.dir, marker, c.Dir); len(found) > 0 {
			r.t.Errorf("these hold data of the database in plain: %q", found)
		}
		if out := r.run("verify"); !strings.Contains(out, "all is well") {
			r.t.Error(out)
		}
		if out := r.run("verify", "--deep"); !strings.Contains(out, "all is well") || !strings.Contains(out, "without the private key only the stored bytes were compared") {
			r.t.Error(out)
		}
		if out := r.run(slices.Concat([]string{"verify", "--deep"}, decrypt)...); !strings.Contains(out, "all is well") || strings.Contains(out, "private key") {
			r.t.Error(out)
		}
		if out := r.run("list"); !strings.Contains(out, id) {
			r.t.Error(out)
		}
		r.run("check", "--conninfo", c.ConnString())
		r.flipped(filepath.Join(r.spool, "backups", id, "data-0001.tar.zst.age"), "backups/"+id)
		r.flipped(filepath.Join(r.spool, "backups", id, "files.json.zst.age"), "backups/"+id)
		r.flipped(filepath.Join(r.spool, "wal", last[:16], last+".zst.age"), last)
		r.run("verify", "--deep")

		r.fails(1, []string{"no private key is given", "identity-file"}, "restore", "--target-dir", filepath.Join(r.dir, "locked"))
		if _, err := os.Stat(filepath.Join(r.dir, "locked", "PG_VERSION")); err == nil {
			r.t.Error("it was restored without the private key")
		}
		to := r.restore("restored", decrypt...)
		r.opens(to, want)
		r.must(to.Kill())
		out := r.run(slices.Concat([]string{"restore", "--delta", "--target-dir", to.Dir}, decrypt)...)
		if !strings.Contains(out, "delta: compared") {
			r.t.Error(out)
		}
		again, err := pgtest.Open(to.Dir)
		r.must(err)
		r.must(again.Configure(map[string]string{"archive_mode": "off"}))
		r.opens(pgtest.Attach(r.t, again), want)
		bindir, err := pgtest.Bindir(r.major)
		r.must(err)
		if out := r.run(slices.Concat([]string{"drill", "--drill-dir", r.dir, "--bindir", bindir}, decrypt)...); !strings.Contains(out, "can be recovered to the end") {
			r.t.Error(out)
		}
		if found := r.holding(r.spool, marker); len(found) > 0 {
			r.t.Errorf("these hold data of the database in plain: %q", found)
		}
	})
}

// flipped changes a byte of a file, which verify --deep must notice without a private key, and changes it back.
func (r *rig) flipped(file, named string) {
	r.t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	r.must(err)
	defer f.Close()
	info, err := f.Stat()
	r.must(err)
	b := make([]byte, 1)
	at := info.Size() / 2
	_, err = f.ReadAt(b, at)
	r.must(err)
	_, err = f.WriteAt([]byte{b[0] ^ 1}, at)
	r.must(err)
	r.fails(1, []string{"damaged: ", named}, "verify", "--deep")
	_, err = f.WriteAt(b, at)
	r.must(err)
}

// An old primary becomes a standby again, from encrypted backups and WAL; promote and what follows need no plain archive.
func TestEncryptedRejoin(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.MaxMajor)
	encrypt, decrypt := r.keys()
	old := r.start("primary", map[string]string{"archive_command": r.encrypting(encrypt...)})
	r.must(old.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
	r.load(old, 20, 1)
	r.backup(old, encrypt...)
	r.cut(old)
	next := r.standby("next", nil, decrypt...)
	r.diverge(old, next)
	want := r.sum(next)
	out := r.rejoined(old, decrypt...)
	if !strings.Contains(out, "delta: compared") {
		t.Error(out)
	}
	r.follows(old, next)
	if got := r.sum(old); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A promotion archives the WAL that only the standby has encrypted, and leaves nothing of it in partial/.
func TestEncryptedPromote(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.MaxMajor)
	encrypt, decrypt := r.keys()
	const marker = "MARKER-7d1c90e4-b2"
	primary := r.start("primary", map[string]string{"archive_command": r.encrypting(encrypt...)})
	r.must(primary.Exec(r.ctx(), "CREATE TABLE elsewhere (t text)"))
	r.backup(primary, encrypt...)
	next := r.standby("next", map[string]string{"archive_command": r.encrypting(slices.Concat(encrypt, []string{"--codec", "none"})...)}, slices.Concat([]string{"--primary-conninfo", primary.ConnString()}, decrypt)...)
	r.feeds(primary, 1)
	r.must(primary.Configure(map[string]string{"archive_command": "false"}))
	r.must(primary.Reload(r.ctx()))
	for range 3 {
		r.must(primary.Exec(r.ctx(), "INSERT INTO elsewhere VALUES ('"+marker+"')"))
		_, err := primary.SwitchWAL(r.ctx())
		r.must(err)
	}
	r.must(primary.Exec(r.ctx(), "INSERT INTO elsewhere VALUES ('"+marker+"')"))
	r.until("the rows to be streamed", func() bool {
		n, err := next.QueryInt(r.ctx(), "SELECT count(*) FROM elsewhere")
		return err == nil && n == 4
	})
	r.must(primary.Kill())
	out := r.run(slices.Concat([]string{"promote", "--codec", "none", "--conninfo", next.ConnString(), "--pgdata", next.Dir}, encrypt, decrypt)...)
	r.cut(next)
	if n, err := next.QueryInt(r.ctx(), "SELECT count(*) FROM elsewhere"); err != nil || n != 4 {
		t.Errorf("got %d rows, %v\n%s", n, err, out)
	}
	if found := r.holding(r.spool, marker); len(found) > 0 {
		t.Errorf("these hold data of the database in plain: %q", found)
	}
	plain, err := filepath.Glob(filepath.Join(r.spool, "wal", "*", "*.zst"))
	r.must(err)
	for _, file := range plain {
		if !strings.Contains(file, ".backup") {
			t.Errorf("%s is not encrypted", file)
		}
	}
	if parts, err := filepath.Glob(r.partial("*.partial")); err != nil || len(parts) > 0 {
		t.Errorf("partial/ has %q, %v", parts, err)
	}
	r.run(slices.Concat([]string{"verify", "--deep"}, decrypt)...)
}

// Nothing is in plain in a repository, in its cache, in what is fetched from it and in the spool of a host that promotes a standby, which
// gets what was streamed in pieces. A host that has nothing but the URL and the private key recovers the cluster.
func TestEncryptedRepository(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	encrypt, decrypt := r.keys()
	server := s3test.Start(t, s3test.Versitygw)
	f := inBucketOf(r, server)
	f.keys += "cache-dir = " + filepath.Join(r.dir, "cache") + "\n"
	near, away, fresh := r.site("near", f), r.site("away", f), r.fresh("fresh", f)
	sealing := "codec = none\nrecipients-file = " + encrypt[1] + "\n"
	const marker = "MARKER-7d1c90e4-b2"
	plain := func(except ...string) {
		t.Helper()
		if found := slices.Concat(r.holding(r.dir, marker, except...), r.holding(server.Dir, marker)); len(found) > 0 {
			t.Errorf("these hold data of the database in plain: %q", found)
		}
	}
	primary := near.start("primary", map[string]string{"archive_command": near.encrypting(slices.Concat(encrypt, []string{"--codec", "none"})...)})
	streaming := near.runs(sealing + "stream = true\npartial-plain = true\npartial-interval = 1s\nconninfo = " + primary.ConnString() + "\n")
	near.must(primary.Exec(near.ctx(), "CREATE TABLE elsewhere (t text)"))
	near.must(primary.Exec(near.ctx(), "INSERT INTO elsewhere SELECT '"+marker+"' FROM generate_series(1, 1000)"))
	near.must(primary.Checkpoint(near.ctx()))
	near.run("backup")
	near.must(primary.Exec(near.ctx(), "INSERT INTO elsewhere VALUES ('"+marker+"')"))
	last := near.cut(primary)
	near.holds(last)

	// A standby on another host gets the last row from pieces.
	away.configure(sealing + "prefetch = 0\nidentity-file = " + decrypt[1] + "\n")
	dir := filepath.Join(away.dir, "standby")
	away.says([]string{"it is a standby"}, "restore", "--standby", "--target-dir", dir)
	standby := away.attach(dir, slices.Concat(encrypt, []string{"--codec", "none"})...)
	away.must(standby.Start(away.ctx()))
	away.until("the standby to replay what is archived", func() bool {
		n, err := standby.QueryInt(away.ctx(), "SELECT count(*) FROM elsewhere")
		return err == nil && n == 1001
	})
	near.must(primary.Exec(near.ctx(), "INSERT INTO elsewhere VALUES ('"+marker+"')"))
	near.pieces(primary)
	near.must(primary.Kill())
	streaming.kill()
	away.run("fetch", last)
	if fetched, err := filepath.Glob(filepath.Join(away.spool, "fetched", "*", "*", "wal", "*", last+".*")); err != nil || len(fetched) == 0 {
		t.Errorf("nothing was fetched, so that this test shows nothing of it (%v)", err)
	}
	out := away.says([]string{"on timeline 2", "had been streamed"}, "promote", "--conninfo", standby.ConnString(), "--primary-conninfo", primary.ConnString())
	if n, err := standby.QueryInt(away.ctx(), "SELECT count(*) FROM elsewhere"); err != nil || n != 1002 {
		t.Errorf("got %d rows, %v\n%s", n, err, out)
	}
	away.cut(standby)
	away.run("ship")
	away.run("ship") // nothing is left to do
	away.must(standby.Kill())
	plain(primary.Dir, near.spool, dir)

	fresh.says([]string{"all is well", "without the private key"}, "verify", "--deep")
	fresh.says([]string{"all is well"}, slices.Concat([]string{"verify", "--deep"}, decrypt)...)
	restored := filepath.Join(fresh.dir, "data")
	fresh.run(slices.Concat([]string{"restore", "--target-dir", restored}, decrypt)...)
	c := fresh.open(restored)
	c.Env = f.env
	r.must(c.Start(r.ctx()))
	r.must(c.WaitOpen(r.ctx()))
	if n, err := c.QueryInt(r.ctx(), "SELECT count(*) FROM elsewhere"); err != nil || n != 1002 {
		t.Errorf("got %d rows, %v\n%s", n, err, c.LogTail(20))
	}
	plain(primary.Dir, near.spool, dir, restored)
	if cached := r.holding(filepath.Join(r.dir, "cache"), ""); len(cached) == 0 {
		t.Error("nothing is cached, so that this test shows nothing of it")
	}
}
