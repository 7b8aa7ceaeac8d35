package main_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
)

var codecs = []string{"zstd", "s2", "lz4", "gzip", "none"}

// TestEveryFile gets all kinds of files of all versions back, from all codecs.
func TestEveryFile(t *testing.T) {
	t.Parallel()
	for i, major := range []string{"11", "12", "13", "14", "15", "16", "17", "18", "19"} {
		codec := codecs[i%len(codecs)]
		t.Run(major+" "+codec, func(t *testing.T) {
			t.Parallel()
			files := cmdtest.WAL(t, major)
			h := newHost(t, files, "--codec", codec)
			h.data.SetControl(t, cmdtest.SystemID(files[files.Segments()[0]]))
			for _, name := range files.Names() {
				h.deliver(t, name, files[name])
				h.run(t, name, "-v").Expect(t, 0, name+" is delivered from wal/")
			}
			h.spool.Check(t, files)
		})
	}
}

func TestSegmentOf16MB(t *testing.T) {
	cmdtest.Long(t)
	t.Parallel()
	files := cmdtest.WAL(t, "10")
	names := []string{files.Segments()[0], files.Segments()[1], files.Kind(t, ".history"), files.Kind(t, ".backup")}
	for _, codec := range codecs {
		h := newHost(t, files.Only(names...), "--codec", codec)
		for _, name := range names {
			h.deliver(t, name, files[name])
		}
	}
}

// TestTarget is about what is at the target, and beside it, before a call.
func TestTarget(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	h := newHost(t, files.Only(name))
	path := h.data.Path(target)
	remove := func() {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	deliver := func() {
		t.Helper()
		cmdtest.Run(t, h.call(name)).Expect(t, 0)
		h.wantTarget(t, name, files[name])
	}
	// Over nothing, in a data directory that its group may read, and in one that it may not.
	for dir, want := range map[os.FileMode]os.FileMode{0o750: 0o640, 0o700: 0o600} {
		if err := os.Chmod(string(h.data), dir); err != nil {
			t.Fatal(err)
		}
		remove()
		deliver()
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want && runtime.GOOS != "windows" {
			t.Errorf("in a directory of mode %o: got mode %v, want %o (%v)", dir, info.Mode(), want, err)
		}
	}
	deliver() // over the same
	cmdtest.Write(t, path, bytes.Repeat([]byte("x"), 3<<20))
	deliver() // over a longer one
	cmdtest.Write(t, path+".walkeep", bytes.Repeat([]byte("x"), 3<<20))
	deliver() // with a longer leftover of a killed call
	remove()

	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	cmdtest.Run(t, h.call(name)).Expect(t, 126, "file exists")
	remove()
	if err := os.Mkdir(path+".walkeep", 0o755); err != nil {
		t.Fatal(err)
	}
	cmdtest.Run(t, h.call(name)).Expect(t, 126, "directory")
	if err := os.RemoveAll(h.data.Path("pg_wal")); err != nil {
		t.Fatal(err)
	}
	cmdtest.Run(t, h.call(name)).Expect(t, 126, "no such file")
	cmdtest.Run(t, h.call("00000002.history")).Expect(t, 126, "no such file") // although it is absent
}

// TestTargetIsReplacedAtOnce reads the target while it is replaced, again and again: it is always one of the segments.
func TestTargetIsReplacedAtOnce(t *testing.T) {
	cmdtest.Long(t)
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()[:2]
	h := newHost(t, files.Only(names...))
	done := make(chan bool)
	go func() {
		defer close(done)
		for i := range 200 {
			cmdtest.Run(t, h.call(names[i%2])).Expect(t, 0)
		}
	}()
	for reads := 0; ; reads++ {
		select {
		case <-done:
			t.Logf("%d reads", reads)
			return
		default:
		}
		f, err := os.Open(h.data.Path(target))
		if err != nil {
			if reads > 0 && !os.IsNotExist(err) {
				t.Error(err)
			}
			continue
		}
		got, err := io.ReadAll(f)
		f.Close()
		if err != nil || !bytes.Equal(got, files[names[0]]) && !bytes.Equal(got, files[names[1]]) {
			t.Errorf("read %d bytes that are neither segment (%v)", len(got), err)
		}
	}
}

// TestBrokenWhenArchived checks that a segment that was broken when it was archived is delivered with a warning.
func TestBrokenWhenArchived(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	broken := cmdtest.Files{name: cmdtest.Break(t, files[name])}
	h := newHost(t, broken)
	h.run(t, name).Expect(t, 0, "warning: "+name+" was archived with broken WAL records at 0/", "hint: recovery ends there")
	h.wantTarget(t, name, broken[name])
	h.deliver(t, name, broken[name], "-q")
}

// TestOtherCluster holds the archive against the data directory that asks.
func TestOtherCluster(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	segment, history := files.Segments()[0], files.Kind(t, ".history")
	id := cmdtest.SystemID(files[segment])
	h := newHost(t, files.Only(segment, history))
	h.data.SetControl(t, id)
	h.deliver(t, segment, files[segment])
	h.data.SetControl(t, id+1)
	for _, name := range []string{segment, history, "00000009.history", "00000001000000000000000A"} {
		h.run(t, name).Expect(t, 126, "another cluster", "hint: check --spool: this is another cluster's archive")
	}
	for _, content := range [][]byte{nil, []byte("short"), make([]byte, 8192)} {
		cmdtest.Write(t, h.data.Path("global/pg_control"), content)
		h.run(t, segment).Expect(t, 126, "pg_control")
		h.run(t, "00000009.history").Expect(t, 126, "pg_control")
	}
	if err := os.Remove(h.data.Path("global/pg_control")); err != nil {
		t.Fatal(err)
	}
	h.spool.Bind(t, id+1) // an object that strayed from its archive into another
	h.run(t, segment).Expect(t, 126, "another cluster", "hint: check --spool")
	h.run(t, history).Expect(t, 0) // it does not say whose it is: it was archived without a control file
}

// TestSpoolIsNoArchive holds that a spool which was not mounted, or never was one, proves nothing absent.
func TestSpoolIsNoArchive(t *testing.T) {
	t.Parallel()
	absent := []string{"000000010000000000000001", "00000002.history", "000000010000000000000001.00000028.backup"}
	h := newHost(t, nil)
	identity := filepath.Join(string(h.spool), "archive.json")
	for _, name := range absent {
		h.run(t, name).Expect(t, 126, "this is not an archive", "hint: check --spool, and that its file system is mounted")
	}
	for content, say := range map[string]string{
		"":         "damaged",
		"nonsense": "damaged",
		"{}":       "version 0",
		"\x00\x00": "damaged",
		`{"version":2,"system_identifier":"1","segment_size":1048576}`:      "version 2",
		`{"version":1,"system_identifier":"0","segment_size":1048576}`:      "damaged",
		`{"version":1,"system_identifier":"1","segment_size":1048577}`:      "damaged",
		`{"version":1,"system_identifier":"1","segment_size":16`:            "damaged",
		`{"version":1,"segment_size":1048576}` + strings.Repeat(" ", 2<<20): "bytes",
	} {
		cmdtest.Write(t, identity, []byte(content))
		for _, name := range absent {
			h.run(t, name).Expect(t, 126, say)
		}
	}
	if err := os.RemoveAll(string(h.spool)); err != nil {
		t.Fatal(err)
	}
	for _, name := range absent {
		h.run(t, name).Expect(t, 126, "archive is not there", "hint: check --spool, mount its file system")
	}
	cmdtest.Write(t, string(h.spool), nil)
	h.run(t, absent[0]).Expect(t, 126, "is not a directory", "hint: check --spool")
}
