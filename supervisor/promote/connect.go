package promote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"walkeep/common/pgdata"
	"walkeep/supervisor/pgserver"
)

// listening is how long a starting server may take until it listens. A server that does not listen by then counts as down.
const listening = 3 * time.Second

// connect connects to the standby. If the standby was started a moment ago, connect waits until it is consistent.
func (p *promoter) connect(ctx context.Context) (*pgserver.Conn, error) {
	said := false
	for {
		c, err := pgserver.ConnectStandby(ctx, p.Conninfo, p.PGData)
		answered := pgserver.Answered(err)
		switch {
		case err == nil:
			p.Conninfo = c.Here()
			return c, nil
		case errors.Is(err, pgserver.ErrWhichStandby):
			return nil, err
		case !pgserver.NotReady(err), ctx.Err() != nil, !answered && time.Since(p.begun) > listening:
			return nil, err
		case pgserver.Warm(err), answered && p.warm():
			return nil, fmt.Errorf("%w: %w", ErrWarm, err)
		}
		if answered && !said {
			p.Step("the standby does not accept connections yet, and is waited for")
			said = true
		}
		if sleep(ctx) != nil {
			return nil, fmt.Errorf("%w (%s): %w", ErrNotConsistent, p.Timeout, err)
		}
	}
}

// warm reports whether, according to its postmaster.pid, the server accepts no connections. The configured data directory can
// be another server's, so the port in postmaster.pid must be the one that is connected to.
func (p *promoter) warm() bool {
	if p.PGData == "" {
		return false
	}
	m, err := pgdata.ReadPostmaster(p.PGData)
	if err != nil || !m.Warm {
		return false
	}
	places, err := pgserver.Places(p.Conninfo)
	return err == nil && slices.ContainsFunc(places, func(place pgserver.Place) bool { return place.Port == m.Port })
}
