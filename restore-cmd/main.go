// Restore-cmd is PostgreSQL's restore_command: it delivers a WAL file from walkeep's archive when it has been verified,
// says "absent" only when that is proven, and otherwise stops the server before it opens a database that lacks data.
package main

import (
	"errors"
	"runtime/debug"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/storage"
)

// Exit codes. PostgreSQL takes 1 to 125 for "there is no such file", after which it may end recovery; above 125 it
// stops (RestoreArchivedFile in src/backend/access/transam/xlogarchive.c).
const (
	exitAbsent  = 1   // proven absent
	exitUnknown = 126 // cannot tell, or damaged, or wrong usage
)

func main() {
	// What cannot be recovered, such as a panic in a goroutine, would exit with 2, which means "absent". With SIGABRT
	// PostgreSQL stops.
	debug.SetTraceback("crash")
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(96 << 20)
	cli.Program{Name: "restore-cmd", Panic: exitUnknown, Run: run}.Main()
}

func run(args []string, msg *cli.Messages) error {
	o, err := parse(args)
	switch {
	case errors.Is(err, config.ErrHelp):
		return nil
	case err != nil:
		return cli.Fail(exitUnknown, err, "restore-cmd --help explains the options")
	case o.Version:
		return printVersion()
	}
	msg.Verbose, msg.Quiet = o.Verbose, o.Quiet
	return fetch(o, msg)
}

// hint says what to do about an archive that cannot deliver.
func hint(err error) string {
	switch {
	case errors.Is(err, archive.ErrGap):
		return "bring the missing file back into the archive, or recover to a target before it"
	case errors.Is(err, archive.ErrForeign):
		return "check --spool: this is another cluster's archive"
	case errors.Is(err, archive.ErrUnbound):
		return "check --spool, and that its file system is mounted"
	case errors.Is(err, storage.ErrUnavailable):
		return "check --spool, mount its file system, and let the server's user read it"
	case errors.Is(err, archive.ErrConflict):
		return "move away the object that does not belong to the history that you want"
	case errors.Is(err, archive.ErrDamaged):
		return "bring a sound copy into the archive, or recover to a target before it"
	}
	return ""
}
