package main

import (
	"context"

	"walkeep/common/config"
	"walkeep/supervisor/report"
)

const aboutList = `Lists the backups, the WAL of each timeline with its gaps, and what can be
recovered. It does not ask the server. (walmgr called it listbackups.)`

func listCommand() command {
	var o struct {
		JSON bool `long:"json" description:"print it as JSON, as docs/json.md describes it"`
	}
	return command{
		Subcommand: config.Subcommand{
			Name: "list", Aliases: []string{"listbackups"}, Short: "list backups, WAL and what can be recovered", About: aboutList, Options: &o,
		},
		run: func(ctx context.Context, call *invocation) error {
			a, err := call.open(ctx)
			if err != nil {
				return err
			}
			r, err := report.Collect(ctx, a.Archive, report.Options{Kept: true, Places: a.describe()})
			if err != nil {
				return a.complete(err)
			}
			if o.JSON {
				return call.printJSON(r)
			}
			return r.List(call.out)
		},
	}
}
