//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A sample is what one run of a contestant showed.
type sample struct {
	rate   float64         // segments per second
	cpu    time.Duration   // of the server and all that it started; of base backups, of the tool and all that it started
	others float64         // share of all cores that others used meanwhile
	stored int64           // bytes
	wrote  int64           // bytes that a call wrote to the disk
	peak   int64           // bytes: the largest process of one call by hand
	took   time.Duration   // base backups: wall time
	server time.Duration   // base backups: CPU of the server and its archive_command meanwhile
	calls  float64         // restoring: segments per second of the restore_command alone
	known  []time.Duration // calls for a segment that is archived
	paired []time.Duration // calls of /bin/true, in turn with those
}

const (
	knownCalls   = 100
	peakSegments = 8
)

// measureArchive lets the server drain the backlog through a contestant's archive_command.
func (b *bench) measureArchive(ctx context.Context, c *contestant, a archive) (sample, error) {
	var none sample
	if err := b.backlog.copyData(a.data); err != nil {
		return none, err
	}
	if err := b.newArchive(ctx, c, a); err != nil {
		return none, err
	}
	if err := settle(b.backlog.files(), archiveMemory); err != nil {
		return none, err
	}
	watch := startStopwatch()
	s, err := b.place.startServer(a.data, "archive_mode=on", "archive_command="+c.archive(a))
	if err != nil {
		return none, err
	}
	defer s.end()
	start, err := s.ready(ctx)
	if err != nil {
		return none, s.failed(err)
	}
	end, err := b.awaitDrained(ctx, s, a.data)
	if err != nil {
		return none, s.failed(err)
	}
	if err := b.checkArchiver(ctx); err != nil {
		return none, s.failed(err)
	}
	// Not a clean shutdown, which would write and archive one more segment.
	u, err := s.stop(ctx, stopImmediate)
	if err != nil {
		return none, s.failed(err)
	}
	result := sample{rate: float64(len(b.backlog.segments)) / end.Sub(start).Seconds(), cpu: u.CPU, others: watch.others(u.CPU)}
	if result.stored, err = storedSize(a.store); err != nil {
		return none, err
	}
	if err := b.callsByHand(ctx, c, a, &result); err != nil {
		return none, err
	}
	return result, b.backlog.checkUnchanged()
}

// newArchive makes a contestant's directories, empty.
func (b *bench) newArchive(ctx context.Context, c *contestant, a archive) error {
	if err := errors.Join(b.place.mkdir(a.store), b.place.mkdir(a.aux)); err != nil {
		return err
	}
	if c.setUp == nil {
		return nil
	}
	return c.setUp(ctx, a)
}

// awaitDrained waits for the last segment's .done; the archiver takes them in order.
func (b *bench) awaitDrained(ctx context.Context, s *server, data string) (time.Time, error) {
	last := statusFile(data, b.backlog.segments[len(b.backlog.segments)-1], "done")
	var end time.Time
	watched, cancel := context.WithCancel(ctx)
	defer cancel()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for watched.Err() == nil {
			if _, err := os.Stat(last); err == nil {
				end = time.Now()
				cancel()
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
	}()
	err := s.watch(watched, 100*time.Millisecond, func(line logLine) (bool, error) {
		if strings.Contains(line.text, "archive command failed") || strings.Contains(line.text, "archive command was terminated") {
			return false, errors.New("its archive_command failed")
		}
		return false, nil
	})
	cancel()
	<-drained
	if end.IsZero() {
		return end, err
	}
	left, err := readySegments(data)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%d segments were left out", len(left))
	}
	return end, err
}

// checkArchiver asks the server whether each segment took one call.
func (b *bench) checkArchiver(ctx context.Context) error {
	const query = "SELECT archived_count || ' ' || failed_count FROM pg_stat_archiver"
	got, err := b.place.postgres(ctx, "psql", "-XqAt", "-c", query)
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("%d 0", len(b.backlog.segments)); strings.TrimSpace(got) != want {
		return fmt.Errorf("pg_stat_archiver counts %q archived and failed, not %q", strings.TrimSpace(got), want)
	}
	return nil
}

// callsByHand measures single calls of the archive_command, the server being down.
func (b *bench) callsByHand(ctx context.Context, c *contestant, a archive, result *sample) error {
	segments := b.backlog.segments
	log := a.data + ".log"
	if c.known {
		call := shell(expand(c.archive(a), segments[len(segments)-1], ""))
		u, err := b.place.call(ctx, log, a.data, knownCalls, call, shell("/bin/true"))
		if err != nil {
			return withLog(err, log)
		}
		result.known, result.paired = u.Wall[0], u.Wall[1]
	}
	for _, name := range segments[:peakSegments] {
		if err := os.Rename(statusFile(a.data, name, "done"), statusFile(a.data, name, "ready")); err != nil {
			return err
		}
	}
	fresh := archive{store: a.store + ".peak", aux: a.aux + ".peak", data: a.data}
	if err := b.newArchive(ctx, c, fresh); err != nil {
		return err
	}
	u, err := b.place.call(ctx, log, a.data, 1, shell(expand(c.archive(fresh), segments[0], "")))
	result.peak = u.MaxRSS
	return withLog(err, log)
}

// expand fills in what PostgreSQL fills in: paths are relative to the data directory.
func expand(command, segment, path string) string {
	if path == "" {
		path = "pg_wal/" + segment
	}
	return strings.NewReplacer("%p", path, "%f", segment, "%r", "000000010000000000000001").Replace(command)
}

func withLog(err error, log string) error {
	if err == nil {
		return nil
	}
	return (&server{log: log}).failed(err)
}

// measureRestore lets a server recover from what a contestant has archived. a.data is the new data directory.
func (b *bench) measureRestore(ctx context.Context, r restorer, a archive) (sample, error) {
	var none sample
	if err := copyTree(b.backlog.base, a.data, nil); err != nil {
		return none, err
	}
	if err := b.place.writeFile(filepath.Join(a.data, "recovery.signal"), ""); err != nil {
		return none, err
	}
	if r.setUp != nil {
		if err := r.setUp(ctx, a); err != nil {
			return none, err
		}
	}
	if r.end != nil {
		defer r.end()
	}
	stored, err := filesBelow(a.store)
	if err != nil {
		return none, err
	}
	if err := settle(stored, restoreMemory); err != nil {
		return none, err
	}
	watch := startStopwatch()
	s, err := b.place.startServer(a.data, "hot_standby=off", "log_min_messages=debug3", "restore_command="+r.command(a))
	if err != nil {
		return none, err
	}
	defer s.end()
	var restored []time.Time
	var called time.Time
	var inCalls time.Duration
	err = s.watch(ctx, 5*time.Millisecond, func(line logLine) (bool, error) {
		n := len(restored)
		switch {
		case strings.Contains(line.text, "executing restore command"):
			called = line.at
		// The last segment is fetched once more at the end; only the first time counts.
		case n < len(b.backlog.segments) && strings.Contains(line.text, `restored log file "`+b.backlog.segments[n]+`"`):
			restored = append(restored, line.at)
			inCalls += line.at.Sub(called)
		}
		return strings.Contains(line.text, "redo done at"), nil
	})
	if err != nil {
		return none, s.failed(err)
	}
	n := len(restored)
	if n != len(b.backlog.segments) {
		return none, s.failed(fmt.Errorf("%d of %d segments were restored", n, len(b.backlog.segments)))
	}
	u, err := s.stop(ctx, stopImmediate)
	if err != nil {
		return none, s.failed(err)
	}
	result := sample{
		rate:   float64(n-1) / restored[n-1].Sub(restored[0]).Seconds(),
		calls:  float64(n) / inCalls.Seconds(),
		cpu:    u.CPU,
		others: watch.others(u.CPU),
	}
	result.peak, err = b.restoreByHand(ctx, r, a)
	return result, err
}

// restoreByHand fetches one segment, the server being down, and makes sure that it is the one archived.
func (b *bench) restoreByHand(ctx context.Context, r restorer, a archive) (int64, error) {
	segment := b.backlog.segments[len(b.backlog.segments)/2]
	const path = "pg_wal/RECOVERYXLOG"
	if err := os.RemoveAll(filepath.Join(a.data, path)); err != nil {
		return 0, err
	}
	log := a.data + ".log"
	u, err := b.place.call(ctx, log, a.data, 1, shell(expand(r.command(a), segment, path)))
	if err != nil {
		return 0, withLog(err, log)
	}
	got, err := os.ReadFile(filepath.Join(a.data, path))
	if err != nil {
		return 0, err
	}
	want, err := os.ReadFile(b.backlog.segmentFile(segment))
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(got, want) {
		return 0, fmt.Errorf("segment %s came back with other content", segment)
	}
	return u.MaxRSS, nil
}
