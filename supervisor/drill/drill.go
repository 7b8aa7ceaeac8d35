// Package drill tests whether a backup can be recovered: it restores the backup into a scratch directory, starts a
// server there, replays the WAL, and reads every table.
//
// Nobody else can reach the server of a drill: it listens only in a directory of mode 0700. Whatever the cluster's
// own configuration is, the server archives nothing, loads none of the cluster's libraries, follows no subscription
// and no primary, and uses little memory; the drill replaces postgresql.conf. The drill only reads the archive.
// Tablespaces go below the scratch directory, so that the drill touches nothing of the host's cluster.
//
// The drill removes the scratch directory at its end, also after an error. A drill that was killed leaves the
// directory; the next one in the same place finds that no process holds its lock, stops the server that may still run
// there, and removes it.
package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/launch"
	"walkeep/supervisor/pgconf"
	"walkeep/supervisor/pgserver"
	"walkeep/supervisor/restore"
)

// Options describe what is tested, and where.
type Options struct {
	Restore restore.Options // Dir, Delta and Tablespaces are set by the drill; Changes are those of the plan
	Parent  string          // the parent of the scratch directory
	// Prepare makes what the server's restore_command needs, in the scratch directory, and returns the command. nil: Restore has
	// the command.
	Prepare  func(scratch, data string) (command string, err error)
	Bindir   string     // the directory of PostgreSQL's programs; empty: the system's
	Conninfo string     // the user to connect as
	Step     func(Step) // called at the end of each step; optional
	// Replayed is called with the current position of replay; optional.
	Replayed func(wal.LSN)
}

// A Step is a part of a drill.
type Step struct {
	Name    string
	Took    time.Duration
	Skipped bool   // the step is impossible here, which is not a failure
	Detail  string // what was done, or why it was not
	Err     error
}

// ErrFailed reports that a step has failed.
var ErrFailed = errors.New("the drill has failed")

// A drill is one call of Run.
type drill struct {
	Options
	a      *archive.Archive
	inv    *recovery.Inventory
	major  int
	bindir string
	at     *scratch
	steps  []Step
	before *wal.Change // replay ends before it, and before the target
}

// ErrLong reports that a server could not listen in the scratch directory.
var ErrLong = cli.NewError("the name of the scratch directory is too long for the server's socket",
	"name a directory with a shorter name with --drill-dir")

// ErrNoSocket reports a server that could not listen where nobody else reaches it.
var ErrNoSocket = cli.NewError("the drill cannot be done: on Windows only servers of version 13 and later listen at Unix sockets", "restore the backup by hand ({restore --target-dir DIR --start})")

// ErrOutside reports that the backup cannot be tested: its own WAL creates a tablespace outside of the scratch
// directory.
var ErrOutside = cli.NewError("the drill cannot be done: the server would write outside of its directory",
	"take a new backup, and run a drill of it; create no tablespace while it is taken")

// Until returns the target of replay in a drill: the end of the WAL that was examined, or the position before the
// record c, which creates a tablespace outside of the scratch directory; c is nil if there is none. Replay puts such
// a tablespace where it was created, whatever the link to it is, and on the cluster's own host its server uses that
// place.
func Until(p recovery.Plan, changes recovery.Changes) (until *recovery.Target, c *wal.Change, err error) {
	for _, c := range changes.Tablespaces {
		if c.Tablespace.Location == "" {
			continue // it is in the data directory
		}
		if c.Start < p.Backup.Stop {
			return nil, nil, fmt.Errorf("%w: tablespace %d, in %s, was created at %s, while backup %s was taken", ErrOutside,
				c.Tablespace.OID, c.Tablespace.Location, c.Start, p.Backup.ID)
		}
		return &recovery.Target{Kind: recovery.ToLSN, LSN: c.Start, Exclusive: true}, &c, nil
	}
	if changes.Unread != nil && changes.Last < p.Backup.Stop {
		return nil, nil, fmt.Errorf("%w, perhaps: its WAL is of a newer version of PostgreSQL, and cannot be read from the %s on", ErrOutside, changes.Unread)
	}
	if (p.Target.Kind == recovery.ToLatest || changes.Unread != nil) && changes.Last != 0 {
		return &recovery.Target{Kind: recovery.ToLSN, LSN: changes.Last}, nil, nil
	}
	return nil, nil, nil
}

// Run does a drill, and returns the results of its steps. The error is [ErrFailed] if one of them has failed, and
// another one if the drill could not be done. Drills may run concurrently, each in its own scratch directory.
func Run(ctx context.Context, a *archive.Archive, inv *recovery.Inventory, o Options) (steps []Step, err error) {
	d := &drill{Options: o, a: a, inv: inv, major: o.Restore.Plan.Backup.Major}
	if d.Options.Restore.Recovery.Until, d.before, err = Until(o.Restore.Plan, o.Restore.Changes); err != nil {
		return nil, err
	}
	d.Options.Restore.Changes = recovery.Changes{} // none of them is replayed
	if d.bindir, err = launch.Check(ctx, o.Bindir, d.major); err != nil {
		return nil, err
	}
	if runtime.GOOS == "windows" && d.major < 13 {
		return nil, ErrNoSocket
	}
	if err := sweep(ctx, o.Parent, d.bindir, o.Restore.Notice); err != nil {
		return nil, err
	}
	if d.at, err = newScratch(o.Parent); err != nil {
		return nil, err
	}
	if err := d.at.checkSocket(); err != nil {
		return nil, errors.Join(err, d.at.remove(ctx, d.bindir))
	}
	defer func() {
		if left := d.at.remove(context.WithoutCancel(ctx), d.bindir); left != nil {
			err = errors.Join(err, fmt.Errorf("the scratch directory could not be removed: %w", left))
		}
	}()
	for _, s := range []struct {
		name string
		do   func(context.Context) (string, error)
	}{
		{"restore", d.restore},
		{"pg_verifybackup", d.verifyBackup},
		{"recover", d.recover},
		{"read", d.read},
		{"pg_amcheck", d.checkIndexes},
	} {
		if err := d.step(ctx, s.name, s.do); err != nil {
			return d.steps, err
		}
	}
	return d.steps, nil
}

// errSkip is the error of a step that is impossible here; the detail gives the reason.
var errSkip = errors.New("skipped")

func (d *drill) step(ctx context.Context, name string, do func(context.Context) (string, error)) error {
	begun := time.Now()
	detail, err := do(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s := Step{Name: name, Took: time.Since(begun), Detail: detail, Err: err}
	if errors.Is(err, errSkip) {
		s.Skipped, s.Err = true, nil
	}
	d.steps = append(d.steps, s)
	if d.Step != nil {
		d.Step(s)
	}
	if s.Err != nil {
		return fmt.Errorf("%w at %s: %w", ErrFailed, name, s.Err)
	}
	return nil
}

func (d *drill) restore(ctx context.Context) (string, error) {
	o := &d.Options.Restore
	o.Dir, o.Delta, o.Tablespaces = d.at.data(), false, make(map[string]string)
	o.Recovery.Action, o.Bare = "promote", true
	if d.Prepare != nil {
		var err error
		if o.Recovery.Command, err = d.Prepare(d.at.dir, o.Dir); err != nil {
			return "", err
		}
	}
	for _, ts := range o.Plan.Backup.Tablespaces {
		if restore.IsAbs(ts.Location) {
			o.Tablespaces[ts.Location] = filepath.Join(d.at.dir, "tablespaces", strconv.FormatUint(uint64(ts.OID), 10))
		}
	}
	done, err := restore.Run(ctx, d.a, d.inv, *o)
	if err != nil {
		return "", err
	}
	o.Dir = done.Dir
	return fmt.Sprintf("%d files, %d MB", done.Files, done.Bytes>>20), nil
}

// recover starts the server, and waits until it has replayed all WAL and opened the database.
func (d *drill) recover(ctx context.Context) (string, error) {
	if err := d.configure(); err != nil {
		return "", err
	}
	server := d.Options.Restore.Server()
	server.Bindir, server.Conninfo, server.Replayed = d.bindir, d.Conninfo, d.Replayed
	if _, err := launch.Start(ctx, server); err != nil {
		return "", err
	}
	c, err := d.connect(ctx, "postgres")
	if err != nil {
		return "", err
	}
	defer c.Close(context.WithoutCancel(ctx))
	var end, last string
	err = c.QueryRow(ctx, "SELECT pg_last_wal_replay_lsn()::text, coalesce(pg_last_xact_replay_timestamp()::text, '')").Scan(&end, &last)
	if err != nil {
		return "", fmt.Errorf("ask how far replay went: %w", err)
	}
	if err := d.checkEnd(end); err != nil {
		return "", err
	}
	detail := "WAL to " + wal.ShortLSNs(end)
	if last != "" {
		detail += ", last commit " + last
	}
	if d.before != nil {
		detail += fmt.Sprintf("; not further: then tablespace %d is created in %s", d.before.Tablespace.OID, d.before.Tablespace.Location)
	}
	return detail, nil
}

// checkEnd refuses a recovery to the latest target that has ended before the last segment of the plan.
func (d *drill) checkEnd(end string) error {
	p := d.Options.Restore.Plan
	if d.before != nil {
		return nil
	}
	lsn, err := wal.ParseLSN(end)
	if err != nil || p.Target.Kind != recovery.ToLatest {
		return err
	}
	last, err := p.Last.Start(p.Backup.SegmentSize)
	if err != nil {
		return err
	}
	if lsn < min(last, p.To) {
		return fmt.Errorf("replay ended at %s, although the archive holds WAL up to %s", lsn, p.To)
	}
	return nil
}

// configure replaces the configuration of the scratch cluster.
func (d *drill) configure() error {
	dir := d.Options.Restore.Dir
	for name, content := range map[string]string{
		"postgresql.conf": "",
		"pg_hba.conf":     "local all all trust\n", // nobody else reaches the directory of the socket
		"pg_ident.conf":   "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	// The last setting of a name is used, and nothing comes after this file.
	f, err := os.OpenFile(filepath.Join(dir, "postgresql.auto.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	for _, s := range d.settings() {
		fmt.Fprintf(f, "%s = %s\n", s[0], pgconf.Quote(s[1]))
	}
	return f.Close()
}

// settings returns the settings of the drill's server.
func (d *drill) settings() [][2]string {
	dir := d.Options.Restore.Dir
	all := [][2]string{
		{"data_directory", dir},
		{"hba_file", filepath.Join(dir, "pg_hba.conf")},
		{"ident_file", filepath.Join(dir, "pg_ident.conf")},
		{"external_pid_file", ""},
		{"listen_addresses", ""},
		{"unix_socket_directories", d.at.socket()},
		{"unix_socket_permissions", "0700"},
		{"port", strconv.Itoa(port)},
		{"ssl", "off"},
		{"archive_mode", "off"},
		{"hot_standby", "off"},                   // a hot standby would need at least the primary's limits
		{"max_logical_replication_workers", "0"}, // otherwise subscriptions would consume changes that the cluster needs
		{"synchronous_standby_names", ""},
		{"shared_preload_libraries", ""},
		{"session_preload_libraries", ""},
		{"local_preload_libraries", ""},
		{"shared_buffers", "64MB"},
		{"huge_pages", "off"},
		{"max_connections", "20"},
		{"max_wal_senders", "0"},              // up to 11 they are counted among the connections
		{"max_prepared_transactions", "1000"}, // recovered prepared transactions need room
		{"autovacuum", "off"},
		{"fsync", "off"}, // the scratch cluster is removed anyway
		{"full_page_writes", "off"},
		{"synchronous_commit", "off"},
		{"logging_collector", "off"},
		{"log_destination", "stderr"},
		{"cluster_name", "walkeep drill"},
		{"temp_tablespaces", ""},
		{"statement_timeout", "0"},
	}
	if d.major >= 12 {
		all = append(all, [2]string{"recovery_end_command", ""}, [2]string{"archive_cleanup_command", ""}, [2]string{"primary_conninfo", ""})
	}
	if d.major >= 17 {
		all = append(all, [2]string{"event_triggers", "off"})
	}
	return all
}

// port is the same for every drill: each has its own directory for the socket.
const port = 5432

// connectPatience limits how long a server that has opened its database may refuse connections.
const connectPatience = 30 * time.Second

// connect connects to a database as a superuser.
func (d *drill) connect(ctx context.Context, database string) (*pgserver.Conn, error) {
	deadline := time.Now().Add(connectPatience)
	for {
		c, err := pgserver.ConnectSuperuser(ctx, d.Conninfo, d.at.socket(), port, database)
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) || !pgserver.NotReady(err) {
			return c, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// databases lists the readable databases. It first allows connections to those that allow none, except templates. A
// database whose removal was interrupted (datconnlimit = -2) can only be removed.
func (d *drill) databases(ctx context.Context) ([]string, error) {
	c, err := d.connect(ctx, "postgres")
	if err != nil {
		return nil, err
	}
	defer c.Close(context.WithoutCancel(ctx))
	closed, err := c.Strings(ctx, "SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS true', datname) FROM pg_database WHERE NOT datallowconn AND NOT datistemplate AND datconnlimit <> -2")
	if err != nil {
		return nil, err
	}
	for _, sql := range closed {
		if _, err := c.Exec(ctx, sql); err != nil {
			return nil, err
		}
	}
	return c.Strings(ctx, "SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY datname")
}

// read reads every row of every table, including its TOAST data.
func (d *drill) read(ctx context.Context) (string, error) {
	databases, err := d.databases(ctx)
	if err != nil {
		return "", err
	}
	tables, rows := 0, int64(0)
	for _, database := range databases {
		t, r, err := d.readDatabase(ctx, database)
		if err != nil {
			return "", fmt.Errorf("database %q: %w", database, err)
		}
		tables, rows = tables+t, rows+r
	}
	return fmt.Sprintf("%d rows of %d tables in %d databases", rows, tables, len(databases)), nil
}

const tablesSQL = `SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'm') AND c.relispopulated AND c.relpersistence = 'p' ORDER BY 1`

func (d *drill) readDatabase(ctx context.Context, database string) (tables int, rows int64, err error) {
	c, err := d.connect(ctx, database)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close(context.WithoutCancel(ctx))
	names, err := c.Strings(ctx, tablesSQL)
	if err != nil {
		return 0, 0, err
	}
	for _, name := range names {
		tag, err := c.PgConn().CopyTo(ctx, io.Discard, "COPY (SELECT * FROM ONLY "+name+") TO STDOUT")
		if err != nil {
			return 0, 0, fmt.Errorf("table %s: %w", name, err)
		}
		rows += tag.RowsAffected()
	}
	return len(names), rows, nil
}
