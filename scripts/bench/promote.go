//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// measurePromotion promotes a standby that has replayed all that its primary had when it died, and gives the time from
// the command to the first row that the standby takes. The supervisor streams from the primary, which is running.
func (b *bench) measurePromotion(ctx context.Context, a archive, primary *server, conninfo string) (time.Duration, error) {
	p := b.place
	supervisor := filepath.Join(b.walkeep.bindir, "supervisor")
	if err := p.sql(ctx, "CREATE TABLE first (at timestamptz)"); err != nil {
		return 0, err
	}
	if _, err := p.output(ctx, supervisor, "--spool", a.store, "backup", "--conninfo", conninfo); err != nil {
		return 0, err
	}
	data := filepath.Join(filepath.Dir(a.data), "standby")
	if _, err := p.output(ctx, supervisor, "--spool", a.store, "restore", "--standby", "--primary-conninfo", conninfo, "--target-dir", data); err != nil {
		return 0, err
	}
	standby, err := p.startServer(data, "port=5433", "archive_mode=off")
	if err != nil {
		return 0, err
	}
	defer standby.end()
	if err := standby.watch(ctx, 10*time.Millisecond, func(line logLine) (bool, error) {
		return strings.Contains(line.text, "started streaming WAL"), nil
	}); err != nil {
		return 0, standby.failed(err)
	}
	conninfo2 := strings.Replace(conninfo, "5432", "5433", 1)
	conn, err := pgx.Connect(ctx, conninfo2)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	end, err := p.postgres(ctx, "psql", "-XqAt", "-c", "SELECT pg_current_wal_flush_lsn()")
	if err != nil {
		return 0, err
	}
	for replayed := false; !replayed; time.Sleep(10 * time.Millisecond) {
		if err := conn.QueryRow(ctx, "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", strings.TrimSpace(end)).Scan(&replayed); err != nil {
			return 0, err
		}
	}
	if _, err := primary.stop(ctx, stopImmediate); err != nil {
		return 0, err
	}
	began := time.Now()
	promoted := make(chan error, 1)
	go func() {
		_, err := p.output(ctx, supervisor, "--spool", a.store, "promote", "--conninfo", conninfo2, "--primary-conninfo", conninfo)
		promoted <- err
	}()
	for {
		_, err := conn.Exec(ctx, "INSERT INTO first VALUES (now())")
		took := time.Since(began)
		if err == nil {
			return took, <-promoted
		}
		if took > time.Minute || conn.IsClosed() {
			return 0, errors.Join(standby.failed(fmt.Errorf("no row was taken: %w", err)), <-promoted)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
