package main

import (
	"context"
	"log/slog"
	"time"

	"walkeep/common/notes"
)

// carryInterval is the time between two looks at the notes of standbys.
const carryInterval = time.Minute

// carryStandbys copies to the repositories what restore-cmd notes in the spool of the standbys of this host, so that cleanup
// removes no WAL that they need, and keeps none for them that they do not need. It does so until ctx ends. The command run ships
// these notes; carryStandbys is for hosts on which it does not run.
func (call *invocation) carryStandbys(ctx context.Context, log *slog.Logger) {
	carried := make(map[string]string) // restartpoints by IDs
	for {
		if err := call.carryOnce(ctx, carried); err != nil {
			log.Warn("notes of standbys cannot be copied to the repositories", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(carryInterval):
		}
	}
}

func (call *invocation) carryOnce(ctx context.Context, carried map[string]string) error {
	spool, err := call.openSpoolArchive()
	if err != nil {
		return err
	}
	standbys, _, err := spool.Notes().Standbys(ctx)
	if err != nil {
		return err
	}
	var moved []notes.Standby
	for _, s := range standbys {
		if carried[s.ID] != s.Restartpoint {
			moved = append(moved, s)
		}
	}
	if len(moved) == 0 {
		return nil
	}
	places, err := call.places(ctx)
	if err != nil {
		return err
	}
	for _, s := range moved {
		for _, p := range places {
			if p.spool {
				continue
			}
			if p.err != nil {
				return p.lost()
			}
			if err := p.archive.Notes().NoteStandby(ctx, s); err != nil {
				return err
			}
		}
		carried[s.ID] = s.Restartpoint
	}
	return nil
}
