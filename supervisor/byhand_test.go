package main_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"walkeep/common/pgtest"
)

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// TestRecoverByHand does what docs/recover-by-hand.md says, with nothing of walkeep's.
func TestRecoverByHand(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "recover-by-hand.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := shellBlock.FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 7 {
		t.Fatalf("the page has %d blocks of commands, want 7", len(blocks))
	}
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

		dir := filepath.Join(r.dir, "restored")
		script := "set -euo pipefail\n"
		for i, block := range blocks {
			text := block[1]
			if i == 0 {
				text = strings.Replace(text, "/srv/wal", r.spool, 1)
				text = strings.Replace(text, "/var/lib/postgresql/restored", dir, 1)
				if !strings.Contains(text, r.spool) || !strings.Contains(text, dir) {
					r.t.Fatalf("the page's variables are not where they were: %q", text)
				}
			}
			script += text
		}
		out, err := pgtest.Command(r.ctx(), "bash", "-c", script).CombinedOutput()
		if err != nil {
			r.t.Fatalf("%v\n%s", err, out)
		}
		to, err := pgtest.Open(dir)
		r.must(err)
		r.opens(pgtest.Attach(r.t, to), want)
	})
}
