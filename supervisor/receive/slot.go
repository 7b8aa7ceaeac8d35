package receive

import (
	"context"
	"fmt"

	"walkeep/common/wal"
	"walkeep/supervisor/pgserver"
	"walkeep/supervisor/replication"
)

// slot creates the slot if it is missing, and returns the position from which on the server keeps WAL for it; 0 if that is
// not known. It also asks whether the server archives by itself.
func (r *receiver) slot(ctx context.Context, c *replication.Conn) (wal.LSN, error) {
	if mode, err := c.Show(ctx, "archive_mode"); err == nil {
		r.mu.Lock()
		r.archiving = mode != "off"
		r.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(ctx, replication.Timeout)
	defer cancel()
	sql, err := pgserver.Connect(ctx, r.Conninfo)
	if err != nil {
		return 0, err
	}
	defer sql.Close(context.WithoutCancel(ctx))
	var standby bool
	if err := sql.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&standby); err != nil {
		return 0, fmt.Errorf("ask the server whether it is a standby: %w", err)
	}
	r.mu.Lock()
	r.standby, r.state.FromStandby = standby, standby
	r.mu.Unlock()
	s, err := sql.FindSlot(ctx, r.Slot)
	switch {
	case err != nil:
		return 0, err
	case s == nil:
		return r.createSlot(ctx, c, sql)
	case !s.Physical:
		return 0, fmt.Errorf("%w: %s is a logical one", ErrSlot, r.Slot)
	case s.Lost && !s.Active:
		r.Log.Warn("the server has given up the replication slot, and kept no WAL for it since", "slot", r.Slot)
		return r.replaceSlot(ctx, c, sql)
	}
	return s.RestartLSN, nil
}

// replaceSlot creates a slot again for which the server no longer keeps WAL.
func (r *receiver) replaceSlot(ctx context.Context, c *replication.Conn, sql *pgserver.Conn) (wal.LSN, error) {
	if err := c.DropSlot(ctx, r.Slot); err != nil {
		return 0, fmt.Errorf("drop replication slot %s, for which the server keeps no WAL any more: %w", r.Slot, err)
	}
	return r.createSlot(ctx, c, sql)
}

// createSlot makes the slot, which keeps WAL from the last checkpoint on.
func (r *receiver) createSlot(ctx context.Context, c *replication.Conn, sql *pgserver.Conn) (wal.LSN, error) {
	err := c.CreatePhysicalSlot(ctx, r.Slot)
	switch {
	case err == nil:
		r.Log.Warn("the replication slot was missing and is created again", "slot", r.Slot)
	case replication.HasCode(err, replication.DuplicateObject): // another one has just made it
	default:
		return 0, fmt.Errorf("make replication slot %s: %w", r.Slot, err)
	}
	s, err := sql.FindSlot(ctx, r.Slot)
	if err != nil || s == nil {
		return 0, err
	}
	return s.RestartLSN, nil
}

// keptFrom returns the position from which on the server keeps WAL for the slot. It creates the slot again if the
// server keeps nothing for it, or if the slot claims WAL that is gone.
func (r *receiver) keptFrom(ctx context.Context, gone *goneError) (wal.LSN, error) {
	ctx, cancel := context.WithTimeout(ctx, replication.Timeout)
	defer cancel()
	sql, err := pgserver.Connect(ctx, r.Conninfo)
	if err != nil {
		return 0, err
	}
	defer sql.Close(context.WithoutCancel(ctx))
	s, err := sql.FindSlot(ctx, r.Slot)
	if err != nil {
		return 0, err
	}
	if s != nil && !s.Lost && s.RestartLSN != 0 && (s.RestartLSN > gone.at || !gone.removed()) {
		return s.RestartLSN, nil
	}
	c, err := connect(ctx, r.Conninfo)
	if err != nil {
		return 0, err
	}
	defer c.Abort()
	if s != nil {
		return r.replaceSlot(ctx, c, sql)
	}
	return r.createSlot(ctx, c, sql)
}
