package restore_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/recovery"
	"walkeep/common/storage/count"
	"walkeep/supervisor/restore"
)

func TestRun(t *testing.T) {
	for _, jobs := range []int{1, 2, 7} {
		t.Run(fmt.Sprintf("%d jobs", jobs), func(t *testing.T) {
			files := cluster()
			r := newRig(t, files)
			o := r.options(r.target("data"))
			o.Jobs = jobs
			var done int64
			var mu sync.Mutex
			o.Progress = func(n int64) { mu.Lock(); done += n; mu.Unlock() }
			result := r.run(o)
			r.check(o.Dir, files)
			if done != result.Bytes || done == 0 {
				t.Errorf("progress: got %d bytes, want %d", done, result.Bytes)
			}
			info, err := os.Stat(o.Dir)
			r.must(err)
			if got, want := info.Mode().Perm(), fs.FileMode(0o700); got != want && runtime.GOOS != "windows" {
				t.Errorf("got mode %v, want %v, which the server insists on", got, want)
			}
		})
	}
}

// Neighbouring chunks of a volume are read by one request: a remote store takes its time for each.
func TestRequests(t *testing.T) {
	files := cluster()
	files["base/1/large"] = noise(7, 32*backup.ChunkSize)
	r := newRig(t, files)
	b := count.New(r.backend)
	for _, jobs := range []int{1, 4} {
		before := b.Counts()
		o := r.options(r.target(fmt.Sprint("data", jobs)))
		o.Jobs = jobs
		if _, err := restore.Run(t.Context(), archive.New(b), r.inv, o); err != nil {
			t.Fatal(err)
		}
		r.check(o.Dir, files)
		after := b.Counts()
		// the rest are the trailers, the index, and the last chunks, which are divided among the workers
		if got, most := after.Read-before.Read, 14+8*jobs; got > most {
			t.Errorf("%d jobs: it took %d reads for %d bytes, want at most %d", jobs, got, after.BytesRead-before.BytesRead, most)
		}
	}
}

// Each case changes a restored directory in a way that a restore with delta must undo.
func TestDelta(t *testing.T) {
	files := cluster()
	r := newRig(t, files)
	dir := r.target("data")
	r.run(r.options(dir))
	outside := filepath.Join(r.dir, "outside")
	r.write(outside, "not to be touched")
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct {
		name   string
		change func()
		most   int64 // bytes that may be written
	}{
		{"nothing", func() {}, 0},
		{"a byte", func() { r.flip(at("base/1/1007"), 2<<20+5) }, 8192},
		{"the last byte", func() { r.flip(at("base/1/1005"), 5*backup.BlockSize+16) }, 8192},
		{"bytes on both sides of a boundary of pages", func() { r.flip(at("base/1/1006"), 8191); r.flip(at("base/1/1006"), 8192) }, 16384},
		{"shorter", func() { r.must(os.Truncate(at("base/1/1007"), 1<<20)) }, 2<<20 + 8192},
		{"longer", func() { r.must(os.Truncate(at("base/1/1004"), 9<<20)) }, 0},
		{"emptied", func() { r.must(os.Truncate(at("base/1/1003"), 0)) }, backup.BlockSize},
		{"an empty one filled", func() { r.write(at("base/1/empty"), "x") }, 0},
		{"removed", func() { r.must(os.Remove(at("base/1/1001"))) }, 8192},
		{"directory removed", func() { r.must(os.RemoveAll(at("base/1"))) }, 8 << 20},
		{"more files", func() { r.write(at("base/1/9999"), "x"); r.write(at("extra"), "y") }, 0},
		{"more directories", func() { r.must(os.MkdirAll(at("base/7/deep"), 0o700)); r.write(at("base/7/deep/x"), "y") }, 0},
		{"a server's leftovers", func() { r.write(at("postmaster.pid"), "0999999999\n"); r.write(at("recovery.signal"), "") }, 0},
		{"mode", func() { r.must(os.Chmod(at("base/1/1000"), 0o644)); r.must(os.Chmod(at("base/5"), 0o755)) }, 0},
		{"a link instead of a file", func() { r.must(os.Remove(at("base/1/1000"))); r.must(os.Symlink(outside, at("base/1/1000"))) }, 1},
		{"a link instead of a directory", func() { r.must(os.RemoveAll(at("base/5"))); r.must(os.Symlink(r.dir, at("base/5"))) }, 8 << 20},
		{"a link instead of pg_notify", func() { r.must(os.Remove(at("pg_notify"))); r.must(os.Symlink(r.dir, at("pg_notify"))) }, 0},
		{"a directory instead of a file", func() { r.must(os.Remove(at("base/1/1000"))); r.must(os.MkdirAll(at("base/1/1000/x"), 0o700)) }, 1},
		{"a file instead of a directory", func() { r.must(os.Remove(at("pg_notify"))); r.write(at("pg_notify"), "x") }, 0},
		{"another name for a file", func() {
			r.must(os.Remove(at("base/1/1000")))
			r.must(os.Link(outside, at("base/1/1000")))
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := *r
			r.t = t
			c.change()
			o := r.options(dir)
			o.Delta = true
			done := r.run(o)
			r.check(dir, files)
			if done.Written > c.most {
				t.Errorf("wrote %d bytes, want at most %d", done.Written, c.most)
			}
			if got, err := os.ReadFile(outside); err != nil || string(got) != "not to be touched" {
				t.Errorf("a file outside has become %q, %v", got, err)
			}
		})
	}
}

// Every obstacle is found before anything is changed.
func TestRefuses(t *testing.T) {
	files := cluster()
	space := backup.Tablespace{OID: 16384, Location: "/srv/space"}
	files["pg_tblspc/16384/"], files["pg_tblspc/16384/PG_15_1/"], files["pg_tblspc/16384/PG_15_1/1"] = "", "", "x"
	for _, c := range []struct {
		name string
		do   func(r *rig, o *restore.Options)
		want error
	}{
		{"not empty", func(r *rig, o *restore.Options) { r.write(filepath.Join(o.Dir, "x"), "y") }, restore.ErrNotEmpty},
		{"not a data directory", func(r *rig, o *restore.Options) { r.write(filepath.Join(o.Dir, "x"), "y"); o.Delta = true }, restore.ErrNotData},
		{"no control file", func(r *rig, o *restore.Options) { r.write(filepath.Join(o.Dir, "PG_VERSION"), "15\n"); o.Delta = true }, restore.ErrNotData},
		{"another cluster", func(r *rig, o *restore.Options) {
			r.write(filepath.Join(o.Dir, "PG_VERSION"), "15\n")
			r.must(os.Mkdir(filepath.Join(o.Dir, "global"), 0o700))
			r.write(filepath.Join(o.Dir, "global", "pg_control"), "\x01"+control()[1:])
			r.flip(filepath.Join(o.Dir, "global", "pg_control"), 1)
			o.Delta = true
		}, archive.ErrForeign},
		{"in use", func(r *rig, o *restore.Options) {
			cwd, err := os.Getwd()
			r.must(err)
			r.must(os.Chdir(o.Dir)) // a server's working directory is its data directory
			r.t.Cleanup(func() { os.Chdir(cwd) })
			r.write(filepath.Join(o.Dir, "postmaster.pid"), fmt.Sprintf("%d\n%s\n", os.Getpid(), o.Dir))
			o.Delta = true
		}, restore.ErrInUse},
		{"in the archive", func(r *rig, o *restore.Options) { o.Dir = r.target("spool/data") }, restore.ErrPlace},
		{"around the archive", func(r *rig, o *restore.Options) { o.Avoid = []string{filepath.Join(o.Dir, "spool")} }, restore.ErrPlace},
		{"tablespace not empty", func(r *rig, o *restore.Options) { r.write(filepath.Join(o.Tablespaces["/srv/space"], "x"), "y") }, restore.ErrNotEmpty},
		{"tablespace in the data directory", func(r *rig, o *restore.Options) { o.Tablespaces["/srv/space"] = filepath.Join(o.Dir, "x") }, restore.ErrPlace},
		{"tablespace in the archive", func(r *rig, o *restore.Options) { o.Tablespaces["/srv/space"] = filepath.Join(r.spool, "x") }, restore.ErrPlace},
		{"tablespace at a relative path", func(r *rig, o *restore.Options) { o.Tablespaces["/srv/space"] = "x" }, restore.ErrPlace},
		{"tablespace that is none", func(r *rig, o *restore.Options) { o.Tablespaces["/srv/other"] = filepath.Join(r.dir, "x") }, restore.ErrPlace},
		{"tablespace through a link", func(r *rig, o *restore.Options) {
			r.must(os.Symlink(o.Dir, filepath.Join(r.dir, "link")))
			o.Tablespaces["/srv/space"] = filepath.Join(r.dir, "link", "x")
		}, restore.ErrPlace},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, files, space)
			o := r.options(r.target("data"))
			o.Tablespaces = map[string]string{"/srv/space": r.target("space")}
			c.do(r, &o)
			before := listing(t, r.dir)
			r.fails(c.want, o)
			if got := listing(t, r.dir); got != before {
				t.Errorf("a refused restore has changed something: got\n%s\nwant\n%s", got, before)
			}
		})
	}
}

func TestRootNeedsAnOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root is refused")
	}
	r := newRig(t, cluster())
	r.fails(restore.ErrOwner, r.options(filepath.Join(r.dir, "missing")))
}

func listing(t *testing.T, dir string) string {
	var b strings.Builder
	err := filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		if err == nil {
			var info fs.FileInfo
			info, err = e.Info()
			fmt.Fprintln(&b, file, info.Mode(), info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// No index leads out of the directories, or to a cluster that starts with missing files.
func TestHostileIndex(t *testing.T) {
	const own = `{"path":"PG_VERSION","mode":384,"mtime":1}` + "\n"
	line := func(path string, rest string) string {
		return fmt.Sprintf(`{"path":%q,"mode":384,"mtime":1%s}`, path, rest) + "\n"
	}
	control := line("global/pg_control", `,"size":1,"volume":1,"offset":512,"hashes":"AAAAAAAAAAAAAAAAAAAAAA=="`)
	two := func(path string, offset int) string {
		return line(path, fmt.Sprintf(`,"size":2,"volume":1,"offset":%d,"hashes":"AAAAAAAAAAAAAAAAAAAAAA=="`, offset))
	}
	for _, c := range []struct {
		name, lines string
		files       int
		size        int64
		want        error
	}{
		{"parent", own + control + line("../evil", ""), 3, 1, archive.ErrDamaged},
		{"parent within", own + control + line("base/../../evil", ""), 3, 1, archive.ErrDamaged},
		{"absolute", own + control + line("/tmp/evil", ""), 3, 1, archive.ErrDamaged},
		{"twice", own + own + control, 3, 1, archive.ErrDamaged},
		{"backslash", own + control + line(`..\evil`, ""), 3, 1, archive.ErrDamaged},
		{"no control file", own, 1, 0, restore.ErrLayout},
		{"no version", control, 1, 1, restore.ErrLayout},
		{"overlapping", own + control + two("a", 1024) + two("b", 1025), 4, 5, restore.ErrLayout},
		{"a file for a tablespace", own + control + line("pg_tblspc/16384", ""), 3, 1, restore.ErrLayout},
		{"outside of the volume", own + control + two("a", 1<<40), 3, 3, archive.ErrDamaged},
		{"wrong hashes", own + control, 2, 1, archive.ErrDamaged},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, cluster(), backup.Tablespace{OID: 16384, Location: "/srv/space"})
			r.forge(c.lines, c.files, c.size)
			o := r.options(r.target("data"))
			o.Tablespaces = map[string]string{"/srv/space": r.target("space")}
			r.fails(c.want, o)
			if _, err := os.Lstat(filepath.Join(o.Dir, "global", "pg_control")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("there is a control file (%v)", err)
			}
			for _, evil := range []string{filepath.Join(r.dir, "evil"), "/tmp/evil"} {
				if _, err := os.Lstat(evil); err == nil {
					t.Errorf("%s was written", evil)
				}
			}
		})
	}
}

func TestDamagedVolume(t *testing.T) {
	files := cluster()
	r := newRig(t, files)
	volume := filepath.Join(r.spool, "backups", id, r.backup.Volumes[0].Name)
	r.flip(volume, r.backup.Volumes[0].Stored/2)
	o := r.options(r.target("data"))
	r.fails(archive.ErrDamaged, o)
	r.cannotStart(o.Dir)
	r.fails(restore.ErrInterrupted, o)
	r.flip(volume, r.backup.Volumes[0].Stored/2)
	o.Delta = true
	r.run(o)
	r.check(o.Dir, files)
}

// A restore that was interrupted anywhere is completed by one with delta, also in a directory without a control file.
func TestInterrupted(t *testing.T) {
	files := cluster()
	r := newRig(t, files)
	dir := r.target("data")
	for after := int64(0); after < r.backup.Bytes*9/10; after += r.backup.Bytes / 10 {
		ctx, cancel := context.WithCancel(t.Context())
		o := r.options(dir)
		left, begun := after, false
		o.Jobs, o.Delta = 1, after > 0
		o.Begin = func(what string, _ int64) { begun = what == "restore" } // before that nothing is changed
		o.Progress = func(n int64) {
			if !begun {
				return
			}
			if left -= n; left < 0 {
				cancel()
			}
		}
		if o.Delta { // so that there is something to restore
			r.must(os.RemoveAll(filepath.Join(dir, "base")))
		}
		_, err := restore.Run(ctx, archive.New(r.backend), r.inv, o)
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("after %d bytes: got %v, want an interruption", after, err)
		}
		r.cannotStart(dir)
		r.fails(restore.ErrInterrupted, r.options(dir))
		o = r.options(dir)
		o.Delta = true
		r.run(o)
		r.check(dir, files)
	}
}

// A restore over an older state changes nothing, so that the directory starts as before, if it is impossible, or
// interrupted before it is known to be possible.
func TestNothingDestroyed(t *testing.T) {
	files := cluster()
	r := newRig(t, files)
	dir := r.target("data")
	r.run(r.options(dir))
	r.must(os.RemoveAll(filepath.Join(dir, "base"))) // otherwise hardly anything would be needed
	r.must(os.MkdirAll(filepath.Join(dir, "base/1"), 0o700))
	r.write(filepath.Join(dir, "base/1/1007"), "an older state")
	r.write(filepath.Join(dir, "base/1/own"), "what the backup does not have")
	before := r.content(dir)
	o := r.options(dir)
	o.Delta = true
	volume := filepath.Join(r.spool, "backups", id, r.backup.Volumes[0].Name)
	intact := func(what string) {
		t.Helper()
		if got := r.content(dir); !maps.Equal(got, before) {
			t.Errorf("%s: the directory was changed", what)
		}
	}

	r.must(os.Rename(volume, volume+".away"))
	r.fails(archive.ErrDamaged, o)
	intact("without a volume")
	r.must(os.Rename(volume+".away", volume))

	for _, at := range []int64{r.backup.Volumes[0].Stored / 3, r.backup.Volumes[0].Stored / 2} {
		r.flip(volume, at)
		r.fails(archive.ErrDamaged, o)
		intact("with a damaged volume")
		r.flip(volume, at)
	}

	for _, phase := range []string{"compare", "check"} {
		ctx, cancel := context.WithCancel(t.Context())
		interrupted := o
		interrupted.Begin = func(what string, _ int64) {
			if what == phase {
				cancel()
			}
		}
		if _, err := restore.Run(ctx, archive.New(r.backend), r.inv, interrupted); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want an interruption", phase, err)
		}
		cancel()
		intact("interrupted while it had to " + phase)
	}

	started := o
	started.Begin = func(string, int64) {
		r.write(filepath.Join(dir, "global/pg_control"), strings.Replace(control(), "\x00", "\x01", 1))
	}
	r.fails(restore.ErrInUse, started)
	r.write(filepath.Join(dir, "global/pg_control"), files["global/pg_control"])
	intact("a server was started meanwhile")

	r.run(o)
	r.check(dir, files)
}

// content returns the contents of all files of a directory, by their paths.
func (r *rig) content(dir string) map[string]string {
	r.t.Helper()
	all := make(map[string]string)
	r.must(filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(file)
		all[file] = string(content)
		return err
	}))
	return all
}

// WAL that the archive lacks survives a restore with delta; the rest of pg_wal does not.
func TestKeepsOnlyCopies(t *testing.T) {
	files := cluster()
	r := newRig(t, files)
	dir := r.target("data")
	r.run(r.options(dir))
	used := func(tli uint32, lsn uint64) string { return string(header(tli, lsn, systemID)) }
	inWAL := func(name string) string { return filepath.Join(dir, "pg_wal", name) }
	r.inv.Lines = []recovery.Line{{Timeline: 1, Segments: []recovery.Span{{First: 2, Last: 3}}}}
	r.write(inWAL(segment(1, 2<<24)), used(1, 2<<24))                       // archived
	r.write(inWAL(segment(1, 4<<24)), used(1, 4<<24))                       // not archived
	r.write(inWAL(segment(1, 5<<24)), used(1, 1<<24))                       // an old one that was renamed for later use
	r.write(inWAL(segment(1, 6<<24)), string(make([]byte, 8192)))           // one of zeros, for later use
	r.write(inWAL(segment(1, 7<<24)), string(header(1, 7<<24, systemID+1))) // another cluster's
	r.write(inWAL("00000002.history"), "1\t0/4000000\tno reason\n")
	o := r.options(dir)
	o.Delta = true
	for i, want := range [][]string{{"00000001" + "0000000000000004", "00000002.history"}, {"00000001" + "0000000000000004.2"}} {
		done := r.run(o)
		if got := strings.Join(done.Kept, " "); got != strings.Join(want, " ") {
			t.Errorf("restore %d: kept %q, want %q", i+1, got, want)
		}
		for _, name := range want {
			if _, err := os.Stat(filepath.Join(done.KeptDir, name)); err != nil {
				t.Error(err)
			}
		}
		entries, err := os.ReadDir(filepath.Join(dir, "pg_wal"))
		r.must(err)
		if len(entries) != 2 {
			t.Errorf("pg_wal has %v, want archive_status and walkeep.kept", entries)
		}
		r.write(inWAL(segment(1, 4<<24)), used(1, 4<<24)+"another")
	}
}

// The link pg_wal of initdb --waldir stays, and its target is cleared.
func TestLinkedWAL(t *testing.T) {
	files := cluster()
	r := newRig(t, files)
	dir, elsewhere := r.target("data"), r.target("waldir")
	r.run(r.options(dir))
	r.must(os.RemoveAll(filepath.Join(dir, "pg_wal")))
	r.must(os.Symlink(elsewhere, filepath.Join(dir, "pg_wal")))
	r.write(filepath.Join(elsewhere, segment(1, 1<<24)), "x")
	o := r.options(dir)
	o.Delta = true
	r.run(o)
	if to, err := os.Readlink(filepath.Join(dir, "pg_wal")); err != nil || to != elsewhere {
		t.Errorf("pg_wal leads to %q, %v, want %s", to, err, elsewhere)
	}
	entries, err := os.ReadDir(elsewhere)
	r.must(err)
	if len(entries) != 1 || entries[0].Name() != "archive_status" {
		t.Errorf("there is %v, want archive_status alone", entries)
	}
}

func TestTablespaces(t *testing.T) {
	files := cluster()
	files["pg_tblspc/16384/"], files["pg_tblspc/16384/PG_15_1/"], files["pg_tblspc/16384/PG_15_1/1"] = "", "", noise(9, 300_000)
	r := newRig(t, files, backup.Tablespace{OID: 16384, Location: "/srv/space"})
	o := r.options(r.target("data"))
	space := r.target("space")
	o.Tablespaces = map[string]string{"/srv/space": space}
	check := func() {
		t.Helper()
		if to, err := os.Readlink(filepath.Join(o.Dir, "pg_tblspc", "16384")); err != nil || to != space {
			t.Errorf("the link leads to %q, %v, want %s", to, err, space)
		}
		got, err := os.ReadFile(filepath.Join(space, "PG_15_1", "1"))
		r.must(err)
		if string(got) != files["pg_tblspc/16384/PG_15_1/1"] {
			t.Error("the tablespace's file differs")
		}
	}
	r.run(o)
	check()

	r.write(filepath.Join(space, "PG_15_1", "2"), "not in the backup")
	r.write(filepath.Join(space, "notes"), "the administrator's")
	r.flip(filepath.Join(space, "PG_15_1", "1"), 70_000)
	o.Delta = true
	r.run(o)
	check()
	if _, err := os.Stat(filepath.Join(space, "PG_15_1", "2")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not in the backup is still there (%v)", err)
	}
	if _, err := os.Stat(filepath.Join(space, "notes")); err != nil {
		t.Errorf("what PostgreSQL has not made is gone: %v", err)
	}

	// The directory's link shows to which cluster the tablespace belongs.
	r.must(os.Remove(filepath.Join(o.Dir, "pg_tblspc", "16384")))
	r.fails(restore.ErrNotEmpty, o)
}

// A data directory that was copied with its links leads to directories of the original server.
func TestCopiedLinks(t *testing.T) {
	if _, err := os.Stat("/proc/self/cwd"); err != nil {
		t.Skip("this system does not show where servers run")
	}
	for _, link := range []string{"pg_wal", "pg_tblspc/16384"} {
		t.Run(link, func(t *testing.T) {
			files := cluster()
			files["pg_tblspc/16384/"], files["pg_tblspc/16384/PG_15_1/"], files["pg_tblspc/16384/PG_15_1/1"] = "", "", "x"
			r := newRig(t, files, backup.Tablespace{OID: 16384, Location: "/srv/space"})
			o := r.options(r.target("data"))
			o.Tablespaces = map[string]string{"/srv/space": r.target("space")}
			r.run(o)

			live, used := r.target("live"), r.target("used")
			r.must(os.Mkdir(filepath.Join(live, "pg_tblspc"), 0o700))
			r.must(os.Symlink(used, filepath.Join(live, link)))
			r.must(os.RemoveAll(filepath.Join(o.Dir, link)))
			r.must(os.Symlink(used, filepath.Join(o.Dir, link)))
			r.write(filepath.Join(used, "precious"), "x")
			r.write(filepath.Join(live, "postmaster.pid"), fmt.Sprintf("%d\n%s\n", os.Getpid(), live))
			t.Chdir(live) // a server's working directory is its data directory
			if link != "pg_wal" {
				o.Tablespaces["/srv/space"] = used
			}
			o.Delta = true
			before := listing(t, r.dir)
			r.fails(restore.ErrInUse, o)
			if got := listing(t, r.dir); got != before {
				t.Errorf("a refused restore has changed something: got\n%s\nwant\n%s", got, before)
			}
		})
	}
}
