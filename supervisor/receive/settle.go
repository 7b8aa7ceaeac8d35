package receive

import (
	"context"
	"errors"
	"time"

	"walkeep/supervisor/pgserver"
	"walkeep/supervisor/replication"
)

// errUnsettled reports that the end of a segment must be received again.
var errUnsettled = errors.New("the end of the segment must be received again")

// settleTimeout is how long a standby has to receive the rest of a segment that it has replayed to its end.
const settleTimeout = 2 * time.Second

// settle looks at a segment that was received to its end and in which a switch record leaves the rest unused. As soon as a
// standby has replayed that record, it sends the whole segment, although it may not have received the rest yet: its file may
// still hold bytes of an earlier use there. Recovery ignores these bytes, but they differ from what the primary's archiver
// stores under the same name. So the stream receives the rest again when the standby has it.
//
// Source: GetStandbyFlushRecPtr in [walsender.c].
//
// [walsender.c]: https://github.com/postgres/postgres/blob/REL_18_STABLE/src/backend/replication/walsender.c
func (t *tail) settle(ctx context.Context) error {
	if !t.standby || t.settled == t.s.Name {
		return nil
	}
	found, err := t.s.Walk()
	if err != nil || !found.Switched || found.End == t.s.End() {
		return nil // archive-cmd judges it
	}
	ctx, cancel := context.WithTimeout(ctx, replication.Timeout)
	defer cancel()
	sql, err := pgserver.Connect(ctx, t.Conninfo)
	if err != nil {
		return err
	}
	defer sql.Close(context.WithoutCancel(ctx))
	for begun := time.Now(); ; {
		var standby, received bool
		err := sql.QueryRow(ctx, `SELECT pg_is_in_recovery(), coalesce(pg_last_wal_receive_lsn() >= $1::pg_lsn, true)`, t.s.End().String()).
			Scan(&standby, &received)
		switch {
		case err != nil:
			return err
		case !standby:
			return nil
		case received || time.Since(begun) > settleTimeout: // or its primary is gone
			t.settled = t.s.Name
			return errUnsettled
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
