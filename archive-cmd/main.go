// Archive-cmd is PostgreSQL's archive_command: it stores a WAL file in walkeep's archive, and reports success only
// when the stored file is verified, durable and protected against replacement.
package main

import (
	"errors"
	"io/fs"
	"runtime/debug"
	"syscall"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/durable"
	"walkeep/common/storage"
	"walkeep/common/storage/local"
)

// Exit codes. PostgreSQL tries again after every code but 0, and ends its archiver after one above 125.
const (
	exitFailed  = 1 // not archived; PostgreSQL keeps the file and tries again
	exitUsage   = 2 // wrong usage or configuration
	exitRefused = 3 // another content has this name, or the file is of another cluster, or is no WAL of its name
)

func main() {
	// A call ends within a fraction of a second and has few, long-lived buffers: garbage collection would only slow it.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(96 << 20)
	program.Main()
}

var program = cli.Program{Name: "archive-cmd", Panic: exitFailed, Run: run}

// failure adds the exit code and the hint to the error of a file.
func failure(err error) error {
	switch {
	case errors.Is(err, archive.ErrConflict):
		return cli.Fail(exitRefused, err, "two servers archive the same timeline into this spool, or a recovery was repeated without a new timeline; "+
			"give one of them a spool of its own")
	case errors.Is(err, archive.ErrForeign):
		return cli.Fail(exitRefused, err, "give each cluster a spool of its own")
	case errors.Is(err, archive.ErrNotWAL):
		return cli.Fail(exitRefused, err, "archive_command hands over %p as it is; check that nothing else writes to pg_wal")
	case errors.Is(err, archive.ErrBroken):
		return cli.Fail(exitRefused, err, "take a new base backup after it; --verify warn archives such segments and marks them")
	case errors.Is(err, archive.ErrNoWAL):
		return cli.Fail(exitFailed, err, "mount the file system of wal/, or bring the directory back; make it by hand only if nothing was archived yet")
	case errors.Is(err, storage.ErrUnavailable):
		return cli.Fail(exitFailed, err, "create or mount the spool, and let the server's user write to it")
	case errors.Is(err, archive.ErrDamaged):
		return cli.Fail(exitFailed, err, "the copy in the spool is damaged; move it out of the spool, and the file will be archived again")
	case errors.Is(err, local.ErrFull):
		return cli.Fail(exitFailed, err, "PostgreSQL keeps its WAL until there is room; raise spool-limit or remove what is not needed")
	case errors.Is(err, durable.ErrNoSoundRename):
		return cli.Fail(exitFailed, err, "put the spool on another file system")
	}
	return cli.Fail(exitFailed, err, "")
}

// unreadable reports whether the configuration could not be read. Unlike an error in it, that may be temporary.
func unreadable(err error) bool {
	var e *fs.PathError
	return errors.As(err, &e) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EISDIR)
}

func run(args []string, msg *cli.Messages) error {
	o, err := parse(args)
	msg.Verbose, msg.Quiet = o.Verbose, o.Quiet
	msg.Problems(o.problems)
	switch {
	case errors.Is(err, config.ErrHelp):
		return nil
	case unreadable(err):
		return cli.Fail(exitFailed, err, "")
	case err != nil:
		return cli.Fail(exitUsage, err, "archive-cmd --help explains the options")
	case o.Version:
		return printVersion()
	}
	return push(o, msg)
}
