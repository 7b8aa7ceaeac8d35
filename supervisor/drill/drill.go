// Package drill tries whether a backup can be recovered: it restores it into a scratch directory, starts a server there,
// replays the WAL, and reads every table.
//
// The server of a drill is reached by nobody else: it listens in a directory of mode 0700 only. It archives nothing, loads
// no libraries of the cluster's, follows no subscriptions and no primary, and takes little memory, whatever the cluster's
// own configuration says; postgresql.conf is replaced for it. The archive is only read. Tablespaces go below the scratch
// directory, so that nothing of the cluster's host is touched.
//
// The scratch directory is removed at the end, however that comes. A drill that was killed leaves it; the next one in the
// same place finds that nobody holds the lock of it, stops the server that may still run there, and removes it.
package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"walkeep/common/archive"
	"walkeep/common/storage"
	"walkeep/common/wal"
	"walkeep/supervisor/launch"
	"walkeep/supervisor/pgconf"
	"walkeep/supervisor/pgserver"
	"walkeep/supervisor/restore"
)

// Options say what is tried, and where.
type Options struct {
	Restore  restore.Options // Dir, Delta and Tablespaces are the drill's own; Changes are those of the plan
	Parent   string          // where the scratch directory is made
	Bindir   string          // empty: where the system has PostgreSQL's programs
	Conninfo string          // as whom to connect
	Step     func(Step)      // called when a step has ended; optional
	// Replayed is called with the position that replay has come to; optional.
	Replayed func(wal.LSN)
}

// A Step is a part of a drill.
type Step struct {
	Name    string
	Took    time.Duration
	Skipped bool   // it could not be done here, which is no failure
	Detail  string // what was done, or why it was not
	Err     error
}

// ErrFailed says that a step has failed.
var ErrFailed = errors.New("the drill has failed")

// A drill is one that runs.
type drill struct {
	Options
	b      storage.Backend
	inv    *archive.Inventory
	major  int
	bindir string
	at     *scratch
	steps  []Step
	before *wal.Change // at which replay ends, before the target
}

// ErrLong says that a server could not listen in the scratch directory.
var ErrLong = errors.New("the name of the scratch directory is too long for the server's socket")

// ErrOutside says that the backup cannot be tried: its own WAL creates a tablespace outside of the scratch directory.
var ErrOutside = errors.New("the drill cannot be held: the server would write outside of its directory")

// Until says where replay ends in a drill: with the WAL that was looked at, and before a record that creates a tablespace
// outside of the scratch directory, which is c; nil if there is none. Replay puts such a tablespace where it was created,
// whatever the link to it says, and on the cluster's own host that is where a server has it.
func Until(p archive.Plan, changes archive.Changes) (until *archive.Target, c *wal.Change, err error) {
	for _, c := range changes.Tablespaces {
		if c.Tablespace.Location == "" {
			continue // it lies in the data directory
		}
		if c.Start < p.Backup.Stop {
			return nil, nil, fmt.Errorf("%w: tablespace %d, in %s, was created at %s, while backup %s was taken", ErrOutside,
				c.Tablespace.OID, c.Tablespace.Location, c.Start, p.Backup.ID)
		}
		return &archive.Target{Kind: archive.ToLSN, LSN: c.Start, Exclusive: true}, &c, nil
	}
	if changes.Unread != nil && changes.Last < p.Backup.Stop {
		return nil, nil, fmt.Errorf("%w, perhaps: its WAL is of a newer version of PostgreSQL, and cannot be read from the %s on", ErrOutside, changes.Unread)
	}
	if (p.Target.Kind == archive.ToLatest || changes.Unread != nil) && changes.Last != 0 {
		return &archive.Target{Kind: archive.ToLSN, LSN: changes.Last}, nil, nil
	}
	return nil, nil, nil
}

// Run does a drill, and returns what its steps have found. The error is [ErrFailed] where one of them has failed, and
// another one where the drill could not be held.
func Run(ctx context.Context, b storage.Backend, inv *archive.Inventory, o Options) (steps []Step, err error) {
	d := &drill{Options: o, b: b, inv: inv, major: o.Restore.Plan.Backup.Major}
	if d.Options.Restore.Recovery.Until, d.before, err = Until(o.Restore.Plan, o.Restore.Changes); err != nil {
		return nil, err
	}
	d.Options.Restore.Changes = archive.Changes{} // nothing of them is replayed
	if d.bindir, err = launch.Check(ctx, o.Bindir, d.major); err != nil {
		return nil, err
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

// errSkip is the error of a step that cannot be done here; the detail says why.
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
	for _, ts := range o.Plan.Backup.Tablespaces {
		if restore.IsAbs(ts.Location) {
			o.Tablespaces[ts.Location] = filepath.Join(d.at.dir, "tablespaces", strconv.FormatUint(uint64(ts.OID), 10))
		}
	}
	done, err := restore.Run(ctx, d.b, d.inv, *o)
	if err != nil {
		return "", err
	}
	o.Dir = done.Dir
	return fmt.Sprintf("%d files, %d MB", done.Files, done.Bytes>>20), nil
}

// recover starts the server and waits until it has replayed all and opened the database.
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

// checkEnd refuses a recovery to the latest that has ended before the last segment of the plan.
func (d *drill) checkEnd(end string) error {
	p := d.Options.Restore.Plan
	if d.before != nil {
		return nil
	}
	lsn, err := wal.ParseLSN(end)
	if err != nil || p.Target.Kind != archive.ToLatest {
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
	// What comes last counts, and nothing comes after this file.
	f, err := os.OpenFile(filepath.Join(dir, "postgresql.auto.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	for _, s := range d.settings() {
		fmt.Fprintf(f, "%s = %s\n", s[0], pgconf.Quote(s[1]))
	}
	return f.Close()
}

// settings are those of the drill's server.
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
		{"hot_standby", "off"},                   // so that the primary's limits need not be this server's
		{"max_logical_replication_workers", "0"}, // or subscriptions would take what the cluster is to get
		{"synchronous_standby_names", ""},
		{"shared_preload_libraries", ""},
		{"session_preload_libraries", ""},
		{"local_preload_libraries", ""},
		{"shared_buffers", "64MB"},
		{"huge_pages", "off"},
		{"max_connections", "20"},
		{"max_wal_senders", "0"},              // up to 11 they are counted among the connections
		{"max_prepared_transactions", "1000"}, // those that are recovered must find room
		{"autovacuum", "off"},
		{"fsync", "off"}, // nothing of this is to last
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

// port is that of every drill: the socket's directory is its own.
const port = 5432

// connectPatience is how long a server that has opened its database may take to accept a connection.
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

// databases lists those that can be read, and opens those that let nobody connect, but for templates. A database whose removal was
// interrupted (datconnlimit = -2) can only be removed.
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

// read reads every row of every table, with all that is stored beside it.
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
