package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/wal"
	"walkeep/supervisor/report"
)

const aboutCheck = `Reports in one line whether all is well, as monitoring plugins do: the state,
what is wrong, and figures behind a bar. The server is asked if --conninfo, --pgdata
or one of PGHOST, PGHOSTADDR, PGPORT, PGSERVICE and PGDATABASE is given.

Critical: the archive cannot be reached or is another cluster's, no backup can
be restored, the newest data cannot be recovered, archiving is off, fails or is
behind, what the spool holds does not come into a repository. Warning: what limits recovery to older times, backups that cannot be
restored or were left unfinished, old backups, files that wait, a standby that
is late or has more WAL than the archive, faults, a server that does not answer,
configuration that is wrong for any command.

Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN, which is also that of wrong
usage and configuration.`

const exitUnknown = int(report.Unknown)

func checkCommand() command {
	var o limits
	return command{
		Subcommand: config.Subcommand{
			Name: "check", Short: "report whether all is well, as a monitoring plugin", About: aboutCheck, Options: &o, Tolerant: true,
		},
		run: func(ctx context.Context, call *invocation) error {
			if err := o.validate(); err != nil {
				return cli.Fail(exitUnknown, err, "")
			}
			return check(ctx, call, o.report())
		},
	}
}

func check(ctx context.Context, call *invocation, l report.Limits) error {
	a, err := call.open(ctx)
	var r *report.Report
	if err == nil {
		r, err = report.Collect(ctx, a.Archive, report.Options{Probe: true, Ask: call.serverNamed(), Conninfo: call.Conninfo, PGData: call.PGData, Config: config.Problems(call.File), Places: a.describe(), Notes: a.notes(ctx)})
		err = a.complete(err)
	}
	state, line := report.Unknown, ""
	switch {
	case errors.Is(err, context.Canceled):
		line = report.Line(state, "interrupted", "")
	case err != nil:
		state = report.Critical
		line = report.Line(state, wal.ShortLSNs(err.Error()), "")
		defer call.msg.Next(cli.Hint(call.remedied(err)))
	default:
		line, state = r.Check(l)
	}
	if _, err := fmt.Fprintln(call.out, line); err != nil {
		return cli.Fail(exitUnknown, err, "")
	}
	if state == report.OK {
		return nil
	}
	return cli.Fail(int(state), nil, "") // the line is the message
}

// usageCode returns the exit code for wrong usage and configuration. For check it is not 2, by which a monitoring system learns that
// the archive is in danger. command is empty if the error stands before it in args.
func usageCode(command string, args []string) int {
	if command == "check" || command == "" && slices.Contains(args, "check") {
		return exitUnknown
	}
	return exitUsage
}

// serverNamed reports whether an option or the environment names the server.
func (call *invocation) serverNamed() bool {
	if call.Conninfo != "" || call.PGData != "" {
		return true
	}
	for _, name := range []string{"PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE", "PGDATABASE"} {
		if os.Getenv(name) != "" {
			return true
		}
	}
	return false
}
