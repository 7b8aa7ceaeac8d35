package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"walkeep/common/cli"
	"walkeep/common/wal"
	"walkeep/supervisor/pgserver"
)

type pauseOptions struct {
	Wait time.Duration `long:"wait" value-name:"TIME" default:"1m" description:"how long to wait until replay has changed"`
}

const goingOn = "going on"

// replayPoll is the interval at which the standby's replay is examined.
const replayPoll = 100 * time.Millisecond

// tellReplay pauses or resumes replay on the standby by tell, and waits until done accepts two states of replay that follow each
// other. state is the name of what is waited for.
func (call *invocation) tellReplay(ctx context.Context, o pauseOptions, state string, tell func(*pgserver.Conn, context.Context) error,
	done func(now, before pgserver.Replay) bool) error {
	if o.Wait <= 0 {
		return usage(fmt.Errorf("--wait is a time such as 1m, not %s", o.Wait))
	}
	limited, cancel := context.WithTimeout(ctx, o.Wait)
	defer cancel()
	c, err := pgserver.ConnectStandby(limited, call.Conninfo, call.PGData)
	if err != nil {
		return replayRemedies.explain(err)
	}
	defer c.Close(context.WithoutCancel(ctx))
	info, err := c.Info(limited)
	if err != nil {
		return err
	}
	if !info.InRecovery {
		return replayRemedies.explain(pgserver.ErrNoRecovery)
	}
	before, err := c.Replay(limited, info.Major)
	if err != nil {
		return replayRemedies.explain(err)
	}
	if state == goingOn {
		if err := before.MayGoOn(); err != nil {
			return replayRemedies.explain(err)
		}
	}
	told := before.Paused
	if err := tell(c, limited); err != nil {
		return replayRemedies.explain(err)
	}
	for {
		select {
		case <-time.After(replayPoll):
		case <-limited.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return cli.Fail(exitFailed, fmt.Errorf("replay is not %s after %s (position %s)", state, o.Wait, before.Replayed),
				"the server has accepted the command and will obey it: it may be waiting for restore_command; --wait sets how long to wait")
		}
		now, err := c.Replay(limited, info.Major)
		if errors.Is(err, pgserver.ErrNoRecovery) && state == goingOn {
			_, err := fmt.Fprintln(call.out, "recovery has ended, and the database is open")
			return err
		}
		if err != nil && limited.Err() == nil {
			return replayRemedies.explain(err)
		}
		if err == nil && done(now, before) {
			return call.reportReplay(state, told == now.Paused, now.Replayed)
		}
		if err == nil {
			before = now
		}
	}
}

func (call *invocation) reportReplay(state string, already bool, at wal.LSN) error {
	if already {
		state = "already " + state
	}
	_, err := fmt.Fprintf(call.out, "replay is %s, at %s\n", state, at)
	return err
}

// replayRemedies are for what only pause and continue know.
var replayRemedies = remedies{
	{pgserver.ErrNoRecovery, "name the server with --conninfo; only a standby, or a server that is recovering, replays"},
}
