package main_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"walkeep/common/cmdtest"
)

// ahead archives a waiting file as PostgreSQL calls it, and up to n of those that wait after it.
func (b bench) ahead(t testing.TB, n int, name string, more ...string) cmdtest.Result {
	t.Helper()
	args := append([]string{"--spool", string(b.spool), "--lookahead", strconv.Itoa(n)}, more...)
	cmd := cmdtest.Command("archive-cmd", append(args, filepath.Join("pg_wal", name))...)
	cmd.Dir = string(b.data)
	return cmdtest.Run(t, cmd)
}

// status lists archive_status with the times of its files.
func (b bench) status(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir(b.data.Path("pg_wal/archive_status"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, info.ModTime().String()+" "+info.Mode().String()+" "+e.Name())
	}
	return lines
}

func (b bench) remove(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(b.data.Path(path)); err != nil {
		t.Fatal(err)
	}
}

func TestLookahead(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Names()
	for _, n := range []int{0, 1, 2, 3, 7, len(names) - 1, 24, 1024} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, cmdtest.FastDir(t), files)
			b.data.SetControl(t, cmdtest.SystemID(files[files.Segments()[0]]))
			before := b.status(t)
			b.ahead(t, n, names[0]).Expect(t, 0)
			want := names[:min(n+1, len(names))]
			b.spool.Check(t, files.Only(want...))
			for _, name := range names {
				b.ahead(t, n, name).Expect(t, 0)
			}
			b.spool.Check(t, files)
			if after := b.status(t); !slices.Equal(before, after) {
				t.Errorf("archive_status was %q and is %q", before, after)
			}
		})
	}
}

// TestLookaheadFromTheMiddle holds that what comes before is left alone, whatever waits, and what has no .ready.
func TestLookaheadFromTheMiddle(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Names()
	b := newBench(t, cmdtest.FastDir(t), files)
	b.remove(t, "pg_wal/archive_status/"+names[6]+".ready")
	cmdtest.Write(t, b.data.Path("pg_wal/archive_status", names[6]+".done"), nil)
	cmdtest.Write(t, b.data.Path("pg_wal/archive_status/nonsense.ready"), nil)
	cmdtest.Write(t, b.data.Path("pg_wal/archive_status", names[0]+"x.ready"), nil)
	b.ahead(t, 3, names[4]).Expect(t, 0)
	b.spool.Check(t, files.Only(names[4], names[5], names[7], names[8]))
}

// TestLookaheadFindsItDone holds that a call for what look-ahead has archived leaves the rest to others.
func TestLookaheadFindsItDone(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Names()
	b := newBench(t, cmdtest.FastDir(t), files)
	b.ahead(t, 2, names[0]).Expect(t, 0)
	b.ahead(t, 2, names[1]).Expect(t, 0)
	b.spool.Check(t, files.Only(names[:3]...))
}

func TestLookaheadWarns(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()
	waiting := files.Only(names...)
	waiting[names[2]] = cmdtest.Break(t, files[names[2]])
	b := newBench(t, cmdtest.FastDir(t), waiting)
	b.ahead(t, 24, names[0]).Expect(t, 0, "warning: "+names[2]+" is archived with broken WAL records", "hint: ")
	b.spool.Check(t, waiting)
	if got := b.spool.Object(t, names[2]).WALCheck(); got != cmdtest.Damaged {
		t.Errorf("WAL check %d, want %d", got, cmdtest.Damaged)
	}
}

// TestPoison: one of the waiting files cannot be archived. A call for another file succeeds, and stores nothing of the bad one.
// Each call for the bad file reports what is wrong.
func TestPoison(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()
	poison := names[2]
	content := files[poison]
	tests := []struct {
		name string
		with func(t *testing.T, b bench)
		args []string
		code int
		say  string
	}{
		{"wrong header", func(t *testing.T, b bench) { b.replace(t, poison, cmdtest.Flip(content, 64)) }, nil, 3, "page address"},
		{"another segment", func(t *testing.T, b bench) { b.replace(t, poison, files[names[3]]) }, nil, 3, "page address"},
		{"another cluster", func(t *testing.T, b bench) { b.replace(t, poison, cmdtest.OfCluster(content, 4711)) }, nil, 3, "another cluster"},
		{"short", func(t *testing.T, b bench) { b.replace(t, poison, content[:len(content)/2]) }, nil, 3, "524288 bytes"},
		{"missing", func(t *testing.T, b bench) { b.remove(t, "pg_wal/"+poison) }, nil, 1, "no such file"},
		{"directory", func(t *testing.T, b bench) {
			b.remove(t, "pg_wal/"+poison)
			if err := os.Mkdir(b.data.Path("pg_wal", poison), 0o755); err != nil {
				t.Fatal(err)
			}
		}, nil, 3, "not a regular file"},
		{"broken record", func(t *testing.T, b bench) { b.replace(t, poison, cmdtest.Break(t, content)) },
			[]string{"--verify", "strict"}, 3, "records are broken"},
		{"taken by another content", func(t *testing.T, b bench) {
			b.run(t, poison).Expect(t, 0)
			b.replace(t, poison, cmdtest.Fork(t, content))
		}, nil, 3, "another content"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, cmdtest.FastDir(t), files.Only(names...))
			b.spool.Bind(t, cmdtest.SystemID(content))
			test.with(t, b)
			b.ahead(t, 24, names[0], test.args...).Expect(t, 0)
			others := files.Only(slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == poison })...)
			if test.name == "taken by another content" {
				others[poison] = content
			}
			b.spool.Check(t, others)
			for range 5 {
				b.ahead(t, 24, poison, test.args...).Expect(t, test.code, "archive "+poison+": ", test.say)
				b.spool.Check(t, others)
			}
		})
	}
}

// TestPoisonFirst holds that a file that cannot be archived does not keep those after it from being stored ahead, once.
func TestPoisonFirst(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()
	waiting := files.Only(names...)
	waiting[names[0]] = cmdtest.Flip(files[names[0]], 64)
	b := newBench(t, cmdtest.FastDir(t), waiting)
	for range 20 {
		b.ahead(t, 2, names[0]).Expect(t, 3, "page address")
	}
	b.spool.Check(t, files.Only(names[1], names[2]))
}
