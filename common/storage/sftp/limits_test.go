//go:build unix

package sftp_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	pkgsftp "github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"walkeep/common/cli"
	"walkeep/common/storage"
	"walkeep/common/storage/sftp"
	"walkeep/common/storage/sftp/sftptest"
)

// otherServer runs the SFTP server of the client's library: a plain rename replaces there, and fsync is not known. extensions are
// those that it offers.
func otherServer(t *testing.T, extensions ...string) sftp.Options {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := sftptest.KeyPair(key, "ed25519", ""); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(content)
	if err != nil {
		t.Fatal(err)
	}
	if err := pkgsftp.SetSFTPExtensions(extensions...); err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c, config)
		}
	}()
	root := filepath.Join(dir, "archive")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	return sftp.Options{User: "x", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, Path: root, KeyFile: key, HostKey: ssh.FingerprintSHA256(signer.PublicKey())}
}

func serve(c net.Conn, config *ssh.ServerConfig) {
	defer c.Close()
	_, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for n := range channels {
		channel, requests, err := n.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range requests {
				r.Reply(r.Type == "subsystem", nil)
			}
		}()
		if s, err := pkgsftp.NewServer(channel); err == nil {
			go s.Serve()
		}
	}
}

const (
	hardlink    = "hardlink@openssh.com"
	posixRename = "posix-rename@openssh.com"
)

// A server that cannot make files durable is read, and not written to unless that is asked for.
func TestServerWithoutFsync(t *testing.T) {
	o := otherServer(t, hardlink, posixRename)
	if err := os.WriteFile(filepath.Join(o.Path, "object"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, o)
	want(t, b, "object", "x")
	for what, err := range map[string]error{"put": storage.PutAll(t.Context(), b, "new", nil), "replace": b.Replace(t.Context(), "new", nil), "make": b.MakeDir(t.Context(), "dir"), "sync": b.Sync(t.Context(), "object")} {
		if err == nil || !strings.Contains(err.Error(), "cannot make files durable") {
			t.Errorf("%s: got %v, want that the server cannot make files durable", what, err)
		}
		if !errors.Is(err, storage.ErrDenied) || !strings.Contains(cli.Hint(err), "no-fsync") {
			t.Errorf("%s: got %v with the hint %q", what, err, cli.Hint(err))
		}
	}
	o.NoFsync = true
	b = open(t, o)
	put(t, b, "wal/1/object", "content")
	want(t, b, "wal/1/object", "content")
	for _, err := range []error{storage.PutAll(t.Context(), b, "wal/1/object", nil), b.Sync(t.Context(), "wal/1/missing")} {
		if !errors.Is(err, storage.ErrExist) && !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	}
	if err := errors.Join(b.Replace(t.Context(), "note", []byte("first")), b.Replace(t.Context(), "note", []byte("second")), b.Sync(t.Context(), "note"), b.Remove(t.Context(), "object")); err != nil {
		t.Error(err)
	}
	want(t, b, "note", "second")
	if lacks, err := b.Lacks(t.Context()); err != nil || len(lacks) != 1 || !strings.Contains(lacks[0], "fsync") {
		t.Errorf("got %q, %v", lacks, err)
	}
}

// Without hard links an object could replace another one: nothing is written.
func TestServerWithoutHardLinks(t *testing.T) {
	o := otherServer(t)
	o.NoFsync = true
	b := open(t, o)
	for what, err := range map[string]error{hardlink: storage.PutAll(t.Context(), b, "new", nil), posixRename: b.Replace(t.Context(), "new", nil)} {
		if err == nil || !strings.Contains(err.Error(), "lacks "+what) || !errors.Is(err, storage.ErrDenied) {
			t.Errorf("got %v, want that the server lacks %s", err, what)
		}
	}
	if files, err := os.ReadDir(o.Path); err != nil || len(files) > 0 {
		t.Errorf("got %v, %v, want nothing", files, err)
	}
	if lacks, err := b.Lacks(t.Context()); err != nil || len(lacks) != 3 {
		t.Errorf("got %q, %v", lacks, err)
	}
}

// A file that the server refuses to link is an error that says so.
func TestLinkDenied(t *testing.T) {
	s := sftptest.Start(t, sftptest.Options{Deny: "hardlink"})
	b := open(t, options(s))
	if err := storage.PutAll(t.Context(), b, "object", nil); !errors.Is(err, storage.ErrDenied) || !strings.Contains(err.Error(), "hard") {
		t.Errorf("got %v, want that hard links are denied", err)
	}
	if left := temps(t, s.Root); len(left) > 0 {
		t.Errorf("temporary files are left: %q", left)
	}
}

// The server is asked to bring to disk the content, then the directory of the name and all above it.
func TestFsyncs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can trace sshd")
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip(err)
	}
	s := sftptest.Start(t, sftptest.Options{Trace: true})
	b := open(t, options(s))
	put(t, b, "first", "x") // which also finds out whether the server can make a directory durable
	for _, test := range []struct {
		do   func() error
		want string
	}{
		{func() error { return storage.PutAll(t.Context(), b, "a/b/object", []byte("x")) }, "TEMP link . a a/b"},
		{func() error { return b.Replace(t.Context(), "a/b/note", []byte("x")) }, "TEMP rename . a a/b"},
		{func() error { return b.Sync(t.Context(), "a/b/object") }, ". a a/b a/b/object"},
		{func() error { return b.Remove(t.Context(), "a/b/object") }, "a/b"},
		{func() error { return b.MakeDir(t.Context(), "c/d") }, ". c c/d"},
	} {
		before := len(s.Traced(t))
		if err := test.do(); err != nil {
			t.Fatal(err)
		}
		got := s.Traced(t)[before:]
		named := slices.IndexFunc(got, func(step string) bool { return step == "link" || step == "rename" }) + 1
		slices.Sort(got[named:]) // directories are asked for at the same time
		if got := strings.Join(got, " "); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}
