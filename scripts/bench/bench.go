//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// A bench is the whole of the runs. Samples are by contestant or restorer, one per round.
type bench struct {
	place    *place
	backlog  *backlog
	field    []*contestant
	rounds   int
	keep     bool
	archived map[string][]sample
	restored map[string][]sample
	failed   map[string]bool
}

// run runs all rounds. A contestant that fails is left out from then on, and the error tells of it at the end.
func (b *bench) run(ctx context.Context) error {
	b.archived, b.restored, b.failed = map[string][]sample{}, map[string][]sample{}, map[string]bool{}
	if err := b.place.emptyRuns(); err != nil {
		return err
	}
	failures := 0
	for round := range b.rounds {
		for i := range b.field {
			c := b.field[(i+round)%len(b.field)]
			if b.failed[c.name] {
				continue
			}
			err := b.runContestant(ctx, c, round)
			if ctx.Err() != nil {
				return errors.Join(ctx.Err(), b.place.emptyRuns())
			}
			if err != nil {
				b.failed[c.name] = true
				failures++
				progress("round %d  %s failed: %v", round+1, c.name, err)
			}
		}
	}
	if failures > 0 {
		return fmt.Errorf("%d of %d contestants failed", failures, len(b.field))
	}
	return nil
}

func (b *bench) runContestant(ctx context.Context, c *contestant, round int) (err error) {
	dir := filepath.Join(b.place.runs, c.name)
	if err := errors.Join(os.RemoveAll(dir), b.place.mkdir(dir)); err != nil {
		return err
	}
	if !b.keep {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	a := archive{store: filepath.Join(dir, "store"), aux: filepath.Join(dir, "aux"), data: filepath.Join(dir, "data")}
	s, err := b.measureArchive(ctx, c, a)
	if err != nil {
		return err
	}
	b.archived[c.name] = append(b.archived[c.name], s)
	tell(round, "archive", c.name, s)
	for _, r := range c.restores {
		a.data = filepath.Join(dir, "restored-"+r.name)
		s, err := b.measureRestore(ctx, r, a)
		if err != nil {
			return fmt.Errorf("restoring with %s: %w", r.name, err)
		}
		b.restored[r.name] = append(b.restored[r.name], s)
		tell(round, "restore", r.name, s)
		if !b.keep {
			if err := os.RemoveAll(a.data); err != nil {
				return err
			}
		}
	}
	return nil
}

func tell(round int, what, name string, s sample) {
	progress("round %d  %s  %-15s %7.1f segments/s %7.2f s of CPU   (others: %.0f %%)",
		round+1, what, name, s.rate, s.cpu.Seconds(), 100*s.others)
}
