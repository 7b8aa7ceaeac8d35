//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// A taker is a contestant of base backups: a way to take one, and to restore what it took. Its commands go through a shell.
// While it takes one, an archive's data is the server's data directory, and afterwards the directory that is restored.
type taker struct {
	name    string
	label   string // as the report names it
	version string // of the tool, empty where that does not matter
	kept    string // directory in the store that holds the backup and nothing else; empty: the store itself
	opens   bool   // what it restores recovers by itself when it is started
	archive func(archive) string
	setUp   func(context.Context, archive) error // nil: nothing to be done before the server starts
	take    func(archive) string
	aim     func(archive) error  // makes ready to restore to another directory; nil: nothing to be done
	restore func(archive) string // nil: that is not measured
	delta   func(archive) string // nil likewise
	end     func()               // what setUp has started; nil: nothing
	kind    clusterKind
	cluster *cluster             // of that kind
	rejoin  func(archive) string // makes a standby of a server that has diverged; nil likewise
}

func takerNames() []string {
	return []string{
		"cp", "walkeep-zstd", "walkeep-zstd-stream", "walkeep-s2", "walkeep-none", "walkeep-none-stream", "pgbackrest-zst", "pgbackrest-lz4",
		"pgbackrest-installed-zst", "pg_basebackup", "pg_basebackup-server", "pg_basebackup-client",
		"walkeep-zstd-s3", "pgbackrest-zst-s3", "walkeep-zstd-s3-tables", "pgbackrest-zst-s3-tables",
	}
}

func chooseTakers(ctx context.Context, t tools, wanted []string) ([]*taker, error) {
	var takers []*taker
	for _, name := range wanted {
		short, tables := strings.CutSuffix(name, "-tables")
		tool, kind, _ := strings.Cut(short, "-")
		var c *taker
		var err error
		switch tool {
		case "walkeep":
			c, err = t.walkeep.taker(ctx, kind)
		case "pgbackrest":
			r := t.pgBackRest
			if rest, old := strings.CutPrefix(kind, "installed-"); old {
				r, kind = t.installed, rest
			}
			if c, err = r.taker(ctx, kind); errors.Is(err, errNoBackRest) {
				progress("%s is left out: %v", name, err)
				continue
			}
		case "pg_basebackup":
			c = pgBaseBackup(t.pgBindir, kind)
		default:
			c = copying()
		}
		if err != nil {
			return nil, err
		}
		c.name, c.kind = name, pages
		if tables {
			c.kind = manyTables
			c.label += ", 10,000 tables"
		}
		takers = append(takers, c)
	}
	return takers, nil
}

// keepWAL is the archive_command of those that bring none of their own.
func keepWAL(a archive) string { return "cp %p " + a.aux + "/%f" }

// pgBaseBackup makes the contestants of PostgreSQL's own tool, which leaves the WAL to the archive, as the others do.
func pgBaseBackup(bindir, compressor string) *taker {
	t := &taker{label: "`pg_basebackup -Fp`", archive: keepWAL}
	format := "-Fp"
	if compressor != "" {
		t.label = "`pg_basebackup -Ft`, zstd level 1 by the " + compressor
		format = "-Ft -Z " + compressor + "-zstd:level=1,workers=2"
	}
	t.take = func(a archive) string {
		return fmt.Sprintf("%s -X none -c fast %s -D %s", filepath.Join(bindir, "pg_basebackup"), format, a.store)
	}
	if compressor == "client" {
		t.restore = func(a archive) string { return durably("tar --zstd -xf "+a.store+"/base.tar.zst -C "+a.data, a.data) }
	}
	return t
}

// copying measures what the disk and the page cache allow. The copy is no backup, because the server did not take part.
func copying() *taker {
	return &taker{
		label: "`cp -a`", archive: keepWAL,
		take:    func(a archive) string { return durably("cp -a "+a.data+"/. "+a.store, a.store) },
		restore: func(a archive) string { return durably("cp -a "+a.store+"/. "+a.data, a.data) },
	}
}

// durably is for tools that leave it to the kernel when something is written to the disk.
func durably(command, dir string) string { return command + " && sync -f " + dir }
