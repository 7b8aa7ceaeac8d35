//go:build unix

package sftp_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"walkeep/common/cli"
	"walkeep/common/storage"
	"walkeep/common/storage/sftp"
	"walkeep/common/storage/sftp/sftptest"
)

func TestParseURL(t *testing.T) {
	for url, want := range map[string]sftp.Options{
		"sftp://wal@host/srv/wal":         {User: "wal", Host: "host", Path: "/srv/wal"},
		"sftp://wal@host:2222/srv/a%20b/": {User: "wal", Host: "host", Port: 2222, Path: "/srv/a b/"},
		"sftp://[::1]:22/x":               {Host: "::1", Port: 22, Path: "/x"},
		"sftp://host/~/wal":               {Host: "host", Path: "wal"},
		"sftp://host/~":                   {Host: "host"},
		"sftp://host":                     {Host: "host"},
	} {
		if got, err := sftp.ParseURL(url); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", url, got, err, want)
		}
	}
	for _, url := range []string{"", "s3://bucket", "sftp:///x", "sftp://user:secret@host/x", "sftp://user:secret@ho st/x", "sftp://host:0/x", "sftp://host:99999/x", "sftp://host/x?y", "sftp://host/x#y"} {
		if got, err := sftp.ParseURL(url); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %+v, %v, want an error", url, got, err)
		}
	}
}

// No host is accepted that is not known, and the message says which key was offered.
func TestHostKeys(t *testing.T) {
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		s := sftptest.Start(t, sftptest.Options{KeyType: kind})
		open(t, options(s))
		byFingerprint := options(s)
		byFingerprint.KnownHosts, byFingerprint.HostKey = "", s.HostKey
		open(t, byFingerprint)

		dir := t.TempDir()
		unknown := filepath.Join(dir, "unknown")
		if err := os.WriteFile(unknown, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := sftptest.KeyPair(filepath.Join(dir, "key"), kind, ""); err != nil {
			t.Fatal(err)
		}
		public, err := os.ReadFile(filepath.Join(dir, "key.pub"))
		if err != nil {
			t.Fatal(err)
		}
		changed, revoked := filepath.Join(dir, "changed"), filepath.Join(dir, "revoked")
		known, err := os.ReadFile(s.KnownHosts)
		if err != nil {
			t.Fatal(err)
		}
		host, rest, _ := strings.Cut(string(known), " ")
		for file, content := range map[string]string{changed: host + " " + string(public), revoked: "@revoked * " + rest} {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for name, o := range map[string]sftp.Options{
			"is not known":                 {KnownHosts: unknown},
			"does not have the host":       {KnownHosts: filepath.Join(dir, "no such file")},
			"is not the one that is known": {KnownHosts: changed},
			"revokes":                      {KnownHosts: revoked},
			"that host-key names":          {HostKey: "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
		} {
			full := options(s)
			full.KnownHosts, full.HostKey = o.KnownHosts, o.HostKey
			_, err := sftp.Open(t.Context(), full)
			if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), s.HostKey) {
				t.Errorf("%s: %s: got %v, want the fingerprint %s", kind, name, err, s.HostKey)
			}
			if !errors.Is(err, storage.ErrDenied) || cli.Hint(err) == "" && name != "revokes" {
				t.Errorf("%s: %s: got %v with the hint %q, want a final error", kind, name, err, cli.Hint(err))
			}
		}
	}
}

func TestKeys(t *testing.T) {
	s := sftptest.Start(t, sftptest.Options{})
	dir := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	locked, stranger := filepath.Join(dir, "locked"), filepath.Join(dir, "stranger")
	if err := errors.Join(sftptest.KeyPair(locked, "ed25519", "the secret"), sftptest.KeyPair(stranger, "ed25519", ""), s.Authorize(locked+".pub")); err != nil {
		t.Fatal(err)
	}
	o := options(s)
	o.KeyFile, o.PassphraseFile = locked, write("passphrase", "the secret\n")
	open(t, o)
	for _, test := range []struct{ key, passphrase, want string }{
		{locked, "", "has a passphrase"},
		{locked, write("wrong", "a guess"), "cannot be opened with the passphrase"},
		{locked, filepath.Join(dir, "none"), "read the passphrase"},
		{filepath.Join(dir, "none"), "", "read the private key"},
		{write("no key", "hello"), "", "holds no private key"},
		{stranger, "", "accepts no key"},
	} {
		o.KeyFile, o.PassphraseFile = test.key, test.passphrase
		_, err := sftp.Open(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), test.want) || regexp.MustCompile("the secret|a guess").MatchString(err.Error()) {
			t.Errorf("key %s: got %v, want %q", filepath.Base(test.key), err, test.want)
		}
		if errors.Is(err, storage.ErrNotExist) {
			t.Errorf("key %s: got %v, which is ErrNotExist", filepath.Base(test.key), err)
		}
	}
}

func TestAgent(t *testing.T) {
	s := sftptest.Start(t, sftptest.Options{})
	o := options(s)
	o.KeyFile = ""
	t.Setenv("SSH_AUTH_SOCK", "")
	if _, err := sftp.Open(t.Context(), o); err == nil || cli.Hint(err) == "" {
		t.Errorf("no agent: got %v with the hint %q", err, cli.Hint(err))
	}
	socket := filepath.Join(t.TempDir(), "agent")
	t.Setenv("SSH_AUTH_SOCK", socket)
	if _, err := sftp.Open(t.Context(), o); err == nil || errors.Is(err, storage.ErrNotExist) || cli.Hint(err) == "" {
		t.Errorf("no agent at the socket: got %v with the hint %q", err, cli.Hint(err))
	}
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { agent.Process.Kill(); agent.Wait() })
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			break
		}
	}
	if _, err := sftp.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no keys") {
		t.Errorf("an empty agent: got %v", err)
	}
	private, err := os.ReadFile(s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(own, private, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ssh-add", "-q", own).CombinedOutput(); err != nil {
		t.Fatalf("ssh-add: %v %s", err, out)
	}
	put(t, open(t, o), "object", "x")
}

// A host that takes the connection and says nothing ends the call by its context or its time limit.
func TestSilentHost(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := sftptest.KeyPair(key, "ed25519", ""); err != nil {
		t.Skip(err)
	}
	o := sftp.Options{User: "x", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, Path: "/", KeyFile: key,
		HostKey: "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Timeout: 100 * time.Millisecond}
	if _, err := sftp.Open(t.Context(), o); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	o.Timeout = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := sftp.Open(ctx, o); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that the context has ended", err)
	}
}
