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

// pgBackRest makes the contestant that compresses with zst or lz4, at level 1 and with two processes. Archiving is
// asynchronous, its quick way; restoring is synchronous, as nothing fetches ahead for the other contestants either.
func pgBackRest(ctx context.Context, p *place, codec string) (*contestant, error) {
	program, err := exec.LookPath("pgbackrest")
	if err != nil {
		return nil, err
	}
	version, err := p.output(ctx, program, "version")
	if err != nil {
		return nil, err
	}
	call := func(a archive) string {
		return program + " --config=" + filepath.Join(a.aux, "pgbackrest.conf") + " --stanza=bench "
	}
	c := &contestant{
		label:   "pgBackRest async " + codec + ", level 1",
		version: strings.TrimSpace(version),
		known:   true,
		archive: func(a archive) string { return call(a) + "archive-push %p" },
		setUp: func(ctx context.Context, a archive) error {
			if err := configurePgBackRest(p, a, codec, "y"); err != nil {
				return err
			}
			_, err := p.output(ctx, "/bin/sh", "-c", call(a)+"--no-online stanza-create")
			return err
		},
	}
	if codec == "zst" {
		c.restores = []restorer{{
			name: "pgbackrest-zst", label: "pgBackRest archive-get zst",
			command: func(a archive) string { return call(a) + `archive-get %f "%p"` },
			setUp:   func(_ context.Context, a archive) error { return configurePgBackRest(p, a, codec, "n") },
		}}
	}
	return c, nil
}

// configurePgBackRest writes its configuration. All else than the repository goes to the auxiliary directory.
func configurePgBackRest(p *place, a archive, codec, async string) error {
	for _, name := range []string{"spool", "lock"} {
		if err := os.RemoveAll(filepath.Join(a.aux, name)); err != nil {
			return err
		}
		if err := p.mkdir(filepath.Join(a.aux, name)); err != nil {
			return err
		}
	}
	return p.writeFile(filepath.Join(a.aux, "pgbackrest.conf"), fmt.Sprintf(`[global]
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
`, a.store, a.aux, a.aux, async, codec, a.data))
}
