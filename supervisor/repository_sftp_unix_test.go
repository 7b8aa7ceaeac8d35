//go:build unix

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
	"walkeep/common/storage/sftp/sftptest"
)

// onSFTP makes a repository on an SFTP server.
func onSFTP(r *rig, o sftptest.Options) far {
	r.t.Helper()
	s := sftptest.Start(r.t, o)
	private, err := os.ReadFile(s.KeyFile)
	r.must(err)
	keys := filepath.Join(r.dir, "keys")
	r.mkdir(keys)
	key := filepath.Join(keys, "key")
	r.must(os.WriteFile(key, private, 0o600))
	r.give(keys)
	return far{
		url:  fmt.Sprintf("sftp://%s@%s%s", s.User, s.Address(), s.Root),
		keys: fmt.Sprintf("key-file = %s\nhost-key = %s\n", key, s.HostKey),
	}
}

// A server archives into a repository on an SFTP server, with an account that may not remove anything, and a host that has
// nothing but the URL and the key restores it.
func TestRepositoryOnSFTP(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	f := onSFTP(r, sftptest.Options{Deny: "remove,rmdir"})
	near, fresh := r.site("near", f), r.fresh("fresh", f)
	primary := near.rig.start("primary", nil)
	r.must(primary.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
	near.load(primary, 20, 1)
	shipping := near.command("run", "--conninfo", primary.ConnString())
	var said strings.Builder
	shipping.Stdout, shipping.Stderr = &said, &said
	r.must(shipping.Start())
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			shipping.Process.Signal(os.Interrupt)
			shipping.Wait()
		}
	}
	t.Cleanup(stop)
	near.run("backup", "--conninfo", primary.ConnString())
	near.load(primary, 20, 2)
	near.cut(primary)
	stop()
	near.run("ship")
	near.says([]string{"all is well"}, "verify", "--deep", "--repo", "far")
	fresh.says([]string{f.url, "1 backup, WAL to"}, "list")
	dir := filepath.Join(fresh.dir, "data")
	fresh.run("restore", "--target-dir", dir)
	fresh.open(dir)
	if t.Failed() {
		t.Logf("run: %s", said.String())
	}
}

// overSSH makes a repository on an SFTP server.
func overSSH(r *rig) far {
	r.t.Helper()
	return overServer(r, sftptest.Start(r.t, sftptest.Options{}))
}

func overServer(r *rig, s *sftptest.Server) far {
	r.t.Helper()
	own := func(name, path string) string {
		content, err := os.ReadFile(path)
		r.must(err)
		copied := filepath.Join(r.dir, name)
		r.must(os.WriteFile(copied, content, 0o600))
		return copied
	}
	f := far{url: fmt.Sprintf("sftp://%s@%s%s", s.User, s.Address(), s.Root), keys: "key-file = " + own("key", s.KeyFile) + "\nknown-hosts = " + own("known_hosts", s.KnownHosts) + "\n"}
	r.give(r.dir)
	return f
}

func TestRepositoryStory(t *testing.T) {
	t.Parallel()
	s3 := []int{10, restoreMajor}
	if os.Getenv("WALKEEP_LONG") != "" { // the others differ in nothing that a store could see
		s3 = append(s3, 18, pgtest.MaxMajor)
	}
	for name, test := range map[string]struct {
		place  func(*rig) far
		majors []int
	}{
		"directory": {inDirectory, []int{restoreMajor}},
		"s3":        {inBucket, s3},
		"sftp":      {overSSH, []int{pgtest.MaxMajor}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pgtest.Each(t, func(t *testing.T, major int) {
				cmdtest.Long(t)
				storyOf(t, major, test.place)
			}, test.majors...)
		})
	}
}
