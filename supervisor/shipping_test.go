package main_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"walkeep/common/pgtest"
	"walkeep/supervisor/report"
)

// A streamer is a running supervisor sync.
type streamer struct {
	r       *rig
	cmd     *exec.Cmd
	log     string
	through func(*exec.Cmd) *exec.Cmd // strace, or nil
	args    []string
}

// sync starts supervisor sync for a server, and waits until it streams.
func (r *rig) sync(c *pgtest.Cluster, args ...string) *streamer {
	r.t.Helper()
	s := r.launch(c, nil, args)
	r.streaming(c)
	return s
}

// launch starts supervisor sync for a server, if need be below strace.
func (r *rig) launch(c *pgtest.Cluster, through func(*exec.Cmd) *exec.Cmd, args []string) *streamer {
	r.t.Helper()
	s := &streamer{r: r, log: filepath.Join(r.dir, "sync.log"), through: through, args: append([]string{"sync"}, args...)}
	if !slices.Contains(args, "--conninfo") {
		s.args = append(s.args, "--conninfo", c.ConnString())
	}
	s.start()
	r.t.Cleanup(func() {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		if r.t.Failed() {
			r.t.Logf("the log of sync:\n%s", s.said())
		}
	})
	return s
}

// streaming waits until a server's stream has caught up. The walsender of the one before may still be there, and does not count.
func (r *rig) streaming(c *pgtest.Cluster) {
	r.t.Helper()
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "the stream", func(ctx context.Context) (bool, error) {
		n, err := c.QueryInt(ctx, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name = 'walkeep' AND backend_start >= $1", r.begun)
		return n > 0, err
	}))
}

func (s *streamer) start() {
	s.r.t.Helper()
	s.cmd = s.r.command(s.args...)
	if s.through != nil {
		s.cmd = s.through(s.cmd)
	}
	log, err := os.OpenFile(s.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	s.r.must(err)
	defer log.Close()
	s.cmd.Stderr = log
	s.r.begun = time.Now()
	s.r.must(s.cmd.Start())
}

// kill ends it as a power cut would: with the archive-cmd that it may have started, which would still archive, or hold the lock
// for a moment.
func (s *streamer) kill() {
	if err := pgtest.KillTree(s.cmd); err != nil {
		s.r.t.Error(err)
	}
}

// stop ends it in order.
func (s *streamer) stop() {
	s.r.t.Helper()
	s.r.must(s.cmd.Process.Signal(syscall.SIGTERM))
	if err := s.cmd.Wait(); err != nil {
		s.r.t.Errorf("sync ended with %v:\n%s", err, s.said())
	}
}

func (s *streamer) said() string {
	text, _ := os.ReadFile(s.log)
	return string(text)
}

// runDir is where the server of a directory that is still to be made will listen.
func (r *rig) runDir(name string) string {
	return pgtest.RunDirOf(filepath.Join(r.dir, name))
}

// A ledger is a load of single inserts, which remembers what was committed, and when. Beside it the server is asked again
// and again how far its stream is.
type ledger struct {
	r       *rig
	mu      sync.Mutex
	commits []commit
	samples []sample
	stop    context.CancelFunc
	done    sync.WaitGroup
}

type commit struct {
	id int64
	at time.Time // when the client heard of it
}

// A sample is up to where a server had written WAL at some time, and its stream had said that it is durable.
type sample struct {
	at              time.Time
	written, stream int64
}

const ledgerTable = "CREATE TABLE IF NOT EXISTS ledger (id bigint PRIMARY KEY, note text)"

// rowsPerSegment is how many rows the tests write into each segment of a ledger.
const rowsPerSegment = 10

// rows are the ledger's.
func (r *rig) rows(c *pgtest.Cluster) int {
	r.t.Helper()
	n, err := c.QueryInt(r.ctx(), "SELECT count(*) FROM ledger")
	r.must(err)
	return int(n)
}

// ledger starts clients, each of which inserts numbers of its own until its server or the ledger ends.
func (r *rig) ledger(c *pgtest.Cluster, clients int, from int64) *ledger {
	r.t.Helper()
	r.must(c.Exec(r.ctx(), ledgerTable))
	ctx, stop := context.WithCancel(r.ctx())
	l := &ledger{r: r, stop: stop}
	with := func(f func(*pgx.Conn)) {
		conn, err := c.Conn(ctx)
		r.must(err)
		l.done.Go(func() {
			defer conn.Close(context.Background())
			f(conn)
		})
	}
	with(func(conn *pgx.Conn) { l.sample(ctx, conn) })
	for i := range clients {
		with(func(conn *pgx.Conn) { l.insert(ctx, conn, from+int64(i), int64(clients)) })
	}
	return l
}

func (l *ledger) insert(ctx context.Context, conn *pgx.Conn, id, step int64) {
	for ; ctx.Err() == nil; id += step {
		if _, err := conn.Exec(ctx, fmt.Sprintf("INSERT INTO ledger VALUES (%d, repeat(md5('%[1]d'), 10))", id)); err != nil {
			return
		}
		l.mu.Lock()
		l.commits = append(l.commits, commit{id, time.Now()})
		l.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
}

func (l *ledger) sample(ctx context.Context, conn *pgx.Conn) {
	for ; ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		x := sample{at: time.Now()}
		err := conn.QueryRow(ctx, `SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint, (flush_lsn - '0/0')::bigint
			FROM pg_stat_replication WHERE application_name = 'walkeep' AND flush_lsn IS NOT NULL`).Scan(&x.written, &x.stream)
		if errors.Is(err, pgx.ErrNoRows) {
			continue
		}
		if err != nil {
			return
		}
		l.mu.Lock()
		l.samples = append(l.samples, x)
		l.mu.Unlock()
	}
}

// kept is up to when all that was committed is durable in the archive by what the server has heard; zero if it has not
// heard of any.
func (l *ledger) kept() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	var stream int64
	for _, x := range l.samples {
		stream = max(stream, x.stream)
	}
	for _, x := range slices.Backward(l.samples) {
		if x.written <= stream {
			return x.at
		}
	}
	return time.Time{}
}

// reach waits until so many commits were heard of.
func (l *ledger) reach(n int) {
	l.r.t.Helper()
	l.r.until(fmt.Sprint(n, " commits"), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.commits) >= n
	})
}

// flows waits until something of this load is durable in the archive.
func (l *ledger) flows() {
	l.r.t.Helper()
	l.r.until("commits to be streamed", func() bool {
		kept := l.kept()
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.commits) > 0 && l.commits[0].at.Before(kept)
	})
}

// age is how old the first of the commits that are lost, oldest first, was when its server ended; zero if there are none.
// None may be lost that was durable.
func (l *ledger) age(lost []commit, end time.Time) time.Duration {
	l.r.t.Helper()
	if len(lost) == 0 {
		return 0
	}
	if kept := l.kept(); lost[0].at.Before(kept) {
		l.r.t.Errorf("commit %d is lost, although what was committed up to %s later was durable", lost[0].id, kept.Sub(lost[0].at))
	}
	return end.Sub(lost[0].at)
}

// close ends the clients, and gives what was committed.
func (l *ledger) close() []commit {
	l.stop()
	l.done.Wait()
	return l.commits
}

// lost compares a server's rows with what its predecessor's clients know: no row may be there that nobody sent, and the
// commits that are missing are returned, oldest first. The last insert of each of so many clients may be there although
// nobody has heard of it.
func (r *rig) lost(c *pgtest.Cluster, commits []commit, clients int) []commit {
	r.t.Helper()
	text, err := c.QueryString(r.ctx(), "SELECT coalesce(string_agg(id::text, ' '), '') FROM ledger")
	r.must(err)
	there := make(map[string]bool)
	for id := range strings.FieldsSeq(text) {
		there[id] = true
	}
	var missing []commit
	for _, x := range commits {
		id := fmt.Sprint(x.id)
		if !there[id] {
			missing = append(missing, x)
		}
		delete(there, id)
	}
	if len(there) > clients {
		r.t.Errorf("%d rows are there that nobody has heard of: %v", len(there), there)
	}
	slices.SortFunc(missing, func(a, b commit) int { return a.at.Compare(b.at) })
	return missing
}

// mostLoss is how old the commits are at most that are lost with a server whose clients do not wait for the stream: the
// interval in which it is made durable where nothing is reported, and a second for a machine that
// is busy with other tests.
const mostLoss = 50*time.Millisecond + time.Second

// A primary is killed under load, and its disk is gone. What was streamed until then is on the standby that is promoted.
func TestFailover(t *testing.T) {
	t.Parallel()
	// Most of them may be slower: the process that sends is the server's, and the machine is busy with other tests.
	var mu sync.Mutex
	var ages []time.Duration
	t.Cleanup(func() {
		slices.Sort(ages)
		t.Logf("the first commits that are lost were this old: %v", ages)
		if len(ages) > 0 && ages[0] > mostLoss {
			t.Errorf("all of them were older than %s", mostLoss)
		}
	})
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		primary := r.start("primary", nil)
		// It names both hosts, and finds the one that is open for writing.
		both := fmt.Sprintf("host=%s,%s port=5432 user=postgres sslmode=disable target_session_attrs=read-write", primary.RunDir(), r.runDir("standby"))
		sync := r.sync(primary, "--conninfo", both)
		r.load(primary, 20, 1)
		r.backup(primary)
		standby := r.standby("standby", nil)
		const clients = 3
		l := r.ledger(primary, clients, 1)
		l.reach(50)
		l.flows()
		killed := time.Now()
		r.must(primary.Kill())
		commits := l.close()
		r.must(os.RemoveAll(primary.Dir))
		out := r.run("promote", "--conninfo", standby.ConnString(), "--primary-conninfo", primary.ConnString(), "-v")
		t.Logf("%d commits; promoted %s after the end: %s", len(commits), time.Since(killed), out)
		missing := r.lost(standby, commits, clients)
		age := l.age(missing, killed)
		mu.Lock()
		ages = append(ages, age)
		mu.Unlock()
		if !strings.Contains(out, "timeline 2") {
			t.Errorf("promote says %q", out)
		}
		// The new primary continues in the same archive, and a repeated promotion reports that it was done.
		r.must(standby.Exec(r.ctx(), "INSERT INTO ledger VALUES (-1, 'new')"))
		r.streaming(standby)
		r.cut(standby)
		if out := r.run("boot", "--conninfo", standby.ConnString()); !strings.Contains(out, "already") {
			t.Errorf("promote, repeated, says %q", out)
		}
		r.backup(standby)
		sync.stop()
		r.run("verify")
		back := r.restore("back")
		r.must(back.Start(r.ctx()))
		r.must(back.WaitOpen(r.ctx()))
		if n, err := back.QueryInt(r.ctx(), "SELECT count(*) FROM ledger WHERE id = -1"); err != nil || n != 1 {
			t.Errorf("the new timeline's row: got %d, %v", n, err)
		}
	})
}

// How the stream goes is in status, check and list; a recovery says what it leaves out of what was streamed, and a
// promotion gets it.
func TestStreamIsReported(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", map[string]string{"synchronous_standby_names": "walkeep"})
	s := r.sync(c, "--synchronous")
	r.must(c.Exec(r.ctx(), ledgerTable))
	r.backup(c)
	r.must(c.Exec(r.ctx(), "INSERT INTO ledger VALUES (1, 'streamed only')"))
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "the note of the stream", func(context.Context) (bool, error) {
		found := r.status("--conninfo", c.ConnString()).Streams
		if len(found) != 1 || !found[0].Running || !found[0].Synchronous || found[0].Timeline != 1 || found[0].Behind != 0 {
			return false, nil
		}
		// The server may have written again since, by itself.
		out, err := r.command("check", "--conninfo", c.ConnString()).Output()
		return strings.Contains(string(out), "stream_walkeep_behind=0B"), err
	}))
	r.check(c, report.OK, []string{"stream_walkeep_behind="})
	if out := r.run("list"); !strings.Contains(out, "STREAMED") {
		t.Errorf("list says %s", out)
	}
	// A stream that has ended in order is no trouble, one that was killed is, when it has been silent for a while.
	s.stop()
	r.check(c, report.OK, nil)
	s.start()
	r.streaming(c)
	s.kill()
	note := filepath.Join(r.spool, "streams", "walkeep.json")
	text, err := os.ReadFile(note)
	r.must(err)
	heard := regexp.MustCompile(`"heard":"[^"]*"`).ReplaceAllString(string(text), `"heard":"2020-01-01T00:00:00Z"`)
	heard = strings.Replace(heard, `"ended":true`, `"ended":false`, 1)
	r.must(os.WriteFile(note, []byte(heard), 0o600))
	r.check(c, report.Critical, []string{"commits that wait for it do not return"})

	r.must(c.Kill())
	dir := filepath.Join(r.dir, "restored")
	out, err := r.command("restore", "--target-dir", dir).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "the archive also holds what was streamed") {
		t.Errorf("restore: %v\n%s", err, out)
	}
	standby := r.standby("standby", nil)
	// The configuration that was made for the primary names its data directory.
	if out := r.run("promote", "--conninfo", standby.ConnString(), "--pgdata", c.Dir); !strings.Contains(out, "had been streamed") {
		t.Errorf("promote says %s", out)
	}
	if n, err := standby.QueryInt(r.ctx(), "SELECT count(*) FROM ledger"); err != nil || n != 1 {
		t.Errorf("got %d rows, %v, want the one that was only streamed", n, err)
	}
}
