package main

import (
	"context"

	"walkeep/common/config"
	"walkeep/supervisor/pgserver"
)

const aboutPause = `Has the standby at --conninfo stop replaying, so that what it shows stays as
it is, and waits until it has stopped. It goes on receiving WAL. supervisor
continue has it go on. Servers before 14 do not say when they have stopped;
there it is waited until the position stays the same.

The role needs EXECUTE on pg_wal_replay_pause() and pg_wal_replay_resume().`

func pauseCommand() command {
	var o pauseOptions
	return command{
		Subcommand: config.Subcommand{Name: "pause", Short: "pause replay on a standby", About: aboutPause, Options: &o},
		run: func(ctx context.Context, call *invocation) error {
			return call.tellReplay(ctx, o, "paused", (*pgserver.Conn).PauseReplay, func(r, before pgserver.Replay) bool {
				return r.Paused && r.Replayed == before.Replayed
			})
		},
	}
}
