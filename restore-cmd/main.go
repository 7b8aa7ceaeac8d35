// Restore-cmd is PostgreSQL's restore_command. It delivers a WAL file from walkeep's archive after it has verified it. It
// reports a file as absent only if that is proven; otherwise it stops the server before that opens a database that lacks
// data.
package main

import (
	"errors"
	"fmt"
	"runtime/debug"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/pgdata"
	"walkeep/common/recovery"
	"walkeep/common/storage"
)

// Exit codes. PostgreSQL reads 1 to 125 as "there is no such file", after which it may end recovery; above 125 it
// stops (RestoreArchivedFile in src/backend/access/transam/xlogarchive.c).
const (
	exitAbsent  = 1   // proven absent, or any failure on a standby, which must keep running
	exitUnknown = 126 // cannot be determined, damaged, or wrong usage
)

func main() {
	standby := pgdata.Standby(dataDir)
	if !standby {
		// A panic in a goroutine would exit with 2, which PostgreSQL reads as "absent". PostgreSQL stops if the command dies
		// from SIGABRT.
		debug.SetTraceback("crash")
	}
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(96 << 20)
	program(standby).Main()
}

func program(standby bool) cli.Program {
	run := func(args []string, msg *cli.Messages) error { return run(args, standby, msg) }
	return cli.Program{Name: "restore-cmd", Panic: failed(standby), Run: run}
}

// failed returns the exit code of a failure. A standby would shut down above 125, so it gets exitAbsent.
func failed(standby bool) int {
	if standby {
		return exitAbsent
	}
	return exitUnknown
}

// fail returns the failure with the exit code that suits the server.
func fail(standby bool, err error, hint string) error {
	if standby {
		err = fmt.Errorf("cannot deliver the file; the standby keeps running and asks again: %w", err)
	}
	return cli.Fail(failed(standby), err, hint)
}

func run(args []string, standby bool, msg *cli.Messages) error {
	o, err := parse(args)
	var wrong *config.ArgumentError
	if standby && err != nil && err != config.ErrHelp && !errors.As(err, &wrong) { // somebody may be editing the configuration file
		err = retry(o.RetryTime, standby, func() (err error) {
			o, err = parse(args)
			return err
		})
	}
	msg.Verbose, msg.Quiet = o.Verbose, o.Quiet
	msg.Problems(o.problems)
	switch {
	case errors.Is(err, config.ErrHelp):
		return nil
	case err != nil:
		return fail(standby, err, "restore-cmd --help explains the options")
	case o.Version:
		return printVersion()
	}
	if err := o.check(); err != nil {
		return fail(standby, err, "restore-cmd --help explains the options")
	}
	if o.note {
		return noteAlone(o, standby)
	}
	return fetch(o, standby, msg)
}

// hint returns what the user can do if the archive cannot deliver a file.
func hint(err error) string {
	switch {
	case errors.Is(err, recovery.ErrLeft):
		return "the server continues when the archive has the newer timeline's WAL; to stay on the older one, set recovery_target_timeline to its number; to remove a timeline that is only a copy's, use walkeep cleanup --drop-timeline"
	case errors.Is(err, recovery.ErrGap):
		return "bring the missing file back into the archive, or recover to a target before it"
	case errors.Is(err, archive.ErrForeign):
		return "check --spool: this is another cluster's archive"
	case errors.Is(err, archive.ErrUnbound):
		return "check --spool, and that its file system is mounted"
	case errors.Is(err, archive.ErrNoWAL):
		return "mount the file system of wal/, or bring the directory back"
	case errors.Is(err, storage.ErrUnavailable):
		return "check --spool, mount its file system, and let the server's user read it"
	case errors.Is(err, archive.ErrConflict):
		return "move away the object that does not belong to the history that you want"
	case errors.Is(err, archive.ErrDamaged):
		return "bring a sound copy into the archive, or recover to a target before it"
	}
	return ""
}
