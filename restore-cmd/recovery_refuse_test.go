package main_test

import (
	"context"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"walkeep/common/pgtest"
)

// TestRecoveryRefused has clusters archive files that the spool must refuse. PostgreSQL keeps its WAL, and the spool does not
// change.
func TestRecoveryRefused(t *testing.T) {
	eachTurn(t, func(r *rig) {
		first := r.start("first")
		r.load(first, 40, 1)
		r.must(first.Stop(r.ctx(), pgtest.Fast))
		r.must(first.ColdBackup(filepath.Join(r.dir, "fork")))
		r.must(first.Start(r.ctx()))
		r.load(first, 20, 2)
		taken := r.cut(first)

		fork, err := pgtest.Open(filepath.Join(r.dir, "fork"))
		r.must(err)
		pgtest.Attach(r.t, fork)
		r.must(fork.Start(r.ctx()))
		r.load(fork, 20, 3)
		r.mustRefuse(fork, taken, "another content is archived under this name")
		r.must(fork.Kill())

		second := r.start("second")
		r.load(second, 20, 2)
		r.mustRefuse(second, "", "of another cluster")
		r.must(second.Kill())

		r.offerAgain(first, taken)
	})
}

// mustRefuse has a server end its segment, which cannot be archived.
func (r *rig) mustRefuse(c *pgtest.Cluster, segment, why string) {
	r.t.Helper()
	before := r.content()
	switched, err := c.SwitchWAL(r.ctx())
	r.must(err)
	if segment != "" && switched != segment {
		r.t.Fatalf("the fork wrote %s, want %s", switched, segment)
	}
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "the archiver's failure", func(context.Context) (bool, error) {
		failed, err := c.QueryInt(r.ctx(), "SELECT failed_count FROM pg_stat_archiver")
		return failed > 0, err
	}))
	r.waitLog(c, why, 1)
	r.waitLog(c, "archive command failed with exit code 3", 1)
	if _, err := os.Stat(c.Path("pg_wal/archive_status/" + switched + ".ready")); err != nil {
		r.t.Errorf("PostgreSQL does not keep the segment: %v", err)
	}
	if after := r.content(); !maps.Equal(before, after) {
		r.t.Errorf("the spool has changed: got %v, want %v", after, before)
	}
}

// content identifies all files of the spool.
func (r *rig) content() map[string]string {
	r.t.Helper()
	files := make(map[string]string)
	r.must(filepath.WalkDir(r.spool, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		files[path] = fmt.Sprintf("%d bytes, %08x", len(content), crc32.ChecksumIEEE(content))
		return err
	}))
	return files
}

// offerAgain has the archiver offer a segment that is archived, as it may after a power cut.
func (r *rig) offerAgain(c *pgtest.Cluster, segment string) {
	r.t.Helper()
	r.must(c.Kill())
	before := r.content()
	status := c.Path("pg_wal/archive_status/" + segment)
	r.must(os.Rename(status+".done", status+".ready"))
	r.must(c.Start(r.ctx()))
	r.must(c.WaitArchived(r.ctx(), segment))
	r.waitLog(c, "archive-cmd: "+segment+" was archived before", 1)
	if after := r.content(); !maps.Equal(before, after) {
		r.t.Errorf("the spool has changed: got %v, want %v", after, before)
	}
	r.load(c, 20, 4)
	r.cut(c)
	r.mustArchiveAll(c)
}
