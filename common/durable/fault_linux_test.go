package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walkeep/common/durable"
)

// helperVariable names what the test's own program does instead of testing, in which directory: a process of its own
// can be killed, and its system calls can be made to fail with strace.
const helperVariable = "WALKEEP_TEST_DURABLE"

var helpers = map[string]func(dir string) error{
	"commit": func(dir string) error {
		f, err := durable.Create(filepath.Join(dir, "file"))
		if err != nil {
			return err
		}
		defer f.Discard()
		f.WriteString("new")
		return f.Commit(nil)
	},
	// The name was given to the file, but the server's answer was lost.
	"answer": func(dir string) error {
		f, err := durable.Create(filepath.Join(dir, "file"))
		if err != nil {
			return err
		}
		defer f.Discard()
		f.WriteString("new")
		if err := os.Link(f.Name(), filepath.Join(dir, "file")); err != nil {
			return err
		}
		return f.Commit(nil)
	},
	"races": func(dir string) error {
		for i := range 100 {
			if err := race(dir, fmt.Sprint(i), 4); err != nil {
				return err
			}
		}
		return nil
	},
	"note":  func(dir string) error { return durable.WriteFile(filepath.Join(dir, "file"), []byte("new")) },
	"sync":  func(dir string) error { return durable.SyncFile(filepath.Join(dir, "file")) },
	"sweep": func(dir string) error { _, err := durable.Sweep(dir); return err },
	"hang": func(dir string) error {
		f, err := durable.Create(filepath.Join(dir, "file"))
		if err != nil {
			return err
		}
		defer f.Discard()
		f.WriteString("half")
		fmt.Println("ready")
		if _, err := fmt.Scanln(); err != nil {
			return err
		}
		return f.Commit(nil)
	},
}

func TestMain(m *testing.M) {
	if mode, dir, ok := strings.Cut(os.Getenv(helperVariable), ":"); ok {
		err := helpers[mode](dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			for _, known := range []error{fs.ErrExist, durable.ErrNoSoundRename} {
				if errors.Is(err, known) {
					fmt.Fprintf(os.Stderr, "it is %q\n", known)
				}
			}
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func helper(t *testing.T, mode, dir string, wrap ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append(wrap, self)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), helperVariable+"="+mode+":"+dir)
	return cmd
}

// inject runs a helper whose system calls, or only those on one path, fail as strace's option says, and returns what it wrote
// and whether it succeeded.
func inject(t *testing.T, mode, dir, only string, faults ...string) (string, bool) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip(err)
	}
	wrap := []string{"strace", "-f", "-qq", "--signal=none", "-o", filepath.Join(t.TempDir(), "trace")}
	if only != "" {
		wrap = append(wrap, "-P", only)
	}
	for _, f := range faults {
		wrap = append(wrap, "-e", "inject="+f)
	}
	out, err := helper(t, mode, dir, wrap...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), err == nil
}

func TestFaults(t *testing.T) {
	const (
		noRename = "renameat2:error=EINVAL"
		noLink   = "?link,linkat:error=EPERM"
	)
	for _, test := range []struct {
		name   string
		mode   string
		faults []string
		only   bool   // only where the directory itself is at hand
		before string // content of the file, if there is one
		says   string // "" where it succeeds
		then   string // content of the file, if there is one afterwards
	}{
		{name: "no fault", mode: "commit", then: "new"},
		{name: "no rename", mode: "commit", faults: []string{noRename}, then: "new"},
		{name: "no such call", mode: "commit", faults: []string{"renameat2:error=ENOSYS"}, then: "new"},
		{name: "rename not supported", mode: "commit", faults: []string{"renameat2:error=EOPNOTSUPP"}, then: "new"},
		{name: "taken", mode: "commit", before: "old", says: `it is "file already exists"`, then: "old"},
		{name: "taken, no rename", mode: "commit", faults: []string{noRename}, before: "old", says: `it is "file already exists"`, then: "old"},
		{name: "races, no rename", mode: "races", faults: []string{noRename}},
		{name: "lost answer", mode: "answer", faults: []string{noRename}, then: "new"},
		{name: "no rename, no link", mode: "commit", faults: []string{noRename, noLink}, says: `it is "the file system can neither`},
		{name: "no rename, link not supported", mode: "commit", faults: []string{noRename, "?link,linkat:error=ENOSYS"}, says: `it is "the file system can neither`},
		{name: "rename fails", mode: "commit", faults: []string{"renameat2:error=EIO"}, says: "input/output error"},
		{name: "link fails", mode: "commit", faults: []string{noRename, "?link,linkat:error=ENOSPC"}, says: "no space left"},
		{name: "fsync of the file fails", mode: "commit", faults: []string{"fsync:error=EIO:when=1"}, says: "input/output error"},
		// The name is there, but the call has not acknowledged it: the next attempt finds it and syncs it.
		{name: "fsync of the directory fails", mode: "commit", faults: []string{"fsync:error=EIO"}, only: true, says: "fsync directory", then: "new"},
		{name: "note", mode: "note", before: "old", then: "new"},
		{name: "note, fsync fails", mode: "note", faults: []string{"fsync:error=EIO:when=1"}, before: "old", says: "input/output error", then: "old"},
		{name: "note, rename fails", mode: "note", faults: []string{"?rename,renameat,renameat2:error=ENOSPC"}, before: "old", says: "no space left", then: "old"},
		{name: "sync fails", mode: "sync", faults: []string{"fsync:error=EIO"}, before: "old", says: "input/output error", then: "old"},
		{name: "no locks", mode: "commit", faults: []string{"flock:error=ENOLCK"}, then: "new"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := quickDir(t)
			path := filepath.Join(dir, "file")
			if test.before != "" {
				if err := os.WriteFile(path, []byte(test.before), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			only := ""
			if test.only {
				only = dir
			}
			out, ok := inject(t, test.mode, dir, only, test.faults...)
			if ok != (test.says == "") || !strings.Contains(out, test.says) {
				t.Errorf("got success %t, %q, want %q", ok, out, test.says)
			}
			if left := temps(t, dir); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			if test.then != "" {
				wantContent(t, path, test.then)
			} else if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the file is there: %v", err)
			}
		})
	}
}

// Where files cannot be locked, age decides, by the file system's own clock.
func TestSweepWithoutLocks(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{
		".new.tmp": 0, ".hours.tmp": 23 * time.Hour, ".days.tmp": 25 * time.Hour,
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if out, ok := inject(t, "sweep", dir, "", "flock:error=EOPNOTSUPP"); !ok {
		t.Fatal(out)
	}
	wantFiles(t, dir, ".hours.tmp", ".new.tmp")
}

// What a killed writer leaves is taken by the next sweep; what a living one is writing is not.
func TestSweepAfterKill(t *testing.T) {
	dir := t.TempDir()
	hang := func() *exec.Cmd {
		cmd := helper(t, "hang", dir)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var errs bytes.Buffer
		cmd.Stderr = &errs
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); stdin.Close() })
		var word string
		if _, err := fmt.Fscan(stdout, &word); err != nil || word != "ready" {
			t.Fatalf("helper: got %q, %v, %s", word, err, errs.Bytes())
		}
		return cmd
	}
	killed := hang()
	if n, err := durable.Sweep(dir); n != 0 || err != nil {
		t.Errorf("while it lives: got %d, %v, want nothing removed", n, err)
	}
	hang()
	if got := temps(t, dir); len(got) != 2 {
		t.Fatalf("got %q, want two temporary files", got)
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed.Wait()
	if n, err := durable.Sweep(dir); n != 1 || err != nil {
		t.Errorf("after one was killed: got %d, %v, want its file removed", n, err)
	}
	if got := temps(t, dir); len(got) != 1 {
		t.Errorf("got %q, want the file of the living", got)
	}
}
