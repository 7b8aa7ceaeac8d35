package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Backup describes an OnlineBackup. LSNs are in PostgreSQL's notation; the segments are the first and the last that
// recovery needs to become consistent.
type Backup struct {
	Dir           string
	StartLSN      string
	StopLSN       string
	StartSegment  string
	StopSegment   string // "" when taken on a standby
	Label         string // contents of backup_label
	TablespaceMap string // contents of tablespace_map, "" without tablespaces
}

var startLocation = regexp.MustCompile(`(?m)^START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+) \(file ([0-9A-F]{24})\)$`)

// ColdBackup copies the data directory of a stopped server to dst, which must be missing or empty, with its WAL and the
// contents of tablespaces (to dst.tablespaces). No later start of either touches the other.
func (c *Cluster) ColdBackup(dst string) error {
	if c.Running() {
		return fmt.Errorf("cold backup of %s: the server runs", c.Dir)
	}
	if err := c.copyDataDir(dst, false); err != nil {
		return fmt.Errorf("cold backup of %s: %w", c.Dir, err)
	}
	return nil
}

// OnlineBackup copies the data directory of a running server, a standby included, to dst, which must be missing or empty,
// between pg_backup_start and pg_backup_stop (pg_start_backup and pg_stop_backup up to 14, in non-exclusive mode). The copy
// has backup_label but no WAL: it needs Recover or Standby with a source of WAL. Tablespaces are copied to dst.tablespaces.
//
// It does not wait for the archiver: see Backup.StopSegment and WaitArchived.
func (c *Cluster) OnlineBackup(ctx context.Context, dst string) (*Backup, error) {
	b := &Backup{Dir: dst}
	err := c.withConn(ctx, func(conn *pgx.Conn) error { return c.onlineBackup(ctx, conn, b) })
	if err != nil {
		return nil, fmt.Errorf("online backup of %s: %w", c.Dir, err)
	}
	return b, nil
}

func (c *Cluster) onlineBackup(ctx context.Context, conn *pgx.Conn, b *Backup) (err error) {
	start, stop := "pg_backup_start('pgtest', true)", "pg_backup_stop(false)"
	if c.Major < 15 {
		start, stop = "pg_start_backup('pgtest', true, false)", "pg_stop_backup(false, false)"
	}
	if b.StartLSN, err = queryString(ctx, conn, "SELECT "+start); err != nil {
		return err
	}
	if err := c.copyDataDir(b.Dir, true); err != nil {
		return err
	}
	row, err := queryRow(ctx, conn, "SELECT lsn, labelfile, spcmapfile, pg_is_in_recovery() FROM "+stop)
	if err != nil {
		return err
	}
	b.StopLSN, b.Label, b.TablespaceMap = row[0], row[1], row[2]
	m := startLocation.FindStringSubmatch(b.Label)
	if m == nil {
		return fmt.Errorf("no start location in backup_label %q", b.Label)
	}
	b.StartSegment = m[2]
	if row[3] == "f" {
		if b.StopSegment, err = endsIn(ctx, conn, b.StopLSN); err != nil {
			return err
		}
	}
	copied := &Cluster{Dir: b.Dir}
	if err := copied.writeFile("backup_label", []byte(b.Label)); err != nil {
		return err
	}
	if b.TablespaceMap == "" {
		return nil
	}
	// Recovery makes the links of pg_tblspc again from this file.
	var moved strings.Builder
	for line := range strings.Lines(b.TablespaceMap) {
		oid, _, _ := strings.Cut(line, " ")
		fmt.Fprintf(&moved, "%s %s\n", oid, filepath.Join(tablespaceDir(b.Dir), oid))
	}
	return copied.writeFile("tablespace_map", []byte(moved.String()))
}

func tablespaceDir(dst string) string { return dst + ".tablespaces" }

// copyDataDir copies the data directory. live is set for a running server: then the files that pg_basebackup skips
// are left out.
func (c *Cluster) copyDataDir(dst string, live bool) error {
	if entries, err := os.ReadDir(dst); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	} else if len(entries) > 0 {
		return fmt.Errorf("%s is not empty", dst)
	}
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return err
	}
	o := copyOptions{live: live, skip: func(name string, e fs.DirEntry) bool {
		return skipInBackup(name, live) || e.Type() == fs.ModeSymlink && path.Dir(name) == "pg_tblspc"
	}}
	if err := copyTree(c.Dir, dst, o); err != nil {
		return err
	}
	if err := c.copyWALDir(dst, live); err != nil {
		return err
	}
	if live {
		if err := c.copyControl(dst); err != nil {
			return err
		}
	}
	return c.copyTablespaces(dst, o)
}

// skipInBackup reports whether a copy leaves out a file: either any copy, or only that of a running server, as in
// basebackup.c.
func skipInBackup(name string, live bool) bool {
	switch name {
	case "postmaster.pid", "postmaster.opts", "pg_wal":
		return true
	case "backup_label", "tablespace_map", "backup_manifest", "global/pg_control", "current_logfiles.tmp",
		"postgresql.auto.conf.tmp":
		return live
	}
	if !live {
		return false
	}
	switch path.Dir(name) {
	case "pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans":
		return true
	}
	base := path.Base(name)
	return strings.HasPrefix(base, "pgsql_tmp") || strings.HasPrefix(base, "pg_internal.init")
}

// copyWALDir copies pg_wal, which may be a symbolic link, into a real directory; of a running server only the
// directory.
func (c *Cluster) copyWALDir(dst string, live bool) error {
	from, err := filepath.EvalSymlinks(c.Path("pg_wal"))
	if err != nil {
		return err
	}
	return copyTree(from, filepath.Join(dst, "pg_wal"), copyOptions{live: live, skip: func(_ string, e fs.DirEntry) bool {
		return live && !e.IsDir()
	}})
}

// copyControl copies pg_control of a running server, which a plain copy might read half written.
func (c *Cluster) copyControl(dst string) error {
	control, _, err := readControl(c.Dir)
	if err != nil {
		return err
	}
	return (&Cluster{Dir: dst}).writeFile("global/pg_control", control)
}

func (c *Cluster) copyTablespaces(dst string, o copyOptions) error {
	entries, err := os.ReadDir(c.Path("pg_tblspc"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type() != fs.ModeSymlink {
			continue // copied with the rest: a tablespace made with allow_in_place_tablespaces
		}
		from, err := os.Readlink(c.Path("pg_tblspc/" + e.Name()))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(tablespaceDir(dst), 0o755); err != nil {
			return err
		}
		to := filepath.Join(tablespaceDir(dst), e.Name())
		if err := copyTree(from, to, o); err != nil {
			return err
		}
		link := filepath.Join(dst, "pg_tblspc", e.Name())
		if err := os.Symlink(to, link); err != nil {
			return err
		}
		if err := giveToServer(link); err != nil {
			return err
		}
	}
	return nil
}

// WaitBackupArchived waits until the archive has all the WAL that a backup of this cluster needs.
func (c *Cluster) WaitBackupArchived(ctx context.Context, b *Backup) error {
	if b.StopSegment == "" {
		return errors.New("a backup from a standby has its WAL archived by the primary")
	}
	return c.WaitArchived(ctx, b.StopSegment)
}
