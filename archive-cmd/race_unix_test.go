//go:build unix

package main_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"walkeep/common/cmdtest"
)

// race makes calls at the same moment: each waits in a shell for the gate to open.
func race(t *testing.T, calls ...*exec.Cmd) []cmdtest.Result {
	t.Helper()
	gate, opener, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	results := make([]cmdtest.Result, len(calls))
	var running sync.WaitGroup
	for i, call := range calls {
		waiting := cmdtest.Through(call, "sh", "-c", `read _; exec "$@"`, "sh")
		waiting.Stdin = gate
		running.Go(func() { results[i] = cmdtest.Run(t, waiting) })
	}
	opener.Close()
	running.Wait()
	gate.Close()
	return results
}

const races = 100

// TestRaceOfEquals has several calls archive one segment, as archive_command and the supervisor may.
func TestRaceOfEquals(t *testing.T) {
	cmdtest.Long(t)
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	b := newBench(t, cmdtest.FastDir(t), files)
	for i := range races {
		name := files.Names()[i%len(files)]
		calls := make([]*exec.Cmd, 2+i%3)
		for j := range calls {
			calls[j] = archive(b.spool, b.data.Path("pg_wal", name), "--lookahead", strconv.Itoa(i%2*2))
		}
		for _, r := range race(t, calls...) {
			r.Expect(t, 0)
		}
		b.spool.CheckWhole(t, files)
		b.spool.Object(t, name)
		if i%len(files) == len(files)-1 || i%7 == 0 { // begin again, now and then without an identity
			if err := os.RemoveAll(filepath.Join(string(b.spool), "wal")); err != nil {
				t.Fatal(err)
			}
			if i%2 != 0 {
				if err := os.Mkdir(filepath.Join(string(b.spool), "wal"), 0o700); err != nil {
					t.Fatal(err)
				}
			} else if err := os.RemoveAll(filepath.Join(string(b.spool), "archive.json")); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestRaceOfForks has two servers, which were one once, archive different segments under one name.
func TestRaceOfForks(t *testing.T) {
	cmdtest.Long(t)
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	history := files.Kind(t, ".history")
	ours := files.Only(files.Segments()[0], files.Segments()[1], history)
	theirs := cmdtest.Files{history: bytes.Replace(files[history], []byte("0/"), []byte("1/"), 1)}
	for _, name := range ours.Segments() {
		theirs[name] = cmdtest.Fork(t, ours[name])
	}
	dir, other := cmdtest.FastDir(t), cmdtest.FastDir(t)
	data := [2]cmdtest.DataDir{cmdtest.NewDataDir(t, dir, ours), cmdtest.NewDataDir(t, other, theirs)}
	var won [2]int
	for i := range races {
		name := ours.Names()[i%len(ours)]
		spool := cmdtest.NewSpool(t, cmdtest.FastDir(t))
		var calls []*exec.Cmd
		for j := range 2 + i%3 {
			calls = append(calls, archive(spool, data[j%2].Path("pg_wal", name)))
		}
		winner := winner(t, race(t, calls...))
		if winner < 0 {
			t.Fatalf("race %d for %s: nobody has won", i, name)
		}
		won[winner]++
		spool.Check(t, []cmdtest.Files{ours, theirs}[winner].Only(name))
	}
	t.Logf("winners: %v", won)
}

// TestForksDoNotMix: two servers that write the same timeline archive their backlogs at the same time. The server whose first
// segment is refused stores nothing behind it, because the other server's WAL continues there.
func TestForksDoNotMix(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()[:3]
	var servers [2]cmdtest.Files
	servers[0], servers[1] = files.Only(names...), cmdtest.Files{}
	for _, name := range names {
		servers[1][name] = cmdtest.Fork(t, files[name])
	}
	var benches [2]bench
	for i, server := range servers {
		benches[i] = newBench(t, cmdtest.FastDir(t), server)
	}
	refused := 0
	for range races {
		spool := cmdtest.NewSpool(t, cmdtest.FastDir(t))
		results := race(t,
			archive(spool, benches[0].data.Path("pg_wal", names[0])),
			archive(spool, benches[1].data.Path("pg_wal", names[0]), "--lookahead", "24"))
		winner := winner(t, results)
		if winner < 0 {
			t.Fatal("nobody has won")
		}
		if winner == 0 {
			refused++
			spool.Check(t, servers[0].Only(names[0]))
		} else {
			spool.Check(t, servers[1])
		}
	}
	if refused == 0 {
		t.Error("the one with files that wait was never refused")
	}
}

// winner finds the content, that of the even or that of the odd calls, which was acknowledged; -1 if none was.
func winner(t *testing.T, results []cmdtest.Result) int {
	t.Helper()
	winner := -1
	for i, r := range results {
		switch {
		case r.Code != 0:
			r.Expect(t, 3, "another content is archived under this name", "hint: two servers")
		case winner >= 0 && winner != i%2:
			t.Error("two contents were acknowledged")
		default:
			winner = i % 2
		}
	}
	return winner
}

// TestRaceOfForksAndCodecs is TestRaceOfForks for servers that compress differently, so that their objects do not have
// the same name. Both contents may be stored then, but not more than one is acknowledged.
func TestRaceOfForksAndCodecs(t *testing.T) {
	cmdtest.Long(t)
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	contents := [2][]byte{files[name], cmdtest.Fork(t, files[name])}
	var data [2]cmdtest.DataDir
	for i, content := range contents {
		data[i] = cmdtest.NewDataDir(t, cmdtest.FastDir(t), cmdtest.Files{name: content})
	}
	for range races {
		spool := cmdtest.NewSpool(t, cmdtest.FastDir(t))
		var calls []*exec.Cmd
		for i, codec := range []string{"s2", "lz4"} {
			calls = append(calls, archive(spool, data[i].Path("pg_wal", name), "--codec", codec))
		}
		won := winner(t, race(t, calls...))
		for i, ending := range []string{".s2", ".lz4"} {
			stored, err := os.ReadFile(filepath.Join(string(spool), "wal", name[:16], name+ending))
			if errors.Is(err, fs.ErrNotExist) && won != i {
				continue
			}
			got, err := cmdtest.Object{Ending: ending, Stored: stored}.Expand()
			if err != nil || !bytes.Equal(got, contents[i]) {
				t.Errorf("%s is not what was archived (%v)", ending, err)
			}
		}
	}
}

// TestRaceOfPartials has servers archive different partial segments of one name: all are kept.
func TestRaceOfPartials(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Kind(t, ".partial")
	for range races / 4 {
		dir := cmdtest.FastDir(t)
		spool := cmdtest.NewSpool(t, dir)
		var calls []*exec.Cmd
		var contents [][]byte
		for j := range 3 {
			content := cmdtest.Flip(files[name], 8*len(files[name])-1-j)
			contents = append(contents, content)
			data := cmdtest.NewDataDir(t, cmdtest.FastDir(t), cmdtest.Files{name: content})
			calls = append(calls, archive(spool, data.Path("pg_wal", name), "-q"))
		}
		for _, r := range race(t, calls...) {
			r.Expect(t, 0)
		}
		objects, temporary, err := spool.Objects()
		if err != nil || len(temporary) > 0 || len(objects) != 3 {
			t.Fatalf("got %d objects, temporary files %q, %v", len(objects), temporary, err)
		}
		for _, o := range objects {
			got, err := o.Expand()
			if err != nil || !slices.ContainsFunc(contents, func(c []byte) bool { return bytes.Equal(c, got) }) {
				t.Errorf("%s is none of what was archived (%v)", o.Path, err)
			}
		}
	}
}

// TestRaceForIdentity has two clusters take one empty spool for theirs.
func TestRaceForIdentity(t *testing.T) {
	cmdtest.Long(t)
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()[:4]
	other := make(cmdtest.Files)
	for _, name := range names {
		other[name] = cmdtest.OfCluster(files[name], 4711)
	}
	contents := [2]cmdtest.Files{files.Only(names...), other}
	data := [2]cmdtest.DataDir{
		cmdtest.NewDataDir(t, cmdtest.FastDir(t), contents[0]), cmdtest.NewDataDir(t, cmdtest.FastDir(t), contents[1]),
	}
	for i := range races {
		spool := cmdtest.NewSpool(t, cmdtest.FastDir(t))
		var calls []*exec.Cmd
		for j := range names { // the names differ, so that only the identity decides
			calls = append(calls, archive(spool, data[j%2].Path("pg_wal", names[j])))
		}
		results := race(t, calls...)
		winner := 0
		if results[0].Code != 0 {
			winner = 1
		}
		want := make(cmdtest.Files)
		for j, r := range results {
			if j%2 == winner {
				r.Expect(t, 0)
				want[names[j]] = contents[winner][names[j]]
			} else {
				r.Expect(t, 3, "another cluster", "hint: give each cluster")
			}
		}
		if spool.Check(t, want); t.Failed() {
			t.Fatalf("race %d", i)
		}
	}
}
