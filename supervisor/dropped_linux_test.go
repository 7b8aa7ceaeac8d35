package main_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"walkeep/common/pgtest"
)

// A database that an interrupted DROP DATABASE has left as invalid is named, with the position that gives it back.
func TestRestoreWarnsOfInvalidDatabase(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	c := r.start("primary", nil)
	r.must(c.Exec(r.ctx(), "CREATE DATABASE victim"))
	r.backup(c)
	// DROP DATABASE waits for a checkpoint between the mark and the removal of the files.
	checkpointer, err := c.QueryInt(r.ctx(), "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
	r.must(err)
	r.must(syscall.Kill(int(checkpointer), syscall.SIGSTOP))
	dropped := make(chan error, 1)
	go func() { dropped <- c.Exec(r.ctx(), "DROP DATABASE victim") }()
	waited := c.WaitFor(r.ctx(), pgtest.Timeout, "the end of DROP DATABASE", func(ctx context.Context) (bool, error) {
		n, err := c.QueryInt(ctx, "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE query = 'DROP DATABASE victim' AND EXISTS (SELECT FROM pg_database WHERE datconnlimit = -2)")
		return n == 1, err
	})
	r.must(syscall.Kill(int(checkpointer), syscall.SIGCONT))
	r.must(waited)
	if err := <-dropped; err == nil {
		t.Fatal("DROP DATABASE is not interrupted")
	}
	r.cut(c)
	said := r.says("restore", "--target-dir", filepath.Join(r.dir, "invalid"))
	found := wholeBefore.FindStringSubmatch(said)
	if found == nil || !strings.Contains(said, fmt.Sprintf("the database %q is marked as invalid", "victim")) {
		t.Fatalf("restore does not warn:\n%s", said)
	}
	if early := r.says("restore", "--target-dir", filepath.Join(r.dir, "whole"), "--target-lsn", found[1], "--target-exclusive"); strings.Contains(early, "invalid") {
		t.Errorf("the position that is named is too late:\n%s", early)
	}
	if standby := r.says("restore", "--target-dir", filepath.Join(r.dir, "standby"), "--standby"); strings.Contains(standby, "invalid") {
		t.Errorf("a standby goes on to what is archived later:\n%s", standby)
	}
}
