//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"walkeep/common/storage"
	"walkeep/common/storage/s3"
)

// A shipSample is what one round of shipping showed.
type shipSample struct {
	took   time.Duration // of supervisor ship
	plain  time.Duration // of the upload of the same objects, one after the other, by the same client
	stored int64         // bytes of these
	cpu    time.Duration // of supervisor
	store  time.Duration // CPU time of the S3 server meanwhile
	peak   int64         // bytes of memory of supervisor
}

// shipping ships the backlog.
type shipping struct {
	place   *place
	walkeep *walkeep
	backlog *backlog
	store   s3Server

	samples []shipSample
}

// prepareShipping finds or builds what shipping needs.
func prepareShipping(ctx context.Context, w *walkeep, b *backlog) (*shipping, error) {
	if err := w.find(ctx); err != nil {
		return nil, err
	}
	s := &shipping{place: w.place, walkeep: w, backlog: b, store: s3Server{place: w.place}}
	return s, s.store.find(ctx)
}

// run archives the backlog into a spool, and ships it to an S3 server on this host.
func (s *shipping) run(ctx context.Context, round int) (err error) {
	dir := filepath.Join(s.place.runs, "ship")
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	spool, store := filepath.Join(dir, "spool"), filepath.Join(dir, "store")
	if err := errors.Join(os.Mkdir(spool, 0o700), os.Mkdir(store, 0o700)); err != nil {
		return err
	}
	for _, name := range s.backlog.segments {
		if err := quiet(exec.CommandContext(ctx, filepath.Join(s.walkeep.bindir, "archive-cmd"), "-c", os.DevNull, "--spool", spool, "--lookahead", "0", s.backlog.segmentFile(name))); err != nil {
			return err
		}
	}
	if err := s.store.start(ctx, store, dir); err != nil {
		return err
	}
	defer s.store.end()
	file := filepath.Join(dir, "walkeep.ini")
	if err := os.WriteFile(file, []byte("spool = "+spool+"\n"+s.store.section("shipped")), 0o600); err != nil {
		return err
	}
	var sample shipSample
	objects, err := filepath.Glob(filepath.Join(spool, "wal", "*", "*"))
	if err != nil {
		return err
	}
	for _, o := range objects { // they are in the page cache afterwards
		content, err := os.ReadFile(o)
		if err != nil {
			return err
		}
		sample.stored += int64(len(content))
	}
	upload := func() error {
		began := time.Now()
		err := uploadAll(ctx, s.store.options("plain"), objects)
		sample.plain = time.Since(began)
		return err
	}
	ship := func() error {
		cmd := exec.CommandContext(ctx, filepath.Join(s.walkeep.bindir, "supervisor"), "-c", file, "--quiet", "ship")
		before, began := cpuOfTree(s.store.cmd.Process.Pid), time.Now()
		if err := quiet(cmd); err != nil {
			return err
		}
		sample.took, sample.store = time.Since(began), cpuOfTree(s.store.cmd.Process.Pid)-before
		sample.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		sample.peak = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
		return nil
	}
	steps := []func() error{upload, ship}
	if round%2 == 1 {
		steps = []func() error{ship, upload}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	s.samples = append(s.samples, sample)
	progress("round %d  ship     %.0f MB/s of WAL, %.2f x the time of a plain upload", round+1, s.rate(sample), sample.took.Seconds()/sample.plain.Seconds())
	return s.backlog.checkUnchanged()
}

// shipRival archives straight to an S3 server.
const shipRival = "pgbackrest-zst-s3"

// shipAgainst relates segments per second: those of ship, or of archiving and then shipping, to those of the rival.
func shipAgainst(archived bool) func(b *bench) []float64 {
	return func(b *bench) []float64 {
		if b.shipping == nil {
			return nil
		}
		var own []sample
		for i, s := range b.shipping.samples {
			took := s.took
			if archived {
				if i == len(b.archived["walkeep-zstd"]) {
					break
				}
				took += time.Duration(float64(len(b.shipping.backlog.segments)) / b.archived["walkeep-zstd"][i].rate * float64(time.Second))
			}
			own = append(own, sample{rate: float64(len(b.shipping.backlog.segments)) / took.Seconds()})
		}
		return paired(own, b.archived[shipRival], rateRatio)
	}
}

// rate is in MB of plain WAL per second.
func (s *shipping) rate(of shipSample) float64 {
	return float64(s.backlog.plainSize()) / 1e6 / of.took.Seconds()
}

// quiet runs a command, of which only an error is of interest.
func quiet(cmd *exec.Cmd) error {
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, tail(said.String()))
	}
	return nil
}

// uploadAll uploads files, one after the other.
func uploadAll(ctx context.Context, o s3.Options, files []string) error {
	b, err := s3.Open(ctx, o)
	if err != nil {
		return err
	}
	defer b.Close()
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := storage.PutAll(ctx, b, "wal/"+filepath.Base(filepath.Dir(file))+"/"+filepath.Base(file), content); err != nil {
			return err
		}
	}
	return nil
}

// write reports on shipping.
func (s *shipping) write(w io.Writer) {
	column := func(figure func(shipSample) float64) []float64 {
		var values []float64
		for _, one := range s.samples {
			values = append(values, figure(one))
		}
		return values
	}
	gb := float64(s.backlog.plainSize()) / 1e9
	fmt.Fprint(w, "\n### Shipping the backlog to an S3 server on the same machine\n\n"+
		"| | MB/s of plain WAL | segments/s | time : plain upload | CPU s/GB | of the S3 server | peak MB |\n|---|--:|--:|--:|--:|--:|--:|\n")
	fmt.Fprintf(w, "| `supervisor ship` | %s | %s | %s | %s | %s | %s |\n",
		spread(column(s.rate), "%.0f"),
		spread(column(func(one shipSample) float64 { return float64(len(s.backlog.segments)) / one.took.Seconds() }), "%.1f"),
		spread(column(func(one shipSample) float64 { return one.took.Seconds() / one.plain.Seconds() }), "%.2f"),
		spread(column(func(one shipSample) float64 { return one.cpu.Seconds() / gb }), "%.2f"),
		spread(column(func(one shipSample) float64 { return one.store.Seconds() / gb }), "%.2f"),
		spread(column(func(one shipSample) float64 { return float64(one.peak) / 1e6 }), "%.0f"))
}
