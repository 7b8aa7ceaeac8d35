package main_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"walkeep/common/pgtest"
)

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// The blocks of commands on the page.
const (
	blockVariables = iota
	blockChoose
	blockLook
	blockUnpack
	blockTablespaces
	blockSettings
	blockStreamed
	blockKey
	blockDecrypt
	blockDecryptWAL
	blocks
)

// byHand does what docs/recover-by-hand.md says in some of its blocks, with nothing of walkeep's, and gives the data directory. The
// page's paths are replaced.
func (r *rig) byHand(which []int, replace map[string]string) string {
	r.t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "docs", "recover-by-hand.md"))
	r.must(err)
	all := shellBlock.FindAllStringSubmatch(string(page), -1)
	if len(all) != blocks {
		r.t.Fatalf("the page has %d blocks of commands, want %d", len(all), blocks)
	}
	dir := filepath.Join(r.dir, "restored")
	script := "set -euo pipefail\n"
	for _, i := range which {
		script += all[i][1]
	}
	replace["ARCHIVE=/srv/wal\n"], replace["DATA=/var/lib/postgresql/restored\n"] = "ARCHIVE="+r.spool+"\n", "DATA="+dir+"\n"
	for from, to := range replace {
		if strings.Count(script, from) != 1 {
			r.t.Fatalf("the page's variables are not where they were: %q", from)
		}
		script = strings.Replace(script, from, to, 1)
	}
	if out, err := pgtest.Command(r.ctx(), "bash", "-c", script).CombinedOutput(); err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// TestRecoverByHand does what the page says.
func TestRecoverByHand(t *testing.T) {
	each(t, func(r *rig) {
		c := r.start("primary", nil)
		space := filepath.Join(r.dir, "space")
		r.mkdir(space)
		r.must(c.Exec(r.ctx(), "CREATE TABLESPACE aside LOCATION '"+space+"'"))
		r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int) TABLESPACE aside"))
		r.load(c, 20, 1)
		r.backup(c)
		r.cut(c)
		stream := r.sync(c, "--synchronous")
		r.load(c, 20, 2)
		want := r.sum(c)
		at, err := c.CurrentLSN(r.ctx())
		r.must(err)
		r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "the stream to have all", func(ctx context.Context) (bool, error) {
			n, err := c.QueryInt(ctx, "SELECT count(*) FROM pg_stat_replication WHERE flush_lsn >= '"+at+"'")
			return n > 0, err
		}))
		r.must(c.Kill()) // the last rows are in partial/ alone
		stream.kill()
		r.must(os.RemoveAll(c.Dir))
		r.must(os.RemoveAll(space))

		dir := r.byHand([]int{blockVariables, blockChoose, blockLook, blockUnpack, blockTablespaces, blockSettings, blockStreamed}, map[string]string{})
		to, err := pgtest.Open(dir)
		r.must(err)
		r.opens(pgtest.Attach(r.t, to), want)
	})
}

// TestRecoverByHandEncrypted does what the page says of an archive that is encrypted, with the age of the system.
func TestRecoverByHandEncrypted(t *testing.T) {
	if _, err := exec.LookPath("age"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	each(t, func(r *rig) {
		encrypt, decrypt := r.keys()
		c := r.start("primary", map[string]string{"archive_command": r.encrypting(encrypt...)})
		r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
		r.load(c, 20, 1)
		r.backup(c, encrypt...)
		r.load(c, 20, 2)
		r.cut(c)
		want := r.sum(c)
		r.must(c.Kill())
		r.must(os.RemoveAll(c.Dir))
		dir := r.byHand([]int{blockVariables, blockKey, blockChoose, blockLook, blockDecrypt, blockTablespaces, blockSettings, blockDecryptWAL},
			map[string]string{"KEY=/root/key.txt\n": "KEY=" + decrypt[1] + "\n"})
		to, err := pgtest.Open(dir)
		r.must(err)
		r.opens(pgtest.Attach(r.t, to), want)
	})
}
