package main_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/pgtest"
	"walkeep/common/storage/faultproxy"
	"walkeep/common/storage/s3/s3test"
)

// inBucket makes a repository in a bucket. Hosts with a configuration find the credentials in a file, others in the environment.
func inBucket(r *rig) far {
	r.t.Helper()
	return inBucketOf(r, s3test.Start(r.t, s3test.Versitygw))
}

func inBucketOf(r *rig, s *s3test.Server) far {
	r.t.Helper()
	keys := filepath.Join(r.dir, "credentials")
	r.must(os.WriteFile(keys, fmt.Appendf(nil, "access-key = %s\nsecret-key = %s\n", s.AccessKey, s.SecretKey), 0o600))
	r.give(r.dir)
	return far{
		url: "s3://" + s.Bucket(r.t) + "/a/cluster", keys: "endpoint = " + s.URL + "\n", file: "credentials-file = " + keys + "\n",
		env: []string{"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey},
	}
}

// A runner is walkeep run on a host.
type runner struct {
	cmd *exec.Cmd
	log string
}

// runs starts run, with further lines of the configuration.
func (s *site) runs(lines string) *runner {
	s.t.Helper()
	s.configure(lines)
	d := &runner{s.command("run"), filepath.Join(s.dir, "run.log")}
	log, err := os.Create(d.log)
	s.must(err)
	defer log.Close()
	d.cmd.Stderr = log
	s.must(d.cmd.Start())
	s.t.Cleanup(func() {
		d.kill()
		if s.t.Failed() {
			said, _ := os.ReadFile(d.log)
			s.t.Logf("the log of run on %s:\n%s", s.dir, said)
		}
	})
	return d
}

func (d *runner) kill() {
	if d.cmd.ProcessState == nil {
		pgtest.KillTree(d.cmd)
	}
}

// holds waits until the repository alone can be recovered to the end of a segment.
func (s *site) holds(segment string) {
	s.t.Helper()
	s.until("the repository to hold "+segment, func() bool {
		out, err := s.command("list", "--repo", "far").CombinedOutput()
		return err == nil && strings.Contains(string(out), "WAL to "+segment)
	})
}

// The whole life of a cluster whose archive is in a repository: it is backed up and archived there, a standby on another host is fed
// from there and promoted, the old server rejoins, and hosts that know nothing but the URL recover it to any point.
func storyOf(t *testing.T, major int, place func(*rig) far) {
	r := newShortRig(t, major)
	f := place(r)
	near, away, fresh := r.site("near", f), r.site("away", f), r.fresh("fresh", f)

	primary := near.start("primary", map[string]string{"archive_command": ""})
	near.run("setup", "--restart", "--conninfo", primary.ConnString(), "--bindir", primary.Bindir())
	near.must(primary.Exec(near.ctx(), "CREATE TABLE elsewhere (n int)"))
	near.must(primary.Exec(near.ctx(), ledgerTable))
	shipping := near.runs("stream = true\npartial-interval = 1s\nconninfo = " + primary.ConnString() + "\n")
	near.load(primary, 20, 1)
	near.says([]string{"in repository far (" + f.url + ")"}, "backup")
	near.load(primary, 20, 2)
	then := near.sum(primary)
	_, err := primary.CreateRestorePoint(near.ctx(), "then")
	near.must(err)
	near.load(primary, 20, 3)
	near.holds(near.cut(primary))
	near.says([]string{"repository far"}, "verify")

	// A standby on another host, whose spool is empty.
	dir := filepath.Join(away.dir, "standby")
	away.says([]string{"it is a standby"}, "restore", "--standby", "--target-dir", dir)
	standby := away.attach(dir)
	away.must(standby.Start(away.ctx()))
	feeding := away.runs("")
	away.follows(standby, primary)

	// The primary is lost in the middle of a segment.
	rows := 0
	for range rowsPerSegment {
		rows++
		near.must(primary.Exec(near.ctx(), fmt.Sprintf("INSERT INTO ledger VALUES (%d, 'x')", rows)))
	}
	near.pieces(primary)
	near.must(primary.Kill())
	shipping.kill()
	out := away.says([]string{"on timeline 2"}, "promote", "--conninfo", standby.ConnString(), "--primary-conninfo", primary.ConnString())
	if got := away.rows(standby); got != rows {
		t.Fatalf("%d rows after the promotion, want %d: promote says\n%s", got, rows, out)
	}
	away.load(standby, 20, 4)
	feeding.kill()
	away.runs("conninfo = " + standby.ConnString() + "\n")
	away.run("backup")
	away.load(standby, 20, 5)
	away.holds(away.cut(standby))
	latest := away.sum(standby)

	// The old server comes back, and its host knows from the repository that it is not the one any more.
	near.must(primary.Start(near.ctx()))
	if said, _ := near.command("check", "--conninfo", primary.ConnString()).CombinedOutput(); !strings.Contains(string(said), "two servers may be in use") {
		t.Errorf("check beside the old primary says\n%s", said)
	}
	near.must(primary.Stop(near.ctx(), pgtest.Fast))
	back := near
	if major == pgtest.MinMajor { // with nothing but the URL
		back = &site{near.rig, f, ""}
		primary.Env = f.env
	}
	back.says([]string{"timeline 2"}, "rejoin", "--pgdata", primary.Dir)
	near.must(primary.Start(near.ctx()))
	near.follows(primary, standby)
	near.must(primary.Stop(near.ctx(), pgtest.Fast))

	// A host that knows nothing but the URL.
	fresh.says([]string{f.url}, "list")
	if runtime.GOOS == "windows" {
		t.Log("no drill: its server listens at a Unix socket, which wine does not have")
	} else {
		fresh.run("drill", "--bindir", standby.Bindir())
		near.run("drill", "--repo", "far", "--bindir", standby.Bindir())
		away.run("drill", "--bindir", standby.Bindir())
	}
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"latest": {nil, latest},
		"then":   {[]string{"--target-name", "then", "--target-action", "promote", "--target-timeline", "1"}, then},
	} {
		dir := filepath.Join(fresh.dir, name)
		fresh.run(append([]string{"restore", "--target-dir", dir}, test.args...)...)
		c := fresh.open(dir)
		c.Env = f.env
		fresh.opens(c, test.want)
		fresh.must(c.Stop(fresh.ctx(), pgtest.Fast))
	}
	fresh.run("verify", "--deep")
	away.run("cleanup", "--keep-backups", "1")
	away.run("verify")
	fresh.run("verify")

	// The restored server, which restore starts, has the environment of restore.
	away.must(standby.Stop(away.ctx(), pgtest.Fast))
	dir = filepath.Join(fresh.dir, "started")
	fresh.says([]string{"the server has recovered, and the database is open"}, "restore", "--target-dir", dir, "--start", "--bindir", standby.Bindir(), "--conninfo", "user=postgres")
	fresh.stopStarted(standby, dir)
	if left, err := filepath.Glob(dir + ".walkeep"); err != nil || len(left) > 0 && runtime.GOOS != "windows" { // wine keeps files that are open, and fetch goes on for 30 s
		t.Errorf("after the recovery there is %q (%v)", left, err)
	}
}

// check warns of a store that lets two writers store under one name, and asks a good one once a day.
func TestCheckConditional(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t, s3test.Versitygw)
	for ignores, generations := range map[bool]string{false: "false", true: "true"} {
		r := newRig(t, restoreMajor)
		f := inBucketOf(r, server)
		proxy := faultproxy.Start(t, server.URL)
		proxy.Change(func(q *http.Request) {
			if ignores && q.Header.Get("If-None-Match") != "" {
				q.Header.Del("If-None-Match")
				server.Sign(q)
			}
		}, nil)
		f.keys = "endpoint = " + proxy.URL + "\ncache-dir = " + filepath.Join(r.dir, "cache") + "\ngenerations = " + generations + "\n"
		near := r.site("near", f)
		r.must(near.repository().Bind(r.ctx(), archive.Identity{SystemID: 1, SegmentSize: 16 << 20}))
		for _, writes := range []bool{true, ignores} {
			proxy.Do(nil)
			out, err := near.command("check").CombinedOutput()
			if warned := strings.Count(string(out), "repository far ("+f.url+"): the store ignores If-None-Match"); err == nil || (warned == 1) != ignores {
				t.Errorf("check, where the store ignores conditions: %t: %v\n%s", ignores, err, out)
			}
			if put := strings.Contains(strings.Join(proxy.Log(), "\n"), "PUT "); put != writes {
				t.Errorf("check has written: %t, want %t: %q", put, writes, proxy.Log())
			}
		}
	}
}
