package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The major versions that the project supports.
const (
	MinMajor = 10
	MaxMajor = 19
)

// debianMajor is the major that Debian's own package provides, with all client programs.
const debianMajor = 15

// ErrNoServer is returned when a major version is neither installed nor available for installation.
var ErrNoServer = errors.New("PostgreSQL server not found")

// Majors lists the major versions to test, in ascending order: all that are supported, or those of them that the
// environment variable WALKEEP_TEST_MAJORS names, separated by commas. It panics when that variable names anything else,
// because a test that silently runs against nothing is worse.
func Majors() []int {
	env := os.Getenv("WALKEEP_TEST_MAJORS")
	var list []int
	for field := range strings.FieldsFuncSeq(env, func(r rune) bool { return r == ',' || r == ' ' }) {
		m, err := strconv.Atoi(field)
		if err != nil || m < MinMajor || m > MaxMajor {
			panic(fmt.Sprintf("WALKEEP_TEST_MAJORS=%q: %q is not a major version from %d to %d", env, field, MinMajor, MaxMajor))
		}
		list = append(list, m)
	}
	if len(list) == 0 {
		for m := MinMajor; m <= MaxMajor; m++ {
			list = append(list, m)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Bindir returns the directory with the programs of that major version: at least initdb, pg_ctl and postgres. A missing
// server is installed by scripts/fetch-postgres, which may take a minute. The error wraps ErrNoServer.
func Bindir(major int) (string, error) {
	if major < MinMajor || major > MaxMajor {
		return "", fmt.Errorf("%w: major version %d is not from %d to %d", ErrNoServer, major, MinMajor, MaxMajor)
	}
	m := strconv.Itoa(major)
	places := []string{filepath.Join("/usr/lib/postgresql", m, "bin")}
	if env := os.Getenv("WALKEEP_TEST_POSTGRES"); env != "" {
		places = slices.Insert(places, 0, filepath.Join(env, m, "bin"))
	}
	if dir := firstBindir(places); dir != "" {
		return dir, nil
	}
	if runtime.GOOS != "linux" {
		return "", fmt.Errorf("%w: no %s, set WALKEEP_TEST_POSTGRES", ErrNoServer, strings.Join(places, " or "))
	}
	// Only the script knows which release is pinned, so it runs before its directories are searched.
	if root, err := moduleRoot(); err == nil {
		return fetch(root, "--bindir", m)
	}
	places = []string{filepath.Join("/var/cache/walkeep/postgres", m, "bin")}
	if cache, err := os.UserCacheDir(); err == nil {
		places = append(places, filepath.Join(cache, "walkeep", "postgres", m, "bin"))
	}
	if dir := firstBindir(places); dir != "" {
		return dir, nil
	}
	return "", fmt.Errorf("%w: major version %d, run scripts/fetch-postgres", ErrNoServer, major)
}

// ToolMajors are the major versions for which Debian provides all client programs.
var ToolMajors = []int{15, 17, 18, 19}

// ClientTool returns the path of a client program of Debian's PostgreSQL 15, such as psql, pgbench, pg_controldata or
// pg_receivewal. psql and pgbench work with all majors; for others see Tool. The error wraps ErrNoServer.
func ClientTool(name string) (string, error) { return Tool(debianMajor, name) }

// Tool returns the path of a client program of one of ToolMajors, such as pg_waldump or pg_verifybackup, which read what a
// server of that major has written and nothing else. Missing ones are installed by scripts/fetch-postgres, which may take
// two minutes. The error wraps ErrNoServer.
func Tool(major int, name string) (string, error) {
	dir, err := toolDir(major)
	if err != nil {
		return "", err
	}
	path := program(dir, name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: client program %s: %w", ErrNoServer, name, err)
	}
	return path, nil
}

func toolDir(major int) (string, error) {
	root, err := moduleRoot()
	if err != nil || runtime.GOOS != "linux" {
		return Bindir(major)
	}
	return fetch(root, "--tools", strconv.Itoa(major))
}

// fetched caches the results of fetch, by option and major.
var fetched sync.Map

// fetch runs scripts/fetch-postgres of the checkout at root, with --bindir or --tools.
func fetch(root, option, major string) (string, error) {
	if dir, ok := fetched.Load(option + major); ok {
		return dir.(string), nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(root, "scripts", "fetch-postgres"), option, major)
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %w: %s", ErrNoServer, err, strings.TrimSpace(stderr.String()))
	}
	dir := strings.TrimSpace(string(out))
	fetched.Store(option+major, dir)
	return dir, nil
}

func firstBindir(places []string) string {
	for _, dir := range places {
		if info, err := os.Stat(program(dir, "postgres")); err == nil && info.Mode().IsRegular() {
			return dir
		}
	}
	return ""
}

func program(dir, name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(dir, name)
}

// moduleRoot finds the checkout: upwards from the working directory, which in a test is the package's, or from where
// this file was compiled.
func moduleRoot() (string, error) {
	var starts []string
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		starts = append(starts, filepath.Dir(file))
	}
	for _, dir := range starts {
		for {
			text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
			if err == nil && bytes.HasPrefix(text, []byte("module walkeep\n")) {
				return dir, nil
			}
			up := filepath.Dir(dir)
			if up == dir {
				break
			}
			dir = up
		}
	}
	return "", errors.New("no checkout of walkeep around")
}
