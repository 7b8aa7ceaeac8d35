//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// runTaker takes a backup, restores it, restores it once more, and sees that the result is good for something.
func (b *bench) runTaker(ctx context.Context, t *taker, round int) (err error) {
	dir := filepath.Join(b.place.runs, "backup-"+t.name)
	if err := errors.Join(os.RemoveAll(dir), b.place.mkdir(dir)); err != nil {
		return err
	}
	if !b.keep {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	if t.end != nil {
		defer t.end()
	}
	a := archive{store: filepath.Join(dir, "store"), aux: filepath.Join(dir, "aux"), data: t.cluster.data}
	s, err := b.measureBackup(ctx, t, a)
	if err != nil {
		return err
	}
	b.taken[t.name] = append(b.taken[t.name], s)
	tellTook(round, "backup", t.name, s)
	if t.restore == nil {
		return nil
	}
	a.data = filepath.Join(dir, "restored")
	if err := b.place.mkdir(a.data); err != nil {
		return err
	}
	if t.aim != nil {
		if err := t.aim(a); err != nil {
			return err
		}
	}
	if s, err = b.measureRestoring(ctx, t, a, t.restore(a)); err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	b.laidOut[t.name] = append(b.laidOut[t.name], s)
	tellTook(round, "restore", t.name, s)
	if t.delta != nil {
		if s, err = b.measureRestoring(ctx, t, a, t.delta(a)); err != nil {
			return fmt.Errorf("restoring what is restored: %w", err)
		}
		b.compared[t.name] = append(b.compared[t.name], s)
		tellTook(round, "delta", t.name, s)
	}
	if t.opens {
		if err := b.checkOpens(ctx, t.kind, a.data); err != nil {
			return fmt.Errorf("what was restored: %w", err)
		}
	}
	if t.rejoin != nil {
		if err := b.diverge(ctx, a.data); err != nil {
			return fmt.Errorf("diverging: %w", err)
		}
		if s, err = b.measureRestoring(ctx, t, a, t.rejoin(a)); err != nil {
			return fmt.Errorf("rejoining: %w", err)
		}
		b.rejoined[t.name] = append(b.rejoined[t.name], s)
		tellTook(round, "rejoin", t.name, s)
	}
	return nil
}

// diverge changes what was restored at random, on a timeline of its own, and loses the server.
func (b *bench) diverge(ctx context.Context, data string) error {
	if err := os.RemoveAll(data + ".log"); err != nil { // of the start before, which was ready as well
		return err
	}
	s, err := b.place.startServer(data, append([]string{"archive_mode=off"}, clusterSettings...)...)
	if err != nil {
		return err
	}
	defer s.end()
	if _, err := s.ready(ctx); err != nil {
		return s.failed(err)
	}
	if err := b.place.sql(ctx, divergeSQL); err != nil {
		return s.failed(err)
	}
	_, err = s.stop(ctx, stopImmediate)
	return err
}

func tellTook(round int, what, name string, s sample) {
	progress("round %d  %-7s  %-20s %6.2f s %6.2f s of CPU   (others: %.0f %%)",
		round+1, what, name, s.took.Seconds(), s.cpu.Seconds(), 100*s.others)
}

// measureBackup takes a backup of the cluster, whose server archives with the contestant's archive_command.
func (b *bench) measureBackup(ctx context.Context, t *taker, a archive) (sample, error) {
	var none sample
	if err := errors.Join(b.place.mkdir(a.store), b.place.mkdir(a.aux)); err != nil {
		return none, err
	}
	if t.setUp != nil {
		if err := t.setUp(ctx, a); err != nil {
			return none, err
		}
	}
	s, err := t.cluster.start(ctx, b.place, t.archive(a))
	if err != nil {
		return none, err
	}
	defer s.end()
	result, err := b.measureCall(ctx, []string{a.data}, a.aux+".log", t.take(a), s)
	if err != nil {
		return none, s.failed(err)
	}
	// It archives what it has to before it ends.
	if _, err := s.stop(ctx, stopFast); err != nil {
		return none, s.failed(err)
	}
	result.stored, err = storedSize(filepath.Join(a.store, t.kept))
	if err == nil && result.stored == 0 {
		err = fmt.Errorf("nothing is stored in %s", filepath.Join(a.store, t.kept))
	}
	return result, err
}

func (b *bench) measureRestoring(ctx context.Context, t *taker, a archive, command string) (sample, error) {
	result, err := b.measureCall(ctx, []string{filepath.Join(a.store, t.kept), a.data}, a.aux+".log", command, nil)
	if err != nil {
		return result, err
	}
	// Page by page it is looked at later; this sees that it is all there.
	size, err := storedSize(filepath.Join(a.data, "base"))
	if err == nil && size < t.cluster.size*9/10 {
		err = fmt.Errorf("%d bytes in base, of %d", size, t.cluster.size)
	}
	return result, err
}

// measureCall measures one command, which reads from the directories given, and a server that works for it, if any.
func (b *bench) measureCall(ctx context.Context, reads []string, log, command string, s *server) (sample, error) {
	var input []string
	for _, dir := range reads {
		paths, err := filesBelow(dir)
		if err != nil {
			return sample{}, err
		}
		input = append(input, paths...)
	}
	if err := settle(input, backupMemory); err != nil {
		return sample{}, err
	}
	served := func() time.Duration {
		if s == nil {
			return 0
		}
		return cpuOfTree(s.cmd.Process.Pid)
	}
	before, watch := served(), startStopwatch()
	u, err := b.place.call(ctx, log, b.place.runs, 1, shell(command))
	if err != nil {
		return sample{}, withLog(err, log)
	}
	result := sample{took: u.Wall[0][0], cpu: u.CPU, server: served() - before, peak: u.MaxRSS, wrote: u.Wrote}
	result.others = watch.others(result.cpu + result.server)
	return result, nil
}

// checkOpens starts a server on what was restored, and counts rows once it has recovered.
func (b *bench) checkOpens(ctx context.Context, kind clusterKind, data string) error {
	s, err := b.place.startServer(data, "archive_mode=off")
	if err != nil {
		return err
	}
	defer s.end()
	if _, err := s.ready(ctx); err != nil {
		return s.failed(err)
	}
	got, err := b.place.postgres(ctx, "psql", "-XqAt", "-c", kind.count)
	if err != nil {
		return s.failed(err)
	}
	if got = strings.TrimSpace(got); got != kind.want {
		return fmt.Errorf("%q rows, not %q", got, kind.want)
	}
	_, err = s.stop(ctx, stopImmediate)
	return err
}
