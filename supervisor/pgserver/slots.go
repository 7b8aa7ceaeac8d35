package pgserver

import (
	"context"
	"fmt"

	"walkeep/common/wal"
)

// A Slot is a replication slot of the server.
type Slot struct {
	Name      string
	Physical  bool
	Temporary bool
	Active    bool // somebody streams from it
	// RestartLSN is from where on the server keeps WAL for it; 0 where it keeps none.
	RestartLSN wal.LSN
	Lost       bool // the server has given it up, and keeps nothing for it, whatever RestartLSN is
	// Status is wal_status, which servers have from 13 on, and Reason invalidation_reason, from 17 on. [Conn.Slots] alone
	// asks for them.
	Status, Reason string
}

// FindSlot looks for a slot; nil if there is none of that name.
func (c *Conn) FindSlot(ctx context.Context, name string) (*Slot, error) {
	rows, err := c.Query(ctx, `SELECT slot_type = 'physical', temporary, active, coalesce(restart_lsn::text, '0/0'),
		coalesce(to_jsonb(s)->>'wal_status' = 'lost', false) OR to_jsonb(s)->>'invalidation_reason' IS NOT NULL
		FROM pg_replication_slots s WHERE slot_name = $1`, name)
	if err != nil {
		return nil, fmt.Errorf("look for the replication slot %s: %w", name, err)
	}
	defer rows.Close()
	var s *Slot
	for rows.Next() {
		s = &Slot{Name: name}
		var restart string
		err := rows.Scan(&s.Physical, &s.Temporary, &s.Active, &restart, &s.Lost)
		if err == nil {
			s.RestartLSN, err = wal.ParseLSN(restart)
		}
		if err != nil {
			return nil, fmt.Errorf("look for the replication slot %s: %w", name, err)
		}
	}
	return s, rows.Err()
}

// Slots lists all slots of the server. Of those for which it keeps no WAL, RestartLSN is 0.
func (c *Conn) Slots(ctx context.Context) ([]Slot, error) {
	rows, err := c.Query(ctx, `SELECT slot_name::text, slot_type = 'physical', temporary, active, coalesce(restart_lsn::text, '0/0'),
		coalesce(to_jsonb(s)->>'wal_status' = 'lost', false) OR to_jsonb(s)->>'invalidation_reason' IS NOT NULL,
		coalesce(to_jsonb(s)->>'wal_status', ''), coalesce(to_jsonb(s)->>'invalidation_reason', '')
		FROM pg_replication_slots s ORDER BY 1`)
	if err != nil {
		return nil, fmt.Errorf("ask for the replication slots: %w", err)
	}
	defer rows.Close()
	var all []Slot
	for rows.Next() {
		var s Slot
		var restart string
		err := rows.Scan(&s.Name, &s.Physical, &s.Temporary, &s.Active, &restart, &s.Lost, &s.Status, &s.Reason)
		if err == nil {
			s.RestartLSN, err = wal.ParseLSN(restart)
		}
		if err != nil {
			return nil, fmt.Errorf("ask for the replication slots: %w", err)
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

// CountSlots counts the server's slots.
func (c *Conn) CountSlots(ctx context.Context) (n int, err error) {
	if err := c.QueryRow(ctx, `SELECT count(*)::int FROM pg_replication_slots`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count the replication slots: %w", err)
	}
	return n, nil
}

// MakeSlot makes a physical slot that keeps the WAL from now on.
func (c *Conn) MakeSlot(ctx context.Context, name string) error {
	if _, err := c.Exec(ctx, `SELECT pg_create_physical_replication_slot($1, true)`, name); err != nil {
		return fmt.Errorf("make the replication slot %s: %w", name, err)
	}
	return nil
}

// DropSlot removes a slot. One that is in use stays, with an error.
func (c *Conn) DropSlot(ctx context.Context, name string) error {
	if _, err := c.Exec(ctx, `SELECT pg_drop_replication_slot($1)`, name); err != nil {
		return fmt.Errorf("drop the replication slot %s: %w", name, err)
	}
	return nil
}
