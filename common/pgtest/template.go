package pgtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"walkeep/common/pgdata"
	"walkeep/common/wal"
)

// templateLocks holds a *sync.Mutex per template, so that one initdb of a kind runs at a time in this process. Two
// processes may both run it: the first to rename wins.
var templateLocks sync.Map

var unsafeInName = regexp.MustCompile(`[^0-9A-Za-z.]+`)

// template returns a data directory as initdb of that release made it, to copy from, but without the database template0 and
// without old WAL. Every cluster, copy and backup of a test would else have three hundred more files, which no test needs.
func template(ctx context.Context, bindir string, o Options) (string, error) {
	version, err := versionOf(ctx, bindir)
	if err != nil {
		return "", err
	}
	cache, err := templateDir()
	if err != nil {
		return "", err
	}
	name := strings.Trim(unsafeInName.ReplaceAllString(version, "-"), "-")
	name = fmt.Sprintf("%s-segment%d-checksums-%t-compact", name, o.SegmentSizeMB, o.Checksums)
	path := filepath.Join(cache, name)

	lock, _ := templateLocks.LoadOrStore(path, new(sync.Mutex))
	lock.(*sync.Mutex).Lock()
	defer lock.(*sync.Mutex).Unlock()
	if isDir(path) {
		return path, nil
	}
	// The servers' user cannot write to the cache, so initdb runs elsewhere and the result is copied.
	work, err := MkdirTemp()
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	made := filepath.Join(work, "data")
	if err := initdb(ctx, bindir, made, o); err != nil {
		return "", err
	}
	if err := shrink(ctx, bindir, made); err != nil {
		return "", fmt.Errorf("shrink template: %w", err)
	}
	half, err := os.MkdirTemp(cache, ".new")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(half)
	if err := copyTree(made, half, copyOptions{keepOwner: true}); err != nil {
		return "", fmt.Errorf("keep template: %w", err)
	}
	if err := os.Rename(half, path); err != nil && !isDir(path) {
		return "", fmt.Errorf("keep template: %w", err)
	}
	return path, nil
}

// versions caches the version of each directory of programs.
var versions sync.Map

func versionOf(ctx context.Context, bindir string) (string, error) {
	if v, ok := versions.Load(bindir); ok {
		return v.(string), nil
	}
	out, err := exec.CommandContext(ctx, program(bindir, "postgres"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask for the server's version: %w", err)
	}
	versions.Store(bindir, string(out))
	return string(out), nil
}

func templateDir() (string, error) {
	dir := filepath.Join(tempBase(), "walkeep-"+strconv.Itoa(os.Getuid()))
	if cache, err := os.UserCacheDir(); err == nil {
		dir = filepath.Join(cache, "walkeep")
	}
	dir = filepath.Join(dir, "templates")
	return dir, os.MkdirAll(dir, 0o700)
}

func initdb(ctx context.Context, bindir, dir string, o Options) error {
	args := []string{"-D", dir, "-N", "-U", "postgres", "-A", "trust", "--no-locale", "-E", "UTF8"}
	if o.SegmentSizeMB != 0 && o.Major >= 11 {
		args = append(args, "--wal-segsize", strconv.Itoa(o.SegmentSizeMB))
	}
	switch {
	case o.Checksums:
		args = append(args, "--data-checksums")
	case o.Major >= 18: // on by default since
		args = append(args, "--no-data-checksums")
	}
	out, err := Command(ctx, program(bindir, "initdb"), args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("run initdb: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// shrink removes template0, and the WAL that a server that was shut down does not need. One table takes the place of template0's
// files, because two volumes are written of larger clusters alone.
func shrink(ctx context.Context, bindir, dir string) error {
	if runtime.GOOS == "windows" {
		return nil // an administrator could not run the server
	}
	cmd := Command(ctx, program(bindir, "postgres"), "--single", "-F", "-D", dir, "postgres")
	cmd.Stdin = strings.NewReader("UPDATE pg_database SET datistemplate = false WHERE datname = 'template0'\nDROP DATABASE template0\n" +
		"CREATE TABLE pgtest_filler AS SELECT generate_series(1, 150000) AS n\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run postgres --single: %w: %s", err, strings.TrimSpace(string(out)))
	}
	control, err := pgdata.ReadControl(dir)
	if err != nil {
		return err
	}
	segments, err := filepath.Glob(filepath.Join(dir, "pg_wal", strings.Repeat("?", 24)))
	if err != nil {
		return err
	}
	for _, path := range segments {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if needed := wal.SegmentAt(control.Timeline, control.Redo, wal.SegmentSize(info.Size())); filepath.Base(path) != needed.String() {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
