package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/supervisor/pgserver"
	"walkeep/supervisor/setup"
)

const aboutSetup = `Configures a primary so that it archives into the spool: checks the server,
prints the plan, and carries it out. It creates the spool and the replication
slot, sets archive_mode, archive_command and what they need with ALTER SYSTEM,
and writes the configuration file if there is none. It leaves settings that are
right already. It warns of a repository of the configuration that cannot be
reached or written to. Call it on the server's host, as root or as the server's
user, with a --conninfo that connects as a superuser.

It records the previous settings in setup.json in the spool, and --undo restores
them: it removes what setup has made, except for an archive, and for what was
changed since. It can be called again at any time. On a server that was not set
up --undo reports that, and exits 0.

It reports whether a restart is needed, and restarts only with --restart; a
server that systemd runs must be restarted with systemctl. The slot keeps all WAL
from the moment it is made: start the stream (the command run, or sync) soon.
With --synchronous the server also names walkeep in synchronous_standby_names:
commits then wait for that stream.

This is walmgr's setup; walmgr's stop is setup --undo.`

// setupOptions are the options of setup.
type setupOptions struct {
	Undo    bool   `long:"undo" description:"restore the settings from before setup"`
	DryRun  bool   `long:"dry-run" description:"print what would be done, and change nothing"`
	Restart bool   `long:"restart" description:"restart the server if that is needed"`
	Role    string `long:"role" value-name:"NAME" description:"make a role that may log in, replicate and monitor, or give it what it lacks"`
	Replace bool   `long:"replace" description:"replace the archive_command of another archiver"`
}

func setupCommand() command {
	var o setupOptions
	return command{
		Subcommand: config.Subcommand{
			Name: "setup", Short: "make a server archive into the spool, or undo that", About: aboutSetup, Options: &o, NoFile: true,
			Parts: func(c *config.Config) []any { return []any{&c.Stream, &c.Encryption} },
		},
		run:         func(ctx context.Context, call *invocation) error { return runSetup(ctx, call, &o) },
		interrupted: "call it again to complete it, or setup --undo to take back what was done",
	}
}

func runSetup(ctx context.Context, call *invocation, o *setupOptions) error {
	if o.Undo && (o.Role != "" || o.Replace) {
		return cli.Fail(exitUsage, errors.New("--undo cannot be combined with --role or --replace"), "setup.json in the spool records what setup has made")
	}
	if call.Spool == "" {
		return usage(config.ErrNoSpool)
	}
	s := setup.Options{
		Conninfo: call.Conninfo, Spool: call.Spool, PGData: call.PGData, Bindir: call.Bindir, Slot: call.Slot, Role: o.Role, Synchronous: call.Synchronous, FlushInterval: call.FlushInterval,
		Replace: o.Replace, DryRun: o.DryRun, Restart: o.Restart, Out: call.out,
		Notice: func(hint, message string) { call.msg.Warn(hint, "%s", message) },
	}
	s.Histories = func(ctx context.Context, server pgserver.Info, conninfo string) error {
		a, err := call.openSpoolArchive()
		if err != nil {
			return err
		}
		if err := a.Bind(ctx, archive.Identity{SystemID: server.SystemID, SegmentSize: server.SegmentSize}); err != nil {
			return err
		}
		return call.storeHistories(ctx, conninfo)
	}
	for _, r := range call.List {
		s.Repositories = append(s.Repositories, call.setupRepository(r, o.DryRun))
	}
	s.File, s.FileArg = config.Find(call.File)
	var err error
	s.Recipients = call.RecipientsFile
	for _, path := range []*string{&s.Spool, &s.PGData, &s.File, &s.Recipients} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if s.Program, err = cli.Sibling("archive-cmd"); err != nil {
		return cli.Fail(exitFailed, err, "install the three programs in one directory")
	}
	if o.Undo {
		return setupRemedies.explain(setup.Undo(ctx, s))
	}
	return setupRemedies.explain(setup.Run(ctx, s))
}

// setupWait is how long setup waits for one repository.
const setupWait = time.Minute

// setupRepository is a repository as setup examines it.
func (call *invocation) setupRepository(r config.Repository, dryRun bool) setup.Repository {
	one := setup.Repository{Title: place{name: r.Name, url: r.URL}.String()}
	for _, path := range []string{r.CredentialsFile, r.CAFile, r.KeyFile, r.KeyPassphraseFile, r.KnownHosts} {
		if path != "" {
			one.Files = append(one.Files, path)
		}
	}
	one.Test = func(ctx context.Context, cluster archive.Identity) error {
		ctx, end := context.WithTimeout(ctx, setupWait)
		defer end()
		opened, err := call.repositories.Get(ctx, r)
		if err != nil {
			return err
		}
		return opened.Test(ctx, cluster, !dryRun)
	}
	return one
}

// setupRemedies are for errors of other packages than setup.
var setupRemedies = remedies{
	{archive.ErrDamaged, "setup.json is the record of an earlier setup; move it aside if you no longer need setup --undo"},
	{archive.ErrNoFormat, "setup.json is the record of an earlier setup; move it aside if you no longer need setup --undo"},
}
