//go:build linux

package main

import (
	"context"
	"errors"
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
	end      func() // what setUp has started; nil: nothing
}

// A restorer is a way to restore.
type restorer struct {
	name    string
	label   string
	command func(archive) string
	setUp   func(context.Context, archive) error
	end     func() // what setUp has started; nil: nothing
}

// An archive is where a contestant works in one run.
type archive struct {
	store string // directory of the stored segments, and nothing else of size
	aux   string // directory for configuration and such
	data  string // the server's data directory
}

const floorName, restoreFloorName = "true", "ln"

func contestantNames() []string {
	return []string{floorName, "cp", "dd", "walkeep-zstd", "walkeep-s2", "walkeep-lz4", "pgbackrest-zst", "pgbackrest-lz4", "pgbackrest-zst-s3", "pgbackrest-installed-zst", "pgbackrest-installed-lz4"}
}

// chooseContestants makes the contestants asked for; the floor is always among them.
func chooseContestants(ctx context.Context, t tools, wanted []string) ([]*contestant, error) {
	if !slices.Contains(wanted, floorName) {
		wanted = append([]string{floorName}, wanted...)
	}
	var field []*contestant
	for _, name := range wanted {
		tool, codec, _ := strings.Cut(name, "-")
		var c *contestant
		var err error
		switch tool {
		case "walkeep":
			c, err = t.walkeep.contestant(ctx, codec)
		case "pgbackrest":
			r := t.pgBackRest
			if rest, old := strings.CutPrefix(codec, "installed-"); old {
				r, codec = t.installed, rest
			}
			if c, err = r.contestant(ctx, codec); errors.Is(err, errNoBackRest) {
				progress("%s is left out: %v", name, err)
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
				{restoreFloorName, "`ln`, the floor", func(a archive) string { return "ln " + a.store + "/%f %p" }, nil, nil},
				{"cp", "`cp`", func(a archive) string { return "cp " + a.store + "/%f %p" }, nil, nil},
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
