//go:build unix

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/pgtest"
	"walkeep/common/storage/s3/s3test"
)

// With a credential that may not remove, everything works but cleanup, which names what it needs. Another credential cleans up.
func TestAppendOnly(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		s := s3test.Start(t, s3test.Versitygw)
		bucket := s.Bucket(t)
		own := func(name, file string) string {
			content, err := os.ReadFile(file)
			r.must(err)
			path := filepath.Join(r.dir, name)
			r.must(os.WriteFile(path, content, 0o600))
			return path
		}
		writer := own("writer", s.Limited(t, bucket, "s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"))
		cleaner := own("cleaner", s3test.KeyFile(t, s.AccessKey, s.SecretKey, ""))
		r.give(r.dir)
		f := far{url: "s3://" + bucket + "/cluster", keys: "endpoint = " + s.URL + "\nkeep-backups = 1\ndelete-grace = 0\n", file: "credentials-file = " + writer + "\n"}
		near := r.site("near", f)

		primary := near.start("primary", nil)
		near.must(primary.Exec(near.ctx(), ledgerTable))
		near.runs("stream = true\nconninfo = " + primary.ConnString() + "\n")
		for i := range 2 {
			near.load(primary, 20, uint64(i))
			near.says([]string{"in repository far (" + f.url + ")"}, "backup")
		}
		near.holds(near.cut(primary))
		near.run("verify", "--deep", "--repo", "far")
		near.says([]string{"can be recovered"}, "drill", "--repo", "far")
		dir := filepath.Join(near.dir, "restored")
		near.run("restore", "--repo", "far", "--target-dir", dir)
		near.open(dir)
		near.run("status", "--conninfo", primary.ConnString())
		if out := near.run("list", "--repo", "far"); strings.Contains(out, "AT WORK") {
			t.Errorf("commands that have ended hold leases:\n%s", out)
		}

		a := near.repository()
		count := func() (backups, released int) {
			t.Helper()
			dirs, err := a.List(near.ctx(), "backups/")
			near.must(err)
			gone, err := a.Notes().Released(near.ctx())
			near.must(err)
			return len(dirs), len(gone)
		}
		if backups, released := count(); backups != 2 || released == 0 {
			t.Errorf("got %d backups, %d released notes", backups, released)
		}
		out, err := near.command("cleanup", "--repo", "far").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "the store does not let cleanup remove objects") || !strings.Contains(string(out), "s3:DeleteObject") {
			t.Errorf("cleanup by the writer: %v\n%s", err, out)
		}
		near.run("verify", "--repo", "far")

		f.file = fmt.Sprintf("credentials-file = %s\n", cleaner)
		elsewhere := r.site("elsewhere", f)
		elsewhere.says([]string{"removed backup "}, "cleanup", "--repo", "far")
		if backups, released := count(); backups != 1 || released != 0 {
			t.Errorf("after cleanup: got %d backups, %d released notes", backups, released)
		}
		near.run("verify", "--deep", "--repo", "far")
	}, restoreMajor)
}
