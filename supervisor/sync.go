package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/receive"
	"walkeep/supervisor/spool"
)

const aboutSync = `Streams the WAL segment that the server is writing, in the foreground, from a
primary or a standby. If the server is lost, only what it wrote since the last
fsync here is lost with it: see --flush-interval. With --synchronous, and
'walkeep' in the server's synchronous_standby_names, a commit is durable here
before it is confirmed to its client, and nothing is lost.

It archives complete segments as archive_command does, and can be the only
archiver of a server. It continues after restarts of the server and changes of
its timeline. It creates the slot if that does not exist.

The command run does the same by itself where stream = true is configured.
The role needs REPLICATION and pg_monitor.`

func syncCommand() command {
	return command{
		Subcommand: config.Subcommand{
			Name: "sync", Aliases: []string{"syncdaemon"}, Short: "stream the segment that is being written", About: aboutSync,
			Parts: func(c *config.Config) []any { return []any{&c.Stream, &c.Compression, &c.Encryption} },
		},
		run: func(ctx context.Context, call *invocation) error {
			if _, err := call.openSpoolArchive(); err != nil { // before the log begins
				return err
			}
			if err := mayStream(&call.Config); err != nil {
				return err
			}
			return call.stream(ctx, newLog(call.Config, os.Stderr))
		},
	}
}

// mayStream returns an error where the stream would leave WAL in the spool that is to be encrypted.
func mayStream(c *config.Config) error {
	if c.RecipientsFile == "" || c.PartialPlain {
		return nil
	}
	return cli.Fail(exitUsage, errors.New("WAL is to be encrypted (recipients-file), and the segment that is being written cannot be streamed encrypted"),
		"partial-plain = true streams it all the same: it is in the spool without encryption until it is complete; or do not stream")
}

// stream streams until ctx ends.
func (call *invocation) stream(ctx context.Context, log *slog.Logger) error {
	if call.RecipientsFile != "" {
		log.Warn("the segment that is being written is in the spool without encryption until it is complete (partial-plain)")
	}
	s, err := call.openSpool()
	if err != nil {
		return err
	}
	return streamRemedies.explain(receive.Run(ctx, receive.Options{
		Conninfo: call.Conninfo, Slot: call.Slot, Spool: s, FlushInterval: call.FlushInterval, Synchronous: call.Synchronous, Log: log,
	}))
}

// streamRemedies are for errors of other packages than receive and spool.
var streamRemedies = remedies{{archive.ErrForeign, "check --spool and --conninfo: they are of two different clusters"}}

// storeStreamed archives segments that were streamed to their ends, because no other process may be there to do it. It warns of
// a segment that cannot be archived, and reports whether there is one; the plan determines whether it is needed.
func (call *invocation) storeStreamed(ctx context.Context) (failed bool, err error) {
	if call.Spool == "" {
		return false, nil // nothing is streamed on this host
	}
	s, err := spool.Open(call.Spool)
	if err != nil {
		return false, err
	}
	s.Store = func(ctx context.Context, path string) error {
		store, err := call.storer(s) // archive-cmd is needed only where there is something to archive
		if err != nil {
			return err
		}
		return store(ctx, path)
	}
	err = s.StoreComplete(ctx, nil)
	if err != nil && ctx.Err() == nil {
		call.msg.Warn(cli.Call("verify")+" and the messages of "+cli.Call("run")+" give the details", "a streamed segment cannot be archived, and is not used: %v", err)
		return true, nil
	}
	return false, ctx.Err()
}

// warnStreamed warns of streamed WAL that a recovery to the end of the archive leaves out.
func (call *invocation) warnStreamed(ctx context.Context, p *planned) {
	if p.plan.Target.Kind != recovery.ToLatest {
		return
	}
	next := wal.SegmentAt(p.plan.Timeline, p.plan.To, p.inv.SegmentSize)
	if found, err := p.inv.StreamedOn(ctx, p.plan.Timeline, uint64(p.plan.To)/uint64(p.inv.SegmentSize)); err == nil && found.End > p.plan.To {
		call.msg.Warn("restore with --standby instead, and promote it with "+cli.Call("promote")+", which uses it",
			"the archive also holds what was streamed of %s, up to %s; recovery does not use that", next, found.End)
	}
}
