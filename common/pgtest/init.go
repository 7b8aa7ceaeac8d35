package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Options describe a new cluster. The zero value of each field is a sensible default, except for Init's Dir.
type Options struct {
	// Major is the PostgreSQL version; 0 stands for the newest of Majors.
	Major int
	// Dir is the data directory, missing or empty, where the servers' user can reach it. New chooses one when it is "".
	Dir string
	// SegmentSizeMB is the size of a WAL segment in MiB, a power of two from 1 to 1024; 0 is the default of 16.
	// PostgreSQL 10 has no other.
	SegmentSizeMB int
	// Checksums switches data checksums on.
	Checksums bool
	// Fsync leaves fsync on. Without it a cluster survives every kill, but no power cut.
	Fsync bool
	// TCP makes the server listen on a free port of 127.0.0.1 as well as on its Unix socket.
	TCP bool
	// Settings are appended to postgresql.conf after this package's own, as by Configure.
	Settings map[string]string
}

// SmallestSegmentMB returns the smallest size of a WAL segment that a version has, in MB.
func SmallestSegmentMB(major int) int {
	if major == 10 {
		return 16
	}
	return 1
}

// ArchiveSettings are those of a cluster that archives by a command. Nothing but the test's own work is in its WAL, and it
// keeps few old segments.
func ArchiveSettings(command string, segmentMB int) map[string]string {
	return map[string]string{
		"archive_mode":       "on",
		"archive_command":    command,
		"autovacuum":         "off",
		"checkpoint_timeout": "1h",
		"min_wal_size":       fmt.Sprintf("%dMB", 2*segmentMB),
		"hot_standby":        "on",
	}
}

// Init makes a new cluster, with superuser postgres, encoding UTF8, locale C and trust authentication, and does not
// start it. Each has a system identifier of its own. The data directory must be missing or empty.
func Init(ctx context.Context, o Options) (*Cluster, error) {
	if o.Major == 0 {
		majors := Majors()
		o.Major = majors[len(majors)-1]
	}
	if o.Dir == "" {
		return nil, errors.New("init cluster: no data directory given")
	}
	if o.Major == 10 && o.SegmentSizeMB != 0 && o.SegmentSizeMB != 16 {
		return nil, fmt.Errorf("init cluster: PostgreSQL 10 has no segment size of %d MB", o.SegmentSizeMB)
	}
	c, err := newCluster(o.Dir, o.Major)
	if err != nil {
		return nil, err
	}
	if err := c.init(ctx, o); err != nil {
		return nil, fmt.Errorf("init cluster %s: %w", c.Dir, err)
	}
	return c, nil
}

func (c *Cluster) init(ctx context.Context, o Options) error {
	entries, err := os.ReadDir(c.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		return errors.New("directory is not empty")
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return err
	}
	if err := canReach(filepath.Dir(c.Dir)); err != nil {
		return err
	}
	from, err := template(ctx, c.bindir, o)
	if err != nil {
		return err
	}
	if err := copyTree(from, c.Dir, copyOptions{}); err != nil {
		return fmt.Errorf("copy template: %w", err)
	}
	if err := setSystemID(c.Dir, newSystemID()); err != nil {
		return err
	}
	if err := c.makeRunDir(); err != nil {
		return err
	}
	if o.TCP {
		if err := c.ListenTCP(); err != nil {
			return err
		}
	}
	if err := c.Configure(c.defaults(o)); err != nil {
		return err
	}
	return c.Configure(o.Settings)
}

// defaults are the settings of every new cluster. The address is on our command line as well; it is here for a server that
// another program starts.
func (c *Cluster) defaults(o Options) map[string]string {
	s := map[string]string{
		"wal_level":         "replica",
		"shared_buffers":    "16MB",
		"logging_collector": "off",
		"log_destination":   "stderr",
		"log_line_prefix":   "%m [%p] ",
		"log_timezone":      "UTC",
		"timezone":          "UTC",
		// Processes that no test needs.
		"max_logical_replication_workers": "0",
	}
	if o.Major >= 18 {
		s["io_method"] = "sync"
	}
	for name, value := range c.addressSettings() {
		s[name] = value
	}
	if runtime.GOOS != "windows" {
		s["dynamic_shared_memory_type"] = "mmap"
	}
	if !o.Fsync {
		s["fsync"] = "off"
	}
	return s
}

// Open returns a cluster for an existing data directory, such as a restored one, whose major version is read from
// PG_VERSION. The server may be running already, started by another program. If necessary, the directory is given to
// the servers' user when the server starts.
func Open(dir string) (*Cluster, error) {
	text, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if err != nil {
		return nil, fmt.Errorf("open cluster: %w", err)
	}
	var major int
	if _, err := fmt.Sscan(string(text), &major); err != nil {
		return nil, fmt.Errorf("open cluster %s: PG_VERSION is %q", dir, text)
	}
	return newCluster(dir, major)
}
