//go:build unix

package sftp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"walkeep/common/storage"
	"walkeep/common/storage/retry"
	"walkeep/common/storage/sftp"
	"walkeep/common/storage/sftp/sftptest"
	"walkeep/common/storage/storagetest"
)

func options(s *sftptest.Server) sftp.Options {
	return sftp.Options{User: s.User, Host: s.Host, Port: s.Port, Path: s.Root, KeyFile: s.KeyFile, KnownHosts: s.KnownHosts}
}

func open(t *testing.T, o sftp.Options) *sftp.Backend {
	t.Helper()
	b, err := sftp.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// empty opens a new directory on a server.
func empty(t *testing.T, s *sftptest.Server, o sftp.Options) *sftp.Backend {
	t.Helper()
	o.Path = s.NewRoot(t)
	return open(t, o)
}

func text(content string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, content)
		return err
	}
}

func put(t *testing.T, b storage.Backend, name, content string) {
	t.Helper()
	if err := storage.Put(t.Context(), b, name, text(content), nil); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, b storage.Backend, name, content string) {
	t.Helper()
	got, err := storage.ReadAll(t.Context(), b, name, 1<<30)
	if err != nil || string(got) != content {
		t.Errorf("%s: got %.40q (%d bytes), %v, want %.40q (%d bytes)", name, got, len(got), err, content, len(content))
	}
}

// temps are the temporary files below a directory.
func temps(t *testing.T, dir string) (found []string) {
	t.Helper()
	out, err := exec.Command("find", dir, "-name", ".*", "-type", "f").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

func TestConformance(t *testing.T) {
	s := sftptest.Start(t, sftptest.Options{})
	rounds := 3000 // requests, which limits the races, too
	if n, _ := strconv.Atoi(os.Getenv("WALKEEP_RACES")); n > 0 {
		rounds = 0
	}
	storagetest.Run(t, storagetest.Options{Requests: rounds}, func(t *testing.T) storage.Backend {
		return empty(t, s, options(s))
	})
}

// Several connections write one name: exactly one of them wins.
func TestRaceOfConnections(t *testing.T) {
	s := sftptest.Start(t, sftptest.Options{})
	rounds := 20
	if n, _ := strconv.Atoi(os.Getenv("WALKEEP_RACES")); n > 0 {
		rounds = n
	}
	var all []*sftp.Backend
	for range 4 {
		all = append(all, open(t, options(s)))
	}
	for round := range rounds {
		name := fmt.Sprintf("wal/%04d/object", round)
		errs := make(chan error, len(all))
		for i, b := range all {
			go func() { errs <- storage.Put(t.Context(), b, name, text(strings.Repeat(fmt.Sprint(i), 100)), nil) }()
		}
		won := 0
		for range all {
			if err := <-errs; err == nil {
				won++
			} else if !errors.Is(err, storage.ErrExist) {
				t.Errorf("%s: got %v, want ErrExist", name, err)
			}
		}
		content, err := storage.ReadAll(t.Context(), all[0], name, 1000)
		if won != 1 || err != nil || len(content) != 100 {
			t.Errorf("%s: %d writers have won, got %d bytes, %v", name, won, len(content), err)
		}
	}
	if left := temps(t, s.Root); len(left) > 0 {
		t.Errorf("temporary files are left: %q", left)
	}
}

// The connection breaks at each packet of a call, or the answer to it is lost: the call does its work, and nothing else.
func TestBrokenConnection(t *testing.T) {
	s := sftptest.Start(t, sftptest.Options{})
	direct := open(t, options(s))
	content := strings.Repeat("0123456789abcdef", 8<<10) // several requests
	read := func(ctx context.Context, b *sftp.Backend, name string) (string, error) {
		got, err := storage.ReadAll(ctx, b, name, 1<<30)
		return string(got), err
	}
	for _, test := range []struct {
		name string
		do   func(ctx context.Context, b *sftp.Backend, dir string) error
	}{
		{"put", func(ctx context.Context, b *sftp.Backend, dir string) error {
			err := storage.Put(ctx, b, dir+"new/dir/object", text(content), func(r io.Reader) error {
				got, err := io.ReadAll(r)
				if err == nil && string(got) != content {
					err = fmt.Errorf("read back %d bytes", len(got))
				}
				return err
			})
			if err != nil {
				return err
			}
			if got, err := read(ctx, b, dir+"new/dir/object"); err != nil || got != content {
				return fmt.Errorf("got %d bytes: %w", len(got), err)
			}
			return nil
		}},
		{"put what is there", func(ctx context.Context, b *sftp.Backend, dir string) error {
			if err := storage.Put(ctx, b, dir+"there/object", text("other"), nil); !errors.Is(err, storage.ErrExist) {
				return fmt.Errorf("got %w, want ErrExist", err)
			}
			return nil
		}},
		{"overtaken", func(ctx context.Context, b *sftp.Backend, dir string) error {
			err := storage.Put(ctx, b, dir+"object", func(w io.Writer) error {
				return errors.Join(storage.PutAll(ctx, direct, dir+"object", []byte("first")), text("other")(w))
			}, nil)
			if !errors.Is(err, storage.ErrExist) {
				return fmt.Errorf("got %w, want ErrExist", err)
			}
			if got, err := read(ctx, b, dir+"object"); err != nil || got != "first" {
				return fmt.Errorf("got %q: %w", got, err)
			}
			return nil
		}},
		{"replace", func(ctx context.Context, b *sftp.Backend, dir string) error {
			if err := b.Replace(ctx, dir+"there/note", []byte("new")); err != nil {
				return err
			}
			if got, err := read(ctx, b, dir+"there/note"); err != nil || got != "new" {
				return fmt.Errorf("got %q: %w", got, err)
			}
			return nil
		}},
		{"remove and list", func(ctx context.Context, b *sftp.Backend, dir string) error {
			if err := b.Remove(ctx, dir+"there/note"); err != nil {
				return err
			}
			got, err := storage.ListAll(ctx, b, dir+"there/")
			if err == nil && (len(got) != 1 || got[0].Name != dir+"there/object") {
				err = fmt.Errorf("got %v", got)
			}
			return err
		}},
		{"absent", func(ctx context.Context, b *sftp.Backend, dir string) error {
			if _, err := b.Open(ctx, dir+"there/missing"); !errors.Is(err, storage.ErrNotExist) {
				return fmt.Errorf("got %w, want ErrNotExist", err)
			}
			return nil
		}},
	} {
		for _, lost := range []bool{false, true} {
			proxy := sftptest.NewProxy(t, s.Address())
			o := options(s)
			o.Port, o.KnownHosts, o.HostKey = proxy.Port, "", s.HostKey
			b := open(t, o)
			for n := 1; ; n++ {
				dir := fmt.Sprintf("%s/%v/%d/", strings.ReplaceAll(test.name, " ", "-"), lost, n)
				put(t, b, dir+"there/object", "object")
				put(t, b, dir+"there/note", "old")
				if lost {
					proxy.LoseAnswer(n)
				} else {
					proxy.CutBefore(n)
				}
				if err := test.do(t.Context(), b, dir); err != nil {
					t.Errorf("%s: broken at %d, answer lost: %v: %v", test.name, n, lost, err)
				}
				broke := proxy.Broke()
				proxy.CutBefore(0)
				if !broke || n > 200 {
					if n < 2 || n > 200 {
						t.Errorf("%s: it took %d packets", test.name, n)
					}
					break
				}
			}
		}
	}
	if left := temps(t, s.Root); len(left) > 0 {
		t.Errorf("temporary files are left: %q", left)
	}
}

// A writer that is killed leaves nothing that can be seen, and what it leaves is removed a day later.
func TestKilledWriter(t *testing.T) {
	s := sftptest.Start(t, sftptest.Options{})
	b := open(t, options(s))
	w, err := b.Create(t.Context(), "wal/x/object", storage.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := text(strings.Repeat("x", 5<<20))(w); err != nil {
		t.Fatal(err)
	}
	s.Stop() // before the writer can tidy up
	w.Discard()
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(s.Root, "wal", "x")
	left := temps(t, dir)
	if len(left) != 1 {
		t.Fatalf("got the temporary files %q, want one", left)
	}
	again := open(t, options(s))
	if entries, err := storage.ListAll(t.Context(), again, "wal/x/"); err != nil || len(entries) > 0 {
		t.Errorf("listed: %v, %v", entries, err)
	}
	put(t, again, "wal/x/object", "whole")
	want(t, again, "wal/x/object", "whole")
	if got := temps(t, dir); len(got) != 1 {
		t.Errorf("a file that may be written to is removed: %q", got)
	}
	old := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(left[0], old, old); err != nil {
		t.Fatal(err)
	}
	put(t, open(t, options(s)), "wal/x/other", "whole")
	if got := temps(t, dir); len(got) != 0 {
		t.Errorf("left for more than a day: %q", got)
	}
	// And when its directory is pruned.
	for _, age := range []time.Duration{0, 25 * time.Hour} {
		if err := os.WriteFile(left[0], nil, 0o666); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(left[0], then, then); err != nil {
			t.Fatal(err)
		}
		again.Remove(t.Context(), "wal/x/object", "wal/x/other")
		if err := again.Prune(t.Context(), "wal/x/"); err != nil {
			t.Error(err)
		}
		_, err := os.Stat(dir)
		if gone := os.IsNotExist(err); gone != (age > 0) {
			t.Errorf("age %v: the directory is gone: %v", age, gone)
		}
	}
}

// An account that may not remove archives, replaces its notes, and leaves one hidden file in a directory.
func TestMayNotRemove(t *testing.T) {
	s := sftptest.Start(t, sftptest.Options{Deny: "remove,rmdir"})
	b := open(t, options(s))
	for i := range 5 {
		put(t, b, fmt.Sprintf("wal/1/%d", i), strings.Repeat("x", i))
		if err := storage.Put(t.Context(), b, fmt.Sprintf("wal/1/%d", i), text("other"), nil); !errors.Is(err, storage.ErrExist) {
			t.Errorf("got %v, want ErrExist", err)
		}
		w, err := b.Create(t.Context(), "wal/1/given up", storage.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		w.Discard()
		for _, content := range []string{"first", "second"} {
			if err := b.Replace(t.Context(), "standbys/note", []byte(content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 5 {
		want(t, b, fmt.Sprintf("wal/1/%d", i), strings.Repeat("x", i))
	}
	want(t, b, "standbys/note", "second")
	if left := temps(t, s.Root); len(left) != 1 || filepath.Base(left[0]) != ".walkeep-left" {
		t.Errorf("got %q, want one file", left)
	}
	if err := b.Remove(t.Context(), "wal/1/0"); !errors.Is(err, storage.ErrDenied) {
		t.Errorf("remove: got %v, want ErrDenied", err)
	}
	want(t, b, "wal/1/0", "")
	lacks, err := b.Lacks(t.Context())
	if err != nil || len(lacks) > 0 {
		t.Errorf("got %q, %v", lacks, err)
	}
}

// Behind package retry, an outage of the server is only a delay.
func TestOutage(t *testing.T) {
	s := sftptest.Start(t, sftptest.Options{})
	b := open(t, options(s))
	put(t, b, "object", "x")
	s.Stop()
	if _, err := b.Open(t.Context(), "object"); !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrNotExist) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	go func() {
		time.Sleep(200 * time.Millisecond)
		if err := s.Restart(); err != nil {
			t.Error(err)
		}
	}()
	want(t, retry.New(b, 20*time.Millisecond, time.Minute), "object", "x")
}

// A server that is silent ends no later than the context, or the time limit.
func TestSilence(t *testing.T) {
	s := sftptest.Start(t, sftptest.Options{})
	proxy := sftptest.NewProxy(t, s.Address())
	o := options(s)
	o.Port, o.KnownHosts, o.HostKey, o.Timeout = proxy.Port, "", s.HostKey, 2*time.Second
	b := open(t, o)
	put(t, b, "object", "content")
	object, err := b.Open(t.Context(), "object")
	if err != nil {
		t.Fatal(err)
	}
	proxy.Hang(true)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, errOpen := b.Open(ctx, "object")
	_, errList := storage.ListAll(ctx, b, "")
	r, err := object.Reader(context.Background(), 0, 7)
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"open": errOpen, "list": errList, "put": storage.Put(ctx, b, "other", text("x"), nil),
		"replace": b.Replace(ctx, "note", nil), "remove": b.Remove(ctx, "object"),
	} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want that the context has ended", what, err)
		}
	}
	if _, err := io.ReadAll(r); err == nil || !strings.Contains(err.Error(), "has not answered in time") {
		t.Errorf("read: got %v, want that the server has not answered", err)
	}
	if _, err := b.Open(t.Context(), "object"); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("connect: got %v, want ErrUnavailable", err)
	}
	proxy.Hang(false)
	want(t, b, "object", "content")
}

// An object that was open when the connection broke is read on, unless it was replaced.
func TestReadOn(t *testing.T) {
	s := sftptest.Start(t, sftptest.Options{})
	b := open(t, options(s))
	put(t, b, "object", "content")
	object, err := b.Open(t.Context(), "object")
	if err != nil {
		t.Fatal(err)
	}
	defer object.Close()
	s.Stop()
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	var p [7]byte
	if n, err := object.ReadAt(p[:], 0); n != 7 || err != nil || string(p[:]) != "content" {
		t.Errorf("got %q, %v", p[:n], err)
	}
	if err := b.Replace(t.Context(), "object", []byte("longer content")); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if n, err := object.ReadAt(p[:], 0); err == nil || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("after it was replaced: got %q, %v", p[:n], err)
	}
}

func TestRoot(t *testing.T) {
	s := sftptest.Start(t, sftptest.Options{})
	o := options(s)
	o.Path = filepath.Join(s.Root, "missing")
	if _, err := sftp.Open(t.Context(), o); !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("missing: got %v, want ErrUnavailable", err)
	}
	file := filepath.Join(s.Root, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	o.Path = file
	if _, err := sftp.Open(t.Context(), o); !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("file: got %v, want ErrUnavailable", err)
	}
	// What has gone with its root, or lies behind a link that leads nowhere, is not "not there".
	o.Path = s.NewRoot(t)
	b := open(t, o)
	put(t, b, "wal/object", "x")
	if err := os.Rename(filepath.Join(o.Path, "wal"), o.Path+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(o.Path, "wal")); err != nil {
		t.Fatal(err)
	}
	wantLost := func(what string) {
		t.Helper()
		_, errOpen := b.Open(t.Context(), "wal/object")
		_, errList := storage.ListAll(t.Context(), b, "wal/")
		_, errDir := b.HasDir(t.Context(), "wal")
		for method, err := range map[string]error{"open": errOpen, "list": errList, "look for": errDir, "make": b.MakeDir(t.Context(), "wal"),
			"remove": b.Remove(t.Context(), "wal/object"), "put": storage.PutAll(t.Context(), b, "wal/other", nil), "sync": b.Sync(t.Context(), "wal/object"),
			"replace": b.Replace(t.Context(), "wal/note", nil)} {
			if !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrNotExist) {
				t.Errorf("%s: %s: got %v, want ErrUnavailable", what, method, err)
			}
		}
	}
	wantLost("a link leads nowhere")
	if err := os.Rename(o.Path, o.Path+".off"); err != nil {
		t.Fatal(err)
	}
	wantLost("the root has gone")
	// A file is where a directory should be.
	o.Path = s.Root
	b = open(t, o)
	if err := storage.PutAll(t.Context(), b, "file/below", nil); err == nil || errors.Is(err, storage.ErrNotExist) {
		t.Errorf("put below a file: got %v", err)
	}
	if _, err := b.Open(t.Context(), "file/below"); err == nil || errors.Is(err, storage.ErrNotExist) {
		t.Errorf("open below a file: got %v, want an error that is not ErrNotExist", err)
	}
}

func TestModes(t *testing.T) {
	s := sftptest.Start(t, sftptest.Options{})
	b := open(t, options(s))
	put(t, b, "wal/1/object", "x")
	if err := b.Replace(t.Context(), "notes/note", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"wal": 0o700, "wal/1": 0o700, "wal/1/object": 0o600, "notes": 0o700, "notes/note": 0o600} {
		if info, err := os.Stat(filepath.Join(s.Root, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: got %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
}
