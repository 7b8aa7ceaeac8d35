package pgserver

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"walkeep/common/wal"
)

// backupFunctions returns the signatures of the functions that begin and end a backup of files. They have these names since
// version 15.
func backupFunctions(major int) (start, stop string) {
	if major < 15 {
		return "pg_start_backup(text, boolean, boolean)", "pg_stop_backup(boolean, boolean)"
	}
	return "pg_backup_start(text, boolean)", "pg_backup_stop(boolean)"
}

// BackupGrant returns the SQL statement that lets a role take backups of files, in the session's database.
func BackupGrant(major int, role string) string {
	start, stop := backupFunctions(major)
	return "GRANT EXECUTE ON FUNCTION " + start + ", " + stop + " TO " + Identifier(role)
}

func backupRevoke(major int, role string) string {
	start, stop := backupFunctions(major)
	return "REVOKE EXECUTE ON FUNCTION " + start + ", " + stop + " FROM " + Identifier(role)
}

// MayBackUp reports whether the session's role may execute the functions that begin and end a backup of files. It also returns
// the role's name.
func (c *Conn) MayBackUp(ctx context.Context, major int) (role string, may bool, err error) {
	start, stop := backupFunctions(major)
	err = c.QueryRow(ctx, `SELECT current_user::text, has_function_privilege($1, 'EXECUTE') AND has_function_privilege($2, 'EXECUTE')`, start, stop).
		Scan(&role, &may)
	if err != nil {
		return "", false, fmt.Errorf("ask for the right to take a backup of files: %w", err)
	}
	return role, may, nil
}

// A FileLayout describes what the files of a server consist of.
type FileLayout struct {
	PageSize  int    // bytes
	FilePages uint32 // pages of a relation's file that is full
	StatsDir  string // stats_temp_directory; empty from version 15 on
}

// FileLayout asks how the server's files are made.
func (c *Conn) FileLayout(ctx context.Context) (l FileLayout, err error) {
	var pages int64
	err = c.QueryRow(ctx, `SELECT max(setting) FILTER (WHERE name = 'block_size')::int, max(setting) FILTER (WHERE name = 'segment_size')::bigint,
		coalesce(max(setting) FILTER (WHERE name = 'stats_temp_directory'), '')
		FROM pg_settings WHERE name IN ('block_size', 'segment_size', 'stats_temp_directory')`).Scan(&l.PageSize, &pages, &l.StatsDir)
	if err != nil {
		return l, fmt.Errorf("ask for the layout of the server's files: %w", err)
	}
	l.FilePages = uint32(pages)
	return l, nil
}

// LivesIn reports whether a directory of this host is the data directory of the connected server itself, not one of a copy: a
// temporary replication slot that the server makes for the moment appears in it. An error may mean that the server cannot make
// one, because all its slots are in use or the role lacks REPLICATION.
func (c *Conn) LivesIn(ctx context.Context, dir string) (bool, error) {
	random := make([]byte, 8)
	rand.Read(random)
	name := "walkeep_" + hex.EncodeToString(random)
	if _, err := c.Exec(ctx, `SELECT pg_create_physical_replication_slot($1::name, false, true)`, name); err != nil {
		return false, fmt.Errorf("make a temporary replication slot: %w", err)
	}
	_, seen := os.Stat(filepath.Join(dir, "pg_replslot", name))
	if _, err := c.Exec(ctx, `SELECT pg_drop_replication_slot($1::name)`, name); err != nil {
		return false, fmt.Errorf("drop the temporary replication slot %s: %w", name, err)
	}
	if errors.Is(seen, fs.ErrNotExist) {
		return false, nil
	}
	return seen == nil, seen
}

// StartBackup begins a backup of files, which ends with the session unless [Conn.StopBackup] ends it. It returns the position and
// the timeline from which replay begins. It can take as long as a checkpoint.
func (c *Conn) StartBackup(ctx context.Context, major int, label string, fast bool) (wal.LSN, wal.Timeline, error) {
	call := `SELECT pg_backup_start($1, $2)::text`
	if major < 15 {
		call = `SELECT pg_start_backup($1, $2, false)::text`
	}
	var text string
	if err := c.QueryRow(ctx, call, label, fast).Scan(&text); err != nil {
		return 0, 0, fmt.Errorf("begin the backup: %w", err)
	}
	at, err := wal.ParseLSN(text)
	if err != nil {
		return 0, 0, err
	}
	var timeline int64
	if err := c.QueryRow(ctx, `SELECT timeline_id::bigint FROM pg_control_checkpoint()`).Scan(&timeline); err != nil {
		return 0, 0, fmt.Errorf("ask for the timeline: %w", err)
	}
	return at, wal.Timeline(timeline), nil
}

// A BackupEnd is what a server returns at the end of a backup of files.
type BackupEnd struct {
	LSN      wal.LSN
	Timeline wal.Timeline
	Label    string // the content of backup_label
}

// StopBackup ends a backup of files. It does not wait until WAL is archived.
func (c *Conn) StopBackup(ctx context.Context, major int) (BackupEnd, error) {
	call := `SELECT lsn::text, labelfile FROM pg_backup_stop(false)`
	if major < 15 {
		call = `SELECT lsn::text, labelfile FROM pg_stop_backup(false, false)`
	}
	var e BackupEnd
	var text string
	err := c.QueryRow(ctx, call).Scan(&text, &e.Label)
	if err == nil {
		e.LSN, err = wal.ParseLSN(text)
	}
	if err != nil {
		return e, fmt.Errorf("end the backup: %w", err)
	}
	var timeline int64
	if err := c.QueryRow(ctx, `SELECT greatest(timeline_id, CASE WHEN pg_is_in_recovery() THEN (SELECT min_recovery_end_timeline FROM pg_control_recovery()) END)::bigint
		FROM pg_control_checkpoint()`).Scan(&timeline); err != nil {
		return e, fmt.Errorf("ask for the timeline: %w", err)
	}
	e.Timeline = wal.Timeline(timeline)
	return e, nil
}

// Alive asks the server for nothing, so that a lost connection is noticed.
func (c *Conn) Alive(ctx context.Context) error {
	_, err := c.Exec(ctx, `SELECT 1`)
	return err
}
