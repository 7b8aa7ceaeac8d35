package main

import (
	"context"
	"errors"
	"path/filepath"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/supervisor/pgserver"
	"walkeep/supervisor/setup"
)

const aboutSetup = `Makes a primary archive into the spool: checks the server, shows what it will
do, and does it. It makes the spool and the replication slot, sets archive_mode,
archive_command and what they need with ALTER SYSTEM, and writes the
configuration file if there is none. Settings that are right already stay as
they are. Call it on the server's host, as root or as the server's user, with a
--conninfo that connects as a superuser.

What was there before is kept in setup.json in the spool, and --undo puts it
back: it removes what setup has made, except for an archive, and for what was
changed since. It can be called again at any time. On a server that was not set
up it says so, and ends with 0.

A restart is said to be needed, and only done with --restart; a server that
systemd runs is to be restarted with systemctl. The slot keeps all WAL from the
moment it is made: start what streams (the command run, or sync) soon. With
--synchronous the server also names walkeep in synchronous_standby_names:
commits then wait for that stream.

This is walmgr's setup; walmgr's stop is setup --undo.`

// setupOptions are those of the command setup.
type setupOptions struct {
	Undo    bool   `long:"undo" description:"put back what was there before"`
	DryRun  bool   `long:"dry-run" description:"say what would be done, and change nothing"`
	Restart bool   `long:"restart" description:"restart the server if that is needed"`
	Role    string `long:"role" value-name:"NAME" description:"make a role that may log in, replicate and monitor, or give it what it lacks"`
	Replace bool   `long:"replace" description:"replace the archive_command of another archiver"`
}

func setupCommand() command {
	var o setupOptions
	return command{
		Subcommand: config.Subcommand{
			Name: "setup", Short: "make a server archive into the spool, or undo that", About: aboutSetup, Options: &o, NoFile: true,
			Parts: func(c *config.Config) []any { return []any{&c.Stream} },
		},
		run:         func(ctx context.Context, call *invocation) error { return runSetup(ctx, call, &o) },
		interrupted: "call it again to complete it, or setup --undo to take back what was done",
	}
}

func runSetup(ctx context.Context, call *invocation, o *setupOptions) error {
	if o.Undo && (o.Role != "" || o.Replace) {
		return cli.Fail(exitUsage, errors.New("--undo goes with none of --role and --replace"), "what setup has made is in its note")
	}
	s := setup.Options{
		Conninfo: call.Conninfo, Spool: call.Spool, PGData: call.PGData, Bindir: call.Bindir, Slot: call.Slot, Role: o.Role, Synchronous: call.Synchronous, FlushInterval: call.FlushInterval,
		Replace: o.Replace, DryRun: o.DryRun, Restart: o.Restart, Out: call.out,
		Notice: func(hint, message string) { call.msg.Warn(hint, "%s", message) },
	}
	s.Histories = func(ctx context.Context, server pgserver.Info, conninfo string) error {
		a, err := call.open()
		if err != nil {
			return err
		}
		if err := a.Bind(ctx, archive.Identity{SystemID: server.SystemID, SegmentSize: server.SegmentSize}); err != nil {
			return err
		}
		return call.storeHistories(ctx, conninfo)
	}
	s.File, s.FileArg = config.Find(call.File)
	var err error
	for _, path := range []*string{&s.Spool, &s.PGData, &s.File} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if s.Program, err = sibling("archive-cmd"); err != nil {
		return cli.Fail(exitFailed, err, "install the three programs in one directory")
	}
	if o.Undo {
		return setupRemedies.explain(setup.Undo(ctx, s))
	}
	return setupRemedies.explain(setup.Run(ctx, s))
}

// setupRemedies are for errors of other packages than setup.
var setupRemedies = remedies{
	{archive.ErrDamaged, "setup.json is the record of an earlier setup; move it aside if you no longer need setup --undo"},
	{archive.ErrNoFormat, "setup.json is the record of an earlier setup; move it aside if you no longer need setup --undo"},
}
