//go:build unix

package main_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walkeep/common/pgtest"
)

// The blocks of commands on the page.
const (
	blockVariables = iota
	blockS3
	blockSFTP
	blockChoose
	blockLook
	blockUnpack
	blockTablespaces
	blockSettings
	blockDecrypt
	blockStreamed
	blocks
)

// byHand runs some blocks of docs/recover-by-hand.md, without any program of walkeep, and returns the data directory. It
// replaces the page's paths.
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
	cmd := pgtest.Command(r.ctx(), "bash", "-c", script)
	cmd.Env = slices.DeleteFunc(cmd.Env, func(s string) bool { return strings.HasPrefix(s, "AWS_") }) // which rclone would heed
	if out, err := cmd.CombinedOutput(); err != nil {
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

// TestRecoverByHandEncrypted does what the page says of an archive that is encrypted, in a bucket and on another host, with the
// programs of the system. The last rows were streamed, and are in pieces.
func TestRecoverByHandEncrypted(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		major  int
		place  func(*rig) far
		client string
		block  int
		lines  func(f far, key func(string) string) map[string]string // those of the page that name the place
	}{
		"s3": {pgtest.MinMajor, inBucket, "rclone", blockS3, func(f far, key func(string) string) map[string]string {
			_, access, _ := strings.Cut(f.env[0], "=")
			_, secret, _ := strings.Cut(f.env[1], "=")
			return map[string]string{
				"ENDPOINT=https://s3.example.com\n": "ENDPOINT=" + key("endpoint") + "\n",
				"ACCESS_KEY_ID=...\n":               "ACCESS_KEY_ID=" + access + "\n",
				"SECRET_ACCESS_KEY=...\n":           "SECRET_ACCESS_KEY=" + secret + "\n",
				"FAR=far:bucket/prefix\n":           "FAR=far:" + strings.TrimPrefix(f.url, "s3://") + "\n",
			}
		}},
		"sftp": {pgtest.MaxMajor, overSSH, "sftp", blockSFTP, func(f far, key func(string) string) map[string]string {
			u, err := url.Parse(f.url)
			if err != nil {
				t.Fatal(err)
			}
			return map[string]string{
				`LOGIN="-i /root/.ssh/id_ed25519 -P 22 walkeep@backup.example.com"`: fmt.Sprintf(`LOGIN="-o UserKnownHostsFile=%s -i %s -P %s %s@%s"`,
					key("known-hosts"), key("key-file"), u.Port(), u.User.Username(), u.Hostname()),
				"FAR=/walkeep\n": "FAR=" + u.Path + "\n",
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, program := range []string{"age", test.client} {
				if _, err := exec.LookPath(program); err != nil {
					if os.Getenv("CI") != "" {
						t.Fatal(err)
					}
					t.Skip(err)
				}
			}
			r := newRig(t, test.major)
			f := test.place(r)
			near := r.site("near", f)
			encrypt, decrypt := r.keys()
			c := near.start("primary", map[string]string{"archive_command": near.encrypting(encrypt...)})
			near.runs("recipients-file = " + encrypt[1] + "\nstream = true\npartial-plain = true\npartial-interval = 1s\nconninfo = " + c.ConnString() + "\n")
			r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
			r.load(c, 20, 1)
			near.run("backup")
			r.load(c, 20, 2)
			near.holds(near.cut(c))
			for seed := range uint64(2) {
				r.load(c, 5, 3+seed)
				near.pieces(c)
			}
			want := r.sum(c)
			r.must(c.Kill())
			r.must(os.RemoveAll(near.dir))

			lines := test.lines(f, func(key string) string {
				_, rest, _ := strings.Cut(f.keys, key+" = ")
				value, _, _ := strings.Cut(rest, "\n")
				return value
			})
			lines["KEY=/root/key.txt\n"] = "KEY=" + decrypt[1] + "\n"
			dir := r.byHand([]int{blockVariables, test.block, blockChoose, blockLook, blockUnpack, blockTablespaces, blockSettings, blockDecrypt, blockStreamed}, lines)
			to, err := pgtest.Open(dir)
			r.must(err)
			r.opens(pgtest.Attach(r.t, to), want)
		})
	}
}
