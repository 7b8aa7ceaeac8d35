package pgserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"walkeep/common/wal"
)

// ErrNoSlot says that the server has no replication slot of a name.
var ErrNoSlot = errors.New("there is no such replication slot")

// A Slot is a replication slot.
type Slot struct {
	Physical   bool
	Active     bool
	RestartLSN wal.LSN // the server keeps WAL from here on; 0 where it keeps none
}

// Slot asks for a replication slot.
func (c *Conn) Slot(ctx context.Context, name string) (Slot, error) {
	var s Slot
	var kind, restart string
	err := c.QueryRow(ctx, `SELECT slot_type, active, coalesce(restart_lsn::text, '') FROM pg_replication_slots WHERE slot_name = $1`, name).
		Scan(&kind, &s.Active, &restart)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return s, fmt.Errorf("%s: %w", name, ErrNoSlot)
	case err != nil:
		return s, fmt.Errorf("ask the server for slot %s: %w", name, err)
	}
	s.Physical = kind == "physical"
	if restart != "" {
		s.RestartLSN, err = wal.ParseLSN(restart)
	}
	return s, err
}
