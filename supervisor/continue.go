package main

import (
	"context"

	"walkeep/common/config"
	"walkeep/supervisor/pgserver"
)

const aboutContinue = `Resumes replay on the standby at --conninfo after the command pause. A server
that has paused at the target of a recovery opens its database.`

func continueCommand() command {
	var o pauseOptions
	return command{
		Subcommand: config.Subcommand{Name: "continue", Short: "resume replay on a standby", About: aboutContinue, Options: &o},
		run: func(ctx context.Context, call *invocation) error {
			return call.tellReplay(ctx, o, goingOn, (*pgserver.Conn).ContinueReplay, func(r, _ pgserver.Replay) bool { return !r.Pausing })
		},
	}
}
