//go:build unix

package main_test

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"walkeep/common/cmdtest"
)

const hintSpool = "hint: create or mount the spool"

func TestSpoolMissing(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	b := newBench(t, cmdtest.FastDir(t), files)
	if err := os.Remove(string(b.spool)); err != nil {
		t.Fatal(err)
	}
	for _, name := range files.Names() {
		b.run(t, name).Expect(t, 1, "archive is not there", "does not exist", hintSpool)
	}
	if _, err := os.Lstat(string(b.spool)); err == nil {
		t.Error("the missing spool was made: it would hide below the file system that belongs there")
	}
	cmdtest.Write(t, string(b.spool), []byte("a file"))
	b.run(t, name).Expect(t, 1, "is not a directory", hintSpool)
	b.spool = cmdtest.Spool(filepath.Join(string(b.spool), "below"))
	b.run(t, name).Expect(t, 1, "archive is not there", hintSpool)
}

// TestSpoolVanishes moves the spool away and back while segments are archived.
func TestSpoolVanishes(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	b := newBench(t, cmdtest.FastDir(t), files)
	away := string(b.spool) + ".away"
	random := cmdtest.Rand(t)
	stop := make(chan bool)
	var stay atomic.Int64 // how many milliseconds longer the spool stays where it is than away
	var mover sync.WaitGroup
	mover.Go(func() {
		pause := func() { time.Sleep(time.Duration(random.IntN(8)) * time.Millisecond) }
		for {
			select {
			case <-stop:
				return
			default:
			}
			pause()
			time.Sleep(time.Duration(stay.Load()) * time.Millisecond)
			if err := os.Rename(string(b.spool), away); err != nil {
				t.Errorf("the spool was made again, or: %v", err)
			}
			pause()
			if err := os.Rename(away, string(b.spool)); err != nil {
				t.Errorf("the spool was made again, or: %v", err)
			}
		}
	})
	archived := make(map[string]bool)
	var done, failed int
	for round := 0; round < 60 || (failed == 0 || done == 0) && round < 600; round++ {
		name := files.Names()[round%len(files)]
		switch r := b.ahead(t, round%3, name); r.Code {
		case 0:
			done++
			archived[name] = true
		default:
			failed++
			r.Expect(t, 1, "archive-cmd: ")
			if done == 0 {
				stay.Add(1) // until it is enough for a call, however slow that is
			}
		}
	}
	close(stop)
	mover.Wait()
	if done == 0 || failed == 0 {
		t.Errorf("%d calls succeeded, %d failed", done, failed)
	}
	// What was left halfway is swept by the next call that writes to the directory.
	objects := b.spool.CheckKilled(t, files)
	for name := range archived {
		if _, ok := objects[name]; !ok {
			t.Errorf("%s was acknowledged, and is missing", name)
		}
	}
	for _, name := range files.Names() {
		b.run(t, name).Expect(t, 0)
	}
	b.spool.CheckKilled(t, files)
}

func TestSpoolReadOnly(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()
	run := func(b bench, name string) cmdtest.Result {
		cmd := archive(b.spool, b.data.Path("pg_wal", name), "--lookahead", "4")
		cmdtest.Unprivileged(t, cmd)
		return cmdtest.Run(t, cmd)
	}
	chmod := func(t *testing.T, mode os.FileMode, paths ...string) {
		t.Helper()
		for _, path := range paths {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("empty", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, cmdtest.FastDir(t), files)
		cmdtest.Own(t, b.dir)
		for _, mode := range []os.FileMode{0o500, 0o400, 0o000} {
			chmod(t, mode, string(b.spool))
			run(b, names[0]).Expect(t, 1, "permission denied")
		}
		chmod(t, 0o700, string(b.spool))
		b.spool.Check(t, nil)
	})
	t.Run("in use", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, cmdtest.FastDir(t), files)
		cmdtest.Own(t, b.dir)
		cmd := archive(b.spool, b.data.Path("pg_wal", names[0]))
		cmdtest.Unprivileged(t, cmd)
		cmdtest.Run(t, cmd).Expect(t, 0)
		wal := filepath.Join(string(b.spool), "wal")
		directory := filepath.Join(wal, names[0][:16])
		for _, mode := range []os.FileMode{0o500, 0o100, 0o000} {
			chmod(t, mode, directory, wal, string(b.spool))
			run(b, names[1]).Expect(t, 1, "permission denied")
			chmod(t, 0o700, string(b.spool), wal, directory)
			b.spool.Check(t, files.Only(names[0]))
		}
		// The copy that is there cannot be read: it may be anything.
		object := b.spool.Object(t, names[0]).Path
		chmod(t, 0, object)
		run(b, names[0]).Expect(t, 1, "permission denied")
		chmod(t, 0o600, object)
		run(b, names[0]).Expect(t, 0)
		run(b, names[1]).Expect(t, 0)
		b.spool.CheckWhole(t, files)
	})
	t.Run("source", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, cmdtest.FastDir(t), files)
		cmdtest.Own(t, b.dir)
		chmod(t, 0, b.data.Path("pg_wal", names[1]))
		run(b, names[1]).Expect(t, 1, "permission denied")
		run(b, names[0]).Expect(t, 0) // and looks ahead
		others := files.Only(files.Names()...)
		delete(others, names[1])
		if stored := b.spool.CheckWhole(t, others); len(stored) < 5 {
			t.Errorf("got %d objects, want 5 or more", len(stored))
		}
		run(b, names[1]).Expect(t, 1, "permission denied")
	})
}

// TestNobodyListens has no one read what is reported, as after a crash of the server's logger.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	broken := cmdtest.Files{name: cmdtest.Break(t, files[name])} // there is something to be said
	closed := func(t *testing.T) *os.File {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		t.Cleanup(func() { w.Close() })
		return w
	}
	t.Run("pipe", func(t *testing.T) {
		b := newBench(t, cmdtest.FastDir(t), broken)
		for range 2 {
			cmd := archive(b.spool, b.data.Path("pg_wal", name), "-v")
			cmd.Stdout, cmd.Stderr = closed(t), closed(t)
			cmdtest.Run(t, cmd).Expect(t, 0)
		}
		b.spool.Check(t, broken)
		cmd := archive(b.spool, b.data.Path("pg_wal", name+"x"))
		cmd.Stdout, cmd.Stderr = closed(t), closed(t)
		if r := cmdtest.Run(t, cmd); r.Code != 3 {
			t.Errorf("got exit code %d, signal %d, want 3", r.Code, r.Signal)
		}
	})
	t.Run("no files at all", func(t *testing.T) {
		b := newBench(t, cmdtest.FastDir(t), broken)
		for range 2 {
			cmd := archive(b.spool, b.data.Path("pg_wal", name), "-v")
			cmdtest.Run(t, cmdtest.Through(cmd, "sh", "-c", `exec "$@" <&- >&- 2>&-`, "sh")).Expect(t, 0)
		}
		b.spool.Check(t, broken)
	})
	t.Run("full device", func(t *testing.T) {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skip(err)
		}
		defer full.Close()
		b := newBench(t, cmdtest.FastDir(t), broken)
		cmd := archive(b.spool, b.data.Path("pg_wal", name), "-v")
		cmd.Stdout, cmd.Stderr = full, full
		cmdtest.Run(t, cmd).Expect(t, 0)
		b.spool.Check(t, broken)
	})
}

// TestPipes has named pipes, which nobody writes to, where files should be: nothing may wait for them.
func TestPipes(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()
	b := newBench(t, cmdtest.FastDir(t), files.Only(names...))
	b.run(t, names[2]).Expect(t, 0)
	for _, path := range []string{b.data.Path("pg_wal", names[1]), b.spool.Object(t, names[2]).Path} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Skip(err)
		}
	}
	b.run(t, names[1]).Expect(t, 3, "not a regular file")
	b.run(t, names[2]).Expect(t, 1, "not a regular file")
	b.ahead(t, 24, names[0]).Expect(t, 0)
}

// TestTempFilesAreSwept has leftovers of killed calls in every directory; those that a living call holds must stay.
func TestTempFilesAreSwept(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()
	b := newBench(t, cmdtest.FastDir(t), files)
	b.run(t, names[0]).Expect(t, 0)
	wal := filepath.Join(string(b.spool), "wal")
	for _, left := range []string{
		filepath.Join(wal, names[0][:16], "."+names[1]+".zst.0123456789abcdef.tmp"),
		filepath.Join(wal, names[0][:16], "."+names[0]+".zst.0123456789abcdef.tmp"),
		filepath.Join(wal, ".00000002.history.zst.0123456789abcdef.tmp"),
		filepath.Join(string(b.spool), ".archive.json.0123456789abcdef.tmp"),
	} {
		if err := os.WriteFile(left, []byte("left"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{names[1], files.Kind(t, ".history")} {
		b.run(t, name).Expect(t, 0)
	}
	b.spool.Check(t, files.Only(names[0], names[1], files.Kind(t, ".history")))
}
