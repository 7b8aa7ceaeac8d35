package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"walkeep/common/account"
	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/durable"
	"walkeep/common/pgdata"
	"walkeep/common/sealed"
	"walkeep/common/storage/local"
	"walkeep/supervisor/launch"
	"walkeep/supervisor/pgserver"
)

// firstMajor is the oldest supported version of PostgreSQL.
const firstMajor = 10

func (s *setup) ok(format string, args ...any) { s.say("ok: "+format, args...) }

// refuse records an obstacle. The other checks continue, so that one call reports all obstacles.
func (s *setup) refuse(hint, format string, args ...any) {
	p := &Problem{hint, fmt.Errorf(format, args...)}
	s.problems = append(s.problems, p)
	s.say("refused: %s", p)
	if hint != "" {
		s.say("  hint: %s", hint)
	}
}

// refused returns the error for the recorded obstacles.
func (s *setup) refused() error {
	if len(s.problems) == 0 {
		return nil
	}
	first := s.problems[0]
	if more := len(s.problems) - 1; more > 0 {
		return problem(first.hint, "%w (and %d more)", first.err, more)
	}
	return first
}

// check determines whether the server can be set up, and plans the changes.
func (s *setup) check(ctx context.Context) error {
	if err := s.checkServer(ctx); err != nil {
		return err
	}
	if err := s.refresh(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		s.checkProgram, s.checkSpool, s.checkSpace, s.planSettings, s.planSlot, s.planRole, s.checkRecipients, s.planFile, s.checkRestart, s.checkRepositories,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return s.refused()
}

// checkServer makes the checks that the others depend on.
func (s *setup) checkServer(ctx context.Context) error {
	i := s.info
	if i.Major < firstMajor {
		s.refuse("upgrade it", "PostgreSQL %s is older than %d", i.Version, firstMajor)
		return s.refused()
	}
	if newer := pgserver.Newer(i.Major); newer != "" {
		s.notice(cli.NewerHint, "%s", newer)
	}
	s.ok("PostgreSQL %s, system identifier %s", i.Version, i.SystemID)
	if i.InRecovery {
		s.refuse("call setup for the primary; a standby gets its settings from the backup that it was made from",
			"the server is in recovery: setup is for a primary")
	} else {
		s.ok("it is a primary")
	}
	if err := s.checkRights(ctx); err != nil {
		return err
	}
	if len(s.problems) > 0 {
		return s.refused()
	}
	return s.checkDirectory(ctx)
}

// checkRights checks that the role may make the changes. From 15 on these rights can be granted.
func (s *setup) checkRights(ctx context.Context) error {
	var user string
	var super bool
	if err := s.conn.QueryRow(ctx, `SELECT current_user::text, rolsuper FROM pg_roles WHERE rolname = current_user`).Scan(&user, &super); err != nil {
		return fmt.Errorf("ask for the rights of the role: %w", err)
	}
	if super {
		s.ok("role %s is superuser", user)
		return nil
	}
	hint := "connect as a superuser with --conninfo, such as --conninfo user=postgres"
	if s.info.Major < 15 {
		s.refuse(hint, "role %s is not superuser", user)
		return nil
	}
	missing, err := s.conn.Strings(ctx, `SELECT what FROM (VALUES
		('ALTER SYSTEM ON PARAMETER wal_level', has_parameter_privilege('wal_level', 'ALTER SYSTEM')),
		('ALTER SYSTEM ON PARAMETER max_wal_senders', has_parameter_privilege('max_wal_senders', 'ALTER SYSTEM')),
		('ALTER SYSTEM ON PARAMETER max_replication_slots', has_parameter_privilege('max_replication_slots', 'ALTER SYSTEM')),
		('ALTER SYSTEM ON PARAMETER archive_mode', has_parameter_privilege('archive_mode', 'ALTER SYSTEM')),
		('ALTER SYSTEM ON PARAMETER archive_command', has_parameter_privilege('archive_command', 'ALTER SYSTEM')),
		('ALTER SYSTEM ON PARAMETER synchronous_standby_names', has_parameter_privilege('synchronous_standby_names', 'ALTER SYSTEM')),
		('SELECT ON pg_file_settings', has_table_privilege('pg_file_settings', 'SELECT')),
		('EXECUTE ON FUNCTION pg_show_all_file_settings()', has_function_privilege('pg_show_all_file_settings()', 'EXECUTE')),
		('EXECUTE ON FUNCTION pg_reload_conf()', has_function_privilege('pg_reload_conf()', 'EXECUTE')),
		('pg_read_all_settings', pg_has_role('pg_read_all_settings', 'USAGE')),
		('REPLICATION', (SELECT rolreplication FROM pg_roles WHERE rolname = current_user))) AS rights (what, granted) WHERE NOT granted`)
	if err != nil {
		return fmt.Errorf("ask for the rights of the role: %w", err)
	}
	if len(missing) > 0 {
		s.refuse(hint, "role %s is not superuser, and lacks the rights that setup needs: %s", user, strings.Join(missing, ", "))
		return nil
	}
	s.ok("role %s may change the settings", user)
	return nil
}

// checkDirectory checks that the server is on this host, and determines the user that it runs as.
func (s *setup) checkDirectory(ctx context.Context) error {
	s.data = s.PGData
	if s.data == "" {
		s.data = s.info.DataDir
	}
	here := "call setup on the server's host, as root or as the server's user; give the data directory with --pgdata if the server sees it under another path"
	user, err := account.OwnerOf(s.data)
	if err != nil {
		s.refuse(here, "the data directory cannot be examined: %v", err)
		return s.refused()
	}
	if s.user = user; !user.Ours() {
		s.refuse(here, "the server runs as the user %s, and this program as another one", user.Name)
		return s.refused()
	}
	switch id, err := pgdata.SystemID(s.data); {
	case err != nil:
		s.refuse(here, "the data directory cannot be read: %v", err)
	case id == 0:
		s.refuse(here, "%s is not a data directory", s.data)
	case id != s.info.SystemID:
		s.refuse(here, "%s is the data directory of another cluster, with the system identifier %s", s.data, id)
	case !s.runsHere(ctx):
		s.refuse(here, "%s is the data directory of another server of this cluster, such as a standby", s.data)
	default:
		s.ok("its data directory is %s, its user %s", s.data, user.Name)
	}
	return s.refused()
}

// runsHere reports whether the connected server is the one that runs on the data directory. It returns true if the
// role may not ask for that.
func (s *setup) runsHere(ctx context.Context) bool {
	here, err := s.conn.RunsOn(ctx, s.data)
	return here || err != nil
}

// checkProgram makes the server's user call archive-cmd, in the spool's directory or the directory that will contain
// it.
func (s *setup) checkProgram(ctx context.Context) error {
	dir := s.Spool
	if !exists(dir) {
		dir = filepath.Dir(dir)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil // checkSpool reports the error
	}
	cmd := exec.CommandContext(ctx, s.Program, "--version")
	cmd.Dir = dir
	s.user.Use(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.refuse("allow the user to enter all parent directories of both", "the server's user %s cannot call %s in %s: %v %s",
			s.user.Name, s.Program, dir, err, strings.TrimSpace(string(out)))
		return nil
	}
	s.ok("archive-cmd is %s", s.Program)
	return nil
}

// checkRepositories asks each repository whether it can keep this cluster's archive.
func (s *setup) checkRepositories(ctx context.Context) error {
	cluster := archive.Identity{SystemID: s.info.SystemID, SegmentSize: s.info.SegmentSize}
	for _, r := range s.Repositories {
		closed := ""
		for _, path := range r.Files {
			if info, err := os.Stat(path); err == nil && !s.user.Reads(info) {
				closed = path
			}
		}
		if closed != "" {
			s.notice("give it to "+s.user.Name, "%s cannot be used: the server's user %s, as whom the service runs, cannot read %s", r.Title, s.user.Name, closed)
			continue
		}
		switch err := r.Test(ctx, cluster); {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, archive.ErrForeign):
			s.refuse("give each cluster a url of its own", "%s cannot be used: %w", r.Title, err)
		case err != nil:
			s.notice(cli.Hint(err), "%s cannot be used: %v", r.Title, err)
		default:
			s.ok("%s can be reached", r.Title)
		}
	}
	return nil
}

// checkRecipients checks that the server's user can read the list of recipients, and plans the key by which encrypted WAL is
// compared.
func (s *setup) checkRecipients(context.Context) error {
	if s.Recipients == "" {
		return nil
	}
	if _, err := sealed.ReadRecipients(s.Recipients); err != nil {
		s.refuse(cli.Hint(err), "%w", err)
		return nil
	}
	key := filepath.Join(filepath.Dir(s.Recipients), sealed.CompareKeyName)
	for _, path := range []string{s.Recipients, key} {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			s.plan.compareKey = path
		case err != nil:
			return err
		case !s.user.Reads(info):
			s.refuse("give it to "+s.user.Name, "the server's user %s cannot read %s, which archive-cmd reads", s.user.Name, path)
		}
	}
	if s.plan.compareKey != "" {
		if err := writable(filepath.Dir(key)); err != nil {
			s.refuse("call setup as root, or put the list of recipients into a directory of the server's user", "the key by which encrypted WAL is compared cannot be made: %s: %v", key, err)
		}
	}
	s.ok("WAL and backups are encrypted for the recipients in %s", s.Recipients)
	return nil
}

// checkSpool checks that the spool is usable and belongs to this cluster.
func (s *setup) checkSpool(ctx context.Context) error {
	if strings.ContainsAny(s.Spool+s.File+s.Program, "\r\n") {
		s.refuse("choose other names",
			"the name of the spool, the configuration file or archive-cmd contains a line break, which PostgreSQL does not accept in a setting")
		return nil
	}
	if within(s.Spool, s.data) {
		s.refuse("choose another spool with --spool, if possible on another host's disk",
			"the spool %s is in the data directory, and would be lost with it", s.Spool)
		return nil
	}
	info, err := os.Stat(s.Spool)
	if errors.Is(err, fs.ErrNotExist) {
		return s.checkParent()
	}
	if err != nil || !info.IsDir() {
		if err == nil {
			err = fmt.Errorf("%s is not a directory", s.Spool)
		}
		s.refuse("choose another one with --spool", "the spool cannot be used: %v", err)
		return nil
	}
	if !s.user.Owns(info) {
		s.refuse(cli.Line("chown", s.user.Name, s.Spool)+" gives it to that user; or choose another spool with --spool",
			"the spool %s does not belong to the server's user %s, who archives into it", s.Spool, s.user.Name)
		return nil
	}
	b, err := local.Open(s.Spool)
	if err != nil {
		s.refuse("make it readable", "the spool cannot be used: %v", err)
		return nil
	}
	id, err := archive.New(b).Identity(ctx)
	if err == nil && (id.SystemID != s.info.SystemID || id.SegmentSize != s.info.SegmentSize) {
		err = fmt.Errorf("%w, with the system identifier %s", archive.ErrForeign, id.SystemID)
	}
	if err == nil || errors.Is(err, archive.ErrUnbound) {
		if s.note, err = readNote(ctx, s.Spool); err == nil && s.note != nil && s.note.SystemID != s.info.SystemID {
			err = fmt.Errorf("%w, with the system identifier %s", archive.ErrForeign, s.note.SystemID)
		}
	}
	if err != nil {
		hint := "correct that, or choose another spool with --spool"
		if errors.Is(err, archive.ErrForeign) {
			hint = "choose a spool for each cluster with --spool"
		}
		s.refuse(hint, "the spool %s is refused: %v", s.Spool, err)
		return nil
	}
	if othersRead(info) {
		s.notice(cli.Line("chmod", "700", s.Spool), "other users of this host may read the spool")
	}
	s.ok("the spool is %s", s.Spool)
	return nil
}

// checkParent checks that the spool can be made.
func (s *setup) checkParent() error {
	parent := filepath.Dir(s.Spool)
	info, err := os.Stat(parent)
	switch {
	case err != nil:
		s.refuse("mount its file system, or make the directory "+parent, "the spool %s cannot be made: %v", s.Spool, err)
	case !info.IsDir():
		s.refuse("choose another one with --spool", "the spool %s cannot be made: %s is not a directory", s.Spool, parent)
	default:
		if err := writable(parent); err != nil {
			s.refuse("make the spool as root ("+cli.Line("install", "-d", "-m", "700", "-o", s.user.Name, s.Spool)+"), or call setup as root",
				"the spool %s cannot be made: %s: %v", s.Spool, parent, err)
			return nil
		}
		if !s.user.Named() {
			s.notice("allow them for the server's account, the system and administrators alone, with icacls",
				"the access rights of the spool will be those of %s: those of the data directory do not name the server's account", parent)
		}
		s.plan.spool = true
		s.ok("the spool %s can be made", s.Spool)
	}
	return nil
}

// checkSpace warns of a file system that will soon be full.
func (s *setup) checkSpace(ctx context.Context) error {
	if len(s.problems) > 0 {
		return nil
	}
	var size int64
	if err := s.conn.QueryRow(ctx, `SELECT coalesce(sum(pg_database_size(oid)), 0)::bigint FROM pg_database WHERE datallowconn`).Scan(&size); err != nil {
		s.notice("", "the size of the databases is not known: %v", err)
		return nil
	}
	free, _, err := durable.FreeSpace(s.Spool)
	if err != nil {
		s.notice("", "the free space of the spool is not known: %v", err)
		return nil
	}
	const MB = 1 << 20
	if free/2 < size {
		s.notice("use a larger file system, or plan a short retention",
			"the spool's file system has %d MB free, less than twice the databases' %d MB", free/MB, size/MB)
		return nil
	}
	s.ok("the spool's file system has %d MB free, the databases have %d MB", free/MB, size/MB)
	return nil
}

// checkRestart checks that the server can be restarted, if a restart was requested.
func (s *setup) checkRestart(ctx context.Context) error {
	if !s.Restart {
		return nil
	}
	if unit := s.unit(); unit != "" {
		s.refuse("leave --restart out, and call "+cli.Line("systemctl", "restart", unit),
			"the server belongs to the service manager, from which pg_ctl would take it away")
	} else if _, err := launch.Bindir(ctx, s.Bindir, s.info.Major); err != nil {
		s.refuse("give the directory of PostgreSQL's programs with --bindir, or restart the server by hand",
			"the server cannot be restarted: %v", err)
	}
	return nil
}

// within reports whether path is in dir.
func within(path, dir string) bool {
	for {
		if sameFile(path, dir) {
			return true
		}
		up := filepath.Dir(path)
		if up == path {
			return false
		}
		path = up
	}
}
