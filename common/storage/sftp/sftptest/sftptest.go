//go:build unix

package sftptest

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"walkeep/common/cmdtest"
)

// sshd must be called by its full path.
const sshd = "/usr/sbin/sshd"

// Options of a server.
type Options struct {
	Deny    string // requests that the account may not make, as internal-sftp's option -P takes them
	KeyType string // of the host's key; empty: ed25519
	Trace   bool   // Traced tells what was done with the disk; root alone can trace sshd
}

// A Server is an sshd whose only account may use SFTP. It ends with the test.
type Server struct {
	User, Host string
	Port       int
	Root       string // directory of the account for an archive, empty
	KeyFile    string // private key of the account
	KnownHosts string // file with the host's key
	HostKey    string // fingerprint of the host's key

	dir, config, log string
	trace            string // file; empty: nothing is traced
	uid, gid         uint32 // of the account

	mu       sync.Mutex
	listener net.Listener
	children map[*exec.Cmd]bool
	done     sync.WaitGroup
}

// Start starts a server. Where there is no sshd the test is skipped, which scripts/test counts as a failure.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if _, err := os.Stat(sshd); err != nil {
		t.Skip("there is no OpenSSH server: run scripts/install-test-tools")
	}
	dir := cmdtest.FastDir(t)
	s := &Server{Host: "127.0.0.1", dir: dir, Root: filepath.Join(dir, "archive"), KeyFile: filepath.Join(dir, "key"),
		KnownHosts: filepath.Join(dir, "known_hosts"), config: filepath.Join(dir, "sshd_config"), log: filepath.Join(dir, "log"),
		children: make(map[*exec.Cmd]bool)}
	if o.Trace {
		s.trace = filepath.Join(dir, "trace")
	}
	if err := s.prepare(o); err != nil {
		t.Fatal(err)
	}
	s.Own(t, dir)
	if err := s.listen("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			log, _ := os.ReadFile(s.log)
			t.Logf("the server's log ends with:\n%s", log[max(0, len(log)-4000):])
		}
	})
	return s
}

func (s *Server) prepare(o Options) error {
	u, err := user.Current()
	if os.Geteuid() == 0 {
		u, err = user.Lookup("daemon") // where systemd knows the users, sshd takes nobody for locked
	}
	if err != nil {
		return err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return err
	}
	s.User, s.uid, s.gid = u.Username, uint32(uid), uint32(gid)
	if o.KeyType == "" {
		o.KeyType = "ed25519"
	}
	hostKey := filepath.Join(s.dir, "host_key")
	if err := errors.Join(KeyPair(hostKey, o.KeyType, ""), KeyPair(s.KeyFile, "ed25519", ""), os.Mkdir(s.Root, 0o755)); err != nil {
		return err
	}
	public, err := os.ReadFile(s.KeyFile + ".pub")
	if err != nil {
		return err
	}
	authorized := filepath.Join(s.dir, "authorized_keys")
	rights := "restrict"
	if o.Deny != "" {
		rights += `,command="internal-sftp -u 077 -P ` + o.Deny + `"` // as docs/repositories.md has it
	}
	if err := os.WriteFile(authorized, fmt.Appendf(nil, "%s %s", rights, public), 0o644); err != nil {
		return err
	}
	out, err := exec.Command("ssh-keygen", "-lf", hostKey+".pub").Output()
	if err != nil {
		return err
	}
	s.HostKey = strings.Fields(string(out))[1]
	return os.WriteFile(s.config, fmt.Appendf(nil, `HostKey %s
AuthorizedKeysFile %s
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PidFile none
AllowTcpForwarding no
Subsystem sftp internal-sftp
`, hostKey, authorized), 0o644)
}

// Own gives a directory, with what is in it, to the account.
func (s *Server) Own(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || os.Geteuid() != 0 {
			return err
		}
		return os.Lchown(path, int(s.uid), int(s.gid))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// NewRoot makes another directory of the account.
func (s *Server) NewRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(s.dir, "archive-")
	if err != nil {
		t.Fatal(err)
	}
	s.Own(t, dir)
	return dir
}

// KeyPair makes a private key at a path, and the public key beside it, whose name ends with .pub.
func KeyPair(path, kind, passphrase string) error {
	if out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", path).CombinedOutput(); err != nil {
		return fmt.Errorf("ssh-keygen: %w: %s", err, out)
	}
	return nil
}

// Authorize lets another public key log in.
func (s *Server) Authorize(publicKeyFile string) error {
	key, err := os.ReadFile(publicKeyFile)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(s.dir, "authorized_keys"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(key)
	return errors.Join(err, f.Close())
}

// Address is the host and the port.
func (s *Server) Address() string { return net.JoinHostPort(s.Host, fmt.Sprint(s.Port)) }

// listen runs an sshd for each connection, so that no port is lost between two servers.
func (s *Server) listen(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s.Port = l.Addr().(*net.TCPAddr).Port
	known, err := os.ReadFile(filepath.Join(s.dir, "host_key.pub"))
	if err == nil {
		err = os.WriteFile(s.KnownHosts, fmt.Appendf(nil, "[%s]:%d %s", s.Host, s.Port, known), 0o644)
	}
	if err != nil {
		l.Close()
		return err
	}
	s.mu.Lock()
	s.listener = l
	s.mu.Unlock()
	s.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.serve(c.(*net.TCPConn))
		}
	})
	return nil
}

func (s *Server) serve(c *net.TCPConn) {
	defer c.Close()
	f, err := c.File()
	if err != nil {
		return
	}
	defer f.Close()
	log, err := os.OpenFile(s.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return
	}
	defer log.Close()
	call := []string{sshd, "-i", "-e", "-f", s.config}
	if s.trace != "" {
		call = append([]string{"strace", "-u", s.User, "-f", "-qq", "--signal=none", "-o", s.trace, "-e", "trace=?open,openat,fsync,?link,linkat,?rename,renameat,renameat2"}, call...)
	}
	cmd := exec.Command(call[0], call[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = f, f, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 && s.trace == "" {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: s.uid, Gid: s.gid}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil || cmd.Start() != nil {
		return
	}
	s.children[cmd] = true
	s.done.Go(func() {
		cmd.Wait()
		s.mu.Lock()
		delete(s.children, cmd)
		s.mu.Unlock()
	})
}

// traceLine is a call that has succeeded: its process, its name, the path of openat, a descriptor, and the result.
var traceLine = regexp.MustCompile(`(?m)^(\d+) +(openat|fsync|link|rename)[a-z0-9]*\((?:AT_FDCWD, "([^"]*)"|(\d+)|).*\) += (\d+)`)

// Traced gives what the server of the last connection has done so far with the files below Root: "link", "rename", or the
// relative path of what it has brought to disk, which is TEMP for a temporary file.
func (s *Server) Traced(t testing.TB) (done []string) {
	t.Helper()
	content, err := os.ReadFile(s.trace)
	if err != nil {
		t.Fatal(err)
	}
	opened := make(map[string]string) // paths by process and descriptor
	for _, m := range traceLine.FindAllStringSubmatch(string(content), -1) {
		switch m[2] {
		case "openat":
			opened[m[1]+" "+m[5]] = m[3]
			continue
		case "link", "rename":
			done = append(done, m[2])
			continue
		}
		path, err := filepath.Rel(s.Root, opened[m[1]+" "+m[4]])
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(filepath.Base(path), ".") && path != "." {
			path = "TEMP"
		}
		done = append(done, path)
	}
	return done
}

// Stop ends the server and all its connections. Restart starts it again at the same port.
func (s *Server) Stop() {
	s.mu.Lock()
	if s.listener != nil {
		s.listener.Close()
		s.listener = nil
	}
	for cmd := range s.children {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	s.mu.Unlock()
	s.done.Wait()
}

// Restart starts a server that was stopped.
func (s *Server) Restart() error { return s.listen(s.Address()) }
