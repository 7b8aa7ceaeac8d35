package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"walkeep/common/cmdtest"
	"walkeep/common/durable"
	"walkeep/common/pgtest"
)

// The life of a cluster on Windows whose archive is in a repository: on S3 with one version, in a directory with the other.
func TestStoryOnWindows(t *testing.T) {
	for major, place := range map[int]func(*rig) far{15: inBucket, 18: inDirectory} {
		pgtest.Each(t, func(t *testing.T, major int) { storyOf(t, major, place) }, major)
	}
}

// In directories whose names have blanks, archive-cmd is killed under load, and restore while it works. What they have left is
// complete: it verifies, and recovers to the end and to a time.
func TestKilledOnWindows(t *testing.T) {
	pgtest.Each(t, func(t *testing.T, major int) {
		dir := filepath.Join(pgtest.TempDir(t), "the cluster's")
		r := &rig{t: t, major: major, dir: dir, spool: filepath.Join(dir, "the spool")}
		r.mkdir(dir)
		ini := filepath.Join(dir, "walkeep.ini")
		primary := pgtest.New(t, pgtest.Options{Major: major, Dir: filepath.Join(dir, "primary"), SegmentSizeMB: 1, Checksums: true})
		r.must(primary.Start(r.ctx()))
		said, err := pgtest.Command(r.ctx(), cmdtest.Path("supervisor"), "setup", "--config", ini, "--spool", r.spool, "--conninfo", primary.ConnString(), "--bindir", primary.Bindir(), "--restart").CombinedOutput()
		t.Logf("setup says\n%s", said)
		r.must(err)

		r.must(primary.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
		r.load(primary, 20, 1)
		r.backup(primary)
		kills := 0
		r.loadWhile(primary, 2, func() {
			r.until("archive-cmd to be killed", func() bool {
				kills += killArchiver(t, primary.PID())
				return kills > 2
			})
		})
		r.load(primary, 20, 3)
		then, rows := r.sum(primary), count(r, primary)
		at, err := primary.QueryString(r.ctx(), "SELECT now()")
		r.must(err)
		r.load(primary, 20, 4)
		latest, all := r.sum(primary), count(r, primary)
		r.cut(primary)
		r.run("verify", "--deep")

		for name, test := range map[string]struct {
			args []string
			sum  string
			rows int64
		}{
			"latest":   {nil, latest, all},
			"the time": {[]string{"--target-time", at, "--target-action", "promote"}, then, rows},
		} {
			killed := r.command(append([]string{"restore", "--target-dir", filepath.Join(dir, name)}, test.args...)...)
			r.must(killed.Start())
			r.until("restore to write", func() bool {
				found, err := os.ReadDir(filepath.Join(dir, name))
				return err == nil && len(found) > 3
			})
			killed.Process.Kill()
			killed.Wait()
			c := r.silent(r.restore(name, append(test.args, "--delta")...))
			r.opens(c, test.sum)
			if got := count(r, c); got != test.rows {
				t.Errorf("%s: %d rows, want %d", name, got, test.rows)
			}
			r.must(c.Stop(r.ctx(), pgtest.Immediate))
		}
		r.must(primary.Stop(r.ctx(), pgtest.Fast)) // the restored server listens where this one did
		started := filepath.Join(dir, "started")
		defer func() {
			if t.Failed() {
				log, _ := os.ReadFile(filepath.Join(started, "walkeep.start.log"))
				t.Logf("the log of the server that restore started:\n%s", log)
			}
		}()
		if out := r.run("restore", "--target-dir", started, "--target-time", at, "--start", "--bindir", primary.Bindir(), "--conninfo", "user=postgres"); !strings.Contains(out, "paused") {
			t.Errorf("restore --start says\n%s", out)
		}
		r.must(pgtest.Command(r.ctx(), filepath.Join(primary.Bindir(), "pg_ctl"), "-D", started, "-m", "immediate", "-w", "stop").Run())
		if to := os.Getenv(ofWindows); to != "" && major == 15 {
			r.must(os.CopyFS(filepath.Join(to, "spool"), os.DirFS(r.spool)))
			r.must(os.WriteFile(filepath.Join(to, "sum"), []byte(latest), 0o600))
		}
	}, 15, 18)
}

// killArchiver kills the archive-cmd that a server runs through cmd.exe, and returns how many that were.
func killArchiver(t *testing.T, server int) (killed int) {
	t.Helper()
	all, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPPROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer windows.CloseHandle(all)
	parents, archivers := map[uint32]uint32{}, []uint32{}
	p := windows.ProcessEntry32{Size: uint32(unsafe.Sizeof(windows.ProcessEntry32{}))}
	for err := windows.Process32First(all, &p); err == nil; err = windows.Process32Next(all, &p) {
		parents[p.ProcessID] = p.ParentProcessID
		if strings.EqualFold(windows.UTF16ToString(p.ExeFile[:]), "archive-cmd.exe") {
			archivers = append(archivers, p.ProcessID)
		}
	}
	for _, pid := range archivers {
		at := pid
		for range 5 { // archive-cmd, cmd, the archiver, the server
			at = parents[at]
			if at == uint32(server) {
				if p, err := os.FindProcess(int(pid)); err == nil && p.Kill() == nil {
					killed++
				}
			}
		}
	}
	return killed
}

func count(r *rig, c *pgtest.Cluster) int64 {
	r.t.Helper()
	n, err := c.QueryInt(r.ctx(), "SELECT count(*) FROM load_history")
	r.must(err)
	return n
}

// A checkpoint does not wait for those who read WAL segments: it renames and removes these while they are open.
func TestCheckpointWhileSegmentsAreOpen(t *testing.T) {
	r := newShortRig(t, 15)
	c := r.start("primary", map[string]string{"archive_mode": "off", "wal_keep_size": "0", "max_wal_size": "2MB", "log_checkpoints": "on"})
	checkpoint := func() time.Duration {
		r.load(c, 20, 1)
		for range 4 {
			r.must(c.Exec(r.ctx(), "SELECT pg_switch_wal()"))
			r.must(c.Exec(r.ctx(), "CREATE TABLE IF NOT EXISTS a (n int); INSERT INTO a SELECT generate_series(1, 2000)"))
		}
		begun := time.Now()
		r.must(c.Exec(r.ctx(), "CHECKPOINT"))
		return time.Since(begun)
	}
	checkpoint()
	without := checkpoint()
	segments, err := filepath.Glob(c.Path("pg_wal/0*"))
	r.must(err)
	for _, file := range segments {
		f, err := durable.Open(file)
		r.must(err)
		defer f.Close()
	}
	with := checkpoint()
	gone := 0
	for _, file := range segments {
		if _, err := os.Stat(file); err != nil {
			gone++
		}
	}
	t.Logf("a checkpoint took %v, and %v while %d segments were open, of which it renamed or removed %d", without, with, len(segments), gone)
	if gone == 0 {
		t.Error("no open segment was renamed or removed: the test proves nothing")
	}
	if with > without+10*time.Second { // a server waits 10 s and more for each that it cannot rename
		t.Errorf("a checkpoint took %v, %v without open segments", with, without)
	}
}
