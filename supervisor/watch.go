package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jessevdk/go-flags"

	"walkeep/common/archive"
	"walkeep/common/config"
	"walkeep/common/wal"
	"walkeep/supervisor/metrics"
	"walkeep/supervisor/page"
	"walkeep/supervisor/report"
	"walkeep/supervisor/service"
)

const (
	// lookInterval is the least time between two inspections of the archive, which take at most a tenth of the time.
	lookInterval = time.Minute
	// distantInterval is the same where a repository is not on this host: each inspection costs a dozen requests or more.
	// What was shipped is looked at every lookInterval all the same, in the spool.
	distantInterval = 10 * time.Minute
	// lateState is the age from which on the page warns that its state is old.
	lateState = 3 * distantInterval
	// repairInterval is the least time between two backups because of broken WAL: if all WAL is broken, backups alone do
	// not help.
	repairInterval = time.Hour
)

// watch inspects the archive regularly, for the metrics, and requests a backup if WAL after the newest one is broken.
func (r *runner) watch(c config.Config) service.Part {
	// With other settings it starts again.
	return service.Part{Name: "watch", Settings: fmt.Sprint(c), Run: func(ctx context.Context, log *slog.Logger) error {
		call, flush := logged(c, &r.repositories, log)
		defer flush()
		full := lookInterval
		if slices.ContainsFunc(call.List, func(one config.Repository) bool { return one.Kind() != "file" }) {
			full = distantInterval
		}
		limits, err := usualLimits()
		if err != nil {
			return err
		}
		var found metrics.Snapshot
		var places []report.Place
		for {
			began := time.Now()
			if found.Report == nil || began.Sub(found.At) > full-lookInterval/2 {
				found, places, err = r.look(ctx, call, limits, log)
			} else {
				err = r.lookAtShipping(ctx, found, limits, places)
			}
			if err != nil {
				return explain(ctx, err, "")
			}
			select {
			case <-time.After(max(lookInterval, 10*time.Since(began))):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}}
}

// lookAtShipping brings what was found up to date with what was shipped since then.
func (r *runner) lookAtShipping(ctx context.Context, found metrics.Snapshot, limits report.Limits, places []report.Place) (err error) {
	if found.Report, err = found.Report.WithShipping(ctx, places); err != nil {
		return err
	}
	r.record(found, limits, "")
	return nil
}

// look inspects the archive once. It returns what it has found, and where.
func (r *runner) look(ctx context.Context, call *invocation, limits report.Limits, log *slog.Logger) (found metrics.Snapshot, places []report.Place, err error) {
	found = metrics.Snapshot{At: time.Now(), Check: report.Critical}
	a, err := call.open(ctx)
	if err == nil {
		places = a.describe()
		ask := call.MetricsListen != "" && (call.serverNamed() || len(r.backupTasks(&call.Config)) > 0)
		found.Report, err = report.Collect(ctx, a.Archive, report.Options{Kept: true, Probe: true, Ask: ask, Conninfo: call.Conninfo, PGData: call.PGData, Places: places, Notes: a.notes(ctx)})
	}
	if ctx.Err() != nil {
		return found, nil, ctx.Err()
	}
	found.Took = time.Since(found.At)
	if err == nil {
		r.record(found, limits, "")
		if tasks := r.backupTasks(&call.Config); len(tasks) > 0 {
			r.repair(ctx, found.Report, tasks)
		}
		return found, places, nil
	}
	r.record(found, limits, wal.ShortLSNs(err.Error()))
	if errors.Is(err, archive.ErrUnbound) {
		log.Debug("the archive is empty")
		return found, nil, nil
	}
	return found, places, err
}

// record gives what was found to the metrics and to the page. failed is why there is no report.
func (r *runner) record(found metrics.Snapshot, limits report.Limits, failed string) {
	shown := page.State{Report: found.Report, Looked: found.At, Late: lateState, Error: failed}
	if found.Report != nil {
		_, found.Check = found.Report.Check(limits)
		shown.Findings = found.Report.Findings(limits)
	}
	r.metrics.Record(found)
	r.page.Record(shown)
}

// usualLimits returns the defaults of the command check.
func usualLimits() (report.Limits, error) {
	var l limits
	_, err := flags.NewParser(&l, flags.None).ParseArgs(nil)
	return l.report(), err
}

// repair requests a backup if there was none since a segment was archived with broken records: without one nothing after that
// segment can be recovered. It requests one backup for a segment; the loop repeats it if it fails.
func (r *runner) repair(ctx context.Context, found *report.Report, tasks []string) {
	d, ok := brokenSince(found)
	if !ok || d.Segment == r.repaired || !r.repairedAt.IsZero() && time.Since(r.repairedAt) < repairInterval {
		return
	}
	r.repaired, r.repairedAt = d.Segment, time.Now()
	for _, task := range tasks {
		r.loop.Start(ctx, task, fmt.Sprintf("%s was archived with broken records, at %s", d.Segment, d.LSN))
	}
}

// brokenSince returns the last segment with broken records that was archived since the newest backup began.
func brokenSince(r *report.Report) (last report.Damaged, found bool) {
	if len(r.Backups) == 0 {
		return last, false
	}
	newest := r.Backups[len(r.Backups)-1]
	since, err := positionOf(newest.Timeline, newest.StartLSN)
	if err != nil {
		return last, false
	}
	for _, d := range r.Damaged {
		n, err := wal.ParseName(d.Segment)
		if err != nil {
			continue
		}
		if at, err := positionOf(uint32(n.Timeline), d.LSN); err == nil && !at.before(since) {
			last, found, since = d, true, at
		}
	}
	return last, found
}

// A position is an LSN on a timeline.
type position struct {
	timeline uint32
	lsn      wal.LSN
}

func positionOf(timeline uint32, lsn string) (position, error) {
	at, err := wal.ParseLSN(lsn)
	return position{timeline, at}, err
}

func (s position) before(other position) bool {
	return s.timeline < other.timeline || s.timeline == other.timeline && s.lsn < other.lsn
}
