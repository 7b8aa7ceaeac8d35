//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
)

// The parts of the benchmark: archiving WAL, base backups, streaming the WAL that is being written, and shipping.
const (
	partStream  = "stream"
	partShip    = "ship"
	partArchive = "archive"
	partBackup  = "backup"
	partAll     = "all"
)

// tools are the programs that take part more than once.
type tools struct {
	walkeep    *walkeep
	pgBackRest *pgBackRest // the newest
	installed  *pgBackRest
	pgBindir   string
}

func newTools(p *place, o options) tools {
	programs := []string{"archive-cmd", "restore-cmd", "supervisor"}
	return tools{
		walkeep:    &walkeep{place: p, bindir: o.bindir, programs: programs},
		pgBackRest: &pgBackRest{place: p, locate: newestBackRest},
		installed:  &pgBackRest{place: p, locate: installedBackRest},
		pgBindir:   p.pgBindir,
	}
}

// wanted are the contestants of each part that are to run. A part without any is left out.
func (o options) wanted() (archiving, backups []string, err error) {
	if o.part == partArchive || o.part == partAll {
		archiving = contestantNames()
	}
	if o.part == partShip {
		archiving = []string{shipRival}
	}
	if o.part == partBackup || o.part == partAll {
		backups = takerNames()
	}
	if o.only == "" {
		return archiving, backups, nil
	}
	only := strings.Split(o.only, ",")
	for _, name := range only {
		if all := union(union(archiving, backups), o.streams()); !slices.Contains(all, name) {
			return nil, nil, fmt.Errorf("no contestant %q; there are: %s", name, strings.Join(all, ", "))
		}
	}
	left := func(name string) bool { return !slices.Contains(only, name) }
	return slices.DeleteFunc(archiving, left), slices.DeleteFunc(backups, left), nil
}

// streams are the contestants of the part that streams.
func (o options) streams() []string {
	if o.part != partStream && o.part != partAll {
		return nil
	}
	return streamNames()
}

// wantedStreams are those of them that are to run.
func (o options) wantedStreams() []string {
	only := strings.Split(o.only, ",")
	return slices.DeleteFunc(o.streams(), func(name string) bool { return o.only != "" && !slices.Contains(only, name) })
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
