package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/storage/s3/s3test"
)

// storeHost is the address of the store in the network that the test has of its own.
const storeHost = "10.99.0.1"

// One of four processes of a distributed store is killed while WAL is shipped, again during a backup, and again during a
// restore. Everything continues without a manual step, and nothing is lost.
func TestDistributedStore(t *testing.T) {
	if os.Getenv("WALKEEP_MINIO") == "" {
		t.Skip("make test-stores runs this: it needs MinIO")
	}
	if os.Getenv("WALKEEP_OWN_NETWORK") == "" {
		cmd := exec.CommandContext(t.Context(), "unshare", "-n", "sh", "-c", "ip link set lo up && ip addr add "+storeHost+`/32 dev lo && exec "$0" "$@"`,
			os.Args[0], "-test.v", "-test.run", "^TestDistributedStore$")
		cmd.Env = append(os.Environ(), "WALKEEP_OWN_NETWORK=1", "WALKEEP_BIN="+filepath.Dir(cmdtest.Path("supervisor")))
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	r := newRig(t, restoreMajor)
	store := s3test.StartDistributed(t, storeHost)
	f := inBucketOf(r, store.Server)
	near, fresh := r.site("near", f), r.fresh("fresh", f)
	// One process is killed while f runs.
	losing := func(bytes int64, f func()) {
		t.Helper()
		store.Whole(t)
		killed := store.KillAfter(bytes)
		f()
		select {
		case i := <-killed:
			store.Start(t, i)
		default:
			t.Fatal("no process was killed")
		}
	}

	primary := near.start("primary", map[string]string{"archive_command": "", "autovacuum": "off"})
	near.run("setup", "--restart", "--conninfo", primary.ConnString(), "--bindir", primary.Bindir())
	r.must(primary.Exec(r.ctx(), "CREATE TABLE elsewhere (t text)"))
	settings := "conninfo = " + primary.ConnString() + "\n"
	shipping := near.runs(settings)
	losing(8<<20, func() {
		for range 10 {
			r.must(primary.Exec(r.ctx(), "INSERT INTO elsewhere SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 200000) n GROUP BY n % 1000"))
		}
		near.load(primary, 20, 1)
		near.holds(near.cut(primary))
	})
	shipping.kill()
	losing(20<<20, func() {
		// An upload that the store cannot complete any more fails, and run takes the backup again.
		near.runs(settings + "backup-schedule = 0 3 * * *\n")
		near.until("the backup", func() bool {
			out, err := near.command("list", "--repo", "far").Output()
			return err == nil && strings.Contains(string(out), "1 backup, WAL to")
		})
		near.load(primary, 20, 2)
		near.holds(near.cut(primary))
	})
	near.run("verify", "--repo", "far", "--deep")
	want := near.sum(primary)
	r.must(primary.Kill())
	losing(20<<20, func() {
		dir := filepath.Join(fresh.dir, "data")
		fresh.run("restore", "--target-dir", dir)
		c := fresh.open(dir)
		c.Env = f.env
		r.opens(c, want)
		if n, err := c.QueryInt(r.ctx(), "SELECT count(*) FROM elsewhere"); err != nil || n != 10000 {
			t.Errorf("got %d rows, %v", n, err)
		}
	})
}
