package main_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
)

// A far is a host whose repositories hold what was archived elsewhere; its own spool is empty.
type far struct {
	host
	repos  []host // their spools are the repositories
	config string
}

// newFar has a repository with these files for each of the given names.
func newFar(t testing.TB, archived cmdtest.Files, names ...string) *far {
	t.Helper()
	f := &far{host: newHost(t, nil)}
	for range names {
		f.repos = append(f.repos, newHost(t, archived))
	}
	f.config = filepath.Join(f.dir, "walkeep.ini")
	text := "prefetch = 0\n"
	for i, name := range names {
		text += fmt.Sprintf("[repository %s]\nurl = %s\n", name, cmdtest.FileURL(string(f.repos[i].spool)))
	}
	cmdtest.Write(t, f.config, []byte(text))
	return f
}

// run makes a call of restore-cmd that knows the repositories.
func (f *far) run(t testing.TB, name string, more ...string) cmdtest.Result {
	t.Helper()
	return f.host.run(t, name, append([]string{"-c", f.config}, more...)...)
}

func (f *far) deliver(t testing.TB, name string, want []byte, more ...string) {
	t.Helper()
	if r := f.run(t, name, more...); r.Code != 0 {
		t.Fatalf("%s: exit code %d\n%s", name, r.Code, r.Stderr)
	}
	f.wantTarget(t, name, want)
}

// fetchedFiles are the objects in fetched/ of the spool.
func (f *far) fetchedFiles(t testing.TB) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"fetched/*/*/wal/*/*.zst", "fetched/*/*/wal/*.zst"} {
		paths, err := filepath.Glob(filepath.Join(string(f.spool), filepath.FromSlash(pattern)))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, paths...)
	}
	return found
}

const (
	saysAbsent = " is not in the archive"
	saysGap    = " is missing from the archive, which holds what came after it: "
)

// TestFarDelivers delivers every file from a repository, and from the second one what the first one lacks.
func TestFarDelivers(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	f := newFar(t, files, "a", "b")
	lost := files.Segments()[1]
	f.repos[0].remove(t, filepath.Join("wal", lost[:16], lost+"*"))
	for name, content := range files {
		f.deliver(t, name, content)
	}
	if left := f.fetchedFiles(t); len(left) > 0 {
		t.Errorf("what no recovering server has asked for is left: %q", left)
	}
	f.run(t, lost, "-v").Expect(t, 0, lost+" is delivered from fetched/")
}

// TestFarAbsent answers "absent" only if the spool and all repositories have said so.
func TestFarAbsent(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	const after, history, hole = "00000003000000000000001F", "00000004.history", "00000001000000000000000B"
	gone := func(t *testing.T, h host) {
		if err := os.Rename(string(h.spool), string(h.spool)+".off"); err != nil {
			t.Fatal(err)
		}
	}
	empty := func(t *testing.T, h host) { h.remove(t, "*") }
	for _, test := range []struct {
		test   string
		change func(t *testing.T, f *far)
		name   string
		code   int
		say    string
	}{
		{"behind the end", nil, after, 1, saysAbsent},
		{"no such history", nil, history, 1, saysAbsent},
		{"a hole", nil, hole, 126, saysGap},
		{"the second is down", func(t *testing.T, f *far) { gone(t, f.repos[1]) }, after, 126, "it is not known whether " + after + " exists"},
		{"the second is down, a history", func(t *testing.T, f *far) { gone(t, f.repos[1]) }, history, 126, "is not known"},
		{"the second is down, a hole", func(t *testing.T, f *far) { gone(t, f.repos[1]) }, hole, 126, "is not known"},
		{"both are down", func(t *testing.T, f *far) { gone(t, f.repos[0]); gone(t, f.repos[1]) }, after, 126, "does not exist"},
		{"the second is no archive", func(t *testing.T, f *far) { empty(t, f.repos[1]) }, after, 126, "this is not an archive"},
		{"the second has lost wal/", func(t *testing.T, f *far) { f.repos[1].remove(t, "wal") }, after, 126, "wal/"},
		{"the first knows of more", func(t *testing.T, f *far) {
			f.repos[0].put(t, "partial/000000030000000000000020.partial", []byte("x"))
		}, after, 126, saysGap},
		{"the spool knows of more", func(t *testing.T, f *far) {
			f.put(t, "partial/000000030000000000000020.partial", []byte("x"))
		}, after, 126, saysGap},
		{"wrong section", func(t *testing.T, f *far) {
			cmdtest.Write(t, f.config, []byte("[repository a]\nurl = nonsense\n"))
		}, after, 126, "url begins with"},
		{"wrong value", func(t *testing.T, f *far) {
			cmdtest.Write(t, f.config, []byte("[repository a]\nurl = file://"+string(f.repos[0].spool)+"\ntimeout = soon\n"))
		}, after, 126, "soon"},
		{"another cluster's", func(t *testing.T, f *far) {
			f.repos[1].remove(t, "archive.json")
			f.repos[1].spool.Bind(t, 4711)
		}, after, 126, "of another cluster"},
	} {
		t.Run(test.test, func(t *testing.T) {
			t.Parallel()
			f := newFar(t, files, "a", "b")
			if test.change != nil {
				test.change(t, f)
			}
			if r := f.run(t, test.name); r.Code != test.code || !strings.Contains(r.Stderr, test.say) {
				t.Errorf("got exit code %d, want %d with %q\n%s", r.Code, test.code, test.say, r.Stderr)
			}
		})
	}
}

// TestFarUnreadConfiguration holds that "absent" is never said where it is not known which repositories there are.
func TestFarUnreadConfiguration(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	h := newHost(t, files)
	const absent = "00000003000000000000001F"
	for _, file := range []string{filepath.Join(h.dir, "none.ini"), h.dir} {
		h.run(t, absent, "-c", file).Expect(t, 126, "whether there are repositories is not known", file)
	}
	cmdtest.Write(t, h.data.Path("standby.signal"), nil)
	h.run(t, absent, "-c", h.dir).Expect(t, 1, "the standby keeps running and asks again: "+absent+" is not in the spool")
}

// TestFarUnclearConfiguration checks that a line that may have named a repository counts as a repository that does not answer,
// as does a wrong section. Files of the others are delivered, and nothing is reported as absent.
func TestFarUnclearConfiguration(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	const absent = "00000003000000000000001F"
	for _, test := range []struct{ lines, say string }{
		{"[repository b\nurl = file:///nowhere\n", "malformed section header"},
		{"[repositry b]\nurl = file:///nowhere\n", "unknown section [repositry b]"},
		{"[Repository b]\nurl = file:///nowhere\n", "unknown section [Repository b]"},
		{"[repository b]\nurl = nope:///nowhere\n", "url begins with"},
		{"[repository b]\nurl file:///nowhere\n", "malformed"},
		{"[repository b]\n", "url is missing"},
		{"[repository b]\nurl = sftp://me:sesame@nowhere/dir\n", "url holds a password"},
		{"[repository b]\nurl = file:///nowhere\ntimeout = soon\n", "timeout"},
	} {
		f := newFar(t, files, "a")
		text, err := os.ReadFile(f.config)
		if err != nil {
			t.Fatal(err)
		}
		cmdtest.Write(t, f.config, append(text, test.lines...))
		f.run(t, name).Expect(t, 0, "warning: configuration: ", test.say)
		f.wantTarget(t, name, files[name])
		if r := f.run(t, absent); r.Code != 126 || !strings.Contains(r.Stderr, test.say) || strings.Contains(r.Stderr, "sesame") {
			t.Errorf("%q: exit code %d\n%s", test.lines, r.Code, r.Stderr)
		}
	}
	// A spool that is an archive does not know either.
	h := newHost(t, files)
	file := filepath.Join(h.dir, "walkeep.ini")
	for _, lines := range []string{"[repository b\n", "[repositry b]\nurl = file:///nowhere\n", "url = file:///nowhere\n"} {
		cmdtest.Write(t, file, []byte(lines))
		h.run(t, absent, "-c", file).Expect(t, 126, "whether there are repositories is not known")
		if r := h.run(t, name, "-c", file); r.Code != 0 {
			t.Errorf("%q: exit code %d\n%s", lines, r.Code, r.Stderr)
		}
		h.wantTarget(t, name, files[name])
	}
}

// TestFarNoSupervisor holds that "absent" is never said where nobody can be asked.
func TestFarNoSupervisor(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	f := newFar(t, files, "a")
	alone := filepath.Join(f.dir, filepath.Base(cmdtest.Path("restore-cmd")))
	program, err := os.ReadFile(cmdtest.Path("restore-cmd"))
	if err == nil {
		err = os.WriteFile(alone, program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	call := f.call("00000003000000000000001F", "-c", f.config)
	call.Path, call.Args[0] = alone, alone
	f.runCall(t, call).Expect(t, 126, "cannot be fetched", "hint: install supervisor beside restore-cmd")
	crashes := filepath.Join(f.dir, filepath.Base(cmdtest.Path("supervisor")))
	for _, script := range []string{"exit 3", "exit 2", "kill -9 $$", "echo nonsense", "echo fetched/../wal/x", "echo wal/../../x"} {
		cmdtest.Write(t, crashes, []byte("#!/bin/sh\n"+script+"\n"))
		if err := os.Chmod(crashes, 0o755); err != nil {
			t.Fatal(err)
		}
		call := f.call("00000003000000000000001F", "-c", f.config)
		call.Path, call.Args[0] = alone, alone
		if r := f.runCall(t, call); r.Code != 126 {
			t.Errorf("%s: got exit code %d\n%s", script, r.Code, r.Stderr)
		}
	}
}

// TestFarHints names each repository that does not answer, and what to do about a repository and not about the spool.
func TestFarHints(t *testing.T) {
	t.Parallel()
	f := newFar(t, cmdtest.WAL(t, "15"), "a", "b")
	lost := cmdtest.WAL(t, "15").Segments()[0]
	for _, r := range f.repos {
		if err := os.Rename(string(r.spool), string(r.spool)+"-away"); err != nil {
			t.Fatal(err)
		}
	}
	f.run(t, lost).Expect(t, 126, "repository a (", "does not exist; repository b (", "hint: check the url of the repository, and that the place can be reached from this host; if it is gone for good, ")
	for _, r := range f.repos {
		if err := os.Mkdir(string(r.spool), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	f.run(t, lost).Expect(t, 126, "this is not an archive", "hint: check the url of the repository; it becomes an archive when ")
}

// TestFarPoisoned has files in fetched/ that are not what they should be: they are removed, and fetched again.
func TestFarPoisoned(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	f := newFar(t, files, "a")
	f.recovers(t, files)
	f.deliver(t, name, files[name])
	ready := f.fetchedFiles(t)
	if len(ready) != 1 {
		t.Fatalf("got %q in fetched/, want one file", ready)
	}
	sound, err := os.ReadFile(ready[0])
	if err != nil {
		t.Fatal(err)
	}
	next := files.Segments()[1]
	other, err := os.ReadFile(f.repos[0].spool.Object(t, next).Path)
	if err != nil {
		t.Fatal(err)
	}
	foreign := newHost(t, cmdtest.Files{name: cmdtest.OfCluster(files[name], 4711)})
	theirs := foreign.spool.Object(t, name).Stored
	identity := filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(ready[0]))), "archive.json")
	for poison, do := range map[string]func(){
		"empty":             func() { cmdtest.Write(t, ready[0], nil) },
		"cut":               func() { cmdtest.Write(t, ready[0], sound[:len(sound)/2]) },
		"a bit":             func() { cmdtest.Write(t, ready[0], cmdtest.Flip(sound, 8*1000)) },
		"another file":      func() { cmdtest.Write(t, ready[0], other) },
		"another cluster's": func() { cmdtest.Write(t, ready[0], theirs) },
		"a directory":       func() { os.Remove(ready[0]); os.MkdirAll(filepath.Join(ready[0], "x"), 0o700) },
		"twice":             func() { cmdtest.Write(t, strings.TrimSuffix(ready[0], ".zst"), files[next]) },
		"identity":          func() { cmdtest.Write(t, identity, []byte("{")) },
		"identity of another": func() {
			cmdtest.Write(t, identity, []byte(`{"version":1,"system_identifier":"4711","segment_size":1048576}`))
		},
	} {
		do()
		f.deliver(t, name, files[name])
		if again, err := os.ReadFile(ready[0]); err != nil || !bytes.Equal(again, sound) {
			t.Errorf("%s: it was not fetched again (%v)", poison, err)
		}
		if t.Failed() {
			return
		}
	}
}

// recovers makes the host's data directory that of a server that recovers.
func (f *far) recovers(t testing.TB, files cmdtest.Files) {
	t.Helper()
	f.data.SetControl(t, cmdtest.SystemID(files[files.Segments()[0]]))
	cmdtest.Write(t, f.data.Path("recovery.signal"), nil)
}
