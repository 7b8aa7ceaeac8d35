package main

import (
	"context"

	"walkeep/common/config"
	"walkeep/supervisor/pgserver"
)

const aboutPause = `Pauses replay on the standby at --conninfo, so that its data stays as it is, and
waits until replay has stopped. The standby continues to receive WAL. The
command continue resumes replay. Servers before 14 do not report when replay has
stopped; for them the command waits until the replay position no longer changes.

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
