//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
)

// The two parts of the benchmark: archiving WAL, and base backups.
const (
	partArchive = "archive"
	partBackup  = "backup"
	partAll     = "all"
)

// tools are the programs that take part more than once.
type tools struct {
	walkeep    *walkeep
	pgBackRest *pgBackRest
	pgBindir   string
}

func newTools(p *place, o options) tools {
	programs := []string{"archive-cmd", "restore-cmd"}
	if o.part != partArchive {
		programs = append(programs, "supervisor")
	}
	return tools{
		walkeep:    &walkeep{place: p, bindir: o.bindir, programs: programs},
		pgBackRest: &pgBackRest{place: p},
		pgBindir:   p.pgBindir,
	}
}

// wanted tells which contestants of each part are to run. None: the part is left out.
func (o options) wanted() (archiving, backups []string, err error) {
	if o.part != partBackup {
		archiving = contestantNames()
	}
	if o.part != partArchive {
		backups = takerNames()
	}
	if o.only == "" {
		return archiving, backups, nil
	}
	only := strings.Split(o.only, ",")
	for _, name := range only {
		if !slices.Contains(archiving, name) && !slices.Contains(backups, name) {
			return nil, nil, fmt.Errorf("no contestant %q; there are: %s", name, strings.Join(union(archiving, backups), ", "))
		}
	}
	left := func(name string) bool { return !slices.Contains(only, name) }
	return slices.DeleteFunc(archiving, left), slices.DeleteFunc(backups, left), nil
}

// union is the names of both lists, each once.
func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, name := range b {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}
