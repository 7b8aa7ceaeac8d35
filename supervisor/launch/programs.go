package launch

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"

	"walkeep/common/cli"
)

// ErrNoProgram reports that PostgreSQL's programs of a major version were not found.
var ErrNoProgram = cli.NewError("PostgreSQL's programs were not found", "name their directory with --bindir")

// Bindir returns the directory of PostgreSQL's programs of a major version: the given one, or one of the places where
// systems install them, or that of the pg_ctl on the PATH.
func Bindir(ctx context.Context, given string, major int) (string, error) {
	if given != "" {
		if err := checkMajor(ctx, given, major); err != nil {
			return "", err
		}
		return given, nil
	}
	for _, pattern := range usualPlaces {
		dir := fmt.Sprintf(pattern, major)
		if checkMajor(ctx, dir, major) == nil {
			return dir, nil
		}
	}
	if ctl, err := exec.LookPath("pg_ctl"); err == nil {
		dir := filepath.Dir(ctl)
		if real, err := filepath.EvalSymlinks(ctl); err == nil {
			dir = filepath.Dir(real)
		}
		if checkMajor(ctx, dir, major) == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("%w: none of version %d in the usual places or on the PATH", ErrNoProgram, major)
}

// usualPlaces are the directories in which the packages of Debian, Red Hat, Homebrew and Windows install a major
// version.
var usualPlaces = []string{
	"/usr/lib/postgresql/%d/bin", "/usr/pgsql-%d/bin", "/usr/lib/postgresql%d/bin", "/opt/homebrew/opt/postgresql@%d/bin",
	"/usr/local/opt/postgresql@%d/bin", `C:\Program Files\PostgreSQL\%d\bin`,
}

var versionForm = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

func checkMajor(ctx context.Context, dir string, major int) error {
	out, err := exec.CommandContext(ctx, Program(dir, "postgres"), "--version").Output()
	if err != nil {
		return fmt.Errorf("%w in %s: %w", ErrNoProgram, dir, err)
	}
	m := versionForm.FindSubmatch(out)
	if m == nil || string(m[1]) != strconv.Itoa(major) {
		return fmt.Errorf("%w in %s: postgres there is %q, not of version %d", ErrNoProgram, dir, out, major)
	}
	return nil
}

// Program returns the path of one of PostgreSQL's programs.
func Program(bindir, name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(bindir, name)
}
