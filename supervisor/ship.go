package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/codec"
	"walkeep/common/config"
	"walkeep/common/sealed"
	"walkeep/supervisor/progress"
	"walkeep/supervisor/repository"
	"walkeep/supervisor/service"
	"walkeep/supervisor/ship"
)

const aboutShip = `Copies what the spool holds to every repository of the configuration, or to that
of --repo alone: WAL, what was streamed of the segment that is being written,
finished backups, and the notes that belong to them. It ends when everything
that was there is shipped, or cannot be.

The command run ships by itself where the configuration has repositories. What
every repository holds leaves the spool, except for the newest WAL: see
--spool-keep. It does not leave the spool when --repo is given.`

func shipCommand() command {
	return command{
		Subcommand: config.Subcommand{
			Name: "ship", Short: "copy what the spool holds to the repositories", About: aboutShip,
			Parts: func(c *config.Config) []any { return []any{&c.Ship, &c.Compression, &c.Encryption} },
		},
		run: shipOnce,
	}
}

// errNoRepository says that there is nowhere to ship.
var errNoRepository = errors.New("no repository is configured")

func shipOnce(ctx context.Context, call *invocation) error {
	if len(call.List) == 0 {
		return cli.Fail(exitUsage, errNoRepository, "a section [repository NAME] with its url in the configuration file, or --repo-url")
	}
	log := slog.New(slog.DiscardHandler) // the summary has the errors
	if call.Verbose {
		log = newLog(call.Config, os.Stderr)
	}
	o, err := call.shipping(log)
	if err == nil {
		o.Pieces, err = call.pieces()
	}
	if err != nil {
		return err
	}
	var bar *progress.Bar
	o.Wait = true
	o.Begin = func(total int64) func(int64) {
		bar = call.bar("shipped", total)
		return bar.Add
	}
	results, err := ship.Run(ctx, o)
	bar.Done()
	if err == nil {
		err = ctx.Err()
	}
	failed := 0
	for _, r := range results {
		text := fmt.Sprintf("repository %s: %s copied (%s)", r.Repository, count(r.Objects, "object"), progress.Bytes(r.Bytes))
		if r.Found > 0 {
			text += fmt.Sprintf(", %d were there", r.Found)
		}
		if r.Waiting > 0 {
			text += fmt.Sprintf(", %d wait", r.Waiting)
		}
		if r.Elsewhere {
			text = fmt.Sprintf("repository %s: another process ships to it, and has shipped what was there", r.Repository)
		}
		if _, err := fmt.Fprintln(call.out, text); err != nil {
			return err
		}
		if r.Err != nil && ctx.Err() == nil {
			failed++
			call.msg.Warn(cli.Hint(r.Err), "repository %s: %v", r.Repository, r.Err)
		}
	}
	if err == nil && failed > 0 {
		err = cli.Fail(exitFailed, fmt.Errorf("not everything was shipped to %d of %d repositories", failed, len(results)), "")
	}
	return err
}

// shipping returns what ship needs to know.
func (call *invocation) shipping(log *slog.Logger) (ship.Options, error) {
	s, err := call.openSpoolAlone()
	if err != nil {
		return ship.Options{}, err
	}
	to := call.Used()
	o := ship.Options{Spool: s, Remove: len(to) == len(call.List) && call.RepoURL == "", Keep: int64(call.SpoolKeep), Log: log}
	for _, r := range to {
		o.Repositories = append(o.Repositories, ship.Repository{
			Name: r.Name, URL: r.URL, Timeout: r.Timeout, Open: func(ctx context.Context) (ship.Remote, error) { return openRemote(ctx, r) },
		})
	}
	return o, nil
}

// pieces returns how the segment that is being written is shipped.
func (call *invocation) pieces() (p ship.Pieces, err error) {
	p = ship.Pieces{Interval: call.PartialInterval, Store: archive.PushOptions{Level: call.Level, Tool: cli.Version}}
	if p.Store.Codec, err = codec.ByName(call.Codec); err != nil {
		return p, err
	}
	if p.Store.Recipients, err = call.recipients(); err == nil && p.Store.Recipients != nil {
		p.Store.CompareKey, err = sealed.MakeCompareKey(call.RecipientsFile)
	}
	return p, err
}

// openRemote opens a repository for shipping alone, so that its requests are counted.
func openRemote(ctx context.Context, r config.Repository) (ship.Remote, error) {
	one, err := repository.Open(ctx, r)
	if err != nil {
		return ship.Remote{}, err
	}
	requests := func() (int, int64) {
		c := one.Requests()
		return c.Requests(), c.BytesWritten
	}
	return ship.Remote{Archive: one.Stored, Requests: requests, Close: one.Close}, nil
}

// shipping is the part of run that ships.
func (r *runner) shipping(c config.Config) service.Part {
	return service.Part{Name: "ship", Settings: fmt.Sprint(c.List, c.Repo, c.RepoURL, c.Ship, c.Compression, c.Encryption), Run: func(ctx context.Context, log *slog.Logger) error {
		call, flush := logged(c, &r.repositories, log)
		defer flush()
		o, err := call.shipping(log)
		if err != nil {
			return err
		}
		o.Follow = true
		if o.Pieces, err = call.pieces(); err != nil {
			return err
		}
		_, err = ship.Run(ctx, o)
		return explain(ctx, err, "")
	}}
}
