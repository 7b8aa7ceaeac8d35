package launch

import (
	"context"
	"errors"

	"walkeep/common/pgdata"
	"walkeep/common/wal"
	"walkeep/supervisor/pgserver"
)

// Outcomes of [Start] for a standby.
const (
	Hot  = "hot"  // it is consistent, and accepts connections
	Warm = "warm" // it replays, and lets nobody look (hot_standby = off)
)

// following says how a standby, of which pg_ctl says that it runs, goes on, and reports how far it has replayed.
func (s *Server) following(ctx context.Context, p pgdata.Postmaster) (string, error) {
	outcome := Hot
	if s.isWarm() {
		outcome = Warm
	} else if c, err := pgserver.ConnectAt(ctx, s.Conninfo, p.Host, p.Port); err == nil {
		defer c.Close(context.WithoutCancel(ctx))
		var text string
		if err := c.QueryRow(ctx, "SELECT coalesce(pg_last_wal_replay_lsn()::text, '')").Scan(&text); err == nil {
			if lsn, err := wal.ParseLSN(text); err == nil {
				s.replayed(lsn)
				return outcome, nil
			}
		}
	} else if ctx.Err() != nil {
		return "", ctx.Err()
	}
	// The control file knows a position that is not far behind.
	c, err := pgdata.ReadControl(s.Dir)
	if errors.Is(err, pgdata.ErrControlVersion) {
		return outcome, nil // the server of a version to come runs, and that is all that can be said
	}
	if err != nil {
		return "", errors.Join(ErrStopped, err)
	}
	lsn, _ := c.End()
	s.replayed(lsn)
	return outcome, nil
}

func (s *Server) replayed(lsn wal.LSN) {
	if s.Replayed != nil {
		s.Replayed(lsn)
	}
}
