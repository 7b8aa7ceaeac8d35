package pgtest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Cluster is a data directory and the server that may run on it. Its methods may be called concurrently, except for those
// that start or stop the server.
type Cluster struct {
	// Dir is the data directory's absolute path.
	Dir string
	// Major is the PostgreSQL version.
	Major int
	// Env is added to the environment of a server that Start starts; not on Windows.
	Env []string

	bindir string
	runDir string
	port   int  // of TCP, and in the name of the socket
	tcp    bool // whether to listen on 127.0.0.1

	mu       sync.Mutex
	proc     *process // the server, if this Cluster started it
	logStart int64    // size of the log before the latest start
}

// The port of every server that listens on a Unix socket only.
const socketPort = 5432

func newCluster(dir string, major int) (*Cluster, error) {
	bindir, err := Bindir(major)
	if err != nil {
		return nil, err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Dir: dir, Major: major, bindir: bindir, port: socketPort}
	c.runDir = RunDirOf(dir)
	if runtime.GOOS == "windows" {
		return c, c.ListenTCP()
	}
	return c, nil
}

// RunDirOf returns the directory of the Unix socket of the server with this data directory. It depends only on the
// data directory, so that it is the same after a restart and for every process. It is short, because a socket's path
// has at most 103 bytes on some systems.
func RunDirOf(dir string) string {
	return filepath.Join(tempBase(), fmt.Sprintf("wkrun-%x", sha256.Sum256([]byte(dir)))[:16])
}

// Bindir returns the directory of the server's programs.
func (c *Cluster) Bindir() string { return c.bindir }

// RunDir returns the directory of the server's Unix socket, a short path outside the data directory. Close removes
// it.
func (c *Cluster) RunDir() string { return c.runDir }

// Path returns the path of a file of the data directory, given with slashes, such as "pg_wal/archive_status".
func (c *Cluster) Path(name string) string { return filepath.Join(c.Dir, filepath.FromSlash(name)) }

// ListenTCP makes the server listen on a free port of 127.0.0.1 from its next start on.
func (c *Cluster) ListenTCP() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("find a free port: %w", err)
	}
	c.port, c.tcp = l.Addr().(*net.TCPAddr).Port, true
	return l.Close()
}

// addressSettings returns the settings for where the server listens.
func (c *Cluster) addressSettings() map[string]string {
	s := map[string]string{"port": strconv.Itoa(c.port), "listen_addresses": ""}
	if c.tcp {
		s["listen_addresses"] = "127.0.0.1"
	}
	if runtime.GOOS != "windows" {
		s["unix_socket_directories"] = c.runDir
	}
	return s
}

func (c *Cluster) makeRunDir() error {
	if err := os.MkdirAll(c.runDir, 0o755); err != nil {
		return err
	}
	return giveToServer(c.runDir)
}

// ConnString returns the connection string, as superuser postgres to the database postgres: keywords and values, for
// libpq, pgx and primary_conninfo. For a server that another program started elsewhere it has that server's address.
func (c *Cluster) ConnString() string {
	host, port := c.runDir, c.port
	if runtime.GOOS == "windows" {
		host = "127.0.0.1"
	} else if f := c.readPIDFile(); f.socketDir != "" && f.port != 0 && c.Running() {
		host, port = f.socketDir, f.port
	}
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres sslmode=disable", host, port)
}

// Configure appends settings to postgresql.conf; the last value of a name is used. The server must be reloaded or
// restarted to read them.
func (c *Cluster) Configure(settings map[string]string) error {
	if len(settings) == 0 {
		return nil
	}
	f, err := os.OpenFile(c.Path("postgresql.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	_, err = f.WriteString("\n" + settingLines(settings))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	return nil
}

// settingLines writes settings as postgresql.conf and recovery.conf require them, in order of name.
func settingLines(settings map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		value := strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(settings[name])
		fmt.Fprintf(&b, "%s = '%s'\n", name, value)
	}
	return b.String()
}

// LogPath returns the file for the server's stderr, to which each run appends.
func (c *Cluster) LogPath() string { return c.Dir + ".log" }

// Log returns everything that servers on this data directory have logged; "" if there is no log.
func (c *Cluster) Log() string {
	text, err := os.ReadFile(c.LogPath())
	if err != nil {
		return ""
	}
	return string(text)
}

// LogTail returns the last lines of the log, up to n of them, since the latest start by this Cluster.
func (c *Cluster) LogTail(n int) string {
	f, err := os.Open(c.LogPath())
	if err != nil {
		return ""
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	c.mu.Lock()
	from := max(c.logStart, end-64<<10)
	c.mu.Unlock()
	text, err := io.ReadAll(io.NewSectionReader(f, from, max(end-from, 0)))
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimRight(text, "\r\n"), []byte("\n"))
	return string(bytes.Join(lines[max(len(lines)-n, 0):], []byte("\n")))
}

// withLog adds the log's tail to an error.
func (c *Cluster) withLog(err error) error {
	return fmt.Errorf("%w\n--- %s\n%s\n---", err, c.LogPath(), c.LogTail(20))
}

// pidFile is the content of postmaster.pid; see miscadmin.h for its lines.
type pidFile struct {
	pid       int
	port      int
	socketDir string
	shmID     int    // System V shared memory, 0 if none
	status    string // "starting", "stopping", "ready", or "standby" if no connections are accepted
}

// readPIDFile returns the zero value if the file is missing or not yet complete enough.
func (c *Cluster) readPIDFile() (f pidFile) {
	text, err := os.ReadFile(c.Path("postmaster.pid"))
	if err != nil {
		return f
	}
	lines := strings.Split(strings.ReplaceAll(string(text), "\r", ""), "\n")
	line := func(n int) string {
		if n > len(lines) {
			return ""
		}
		return strings.TrimSpace(lines[n-1])
	}
	f.pid, _ = strconv.Atoi(line(1)) // malformed lines stay 0
	f.port, _ = strconv.Atoi(line(4))
	f.socketDir = line(5)
	if key := strings.Fields(line(7)); len(key) == 2 {
		f.shmID, _ = strconv.Atoi(key[1])
	}
	f.status = line(8)
	return f
}
