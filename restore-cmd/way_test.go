package main_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"walkeep/common/cmdtest"
)

// A timeline that left the first one within segment D.
const forkHistory = "1\t0/D80000\tno recovery target specified\n"

// TestFarLeft stores another timeline in the repository after segments were fetched. Segments behind the point where it left
// are no longer delivered, neither from fetched/ nor from the spool, as soon as the judgement of the server's way has expired.
func TestFarLeft(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()[2:6] // C to F
	f := newFar(t, files.Only(names...), "a")
	f.recovers(t, files)
	for _, name := range names {
		f.deliver(t, name, files[name])
	}
	f.repos[0].put(t, "wal/00000002.history", []byte(forkHistory))
	f.deliver(t, names[3], files[names[3]]) // for a moment
	f.age(t)
	f.run(t, names[3]).Expect(t, 126, names[3]+" lies behind the point where its timeline was left")
	f.run(t, names[1]).Expect(t, 126, names[1]+" lies behind the point where its timeline was left")
	f.deliver(t, names[0], files[names[0]])
	f.run(t, names[1]).Expect(t, 126, names[1]+" lies behind the point where its timeline was left") // although it is ready
	os.Remove(filepath.Join(string(f.repos[0].spool), "wal", "00000002.history"))
	f.deliver(t, names[1], files[names[1]])
}

// age makes the judgements of the servers' ways old.
func (f *far) age(t *testing.T) {
	t.Helper()
	notes, err := filepath.Glob(filepath.Join(string(f.spool), "fetched", "*", "servers", "*.way.json"))
	if err != nil || len(notes) == 0 {
		t.Fatalf("no way was judged (%v)", err)
	}
	for _, file := range notes {
		var note map[string]any
		content, err := os.ReadFile(file)
		if err == nil {
			d := json.NewDecoder(bytes.NewReader(content))
			d.UseNumber()
			err = d.Decode(&note)
		}
		if err != nil {
			t.Fatal(err)
		}
		note["judged"] = time.Now().Add(-time.Hour)
		if content, err = json.Marshal(note); err != nil {
			t.Fatal(err)
		}
		cmdtest.Write(t, file, content)
	}
}

// TestFarBranches keeps segments of two timelines with one number apart: the repository is replaced by one of another branch.
func TestFarBranches(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[len(files.Segments())-2] // of timeline 3
	if name[:8] != "00000003" {
		t.Fatalf("%s is of another timeline", name)
	}
	other := append([]byte(nil), files["00000003.history"]...)
	f := newFar(t, files, "a")
	f.recovers(t, files)
	f.deliver(t, name, files[name])
	ready := f.fetchedFiles(t)
	f.repos[0].remove(t, "wal/00000003.history*")
	f.repos[0].put(t, "wal/00000003.history", append(other, "\n"...))
	f.age(t)
	f.deliver(t, name, files[name])
	if now := f.fetchedFiles(t); len(ready) != 1 || len(now) != 2 || filepath.Dir(now[0]) == filepath.Dir(now[1]) {
		t.Errorf("got %q and then %q, want one file in each of two branches", ready, now)
	}
}

// TestFarDown: no repository answers. The segments of the spool are delivered with a warning, along the timelines that the
// spool or the server itself knows of.
func TestFarDown(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()[2:6]
	f := newFar(t, files.Only(names...), "a")
	f.host.spool = newHost(t, files.Only(names...)).spool
	f.recovers(t, files)
	if err := os.Rename(string(f.repos[0].spool), string(f.repos[0].spool)+".off"); err != nil {
		t.Fatal(err)
	}
	f.run(t, names[2]).Expect(t, 0, "warning: repository a", "does not answer")
	f.wantTarget(t, names[2], files[names[2]])
	f.age(t)
	cmdtest.Write(t, f.data.Path("pg_wal", "00000002.history"), []byte(forkHistory))
	f.run(t, names[2]).Expect(t, 126, names[2]+" lies behind the point where its timeline was left")
	f.run(t, names[0]).Expect(t, 0, "does not answer")
	f.run(t, "00000002000000000000000D").Expect(t, 126, "is not known")
}

// TestFarDamaged passes over unsound copies while another place has a sound one.
func TestFarDamaged(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	f := newFar(t, files, "a", "b")
	f.host.spool = newHost(t, files.Only(name)).spool
	spoil := func(h host) {
		o := h.spool.Object(t, name)
		cmdtest.Write(t, o.Path, cmdtest.Flip(o.Stored, 8*1000))
	}
	f.deliver(t, name, files[name])
	spoil(f.host)
	f.deliver(t, name, files[name])
	spoil(f.repos[0])
	f.deliver(t, name, files[name])
	spoil(f.repos[1])
	f.run(t, name).Expect(t, 126, name, "damaged")
}
