//go:build linux

package main

import (
	"context"
	_ "embed"
	"os"
	"path/filepath"
	"strconv"
)

// What the recipes load: pgbench's tables and transactions, and text.
const (
	pgbenchCount = 6000 // transactions per client and helping
	pgbenchSeed  = 4711
)

var (
	//go:embed recipe/schema.sql
	schemaSQL string
	//go:embed recipe/text.sql
	textSQL string
)

func (p *place) initdb(ctx context.Context, data string) error {
	_, err := p.postgres(ctx, "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--data-checksums",
		"-E", "UTF8", "--no-locale", "-N")
	return err
}

// sql runs a script on the server that runs.
func (p *place) sql(ctx context.Context, text string, args ...string) error {
	script := filepath.Join(p.runs, "script.sql")
	defer os.Remove(script)
	if err := p.writeFile(script, text); err != nil {
		return err
	}
	_, err := p.postgres(ctx, "psql", append(args, "-XqAt", "-v", "ON_ERROR_STOP=1", "-f", script)...)
	return err
}

// createTables makes the tables, and fills those of pgbench.
func createTables(ctx context.Context, p *place, scale int) error {
	if err := p.sql(ctx, schemaSQL); err != nil {
		return err
	}
	_, err := p.postgres(ctx, "pgbench", "-i", "-q", "-s", strconv.Itoa(scale))
	return err
}

// addHelping runs a turn of transactions and one of text.
func addHelping(ctx context.Context, p *place, round int) error {
	if err := p.sql(ctx, "CHECKPOINT"); err != nil {
		return err
	}
	if _, err := p.postgres(ctx, "pgbench", "-n", "-M", "prepared", "-c", "2", "-t", strconv.Itoa(pgbenchCount),
		"--random-seed="+strconv.Itoa(pgbenchSeed+round)); err != nil {
		return err
	}
	rows := filepath.Join(p.runs, "rows")
	return p.sql(ctx, textSQL, "-v", "round="+strconv.Itoa(round), "-v", "file="+rows)
}
