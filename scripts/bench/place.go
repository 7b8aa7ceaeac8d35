//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
)

// A place is where the program works and as whom: the directory, the account of the servers, PostgreSQL's programs.
type place struct {
	dir      string
	runs     string // the runs' files
	pgBindir string
	uid, gid int
	root     bool // this program runs as root and has to change to uid and gid
	lock     *os.File
}

// plainPath matches the paths that need no quoting, neither for a shell nor in pgBackRest's configuration.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9/._-]+$`)

func openPlace(o options) (*place, error) {
	p := &place{dir: o.dir, pgBindir: o.pgBindir, uid: os.Getuid(), gid: os.Getgid(), root: os.Getuid() == 0}
	if p.root {
		if err := p.lookUpUser(o.user); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"initdb", "postgres", "psql", "pgbench", "pg_basebackup"} {
		if _, err := os.Stat(filepath.Join(p.pgBindir, name)); err != nil {
			return nil, fmt.Errorf("PostgreSQL 15 with pgbench is needed (Debian: postgresql-15; see --pg-bindir): %w", err)
		}
	}
	if p.dir == "" && p.root {
		p.dir = "/var/tmp/walkeep-bench"
	} else if p.dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, err
		}
		p.dir = filepath.Join(cache, "walkeep", "bench")
	}
	p.dir = filepath.Clean(p.dir)
	if !plainPath.MatchString(p.dir) {
		return nil, fmt.Errorf("%q cannot be worked in: use --dir with an absolute path of plain characters", p.dir)
	}
	p.runs = filepath.Join(p.dir, "run")
	if err := p.claim(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *place) lookUpUser(name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("servers cannot run as root: %w", err)
	}
	if p.uid, err = strconv.Atoi(u.Uid); err != nil {
		return err
	}
	if p.gid, err = strconv.Atoi(u.Gid); err != nil {
		return err
	}
	if p.uid == 0 {
		return errors.New("servers cannot run as root: name another --user")
	}
	return nil
}

// claim makes the directory, or makes sure that it is ours, and locks it.
func (p *place) claim() error {
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return err
	}
	info, err := os.Lstat(p.dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(stat.Uid) != os.Getuid() {
		return fmt.Errorf("%s is not a directory of this user", p.dir)
	}
	// What is not this program's own is never removed: neither before a run nor by --clean.
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return err
	}
	known := func(e os.DirEntry) bool { return e.Name() == "lock" }
	if len(entries) > 0 && !slices.ContainsFunc(entries, known) {
		return fmt.Errorf("%s holds files of something else", p.dir)
	}
	p.lock, err = os.OpenFile(filepath.Join(p.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(p.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		p.close()
		return fmt.Errorf("lock %s (does another benchmark run there?): %w", p.dir, err)
	}
	return nil
}

func (p *place) close() {
	_ = p.lock.Close()
}

func (p *place) clean() error {
	for _, own := range []string{"recipe-*", "cluster-*", "tables-*", "run", "bin", "lock"} {
		paths, err := filepath.Glob(filepath.Join(p.dir, own))
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return os.Remove(p.dir)
}

// emptyRuns removes what an earlier benchmark left.
func (p *place) emptyRuns() error {
	if err := os.RemoveAll(p.runs); err != nil {
		return err
	}
	return p.mkdir(p.runs)
}

// mkdir makes a directory of the servers' account.
func (p *place) mkdir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return os.Chown(path, p.uid, p.gid)
}

// writeFile makes a file of the servers' account.
func (p *place) writeFile(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	return os.Chown(path, p.uid, p.gid)
}

// environment is that of all programs run: nothing of the caller's settings for PostgreSQL or walkeep reaches them.
func (p *place) environment() []string {
	return []string{
		"PATH=/usr/local/bin:/usr/bin:/bin:" + p.pgBindir, "LC_ALL=C", "TZ=UTC", "HOME=" + p.runs,
		"PGHOST=" + p.runs, "PGPORT=5432", "PGUSER=postgres", "PGDATABASE=postgres",
	}
}

func (p *place) credential() *syscall.Credential {
	if !p.root {
		return nil
	}
	return &syscall.Credential{Uid: uint32(p.uid), Gid: uint32(p.gid)}
}

// output runs a program as the servers' account, not measured, and returns what it printed.
func (p *place) output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "/"
	cmd.Env = p.environment()
	// Its own process group: an interrupt from the terminal comes to this program alone, which then ends the others.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential(), Setpgid: true}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", filepath.Base(name), err, tail(string(out)))
	}
	return string(out), nil
}

func (p *place) postgres(ctx context.Context, name string, args ...string) (string, error) {
	return p.output(ctx, filepath.Join(p.pgBindir, name), args...)
}
