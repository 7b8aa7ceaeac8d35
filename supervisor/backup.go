package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/cli"
	"walkeep/common/codec"
	"walkeep/common/config"
	"walkeep/common/wal"
	"walkeep/supervisor/basebackup"
	"walkeep/supervisor/progress"
	"walkeep/supervisor/receive"
)

const aboutBackup = `Takes a full base backup over the replication protocol, from a primary or a standby, and stores it in the spool. It is
done when the WAL that the backup needs is in the archive, so that every backup that is listed can be restored. When it
fails, or is interrupted, nothing of it stays.

The role needs REPLICATION and pg_monitor.`

func backupCommand() command {
	var o struct {
		Type string `long:"type" value-name:"[full]" default:"full" description:"what to take"`
	}
	return command{
		Subcommand: config.Subcommand{
			Name: "backup", Short: "take a base backup", About: aboutBackup, Options: &o,
			Parts: func(c *config.Config) []any { return []any{&c.Backup, &c.Compression, &c.Effort} },
		},
		run: func(ctx context.Context, e *env) error {
			if o.Type != "full" {
				return usage(fmt.Errorf("--type is full, not %q", o.Type))
			}
			return takeBackup(ctx, e)
		},
	}
}

func takeBackup(ctx context.Context, e *env) error {
	a, err := e.open()
	if err != nil {
		return err
	}
	c, err := codec.ByName(e.Codec)
	if err != nil {
		return err
	}
	var bar *progress.Bar
	begun := time.Now()
	m, err := basebackup.Take(ctx, a, basebackup.Options{
		Conninfo: e.Conninfo, Fast: e.Checkpoint == "fast", PageErrors: e.PageErrors == "warn", MaxRate: int64(e.MaxRate), ArchiveTimeout: e.ArchiveTimeout,
		Codec: c, Level: e.Level, Workers: e.jobs(), Tool: cli.Version,
		Begin: func(bytes int64) {
			if !e.Quiet {
				bar = progress.New(os.Stderr, "backup", bytes)
			}
		},
		Progress: func(bytes int64) { bar.Add(bytes) },
		Newer:    func(message string) { e.msg.Warn(cli.NewerHint, "%s", message) },
		Notice:   func(message string) { e.msg.Warn("", "the server says: %s", message) },
		Waiting: func(last wal.Name) {
			bar.Done()
			e.msg.Detail("all files are stored; waiting until the archive has %s", last)
		},
		Histories: func(ctx context.Context, conninfo string) error { return e.storeHistories(ctx, conninfo) },
	})
	bar.Done()
	if err != nil {
		return explainBackup(err)
	}
	_, err = fmt.Fprintf(e.out, "backup %s: %d files, %s, stored in %s, in %s; timeline %d, WAL from %s to %s\n", m.ID, m.Files,
		progress.Bytes(m.Bytes), progress.Bytes(m.StoredBytes()), time.Since(begun).Round(100*time.Millisecond), m.Timeline, m.Start, m.Stop)
	return err
}

func explainBackup(err error) error {
	hint := ""
	switch {
	case errors.Is(err, basebackup.ErrArchivingOff):
		hint = "set archive_mode = on and an archive_command that calls archive-cmd with this spool, and restart the server; or run " + cli.Call("sync")
	case errors.Is(err, basebackup.ErrNotArchived), errors.Is(err, archive.ErrIncomplete):
		hint = "see that the server's archive_command calls archive-cmd with this spool, and what the server's log says of it; or raise --archive-timeout"
	case errors.Is(err, basebackup.ErrName):
		hint = "move it out of the data directory, or give it another name: no file of PostgreSQL's own has such a one"
	case errors.Is(err, backup.ErrTooLarge):
		hint = "no backup of walkeep can hold it: where it is a single file that PostgreSQL did not make, move it out of the data directory"
	case errors.Is(err, archive.ErrLost):
		hint = "take the backup again, and look for what removes files below leases/ of the spool; cleanup takes a lease from a host whose clock is a day behind"
	case errors.Is(err, codec.ErrDamaged):
		hint = "the spool does not hold what was written to it: look at its disk, and for what else removes or changes files there"
	case errors.Is(err, receive.ErrHistory):
		hint = "the server's timeline cannot be traced back without it: look for the file in pg_wal of every server of the cluster, and in older archives, and have archive-cmd store it (archive-cmd --spool SPOOL PATH)"
	case errors.Is(err, basebackup.ErrChecksum):
		hint = "the database is damaged: keep the older backups, and look for the cause before it spreads; --page-errors warn takes a backup that is marked"
	case errors.Is(err, archive.ErrForeign):
		hint = "check --spool and --conninfo: they are of two different clusters"
	default:
		return err
	}
	return cli.Fail(exitFailed, err, hint)
}

// storeHistories has the archive hold the histories of a server that came to its timeline before it archived here.
func (e *env) storeHistories(ctx context.Context, conninfo string) error {
	s, err := e.openSpool()
	if err != nil {
		return err
	}
	return receive.StoreHistories(ctx, s, conninfo)
}
