package main_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"walkeep/common/account"
	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// A rig is a spool, and clusters that archive into it, for the real commands and real servers.
type rig struct {
	t     *testing.T
	major int
	dir   string // for clusters
	spool string
	begun time.Time // when the last stream was started
}

// newRig is that of all tests but those of a short run, because nearly every one takes a second of a server or more.
func newRig(t *testing.T, major int) *rig {
	t.Helper()
	cmdtest.Long(t)
	return newShortRig(t, major)
}

func newShortRig(t *testing.T, major int) *rig {
	t.Helper()
	pgtest.Need(t, major)
	dir := pgtest.TempDir(t)
	r := &rig{t: t, major: major, dir: dir, spool: filepath.Join(dir, "spool")}
	r.mkdir(r.spool)
	return r
}

// mkdir makes a directory of the servers' user.
func (r *rig) mkdir(dir string) {
	r.t.Helper()
	r.must(pgtest.Mkdir(dir))
}

func (r *rig) ctx() context.Context { return r.t.Context() }

// in is the same rig for a subtest.
func (r *rig) in(t *testing.T) *rig {
	other := *r
	other.t = t
	return &other
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// start makes and starts a new cluster with page checksums that archives into the spool.
func (r *rig) start(name string, more map[string]string) *pgtest.Cluster {
	r.t.Helper()
	size := pgtest.SmallestSegmentMB(r.major)
	settings := pgtest.ArchiveSettings(r.archiveCommand(), size)
	settings["max_wal_senders"] = "5"
	maps.Copy(settings, more)
	c := pgtest.New(r.t, pgtest.Options{
		Major: r.major, Dir: filepath.Join(r.dir, name), SegmentSizeMB: size, Checksums: true, Settings: settings,
	})
	r.must(c.Start(r.ctx()))
	return c
}

// command prepares a call of supervisor by the servers' user, without the tester's configuration.
func (r *rig) command(args ...string) *exec.Cmd {
	return pgtest.Command(r.ctx(), cmdtest.Path("supervisor"), append([]string{"-c", os.DevNull, "--spool", r.spool}, args...)...)
}

// run calls supervisor and gives what it wrote to standard output, which it must have done successfully.
func (r *rig) run(args ...string) string {
	r.t.Helper()
	out, err := r.command(args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			r.t.Fatalf("supervisor %q: %v\n%s%s", args, err, out, exit.Stderr)
		}
		r.t.Fatalf("supervisor %q: %v", args, err)
	}
	return string(out)
}

// fails calls supervisor, which must end with the exit code, and with the words in its messages. It returns the output and messages.
func (r *rig) fails(code int, words []string, args ...string) string {
	r.t.Helper()
	out, err := r.command(args...).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		r.t.Fatalf("supervisor %q: got %v, want exit code %d\n%s", args, err, code, out)
	}
	for _, word := range words {
		if !strings.Contains(string(out), word) {
			r.t.Errorf("supervisor %q does not say %q:\n%s", args, word, out)
		}
	}
	return string(out)
}

var idForm = regexp.MustCompile(`[0-9]{8}T[0-9]{6}Z(-[0-9]+)?`)

// backup takes a backup and returns its id.
func (r *rig) backup(c *pgtest.Cluster, args ...string) string {
	r.t.Helper()
	out := r.run(append([]string{"backup", "--conninfo", c.ConnString()}, args...)...)
	id := idForm.FindString(out)
	if id == "" {
		r.t.Fatalf("backup names no id: %q", out)
	}
	return id
}

// restore restores into a new directory, and gives the cluster, which does not archive.
func (r *rig) restore(name string, args ...string) *pgtest.Cluster {
	r.t.Helper()
	dir := filepath.Join(r.dir, name)
	r.run(append([]string{"restore", "--target-dir", dir}, args...)...)
	return r.open(dir)
}

// open takes a restored directory as a cluster, when PostgreSQL's own tool has checked it, and makes sure that it does
// not archive.
func (r *rig) open(dir string) *pgtest.Cluster {
	r.t.Helper()
	r.verifyBackup(dir)
	c, err := pgtest.Open(dir)
	r.must(err)
	r.must(c.Configure(map[string]string{"archive_mode": "off"}))
	return pgtest.Attach(r.t, c)
}

// verifyBackup runs pg_verifybackup where the tool reads the manifest.
func (r *rig) verifyBackup(dir string) {
	r.t.Helper()
	if r.major < 13 || runtime.GOOS == "windows" {
		return // there is no manifest, or no tool
	}
	reader := r.major
	if reader <= 16 {
		reader = 15 // reads them all
	}
	tool, err := pgtest.Tool(reader, "pg_verifybackup")
	r.must(err)
	if out, err := pgtest.Command(r.ctx(), tool, "--no-parse-wal", dir).CombinedOutput(); err != nil {
		r.t.Errorf("pg_verifybackup: %v\n%s", err, out)
	}
}

// load makes transactions, each of which must be there as a whole or not at all.
func (r *rig) load(c *pgtest.Cluster, transactions int, seed uint64) {
	r.t.Helper()
	_, err := c.Load(r.ctx(), pgtest.Load{Transactions: transactions, Clients: 2, Accounts: 300, Seed: seed})
	r.must(err)
}

// loadWhile makes transactions while f runs.
func (r *rig) loadWhile(c *pgtest.Cluster, seed uint64, f func()) {
	r.t.Helper()
	ctx, stop := context.WithCancel(r.ctx())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Load(ctx, pgtest.Load{Duration: pgtest.Timeout, Pause: 3 * time.Millisecond, Clients: 2, Accounts: 300, Seed: seed})
	}()
	f()
	stop()
	<-done
	// A commit that was on its way when its client was stopped may still happen.
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "the load's sessions to end", func(ctx context.Context) (bool, error) {
		n, err := c.QueryInt(ctx, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")
		return n == 0, err
	}))
}

// cut ends the segment that is being written and waits until it is archived.
func (r *rig) cut(c *pgtest.Cluster) (segment string) {
	r.t.Helper()
	segment, err := c.ArchiveSegment(r.ctx())
	r.must(err)
	return segment
}

// sum returns a checksum of all rows of a database, and checks that it has no half of a transaction.
func (r *rig) sum(c *pgtest.Cluster) string {
	r.t.Helper()
	_, sum, err := c.Sum(r.ctx(), "elsewhere")
	r.must(err)
	return sum
}

// opens starts a restored cluster, waits until it has ended its recovery, and compares its rows.
func (r *rig) opens(c *pgtest.Cluster, want string) {
	r.t.Helper()
	r.must(c.Start(r.ctx()))
	r.must(c.WaitOpen(r.ctx()))
	if got := r.sum(c); got != want {
		r.t.Errorf("the rows are not what they were: got %s, want %s\n%s", got, want, c.LogTail(20))
	}
}

// feeds waits until a server has so many standbys that stream.
func (r *rig) feeds(c *pgtest.Cluster, standbys int64) {
	r.t.Helper()
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "the standby to stream", func(ctx context.Context) (bool, error) {
		n, err := c.QueryInt(ctx, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")
		return n == standbys, err
	}))
}

// give makes the directory's user the owner of all files that root made in it.
func (r *rig) give(dir string) {
	r.t.Helper()
	owner, err := account.OwnerOf(dir)
	r.must(err)
	r.must(filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			err = owner.Give(path)
		}
		return err
	}))
}
