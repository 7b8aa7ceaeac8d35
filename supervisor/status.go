package main

import (
	"bytes"
	"context"
	"errors"
	"time"

	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/durable"
	"walkeep/supervisor/page"
	"walkeep/supervisor/report"
)

const aboutStatus = `Prints a summary of what can be recovered, of the server's archiving, and of what
needs attention. The server is found by --conninfo or the PG* variables; without
one the command describes the archive alone. Limits are those of check. With
--html it writes the page that the command run serves.`

func statusCommand() command {
	var o struct {
		JSON bool   `long:"json" description:"print it as JSON, as docs/json.md describes it"`
		HTML string `long:"html" value-name:"FILE" description:"write it to this file as a page that a browser shows, in place of printing it"`
		limits
	}
	return command{
		Subcommand: config.Subcommand{Name: "status", Short: "show the state of the archive and its server", About: aboutStatus, Options: &o},
		run: func(ctx context.Context, call *invocation) error {
			if err := o.validate(); err != nil {
				return cli.Fail(exitUsage, err, "")
			}
			if o.JSON && o.HTML != "" {
				return cli.Fail(exitUsage, errors.New("--json prints the state and --html writes it to a file: give one of them"), "")
			}
			a, err := call.open(ctx)
			if err != nil {
				return err
			}
			r, err := report.Collect(ctx, a.Archive, report.Options{Kept: true, Probe: true, Ask: true, Conninfo: call.Conninfo, PGData: call.PGData, Config: config.Problems(call.File), Places: a.describe(), Notes: a.notes(ctx)})
			if err != nil {
				return a.complete(err)
			}
			if !call.serverNamed() && r.Server == nil {
				r.ServerError = "" // no option names a server here
			}
			if o.JSON {
				return call.printJSON(r)
			}
			if o.HTML != "" {
				return writePage(o.HTML, r, o.limits.report())
			}
			return r.Status(call.out, o.limits.report())
		},
	}
}

// writePage writes the page of a report to a file.
func writePage(file string, r *report.Report, l report.Limits) error {
	var text bytes.Buffer
	now := time.Now()
	if err := page.Write(&text, page.State{Report: r, Findings: r.Findings(l), Looked: now, Version: cli.Version}, now); err != nil {
		return err
	}
	return durable.WriteFile(file, text.Bytes())
}

// limits are the bounds within which check reports OK.
type limits struct {
	BackupAge  time.Duration `long:"max-backup-age" value-name:"TIME" default:"192h" description:"warn if the newest backup that can be restored is older"`
	Lag        time.Duration `long:"max-lag" value-name:"TIME" default:"10m" description:"critical if complete segments wait and none was archived for longer"`
	LagSize    config.Size   `long:"max-lag-size" value-name:"SIZE" description:"warn if the archive lacks more in complete segments, or the server keeps more for a slot that is not in use (else the size of 16 segments)"`
	Ready      int64         `long:"max-ready" value-name:"N" default:"32" description:"warn if more files wait to be archived"`
	ShipLag    time.Duration `long:"max-ship-lag" value-name:"TIME" default:"10m" description:"critical if something in the spool waits longer to be shipped to a repository; warn if it waits half as long"`
	StandbyLag time.Duration `long:"max-standby-lag" value-name:"TIME" default:"1h" description:"warn if a standby has more to replay, and the last transaction that it has replayed is older"`
}

func (l limits) report() report.Limits {
	return report.Limits{BackupAge: l.BackupAge, Lag: l.Lag, LagSize: int64(l.LagSize), Ready: l.Ready, StandbyLag: l.StandbyLag, ShipLag: l.ShipLag}
}

// validate fails for negative limits.
func (l limits) validate() error {
	if l.BackupAge < 0 || l.Lag < 0 || l.Ready < 0 || l.StandbyLag < 0 || l.ShipLag < 0 {
		return errors.New("max-backup-age, max-lag, max-ready, max-standby-lag and max-ship-lag are not negative")
	}
	return nil
}
