package main

import (
	"context"
	"errors"
	"strings"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/storage"
)

// A remedy is what the user of a command can do about an error, where the package that returns the error cannot know it. The
// errors of most packages have hints of their own.
type remedy struct {
	err  error
	hint string // as for cli.NewError
}

// A remedies table is searched from its first entry on.
type remedies []remedy

// explain adds the hint of the first remedy for err, unless err has a hint already. It returns nil for nil.
func (all remedies) explain(err error) error {
	if err == nil || cli.Hint(err) != "" {
		return err
	}
	return all.override(err)
}

// override adds the hint of the first remedy for err, whatever hint err has already.
func (all remedies) override(err error) error {
	for _, r := range all {
		if errors.Is(err, r.err) {
			return cli.Hinted(err, cli.Expand(r.hint))
		}
	}
	return err
}

// anyCommand has the remedies for errors that every command can return.
var anyCommand = remedies{
	{archive.ErrUnbound, "check --spool, and that its file system is mounted; archive-cmd makes the archive when the server archives its first segment"},
	{archive.ErrNoWAL, "mount the file system of wal/, or bring the directory back"},
	{storage.ErrUnavailable, "check --spool, mount its file system, and run this as the user who owns it"},
}

// farCommand has those for a command that works on repositories alone, or fetches from them.
var farCommand = remedies{
	{archive.ErrUnbound, "check the url of the repository; it becomes an archive when {ship} or {backup} stores into it"},
	{archive.ErrNoWAL, "{ship} on the server's host ships WAL into it"},
	{storage.ErrUnavailable, "check the url of the repository, and that the place can be reached from this host"},
}

// nearAndFar has those for a command that works on the spool and on repositories.
var nearAndFar = remedies{
	{archive.ErrUnbound, "archive-cmd makes the archive when the server archives its first segment; if it has done so, check --spool and the urls of the repositories"},
	{storage.ErrUnavailable, "check the place that the message names: that its file system is mounted, or that the repository can be reached from this host"},
}

// remedied returns the error with a hint that fits to the places that the command works on.
func (call *invocation) remedied(err error) error {
	switch {
	case call.Chosen() != nil, call.Spool == "" && len(call.List) > 0:
		err = farCommand.explain(err)
	case len(call.List) > 0:
		err = nearAndFar.explain(err)
	}
	err = anyCommand.explain(err)
	if hint := cli.Hint(err); call.RepoURL != "" {
		if names := config.Variables(hint); len(names) > 0 {
			err = cli.Hinted(err, hint+"; with --repo-url such a key is an environment variable: "+strings.Join(names, ", "))
		}
	}
	return err
}

// explain returns the error of a command as it is printed or logged, with a hint. An interrupted command has that of its own.
func explain(ctx context.Context, err error, interrupted string) error {
	var f *cli.Failure
	switch {
	case errors.As(err, &f):
		return err
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return cli.Fail(exitFailed, errors.New("interrupted"), cli.Expand(interrupted))
	}
	return anyCommand.explain(err)
}

// usage returns the failure for wrong options.
func usage(err error) error {
	var f *cli.Failure
	if errors.As(err, &f) {
		return err
	}
	return cli.Fail(exitUsage, err, "")
}
