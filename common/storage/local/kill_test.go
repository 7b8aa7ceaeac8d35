package local_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/storage"
	"walkeep/common/storage/local"
)

// helperVariable names the archive on which the test's own program works when it runs as another process: its
// arguments are what to do and the object's name.
const helperVariable = "WALKEEP_TEST_LOCAL"

var helpers = map[string]func(b *local.Backend, name string) error{
	"put": func(b *local.Backend, name string) error {
		return storage.Put(context.Background(), b, name, text("x"), nil)
	},
	"sync":    func(b *local.Backend, name string) error { return b.Sync(context.Background(), name) },
	"replace": func(b *local.Backend, name string) error { return b.Replace(context.Background(), name, []byte("x")) },
	"remove":  func(b *local.Backend, name string) error { return b.Remove(context.Background(), name) },
	"slow":    putSlowly,
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperVariable); dir != "" {
		b, err := local.Open(dir)
		if err == nil {
			err = helpers[os.Args[1]](b, os.Args[2])
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// putSlowly stops in the middle until the test lets it continue, or kills it.
func putSlowly(b *local.Backend, name string) error {
	return storage.Put(context.Background(), b, name, func(w io.Writer) error {
		if err := text(strings.Repeat("half ", 1000))(w); err != nil {
			return err
		}
		fmt.Println("ready")
		if _, err := fmt.Scanln(); err != nil {
			return err
		}
		return text("whole")(w)
	}, nil)
}

// A writer is another process that is in the middle of a Put.
type writer struct {
	*exec.Cmd
	stdin io.WriteCloser
	errs  bytes.Buffer
}

func startWriter(t *testing.T, dir, name string) *writer {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{Cmd: exec.Command(self, "slow", name)}
	w.Env = append(os.Environ(), helperVariable+"="+dir)
	w.Stderr = &w.errs
	if w.stdin, err = w.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := w.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Process.Kill(); w.Wait() })
	var word string
	if _, err := fmt.Fscan(stdout, &word); err != nil || word != "ready" {
		t.Fatalf("writer: got %q, %v, %s", word, err, w.errs.Bytes())
	}
	return w
}

func tempFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, ".*.tmp"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A killed writer leaves nothing that a reader sees. The next writer in that directory removes what it left, but not the file
// of a living writer, which succeeds.
func TestKilledWriter(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "wal")
	killed, living := startWriter(t, root, "wal/killed"), startWriter(t, root, "wal/living")
	if got := tempFiles(t, dir); len(got) != 2 {
		t.Fatalf("got temporary files %q, want two", got)
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed.Wait()
	b := open(t, root)
	wantList(t, b, "wal/")
	if err := storage.Put(t.Context(), b, "other/object", text("x"), nil); err != nil {
		t.Fatal(err)
	}
	if got := tempFiles(t, dir); len(got) != 2 {
		t.Errorf("after a Put elsewhere: got temporary files %q, want two", got)
	}
	if err := storage.Put(t.Context(), b, "wal/object", text("x"), nil); err != nil {
		t.Fatal(err)
	}
	if got := tempFiles(t, dir); len(got) != 1 || !strings.Contains(got[0], "living") {
		t.Errorf("after a Put beside: got temporary files %q, want that of the living", got)
	}
	if err := storage.Put(t.Context(), b, "wal/killed", text("again"), nil); err != nil {
		t.Errorf("the killed writer's object: %v", err)
	}
	fmt.Fprintln(living.stdin)
	if err := living.Wait(); err != nil {
		t.Errorf("the living writer: %v, %s", err, living.errs.Bytes())
	}
	wantList(t, b, "wal/", storage.Entry{Name: "wal/killed", Size: 5}, storage.Entry{Name: "wal/living", Size: 5005},
		storage.Entry{Name: "wal/object", Size: 1})
	if got := tempFiles(t, dir); len(got) != 0 {
		t.Errorf("at the end: got temporary files %q", got)
	}
}

// The leftovers may be what fills the disk, so a note sweeps, too.
func TestReplaceSweeps(t *testing.T) {
	root := t.TempDir()
	killed := startWriter(t, root, "standbys/note")
	killed.Process.Kill()
	killed.Wait()
	if err := open(t, root).Replace(t.Context(), "standbys/note", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if got := tempFiles(t, filepath.Join(root, "standbys")); len(got) != 0 {
		t.Errorf("got temporary files %q", got)
	}
}
