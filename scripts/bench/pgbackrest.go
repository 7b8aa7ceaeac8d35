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

// pgBackRest is the program, found when first asked for.
type pgBackRest struct {
	place   *place
	program string
	version string
}

func (r *pgBackRest) find(ctx context.Context) error {
	if r.version != "" {
		return nil
	}
	program, err := exec.LookPath("pgbackrest")
	if err != nil {
		return err
	}
	version, err := r.place.output(ctx, program, "version")
	r.program, r.version = program, strings.TrimSpace(version)
	return err
}

func (r *pgBackRest) call(a archive) string {
	return r.program + " --config=" + filepath.Join(a.aux, "pgbackrest.conf") + " --stanza=bench "
}

// contestant makes the contestant that compresses with zst or lz4, at level 1 and with two processes. Archiving is
// asynchronous, its quick way; restoring is synchronous, as nothing fetches ahead for the other contestants either.
func (r *pgBackRest) contestant(ctx context.Context, codec string) (*contestant, error) {
	if err := r.find(ctx); err != nil {
		return nil, err
	}
	c := &contestant{
		label:   "pgBackRest async " + codec + ", level 1",
		version: r.version,
		known:   true,
		archive: func(a archive) string { return r.call(a) + "archive-push %p" },
		setUp:   func(ctx context.Context, a archive) error { return r.createStanza(ctx, a, codec, "y") },
	}
	if codec == "zst" {
		c.restores = []restorer{{
			name: "pgbackrest-zst", label: "pgBackRest archive-get zst",
			command: func(a archive) string { return r.call(a) + `archive-get %f "%p"` },
			setUp:   func(_ context.Context, a archive) error { return r.configure(a, codec, "n") },
		}}
	}
	return c, nil
}

// taker makes the contestant of backups, with the same settings, but for archiving in the plain way.
func (r *pgBackRest) taker(ctx context.Context, codec string) (*taker, error) {
	if err := r.find(ctx); err != nil {
		return nil, err
	}
	return &taker{
		label:   "pgBackRest " + codec + ", level 1",
		version: r.version,
		kept:    "backup",
		opens:   true,
		archive: func(a archive) string { return r.call(a) + "archive-push %p" },
		setUp:   func(ctx context.Context, a archive) error { return r.createStanza(ctx, a, codec, "n") },
		take:    func(a archive) string { return r.call(a) + "--type=full --start-fast --no-archive-copy backup" },
		aim:     func(a archive) error { return r.configure(a, codec, "n") },
		restore: func(a archive) string { return r.call(a) + "restore" },
		delta:   func(a archive) string { return r.call(a) + "--delta restore" },
		rejoin:  func(a archive) string { return r.call(a) + "--delta --type=standby restore" },
	}, nil
}

func (r *pgBackRest) createStanza(ctx context.Context, a archive, codec, async string) error {
	if err := r.configure(a, codec, async); err != nil {
		return err
	}
	_, err := r.place.output(ctx, "/bin/sh", "-c", r.call(a)+"--no-online stanza-create")
	return err
}

// configure writes its configuration. All else than the repository goes to the auxiliary directory.
func (r *pgBackRest) configure(a archive, codec, async string) error {
	for _, name := range []string{"spool", "lock"} {
		if err := os.RemoveAll(filepath.Join(a.aux, name)); err != nil {
			return err
		}
		if err := r.place.mkdir(filepath.Join(a.aux, name)); err != nil {
			return err
		}
	}
	return r.place.writeFile(filepath.Join(a.aux, "pgbackrest.conf"), fmt.Sprintf(`[global]
repo1-path=%s
spool-path=%s/spool
lock-path=%s/lock
log-level-file=off
archive-async=%s
process-max=2
compress-type=%s
compress-level=1

[bench]
pg1-path=%s
pg1-socket-path=%s
pg1-user=postgres
`, a.store, a.aux, a.aux, async, codec, a.data, r.place.runs))
}
