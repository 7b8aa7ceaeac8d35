package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/cli"
	"walkeep/common/codec"
	"walkeep/common/config"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/basebackup"
	"walkeep/supervisor/progress"
	"walkeep/supervisor/receive"
	"walkeep/supervisor/ship"
	"walkeep/supervisor/spool"
)

const aboutBackup = `Takes a full base backup of a primary or a standby, and stores it in the
repository that --repo names, or in the first one of the configuration, or,
without one, in the spool. It makes no copy on this host. It ends when that
archive holds the WAL that the backup needs, so that every listed backup can be
restored. A backup that fails, or is interrupted, is removed.

On the server's host, as a user who may read its data directory, the files are
read there by as many readers as --jobs says. Elsewhere the server sends them
over the replication protocol.

The role needs REPLICATION and pg_monitor; for reading files also the right to
execute pg_backup_start and pg_backup_stop (up to version 14 pg_start_backup and
pg_stop_backup), which setup --role grants.`

func backupCommand() command {
	var o struct {
		Type string `long:"type" value-name:"[full]" default:"full" description:"what to take"`
	}
	return command{
		Subcommand: config.Subcommand{
			Name: "backup", Short: "take a base backup", About: aboutBackup, Options: &o,
			Parts: func(c *config.Config) []any { return []any{&c.Backup, &c.Compression, &c.Encryption, &c.Effort} },
		},
		run: func(ctx context.Context, call *invocation) error {
			if o.Type != "full" {
				return usage(fmt.Errorf("--type is full, not %q", o.Type))
			}
			return takeBackup(ctx, call)
		},
	}
}

func takeBackup(ctx context.Context, call *invocation) error {
	to, err := call.target(ctx)
	if err != nil {
		return err
	}
	var spooled *archive.Archive // where the WAL comes from
	if !to.spool && call.Spool != "" {
		if spooled, err = call.openSpoolArchive(); err != nil {
			return err
		}
	}
	c, err := codec.ByName(call.Codec)
	if err != nil {
		return err
	}
	recipients, err := call.recipients()
	if err != nil {
		return err
	}
	var bar *progress.Bar
	begun := time.Now()
	m, err := basebackup.Take(ctx, to.archive, basebackup.Options{
		Spool: spooled, Ship: call.shipTo(to, spooled),
		Conninfo: call.Conninfo, From: call.From, PGData: call.PGData, Fast: call.Checkpoint == "fast", PageErrors: call.PageErrors == "warn", MaxRate: int64(call.MaxRate), ArchiveTimeout: call.ArchiveTimeout,
		Recipients: recipients,
		Codec:      c, Level: call.Level, Workers: call.jobs(), Tool: cli.Version,
		Begin: func(bytes int64) {
			bar = call.bar("backup", bytes)
		},
		Progress: func(bytes int64) { bar.Add(bytes) },
		Newer:    func(message string) { call.msg.Warn(cli.NewerHint, "%s", message) },
		Notice:   func(message string) { call.msg.Warn("", "%s", message) },
		Detail:   func(message string) { call.msg.Detail("%s", message) },
		Waiting: func(last wal.Name) {
			bar.Done()
			call.msg.Detail("all files are stored; waiting until %s has %s", to, last)
		},
		Histories: func(ctx context.Context, conninfo string) error { return call.storeHistories(ctx, conninfo) },
	})
	bar.Done()
	if err != nil {
		return backupRemedies.explain(err)
	}
	where := ""
	if !to.spool {
		where = " in " + to.String()
	}
	_, err = fmt.Fprintf(call.out, "backup %s%s: %d files, %s, stored in %s, in %s; timeline %d, WAL from %s to %s\n", m.ID, where, m.Files,
		progress.Bytes(m.Bytes), progress.Bytes(m.StoredBytes()), took(time.Since(begun)), m.Timeline, m.Start, m.Stop)
	return err
}

// shipTo returns the function that ships the spool to a repository into which a backup is taken; nil if there is nothing to ship.
// Where another process ships, such as run, the function does nothing.
func (call *invocation) shipTo(to place, spooled *archive.Archive) func(ctx context.Context) error {
	if spooled == nil {
		return nil
	}
	return func(ctx context.Context) error {
		only := *call
		only.List = slices.DeleteFunc(slices.Clone(call.List), func(r config.Repository) bool { return r.Name != to.name })
		o, err := only.shipping(slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		o.Remove = false
		results, err := ship.Run(ctx, o)
		for _, r := range results {
			if !errors.Is(r.Err, spool.ErrShipping) {
				err = errors.Join(err, r.Err)
			}
		}
		return err
	}
}

// backupRemedies are for errors of other packages than basebackup and receive.
var backupRemedies = remedies{
	{recovery.ErrIncomplete, "check that the server's archive_command calls archive-cmd with this spool, and read what the server's log reports about it; or raise --archive-timeout"},
	{backup.ErrTooLarge, "no backup of walkeep can hold it: if it is a single file that PostgreSQL did not make, move it out of the data directory"},
	{notes.ErrLost, "take the backup again, and look for what removes files below leases/ of the spool; cleanup takes a lease from a host whose clock is a day behind"},
	{codec.ErrDamaged, "the spool does not hold what was written to it: check its disk, and look for what else removes or changes files there"},
	{archive.ErrForeign, "check --conninfo, and the spool or the repository: they are of two different clusters"},
}

// storeHistories archives the histories of the timelines from which the server's timeline comes.
func (call *invocation) storeHistories(ctx context.Context, conninfo string) error {
	if call.Spool == "" {
		return nil // another host archives
	}
	s, err := call.openSpool()
	if err != nil {
		return err
	}
	return receive.StoreHistories(ctx, s, conninfo)
}
