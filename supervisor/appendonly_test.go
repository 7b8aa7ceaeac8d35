//go:build unix

package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/pgtest"
	"walkeep/common/storage/s3/s3test"
	"walkeep/common/storage/sftp/sftptest"
)

// writerOfBucket returns a repository for one who may not remove from a bucket, and for one who may.
func writerOfBucket(r *rig) (writer, cleaner far) {
	r.t.Helper()
	s := s3test.Start(r.t, s3test.Versitygw)
	bucket := s.Bucket(r.t)
	own := func(name, file string) far {
		content, err := os.ReadFile(file)
		r.must(err)
		path := filepath.Join(r.dir, name)
		r.must(os.WriteFile(path, content, 0o600))
		return far{url: "s3://" + bucket + "/cluster", keys: "endpoint = " + s.URL + "\n", file: "credentials-file = " + path + "\n"}
	}
	writer = own("writer", s.Limited(r.t, bucket, "s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"))
	cleaner = own("cleaner", s3test.KeyFile(r.t, s.AccessKey, s.SecretKey, ""))
	r.give(r.dir)
	return writer, cleaner
}

// writerOverSSH returns a repository for an account that may not remove.
func writerOverSSH(r *rig) (writer, cleaner far) {
	r.t.Helper()
	return overServer(r, sftptest.Start(r.t, sftptest.Options{Deny: "remove,rmdir"})), far{}
}

// With a credential that may not remove, everything works but cleanup, which names what it needs. Another credential cleans up.
func TestAppendOnly(t *testing.T) {
	t.Parallel()
	for name, place := range map[string]func(*rig) (writer, cleaner far){"s3": writerOfBucket, "sftp": writerOverSSH} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			appendOnly(t, place)
		})
	}
}

func appendOnly(t *testing.T, place func(*rig) (writer, cleaner far)) {
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		f, cleaner := place(r)
		f.keys += "keep-backups = 1\ndelete-grace = 0\n"
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

		if cleaner.url == "" {
			return
		}
		cleaner.keys += "keep-backups = 1\ndelete-grace = 0\n"
		elsewhere := r.site("elsewhere", cleaner)
		elsewhere.says([]string{"removed backup "}, "cleanup", "--repo", "far")
		if backups, released := count(); backups != 1 || released != 0 {
			t.Errorf("after cleanup: got %d backups, %d released notes", backups, released)
		}
		near.run("verify", "--deep", "--repo", "far")
	}, restoreMajor)
}
