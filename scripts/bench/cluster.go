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
	"strings"
)

// The recipe of the cluster that is backed up. After a change, here or in load.go or the SQL, a new one is made.
const (
	clusterRecipe   = 2
	clusterScale    = 25
	clusterHelpings = 6
)

// A cluster is what backups are taken of. It is loaded once; the runs work on a copy.
type cluster struct {
	prepared string // data directory, cleanly shut down
	data     string // the copy
	size     int64  // bytes
	version  string // of PostgreSQL
}

// A clusterKind is what a cluster holds.
type clusterKind struct {
	name   string
	recipe string // what it is made of: with another recipe another cluster is prepared
	load   func(context.Context, *place) error
	// count is a query that finds want. For pages it reads tables that no transaction makes longer, page by page, so that checksums are
	// looked at as well. Of documents, each helping adds 3000 (text.sql).
	count, want string
}

var pages = clusterKind{
	name:   "cluster",
	recipe: fmt.Sprint(clusterRecipe, clusterScale, clusterHelpings, pgbenchCount, schemaSQL, textSQL),
	load:   loadCluster,
	count: "SET enable_indexonlyscan = off; SET enable_indexscan = off; SET enable_bitmapscan = off; " +
		"SELECT (SELECT count(*) FROM pgbench_accounts) || ' ' || (SELECT count(length(body)) FROM documents)",
	want: fmt.Sprintf("%d %d", clusterScale*100_000, clusterHelpings*3000),
}

const createManyTables = `SELECT format('CREATE TABLE t_%s AS SELECT %s AS n', i, i) FROM generate_series(1, 10000) i \gexec
VACUUM; CHECKPOINT; CHECKPOINT`

var manyTables = clusterKind{
	name: "tables", recipe: createManyTables, load: func(ctx context.Context, p *place) error { return p.sql(ctx, createManyTables) },
	count: "SELECT count(*) || ' ' || sum(pg_relation_size(oid)) FROM pg_class WHERE relname ~ '^t_[0-9]'", want: "10000 81920000",
}

// divergeSQL changes about one page of a hundred, of the table and its index together.
var divergeSQL = fmt.Sprintf("SELECT setseed(0.5); UPDATE pgbench_accounts SET abalance = abalance + 1 "+
	"WHERE aid IN (SELECT (1 + random() * %d)::int FROM generate_series(1, 450)); CHECKPOINT", clusterScale*100_000-1)

// clusterSettings keep the server's pg_wal small; what a contestant needs of it is in its archive.
var clusterSettings = []string{"wal_keep_size=0", "min_wal_size=32MB", "max_wal_size=1GB", "wal_recycle=off"}

// prepareCluster finds the cluster prepared by this recipe, or prepares it.
func prepareCluster(ctx context.Context, p *place, kind clusterKind) (*cluster, error) {
	version, err := p.postgres(ctx, "postgres", "--version")
	if err != nil {
		return nil, err
	}
	version = strings.TrimSpace(version)
	key := sha256.Sum256(fmt.Append(nil, kind.recipe, version))
	dir := filepath.Join(p.dir, fmt.Sprintf("%s-%x", kind.name, key[:6]))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := cookCluster(ctx, p, kind, dir); err != nil {
			return nil, fmt.Errorf("prepare the cluster: %w", err)
		}
	} else if err != nil {
		return nil, err
	}
	c := &cluster{prepared: filepath.Join(dir, "data"), data: filepath.Join(p.runs, "source-"+kind.name), version: version}
	c.size, err = storedSize(filepath.Join(c.prepared, "base"))
	return c, err
}

// cookCluster loads the cluster in dir, which appears when all is done.
func cookCluster(ctx context.Context, p *place, kind clusterKind, dir string) error {
	progress("preparing a cluster to back up (a minute or two; kept in %s for the next time)", p.dir)
	old, err := filepath.Glob(filepath.Join(p.dir, kind.name+"-*"))
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
	// Durability matters to no one here, and costs time.
	s, err := p.startServer(data, append([]string{"fsync=off", "synchronous_commit=off"}, clusterSettings...)...)
	if err != nil {
		return err
	}
	defer s.end()
	if _, err := s.ready(ctx); err != nil {
		return s.failed(err)
	}
	if err := kind.load(ctx, p); err != nil {
		return s.failed(err)
	}
	if _, err := s.stop(ctx, stopFast); err != nil {
		return s.failed(err)
	}
	if err := os.Remove(s.log); err != nil {
		return err
	}
	return os.Rename(kitchen, dir)
}

func loadCluster(ctx context.Context, p *place) error {
	if err := createTables(ctx, p, clusterScale); err != nil {
		return err
	}
	for round := range clusterHelpings {
		if err := addHelping(ctx, p, round); err != nil {
			return err
		}
		progress("  %d of %d", round+1, clusterHelpings)
	}
	// The second checkpoint removes the WAL from before the first.
	return p.sql(ctx, "VACUUM (FREEZE, ANALYZE); CHECKPOINT; CHECKPOINT")
}

// start starts the server on the copy, which is made when there is none.
func (c *cluster) start(ctx context.Context, p *place, archiveCommand string) (*server, error) {
	if _, err := os.Stat(c.data); errors.Is(err, fs.ErrNotExist) {
		if err := copyTree(c.prepared, c.data, nil); err != nil {
			return nil, err
		}
	}
	if err := os.RemoveAll(c.data + ".log"); err != nil { // of the run before, which was ready as well
		return nil, err
	}
	s, err := p.startServer(c.data, append([]string{"archive_mode=on", "archive_command=" + archiveCommand}, clusterSettings...)...)
	if err != nil {
		return nil, err
	}
	if _, err := s.ready(ctx); err != nil {
		err = s.failed(err)
		s.end()
		return nil, err
	}
	return s, nil
}
