package main

import (
	"context"
	"errors"
	"time"

	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/supervisor/report"
)

const aboutStatus = `Says in short what can be recovered, how the server's archiving goes, and what
is not well. The server is found by --conninfo or the PG* variables; without
one the archive alone is described. Limits are those of check.`

func statusCommand() command {
	var o struct {
		JSON bool `long:"json" description:"print it as JSON, as docs/json.md describes it"`
		limits
	}
	return command{
		Subcommand: config.Subcommand{Name: "status", Short: "say how it is", About: aboutStatus, Options: &o},
		run: func(ctx context.Context, call *invocation) error {
			if err := o.validate(); err != nil {
				return cli.Fail(exitUsage, err, "")
			}
			a, err := call.open()
			if err != nil {
				return err
			}
			r, err := report.Collect(ctx, a, report.Options{Ask: true, Conninfo: call.Conninfo, PGData: call.PGData, Config: config.Problems(call.File)})
			if err != nil {
				return err
			}
			if !call.serverNamed() && r.Server == nil {
				r.ServerError = "" // nobody said that there is one here
			}
			if o.JSON {
				return call.printJSON(r)
			}
			return r.Status(call.out, o.limits.report())
		},
	}
}

// limits are what check calls well.
type limits struct {
	BackupAge  time.Duration `long:"max-backup-age" value-name:"TIME" default:"192h" description:"warn if the newest backup that can be restored is older"`
	Lag        time.Duration `long:"max-lag" value-name:"TIME" default:"10m" description:"critical if complete segments wait and none was archived for longer"`
	LagSize    config.Size   `long:"max-lag-size" value-name:"SIZE" description:"warn if the archive lacks more in complete segments, or the server keeps more for a slot that is not in use (else the size of 16 segments)"`
	Ready      int64         `long:"max-ready" value-name:"N" default:"32" description:"warn if more files wait to be archived"`
	StandbyLag time.Duration `long:"max-standby-lag" value-name:"TIME" default:"1h" description:"warn if a standby has more to replay, and the last transaction that it has replayed is older"`
}

func (l limits) report() report.Limits {
	return report.Limits{BackupAge: l.BackupAge, Lag: l.Lag, LagSize: int64(l.LagSize), Ready: l.Ready, StandbyLag: l.StandbyLag}
}

// validate refuses limits that cannot be.
func (l limits) validate() error {
	if l.BackupAge < 0 || l.Lag < 0 || l.Ready < 0 || l.StandbyLag < 0 {
		return errors.New("max-backup-age, max-lag, max-ready and max-standby-lag are not negative")
	}
	return nil
}
