//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A bench is the whole of the runs. Samples are by contestant or restorer, one per round.
type bench struct {
	place  *place
	rounds int
	keep   bool

	backlog  *backlog // nil: archiving is left out
	field    []*contestant
	archived map[string][]sample
	restored map[string][]sample

	takers   []*taker // none: base backups are left out
	taken    map[string][]sample
	laidOut  map[string][]sample // restored into an empty directory
	compared map[string][]sample // restored again where nothing differs
	rejoined map[string][]sample // restored again where a server has diverged

	shipping *shipping // nil: shipping is left out

	walkeep  *walkeep
	postgres string   // its version
	streams  []string // none: streaming is left out
	streamed map[string][]streamSample
	promoted []float64 // ms
}

// newBench chooses the contestants and prepares what they work on.
func newBench(ctx context.Context, p *place, o options) (*bench, error) {
	archiving, backups, err := o.wanted()
	if err != nil {
		return nil, err
	}
	b := &bench{place: p, rounds: o.rounds, keep: o.keep, streams: o.wantedStreams(), streamed: map[string][]streamSample{}}
	for _, samples := range []*map[string][]sample{&b.archived, &b.restored, &b.taken, &b.laidOut, &b.compared, &b.rejoined} {
		*samples = map[string][]sample{}
	}
	t := newTools(p, o)
	if b.walkeep = t.walkeep; len(b.streams) > 0 {
		if err := b.walkeep.find(ctx); err != nil {
			return nil, err
		}
		version, err := p.postgres(ctx, "postgres", "--version")
		if err != nil {
			return nil, err
		}
		b.postgres = strings.TrimSpace(version)
	}
	if len(archiving) > 0 {
		if b.field, err = chooseContestants(ctx, t, archiving); err != nil {
			return nil, err
		}
		if b.backlog, err = prepareBacklog(ctx, p, o.segments); err != nil {
			return nil, err
		}
	}
	if o.part == partShip || o.part == partAll && o.only == "" {
		backlog := b.backlog
		if backlog == nil {
			if backlog, err = prepareBacklog(ctx, p, o.segments); err != nil {
				return nil, err
			}
		}
		if b.shipping, err = prepareShipping(ctx, t.walkeep, backlog); err != nil {
			return nil, err
		}
	}
	if len(backups) > 0 {
		if b.takers, err = chooseTakers(ctx, t, backups); err != nil {
			return nil, err
		}
		for _, t := range b.takers {
			if t.cluster, err = prepareCluster(ctx, p, t.kind); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

// run runs all rounds of both parts.
func (b *bench) run(ctx context.Context) error {
	if err := b.place.emptyRuns(); err != nil {
		return err
	}
	err := b.inTurn(ctx, len(b.field),
		func(i int) string { return b.field[i].name },
		func(i, round int) error { return b.runContestant(ctx, b.field[i], round) })
	if ctx.Err() == nil {
		err = errors.Join(err, b.inTurn(ctx, len(b.takers),
			func(i int) string { return b.takers[i].name },
			func(i, round int) error { return b.runTaker(ctx, b.takers[i], round) }))
	}
	if ctx.Err() == nil {
		err = errors.Join(err, b.inTurn(ctx, len(b.streams),
			func(i int) string { return b.streams[i] },
			func(i, round int) error { return b.runStream(ctx, b.streams[i], round) }))
	}
	if ctx.Err() == nil && b.shipping != nil {
		err = errors.Join(err, b.inTurn(ctx, 1, func(int) string { return "ship" }, func(_, round int) error { return b.shipping.run(ctx, round) }))
	}
	if !b.keep || ctx.Err() != nil {
		err = errors.Join(err, b.place.emptyRuns())
	}
	return err
}

// inTurn runs each of n contestants once a round, starting with another one each time. A contestant that fails is left
// out from then on, and the returned error names it.
func (b *bench) inTurn(ctx context.Context, n int, name func(i int) string, run func(i, round int) error) error {
	failed := map[int]bool{}
	for round := range b.rounds {
		for turn := range n {
			i := (turn + round) % n
			if failed[i] {
				continue
			}
			err := run(i, round)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				failed[i] = true
				progress("round %d  %s failed: %v", round+1, name(i), err)
			}
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d contestants failed", len(failed), n)
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
	if c.end != nil {
		defer c.end()
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
