//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// walkeep is this project's programs, built when first asked for.
type walkeep struct {
	place    *place
	bindir   string
	programs []string
	version  string
}

// contestant archives with archive-cmd and restores with restore-cmd.
func (w *walkeep) contestant(ctx context.Context, codec string) (*contestant, error) {
	if err := w.find(ctx); err != nil {
		return nil, err
	}
	c := &contestant{
		label:   "walkeep " + codec,
		version: w.version,
		known:   true,
		archive: func(a archive) string { return w.archiveCommand(a, codec) },
	}
	if codec != "lz4" {
		c.restores = []restorer{{name: "walkeep-" + codec, label: c.label, command: func(a archive) string {
			return fmt.Sprintf("%s/restore-cmd --spool %s %%f %%p %%r", w.bindir, a.store)
		}}}
	}
	return c, nil
}

// taker takes backups and restores them with supervisor.
func (w *walkeep) taker(ctx context.Context, codec string) (*taker, error) {
	if err := w.find(ctx); err != nil {
		return nil, err
	}
	supervisor := func(a archive, command string) string {
		return fmt.Sprintf("%s/supervisor --spool %s %s --jobs 2", w.bindir, a.store, command)
	}
	return &taker{
		label:   "walkeep " + codec,
		version: w.version,
		kept:    "backups",
		opens:   true,
		archive: func(a archive) string { return w.archiveCommand(a, codec) },
		take:    func(a archive) string { return supervisor(a, "backup --checkpoint fast --codec "+codec) },
		restore: func(a archive) string { return supervisor(a, "restore --target-dir "+a.data) },
		delta:   func(a archive) string { return supervisor(a, "restore --delta --target-dir "+a.data) },
		rejoin:  func(a archive) string { return supervisor(a, "rejoin --pgdata "+a.data) },
	}, nil
}

func (w *walkeep) archiveCommand(a archive, codec string) string {
	return fmt.Sprintf("%s/archive-cmd --spool %s --codec %s %%p", w.bindir, a.store, codec)
}

func (w *walkeep) find(ctx context.Context) error {
	if w.version != "" {
		return nil
	}
	if w.bindir == "" {
		w.bindir = filepath.Join(w.place.dir, "bin")
		if err := w.build(ctx); err != nil {
			return err
		}
	}
	var err error
	if w.bindir, err = filepath.Abs(w.bindir); err != nil {
		return err
	}
	if !plainPath.MatchString(w.bindir) {
		return fmt.Errorf("--bindir %q: use a path of plain characters", w.bindir)
	}
	for _, name := range w.programs {
		out, err := w.place.output(ctx, filepath.Join(w.bindir, name), "--version")
		if err != nil {
			return err
		}
		if w.version == "" {
			w.version = strings.TrimSpace(out)
		}
	}
	return nil
}

func (w *walkeep) build(ctx context.Context) error {
	progress("building %s", strings.Join(w.programs, ", "))
	if err := os.RemoveAll(w.bindir); err != nil {
		return err
	}
	if err := os.Mkdir(w.bindir, 0o755); err != nil {
		return err
	}
	args := []string{"build", "-o", w.bindir}
	for _, name := range w.programs {
		args = append(args, "walkeep/"+name)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build has it
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build walkeep: %w\n%s", err, tail(string(out)))
	}
	return nil
}
