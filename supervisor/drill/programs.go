package drill

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"walkeep/supervisor/launch"
)

// verifyBackup runs pg_verifybackup, which compares the files with the manifest that the server made.
func (d *drill) verifyBackup(ctx context.Context) (string, error) {
	if _, err := os.Stat(filepath.Join(d.Options.Restore.Dir, "backup_manifest")); errors.Is(err, fs.ErrNotExist) {
		return "the backup has no backup_manifest", errSkip
	}
	// The WAL is in the archive, and recovery reads it.
	out, err := d.program(ctx, "pg_verifybackup", "--no-parse-wal", "--exit-on-error", d.Options.Restore.Dir)
	return out, err
}

// checkIndexes runs pg_amcheck on all tables and indexes.
func (d *drill) checkIndexes(ctx context.Context) (string, error) {
	if _, err := os.Stat(launch.Program(d.bindir, "pg_amcheck")); errors.Is(err, fs.ErrNotExist) {
		return noProgram, errSkip
	}
	c, err := d.connect(ctx, "postgres")
	if err != nil {
		return "", err
	}
	defer c.Close(context.WithoutCancel(ctx))
	there, err := c.Strings(ctx, "SELECT name FROM pg_available_extensions WHERE name = 'amcheck'")
	if err != nil {
		return "", err
	}
	if len(there) == 0 {
		return "the extension amcheck is not installed", errSkip
	}
	user, err := c.Strings(ctx, "SELECT current_user::text")
	if err != nil {
		return "", err
	}
	detail, err := d.program(ctx, "pg_amcheck", "--all", "--install-missing", "--host", d.at.socket(), "--port", strconv.Itoa(port),
		"--username", user[0], "--no-password", "--maintenance-db", "postgres", "--jobs", strconv.Itoa(d.Options.Restore.Jobs))
	if err != nil {
		return detail, err
	}
	return "tables and B-tree indexes of all databases", nil
}

// options override settings of databases and roles that would disturb the programs.
const options = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c default_transaction_read_only=off" +
	" -c session_preload_libraries= -c local_preload_libraries= -c role=none -c row_security=off"

const noProgram = "the program is not installed"

// program runs one of PostgreSQL's programs; it returns errSkip if the program is not installed.
func (d *drill) program(ctx context.Context, name string, args ...string) (string, error) {
	path := launch.Program(d.bindir, name)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return noProgram, errSkip
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PG") }), "PGOPTIONS="+options)
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		if len(text) > 2000 {
			text = text[:2000] + " ..."
		}
		return "", fmt.Errorf("%w: %s", err, text)
	}
	last := text[strings.LastIndexByte(text, '\n')+1:]
	return last, nil
}
