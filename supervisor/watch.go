package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"walkeep/common/archive"
	"walkeep/common/config"
	"walkeep/common/wal"
	"walkeep/supervisor/metrics"
	"walkeep/supervisor/pgserver"
	"walkeep/supervisor/service"
)

const (
	// lookInterval is how often the archive is looked at; seldom enough that it takes no more than a tenth of the time.
	lookInterval = time.Minute
	// askTimeout is how long the server has to say how archiving goes.
	askTimeout = 10 * time.Second
	// repairInterval is the least time between two backups for the sake of broken WAL: where all of it is broken, backups
	// alone do not help.
	repairInterval = time.Hour
)

// watch looks at the archive from time to time, for the metrics, and to have a backup taken where WAL is broken behind the
// newest one.
func (r *runner) watch(c config.Config) service.Part {
	// With other settings it begins anew.
	return service.Part{Name: "watch", Settings: fmt.Sprint(c), Run: func(ctx context.Context, log *slog.Logger) error {
		for {
			began := time.Now()
			if err := r.look(ctx, c, log); err != nil {
				return explain(ctx, err)
			}
			select {
			case <-time.After(max(lookInterval, 10*time.Since(began))):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}}
}

// look looks once.
func (r *runner) look(ctx context.Context, c config.Config, log *slog.Logger) error {
	found := metrics.Look{At: time.Now()}
	a, _, err := (&env{Config: c}).open()
	if err == nil {
		found.Inventory, err = a.Inventory(ctx)
	}
	if errors.Is(err, archive.ErrUnbound) {
		log.Debug("the archive is empty")
		found.Inventory, err = new(archive.Inventory), nil
	}
	found.Took = time.Since(found.At)
	if err == nil && c.BackupSchedule != "" {
		r.repair(ctx, found.Inventory)
	}
	if c.MetricsListen != "" {
		var failed error
		if found.Server, failed = askServer(ctx, c, found.Inventory); failed != nil {
			log.Debug("the server cannot be asked", "error", failed.Error())
		}
		r.metrics.Look(found)
	}
	return err
}

// repair has a backup taken if there was none since a segment was archived with broken records: nothing behind it can be
// recovered until there is one. For one segment that is asked for once; the loop tries again if it fails.
func (r *runner) repair(ctx context.Context, inv *archive.Inventory) {
	d, ok := brokenSince(inv)
	if !ok || d.Segment == r.repaired || !r.repairedAt.IsZero() && time.Since(r.repairedAt) < repairInterval {
		return
	}
	r.repaired, r.repairedAt = d.Segment, time.Now()
	r.loop.Start(ctx, "backup", fmt.Sprintf("%s was archived with broken records, at %s", d.Segment, d.LSN))
}

// brokenSince finds the last segment with broken records that was archived since the newest backup began.
func brokenSince(inv *archive.Inventory) (last archive.Damaged, found bool) {
	if len(inv.Backups) == 0 {
		return last, false
	}
	newest := inv.Backups[len(inv.Backups)-1]
	after := func(d archive.Damaged) bool {
		return d.Segment.Timeline > newest.Timeline || d.Segment.Timeline == newest.Timeline && d.LSN >= newest.Start
	}
	for _, d := range inv.Damages {
		if after(d) && (!found || d.Segment.Timeline > last.Segment.Timeline || d.Segment.Timeline == last.Segment.Timeline && d.LSN > last.LSN) {
			last, found = d, true
		}
	}
	return last, found
}

// askServer asks the server how archiving goes. What its role may not read, or a standby does not know, is not known.
func askServer(ctx context.Context, c config.Config, inv *archive.Inventory) (*metrics.Server, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := pgserver.Connect(ctx, c.Conninfo)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	stat, err := conn.ArchiverStat(ctx)
	if err != nil {
		return nil, err
	}
	s := &metrics.Server{Archived: stat.Archived, Failed: stat.Failed, LastArchived: stat.LastArchivedTime, Lag: -1, Ready: -1}
	var ready int64
	if conn.QueryRow(ctx, `SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'`).Scan(&ready) == nil { // from 12 on
		s.Ready = ready
	}
	var position, file string
	err = conn.QueryRow(ctx, `SELECT lsn::text, pg_walfile_name(lsn) FROM pg_current_wal_lsn() AS lsn`).Scan(&position, &file)
	if err == nil && inv != nil && inv.SegmentSize != 0 {
		s.Lag = lag(inv, position, file)
	}
	return s, nil
}

// lag is how much WAL up to a position, which is in the file, the archive does not have; negative if it has nothing of
// that timeline yet.
func lag(inv *archive.Inventory, position, file string) int64 {
	at, err := wal.ParseLSN(position)
	if err != nil {
		return -1
	}
	n, err := wal.ParseName(file)
	if err != nil {
		return -1
	}
	l := inv.Line(n.Timeline)
	if l == nil || len(l.Segments) == 0 {
		return -1
	}
	end := (l.Segments[len(l.Segments)-1].Last + 1) * uint64(inv.SegmentSize)
	return max(0, int64(uint64(at)-end))
}
