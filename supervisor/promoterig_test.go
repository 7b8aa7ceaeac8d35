//go:build unix

package main_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"walkeep/common/pgtest"
)

// A wreck is an archive whose primary is gone for good. Its ledger has ten rows in each of the segments of which the archive
// holds all (stored), of which only partial/ holds all (complete), and in the last one, which partial/ holds in part.
type wreck struct {
	*rig
	primary          *pgtest.Cluster
	stored, complete []string
	last             string
}

// lose makes such an archive, with so many stored and complete segments.
func (r *rig) lose(stored, complete int) *wreck {
	r.t.Helper()
	l := &wreck{rig: r, primary: r.start("primary", nil)}
	s := r.sync(l.primary)
	r.must(l.primary.Exec(r.ctx(), ledgerTable))
	r.backup(l.primary)
	rows := 0
	segment := func() {
		r.t.Helper()
		r.insert(l.primary, rows+1)
		rows += rowsPerSegment
	}
	for range stored {
		segment()
		l.stored = append(l.stored, r.cut(l.primary))
	}
	r.must(l.primary.Configure(map[string]string{"archive_command": "false", "work_mem": "7MB"}))
	r.must(l.primary.Reload(r.ctx()))
	r.must(l.primary.WaitFor(r.ctx(), pgtest.Timeout, "the reload", func(ctx context.Context) (bool, error) {
		v, err := l.primary.QueryString(ctx, "SHOW work_mem")
		return v == "7MB", err
	}))
	for range complete {
		segment()
		name, err := l.primary.SwitchWAL(r.ctx())
		r.must(err)
		l.complete = append(l.complete, name)
	}
	segment()
	r.flushed(l.primary)
	name, err := l.primary.QueryString(r.ctx(), "SELECT pg_walfile_name(pg_current_wal_lsn())")
	r.must(err)
	l.last = name
	r.must(l.primary.Kill())
	r.until("the stream to lose its server", func() bool { return r.streamNote().Trouble != "" })
	s.kill()
	for _, name := range l.complete { // sync gives the server's archiver five seconds, which may be over
		if content := r.archived(name); content != nil {
			r.must(os.WriteFile(l.partial(name), content, 0o600))
			l.remove(name)
		}
	}
	l.give(l.spool)
	return l
}

// copy is the same with a copy of the archive, for one promotion.
func (l *wreck) copy(t *testing.T, name string) *wreck {
	t.Helper()
	c := *l
	c.rig = l.in(t)
	c.dir = filepath.Join(l.dir, name)
	c.spool = filepath.Join(c.dir, "spool")
	c.mkdir(c.dir)
	c.must(pgtest.Command(c.ctx(), "cp", "-a", l.spool, c.spool).Run())
	return &c
}

// insert commits the rows of a segment one by one, with ascending numbers.
func (r *rig) insert(c *pgtest.Cluster, first int) {
	r.t.Helper()
	conn, err := c.Conn(r.ctx())
	r.must(err)
	defer conn.Close(r.ctx())
	for n := range rowsPerSegment {
		_, err := conn.Exec(r.ctx(), fmt.Sprintf("INSERT INTO ledger VALUES (%d, repeat('x', 100))", first+n))
		r.must(err)
	}
}

func (r *rig) partial(name string) string { return filepath.Join(r.spool, "partial", name) }

// object finds a segment in the archive.
func (r *rig) object(name string) string {
	return filepath.Join(r.spool, "wal", name[:16], name+".zst")
}

// remove removes a segment from the archive.
func (r *rig) remove(name string) {
	r.t.Helper()
	r.must(os.Remove(r.object(name)))
}

// unarchive moves the segments that restore has stored back to partial/, where the stream had left them.
func (l *wreck) unarchive() {
	l.t.Helper()
	for _, name := range l.complete {
		l.must(os.WriteFile(l.partial(name), l.archived(name), 0o600))
		l.remove(name)
	}
	l.give(l.spool)
}

// reaches waits until a server's ledger has so many rows.
func (r *rig) reaches(c *pgtest.Cluster, rows int) {
	r.t.Helper()
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, fmt.Sprintf("%d rows", rows), func(ctx context.Context) (bool, error) {
		n, err := c.QueryInt(ctx, "SELECT count(*) FROM ledger")
		return int(n) == rows, err
	}))
}

func (r *rig) recovers(c *pgtest.Cluster) bool {
	r.t.Helper()
	s, err := c.QueryString(r.ctx(), "SELECT pg_is_in_recovery()::text")
	r.must(err)
	return s == "true"
}

func (r *rig) timeline(c *pgtest.Cluster) int {
	r.t.Helper()
	tli, err := c.Timeline(r.ctx())
	r.must(err)
	return int(tli)
}

// promote calls promote, which must succeed, and returns its output and messages.
func (r *rig) promote(c *pgtest.Cluster, args ...string) string {
	r.t.Helper()
	out, err := r.command(append([]string{"promote", "-v", "--conninfo", c.ConnString()}, args...)...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("promote %q: %v\n%s\n%s", args, err, out, c.LogTail(30))
	}
	return string(out)
}

// refused calls promote, which must fail, leave the standby as it is, and leave no offer. It returns the output and messages.
func (r *rig) refused(c *pgtest.Cluster, code int, words []string, args ...string) string {
	r.t.Helper()
	out := r.fails(code, words, append([]string{"promote", "--conninfo", c.ConnString()}, args...)...)
	if !r.recovers(c) {
		r.t.Fatal("it was promoted")
	}
	r.offersNothing()
	return out
}

func (r *rig) offers() []string {
	r.t.Helper()
	found, err := filepath.Glob(filepath.Join(r.spool, "offers", "*.json")) // and not what a killed writer leaves for the next to sweep
	r.must(err)
	return found
}

func (r *rig) offersNothing() {
	r.t.Helper()
	if found := r.offers(); len(found) > 0 {
		r.t.Errorf("offers are left: %q", found)
	}
}

// never checks that the archive does not have a segment under a complete segment's name.
func (r *rig) never(name string) {
	r.t.Helper()
	if found, err := filepath.Glob(filepath.Join(r.spool, "wal", "*", name+".*")); err != nil || len(found) > 0 && !strings.Contains(found[0], ".partial") {
		r.t.Errorf("the archive has %q, %v", found, err)
	}
}

// laid restores a standby that archives here once it is promoted, and does not start it.
func (r *rig) laid(name string) *pgtest.Cluster {
	r.t.Helper()
	dir := filepath.Join(r.dir, name)
	r.run("restore", "--standby", "--target-dir", dir)
	s, err := pgtest.Open(dir)
	r.must(err)
	r.must(s.Configure(map[string]string{"wal_retrieve_retry_interval": "500ms", "archive_command": r.archiveCommand()}))
	return pgtest.Attach(r.t, s)
}

// soon waits for a process that was started, and gives its exit code.
func (r *rig) soon(what string, wait func() error) error {
	r.t.Helper()
	done := make(chan error, 1)
	go func() { done <- wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(2 * time.Minute):
		r.t.Fatalf("%s does not end", what)
		return nil
	}
}

// pause stops all processes of a server while f runs: it accepts connections and does not answer.
func (r *rig) pause(c *pgtest.Cluster, f func()) {
	r.t.Helper()
	text, err := c.QueryString(r.ctx(), "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
	r.must(err)
	pids := []int{c.PID()}
	for word := range strings.FieldsSeq(text) {
		pid, err := strconv.Atoi(word)
		r.must(err)
		pids = append(pids, pid)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGSTOP); !errors.Is(err, syscall.ESRCH) { // a session may just have ended
			r.must(err)
		}
	}
	defer func() {
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGCONT)
		}
	}()
	f()
}
