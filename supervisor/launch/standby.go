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
	Warm = "warm" // it replays, and accepts no connections (hot_standby = off)
)

// following returns the outcome of a standby that pg_ctl has found running, and reports how far it has replayed.
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
	// The control file has a position that is not far behind.
	c, err := pgdata.ReadControl(s.Dir)
	if errors.Is(err, pgdata.ErrControlVersion) {
		return outcome, nil // the format is that of a newer version; only that the server runs is known
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
