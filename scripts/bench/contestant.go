//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A contestant is a way to archive, and the ways to restore from what it archived.
type contestant struct {
	name     string
	label    string // as the report names it
	version  string // of the tool, empty where that does not matter
	archive  func(archive) string
	setUp    func(context.Context, archive) error // nil: nothing to be done before the server starts
	known    bool                                 // a call for an archived segment ends early, so its latency is of interest
	restores []restorer
}

// A restorer is a way to restore.
type restorer struct {
	name    string
	label   string
	command func(archive) string
	setUp   func(context.Context, archive) error
}

// An archive is where a contestant works in one run.
type archive struct {
	store string // directory of the stored segments, and nothing else of size
	aux   string // directory for configuration and such
	data  string // the server's data directory
}

const floorName, restoreFloorName = "true", "ln"

func contestantNames() []string {
	return []string{floorName, "cp", "dd", "walkeep-zstd", "walkeep-s2", "walkeep-lz4", "pgbackrest-zst", "pgbackrest-lz4"}
}

// chooseContestants makes the contestants asked for; the floor is always among them.
func chooseContestants(ctx context.Context, p *place, o options) ([]*contestant, error) {
	wanted := contestantNames()
	if o.only != "" {
		wanted = strings.Split(o.only, ",")
	}
	for _, name := range wanted {
		if !slices.Contains(contestantNames(), name) {
			return nil, fmt.Errorf("no contestant %q; there are: %s", name, strings.Join(contestantNames(), ", "))
		}
	}
	if !slices.Contains(wanted, floorName) {
		wanted = append([]string{floorName}, wanted...)
	}
	w := &walkeep{bindir: o.bindir}
	var field []*contestant
	for _, name := range wanted {
		tool, codec, _ := strings.Cut(name, "-")
		var c *contestant
		var err error
		switch tool {
		case "walkeep":
			c, err = w.contestant(ctx, p, codec)
		case "pgbackrest":
			c, err = pgBackRest(ctx, p, codec)
			if errors.Is(err, exec.ErrNotFound) {
				progress("%s is left out: pgBackRest is not installed", name)
				continue
			}
		default:
			c = plain(name)
		}
		if err != nil {
			return nil, err
		}
		c.name = name
		field = append(field, c)
	}
	return field, nil
}

// plain makes the contestants of coreutils.
func plain(name string) *contestant {
	switch name {
	case "cp":
		return &contestant{
			label:   "`cp`",
			archive: func(a archive) string { return "cp %p " + a.store + "/%f" },
			restores: []restorer{
				{restoreFloorName, "`ln`, the floor", func(a archive) string { return "ln " + a.store + "/%f %p" }, nil},
				{"cp", "`cp`", func(a archive) string { return "cp " + a.store + "/%f %p" }, nil},
			},
		}
	case "dd":
		return &contestant{
			label:   "`dd conv=fsync`",
			archive: func(a archive) string { return "dd if=%p of=" + a.store + "/%f bs=1M conv=fsync status=none" },
		}
	default:
		return &contestant{label: "`/bin/true`, the floor", archive: func(archive) string { return "/bin/true" }}
	}
}

// walkeep is this project's two commands, built when first asked for.
type walkeep struct {
	bindir  string
	version string
}

func (w *walkeep) contestant(ctx context.Context, p *place, codec string) (*contestant, error) {
	if err := w.find(ctx, p); err != nil {
		return nil, err
	}
	c := &contestant{
		label:   "walkeep " + codec,
		version: w.version,
		known:   true,
		archive: func(a archive) string {
			return fmt.Sprintf("%s/archive-cmd --spool %s --codec %s %%p", w.bindir, a.store, codec)
		},
	}
	if codec != "lz4" {
		c.restores = []restorer{{name: "walkeep-" + codec, label: c.label, command: func(a archive) string {
			return fmt.Sprintf("%s/restore-cmd --spool %s %%f %%p %%r", w.bindir, a.store)
		}}}
	}
	return c, nil
}

func (w *walkeep) find(ctx context.Context, p *place) error {
	if w.version != "" {
		return nil
	}
	if w.bindir == "" {
		w.bindir = filepath.Join(p.dir, "bin")
		if err := buildWalkeep(ctx, w.bindir); err != nil {
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
	for _, name := range []string{"archive-cmd", "restore-cmd"} {
		out, err := p.output(ctx, filepath.Join(w.bindir, name), "--version")
		if err != nil {
			return err
		}
		if w.version == "" {
			w.version = strings.TrimSpace(out)
		}
	}
	return nil
}

func buildWalkeep(ctx context.Context, to string) error {
	progress("building archive-cmd and restore-cmd")
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", to, "walkeep/archive-cmd", "walkeep/restore-cmd")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build walkeep: %w\n%s", err, tail(string(out)))
	}
	return nil
}
