package main_test

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// A variant is what the tests of recovery differ in.
type variant struct {
	major  int
	size   int // of a segment, in MB
	codec  string
	online bool // an online base backup, else a cold one
}

func (v variant) String() string {
	backup := "cold"
	if v.online {
		backup = "online"
	}
	return fmt.Sprintf("pg%d-%dMB-%s-%s", v.major, v.size, v.codec, backup)
}

// variants has every version with small segments, which 10 does not have, and one of each larger size, because sizes differ in
// the archive's layout and in restore-cmd. Codecs and kinds of backup take turns.
func variants() []variant {
	var all []variant
	add := func(major, size int) {
		all = append(all, variant{major, size, codecs[len(all)%len(codecs)], len(all)%2 == 0})
	}
	majors := pgtest.Majors()
	for _, major := range majors {
		add(major, pgtest.SmallestSegmentMB(major))
	}
	if slices.Contains(majors, 15) {
		add(15, 16)
	}
	add(majors[len(majors)-1], 64)
	return all
}

// eachTurn runs a test against the versions with which recovery changed, with the smallest segments that they have.
// TestRecovery has all versions.
func eachTurn(t *testing.T, test func(r *rig)) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) { test(newRig(t, small(major))) }, pgtest.Turns()...)
}

// newest is for what is the same in all versions.
func newest() variant { return small(slices.Max(pgtest.Majors())) }

func small(major int) variant {
	return variant{major: major, size: pgtest.SmallestSegmentMB(major), codec: "zstd", online: true}
}

// A rig is a spool and the clusters that archive into it and are recovered from it, by PostgreSQL and the real commands
// alone.
type rig struct {
	variant
	t     *testing.T
	dir   string // of the clusters
	spool string
	far   string // the configuration file of another host, to which the spool is a repository; empty: there is only this host
}

func newRig(t *testing.T, v variant) *rig {
	t.Helper()
	cmdtest.Long(t)
	pgtest.Need(t, v.major)
	r := &rig{variant: v, t: t, dir: clusterDir(t), spool: filepath.Join(pgtest.TempDir(t), "spool")}
	r.must(pgtest.Mkdir(r.spool))
	return r
}

// in is the same rig for a subtest.
func (r *rig) in(t *testing.T) *rig {
	other := *r
	other.t = t
	return &other
}

func (r *rig) ctx() context.Context { return r.t.Context() }

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// command is one that PostgreSQL runs.
func (r *rig) command(program string, args ...string) string {
	call := fmt.Sprintf(`"%s" -v -c %s --spool "%s" `, cmdtest.Path(program), os.DevNull, r.spool)
	return call + strings.Join(args, " ")
}

func (r *rig) archiveCommand() string { return r.command("archive-cmd", "--codec", r.codec, "%p") }

// restoreCommand is a restore_command that waits less for a missing segment than by default.
func (r *rig) restoreCommand() string {
	if r.far != "" {
		return fmt.Sprintf(`"%s" -v -c "%s" --retry-time 300ms %%f %%p %%r`, cmdtest.Path("restore-cmd"), r.far)
	}
	return r.command("restore-cmd", "--retry-time", "300ms", "%f", "%p", "%r")
}

// start makes and starts a new cluster that archives.
func (r *rig) start(name string) *pgtest.Cluster {
	r.t.Helper()
	settings := pgtest.ArchiveSettings(r.archiveCommand(), r.size)
	settings["max_wal_size"] = fmt.Sprintf("%dMB", 30*r.size)
	if r.major >= 12 {
		settings["wal_init_zero"] = "off"
	}
	c := pgtest.New(r.t, pgtest.Options{
		Major: r.major, Dir: filepath.Join(r.dir, name), SegmentSizeMB: r.size, Settings: settings,
	})
	r.must(c.Start(r.ctx()))
	r.must(c.Exec(r.ctx(), "CREATE TABLE journal (n int PRIMARY KEY, note text); CREATE TABLE mark (note text)"))
	return c
}

// load makes transactions, each of which must be there as a whole or not at all.
func (r *rig) load(c *pgtest.Cluster, transactions int, seed uint64) {
	r.t.Helper()
	_, err := c.Load(r.ctx(), pgtest.Load{Transactions: transactions, Clients: 2, Accounts: 300, Seed: seed})
	r.must(err)
}

// cut ends the segment that is being written and waits until it is archived.
func (r *rig) cut(c *pgtest.Cluster) (segment string) {
	r.t.Helper()
	segment, err := c.ArchiveSegment(r.ctx())
	r.must(err)
	return segment
}

// loadOn makes transactions until the server is killed. What it returns waits for that, and gives how many were
// acknowledged.
func (r *rig) loadOn(c *pgtest.Cluster, seed uint64) (acknowledged func() int) {
	done := make(chan int, 1)
	go func() {
		result, _ := c.Load(r.ctx(), pgtest.Load{Duration: pgtest.Timeout, Pause: 3 * time.Millisecond, Clients: 2, Seed: seed})
		done <- result.Transactions
	}()
	return func() int { return <-done }
}

// mustArchiveAll checks that nothing was refused since the server's start, which a crash sets back.
func (r *rig) mustArchiveAll(c *pgtest.Cluster) {
	r.t.Helper()
	if failed, err := c.QueryInt(r.ctx(), "SELECT failed_count FROM pg_stat_archiver"); err != nil || failed != 0 {
		r.t.Errorf("the server on %s failed to archive %d times (%v)\n%s", c.Dir, failed, err, c.LogTail(20))
	}
}

// A state identifies all rows of a database.
type state struct {
	transactions int64 // of the load
	sum          string
}

// state returns the state of a database, and checks that it has no half of a transaction.
func (r *rig) state(c *pgtest.Cluster) state {
	r.t.Helper()
	n, sum, err := c.Sum(r.ctx(), "journal", "mark")
	r.must(err)
	return state{n, sum}
}

func (r *rig) wantState(c *pgtest.Cluster, want state) {
	r.t.Helper()
	if got := r.state(c); got != want {
		r.t.Errorf("the database is not what it was: got %+v, want %+v\n%s", got, want, c.LogTail(20))
	}
}

// copyOf copies a backup without the WAL that it may have, so that all of it must come through restore-cmd.
func (r *rig) copyOf(backup, name string) *pgtest.Cluster {
	r.t.Helper()
	from, err := pgtest.Open(backup)
	r.must(err)
	dir := filepath.Join(r.dir, name)
	r.must(from.ColdBackup(dir))
	for _, pattern := range []string{"pg_wal/*", "pg_wal/archive_status/*"} {
		files, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(pattern)))
		r.must(err)
		for _, file := range files {
			if info, err := os.Stat(file); err == nil && !info.IsDir() {
				r.must(os.Remove(file))
			}
		}
	}
	c, err := pgtest.Open(dir)
	r.must(err)
	return pgtest.Attach(r.t, c)
}

// settings are those of a recovering server, which does not archive unless they say so.
func (r *rig) settings(more map[string]string) map[string]string {
	s := map[string]string{"restore_command": r.restoreCommand(), "archive_mode": "off"}
	maps.Copy(s, more)
	return s
}

// recovered recovers a copy of a backup until it is open, on a new timeline.
func (r *rig) recovered(backup, name string, timeline uint32, settings map[string]string) *pgtest.Cluster {
	r.t.Helper()
	c := r.copyOf(backup, name)
	r.must(c.Recover(r.settings(settings)))
	r.mustOpen(c, timeline)
	return c
}

func (r *rig) mustOpen(c *pgtest.Cluster, timeline uint32) {
	r.t.Helper()
	r.must(c.Start(r.ctx()))
	r.must(c.WaitOpen(r.ctx()))
	if got, err := c.Timeline(r.ctx()); err != nil || got != timeline {
		r.t.Errorf("timeline: got %d (%v), want %d", got, err, timeline)
	}
}

// remove throws a cluster away.
func (r *rig) remove(c *pgtest.Cluster) {
	r.t.Helper()
	r.must(c.Stop(r.ctx(), pgtest.Immediate))
	r.must(os.RemoveAll(c.Dir))
}

// mustStop has a recovery end without the database having been opened, because of the segment.
func (r *rig) mustStop(c *pgtest.Cluster, segment string, why string) {
	r.t.Helper()
	r.must(c.Launch())
	r.must(c.WaitExit(r.ctx(), pgtest.Timeout))
	log := c.LogTail(1000)
	for _, want := range []string{why, `FATAL:  could not restore file "` + segment + `" from archive`} {
		if !strings.Contains(log, want) {
			r.t.Errorf("the log lacks %q:\n%s", want, c.LogTail(20))
		}
	}
	for _, bad := range []string{"database system is ready to accept connections", "archive recovery complete"} {
		if strings.Contains(log, bad) {
			r.t.Errorf("the database was opened:\n%s", c.LogTail(20))
		}
	}
}

var ending = regexp.MustCompile(`(\.zst|\.s2|\.lz4|\.gz)$`)

// stored finds the spool's objects by the names of the files that they hold.
func (r *rig) stored() map[string]string {
	r.t.Helper()
	found := make(map[string]string)
	r.must(filepath.WalkDir(filepath.Join(r.spool, "wal"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".tmp") {
			return err
		}
		found[ending.ReplaceAllString(d.Name(), "")] = path
		return nil
	}))
	return found
}

// segments lists the complete segments of a timeline that the spool holds.
func (r *rig) segments(timeline int) []string {
	r.t.Helper()
	var names []string
	for name := range r.stored() {
		if len(name) == 24 && strings.HasPrefix(name, fmt.Sprintf("%08X", timeline)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// object is where the spool has a file. It waits for it: the archiver takes what is no segment in its own time.
func (r *rig) object(c *pgtest.Cluster, name string) (path string) {
	r.t.Helper()
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "archiving of "+name, func(context.Context) (bool, error) {
		path = r.stored()[name]
		return path != "", nil
	}))
	return path
}

// waitLog waits until the server has logged a text so many times.
func (r *rig) waitLog(c *pgtest.Cluster, text string, times int) {
	r.t.Helper()
	what := fmt.Sprintf("%d times %q in the log", times, text)
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, what, func(context.Context) (bool, error) {
		return strings.Count(c.Log(), text) >= times, nil
	}))
}
