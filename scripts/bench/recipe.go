//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The recipe of the backlog. After a change, here or in load.go or the SQL, a new cluster is prepared.
const (
	recipeVersion = 2
	pgbenchScale  = 10
	segmentSize   = 16 << 20
)

// A backlog is the prepared cluster.
type backlog struct {
	base     string               // cold copy of the data directory from before the load
	data     string               // data directory with the backlog, cleanly shut down
	segments []string             // names, in order
	modified map[string]time.Time // of the segment files: runs share them and must not change them
	version  string               // of PostgreSQL
}

var segmentReady = regexp.MustCompile(`^([0-9A-F]{24})\.ready$`)

// prepareBacklog finds the cluster prepared by this recipe, or prepares it.
func prepareBacklog(ctx context.Context, p *place, segments int) (*backlog, error) {
	version, err := p.postgres(ctx, "postgres", "--version")
	if err != nil {
		return nil, err
	}
	version = strings.TrimSpace(version)
	key := sha256.Sum256(fmt.Append(nil, recipeVersion, pgbenchScale, pgbenchCount, segments, version, schemaSQL, textSQL))
	dir := filepath.Join(p.dir, fmt.Sprintf("recipe-%x", key[:6]))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		err = cook(ctx, p, dir, segments)
		if err != nil {
			return nil, fmt.Errorf("prepare the backlog: %w", err)
		}
	} else if err != nil {
		return nil, err
	}
	b := &backlog{base: filepath.Join(dir, "base"), data: filepath.Join(dir, "data"), version: version}
	if b.segments, err = readySegments(b.data); err != nil {
		return nil, err
	}
	if len(b.segments) != segments {
		return nil, fmt.Errorf("%s holds %d segments instead of %d: remove it", dir, len(b.segments), segments)
	}
	return b, b.rememberTimes()
}

// cook prepares the cluster in dir, which appears when all is done.
func cook(ctx context.Context, p *place, dir string, segments int) error {
	progress("preparing a backlog of %d segments (a minute or two; kept in %s for the next time)", segments, p.dir)
	old, err := filepath.Glob(filepath.Join(p.dir, "recipe-*"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	if err := p.emptyRuns(); err != nil {
		return err
	}
	kitchen := dir + ".tmp"
	if err := p.mkdir(kitchen); err != nil {
		return err
	}
	data := filepath.Join(kitchen, "data")
	if err := p.initdb(ctx, data); err != nil {
		return err
	}
	if err := copyTree(data, filepath.Join(kitchen, "base"), nil); err != nil {
		return err
	}
	// Durability matters to no one here, and costs time.
	s, err := p.startServer(data, "archive_mode=on", "archive_command=/bin/false", "fsync=off", "synchronous_commit=off")
	if err != nil {
		return err
	}
	defer s.end()
	if _, err := s.ready(ctx); err != nil {
		return s.failed(err)
	}
	if err := loadBacklog(ctx, p, data, segments); err != nil {
		return s.failed(err)
	}
	if _, err := s.stop(ctx, stopFast); err != nil {
		return s.failed(err)
	}
	if err := cutBacklog(data, segments); err != nil {
		return err
	}
	return os.Rename(kitchen, dir)
}

// loadBacklog works in turns of transactions and text until there are enough segments.
func loadBacklog(ctx context.Context, p *place, data string, segments int) error {
	if err := createTables(ctx, p, pgbenchScale); err != nil {
		return err
	}
	for round := 0; ; round++ {
		if err := addHelping(ctx, p, round); err != nil {
			return err
		}
		ready, err := readySegments(data)
		if err != nil {
			return err
		}
		progress("  %d segments", len(ready))
		if len(ready) >= segments {
			break
		}
	}
	// The data directory is copied for each run; only its WAL matters.
	return p.sql(ctx, "DROP TABLE vocabulary, log_lines, events, documents; "+
		"DROP TABLE pgbench_accounts, pgbench_branches, pgbench_tellers, pgbench_history; CHECKPOINT")
}

// readySegments lists the segments that wait for the archiver, in order.
func readySegments(data string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(data, "pg_wal", "archive_status"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if m := segmentReady.FindStringSubmatch(e.Name()); m != nil {
			names = append(names, m[1])
		}
	}
	return names, nil
}

// cutBacklog declares archived what is beyond the wanted length, the last segment among them, which is not full.
func cutBacklog(data string, segments int) error {
	names, err := readySegments(data)
	if err != nil {
		return err
	}
	if len(names) <= segments {
		return fmt.Errorf("%d segments are not more than %d", len(names), segments)
	}
	for _, name := range names[segments:] {
		if err := os.Rename(statusFile(data, name, "ready"), statusFile(data, name, "done")); err != nil {
			return err
		}
	}
	// The archiver's counters start from nothing, so that they can be checked.
	return os.RemoveAll(filepath.Join(data, "pg_stat", "pgstat.stat"))
}

func statusFile(data, segment, state string) string {
	return filepath.Join(data, "pg_wal", "archive_status", segment+"."+state)
}

func (b *backlog) segmentFile(name string) string { return filepath.Join(b.data, "pg_wal", name) }

func (b *backlog) plainSize() int64 { return int64(len(b.segments)) * segmentSize }

func (b *backlog) files() []string {
	paths := make([]string, len(b.segments))
	for i, name := range b.segments {
		paths[i] = b.segmentFile(name)
	}
	return paths
}

// rememberTimes notes when the segments were last modified, for checkUnchanged.
func (b *backlog) rememberTimes() error {
	b.modified = map[string]time.Time{}
	for _, name := range b.segments {
		info, err := os.Stat(b.segmentFile(name))
		if err != nil {
			return err
		}
		b.modified[name] = info.ModTime()
	}
	return nil
}

// checkUnchanged makes sure that a run, whose segments are links to those of the backlog, has not written to them.
func (b *backlog) checkUnchanged() error {
	for _, name := range b.segments {
		info, err := os.Stat(b.segmentFile(name))
		if err != nil {
			return err
		}
		if !info.ModTime().Equal(b.modified[name]) || info.Size() != segmentSize {
			return fmt.Errorf("segment %s was changed by the run: the backlog is spoilt, use --clean", name)
		}
	}
	return nil
}

// copyData makes a data directory with the whole backlog still to be archived.
func (b *backlog) copyData(to string) error {
	return copyTree(b.data, to, func(path string) bool {
		return filepath.Dir(path) == "pg_wal" && slices.Contains(b.segments, filepath.Base(path))
	})
}
