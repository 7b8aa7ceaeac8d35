// Package pgserver talks to the running PostgreSQL server: what it is, how it is set, what it is doing. A role with
// REPLICATION and pg_monitor is enough for all of it.
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"walkeep/common/wal"
)

const connectTimeout = 30 * time.Second

// A Conn is a connection for SQL. It is not safe for concurrent use.
type Conn struct{ *pgx.Conn }

// Connect connects by libpq's keywords or URL; what they leave open comes from the PG* variables, the service file and
// the password file. The database is postgres where none is named.
func Connect(ctx context.Context, conninfo string) (*Conn, error) {
	c, err := pgx.ParseConfig(conninfo)
	if err != nil {
		return nil, fmt.Errorf("read conninfo: %w", withoutPassword(err))
	}
	prepare(&c.Config)
	c.DefaultQueryExecMode = pgx.QueryExecModeExec // nothing is worth preparing
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("connect to the server: %w", err)
	}
	return &Conn{conn}, nil
}

// ConnectReplication connects for replication commands. notice is called with the server's warnings.
func ConnectReplication(ctx context.Context, conninfo string, notice func(*pgconn.Notice)) (*pgconn.PgConn, error) {
	c, err := pgconn.ParseConfig(conninfo)
	if err != nil {
		return nil, fmt.Errorf("read conninfo: %w", withoutPassword(err))
	}
	prepare(c)
	c.RuntimeParams["replication"] = "true"
	if c.ValidateConnect != nil {
		c.ValidateConnect = validateReplication(conninfo)
	}
	c.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notice(n) }
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("connect to the server for replication: %w", err)
	}
	return conn, nil
}

// validateReplication is what target_session_attrs asks of a server, in the words that a connection for replication takes:
// those of SQL are refused there.
func validateReplication(conninfo string) pgconn.ValidateConnectFunc {
	c, err := ParseConninfo(conninfo)
	wanted, said := c.value("target_session_attrs")
	if err != nil || !said {
		wanted = os.Getenv("PGTARGETSESSIONATTRS")
	}
	readOnly := ""
	switch wanted {
	case "read-write", "primary":
		readOnly = "off"
	case "read-only", "standby":
		readOnly = "on"
	}
	return func(ctx context.Context, conn *pgconn.PgConn) error {
		found, err := conn.Exec(ctx, "SHOW transaction_read_only").ReadAll()
		switch {
		case err != nil:
			return err
		case len(found) != 1 || len(found[0].Rows) != 1:
			return errors.New("the server does not say whether it is open for writing")
		case readOnly != "" && string(found[0].Rows[0][0]) != readOnly:
			return fmt.Errorf("it is not %s", wanted)
		}
		return nil
	}
}

// ErrSecret says that a conninfo holds a secret where it must not.
var ErrSecret = errors.New("it holds a password")

func prepare(c *pgconn.Config) {
	if c.Database == "" {
		c.Database = "postgres"
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	for _, word := range onlyLibpq {
		delete(c.RuntimeParams, word)
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "walkeep"
	}
}

// onlyLibpq are libpq's keywords that pgx does not know and would send as settings, which servers refuse. They stand in
// each primary_conninfo that pg_basebackup has written.
var onlyLibpq = []string{
	"client_encoding", "fallback_application_name", "gssdelegation", "gssencmode", "gsslib", "keepalives", "keepalives_count",
	"keepalives_idle", "keepalives_interval", "load_balance_hosts", "requirepeer", "requiressl",
	"ssl_max_protocol_version", "ssl_min_protocol_version", "sslcompression", "sslcrl", "sslcrldir", "sslkeylogfile", "tcp_user_timeout",
}

// withoutPassword keeps a conninfo that cannot be read out of the logs.
func withoutPassword(err error) error {
	var parse *pgconn.ParseConfigError
	if errors.As(err, &parse) {
		return fmt.Errorf("%w", errors.Unwrap(parse))
	}
	return err
}

// Info is what a server is.
type Info struct {
	Version     string // as SHOW server_version says it
	Major       int
	SystemID    wal.SystemID
	SegmentSize wal.SegmentSize
	Timeline    wal.Timeline // of its last checkpoint
	InRecovery  bool
	ArchiveMode string // off, on, always
	DataDir     string // empty if the role may not read it
	Checksums   bool   // pages have checksums
}

// Info asks the server what it is.
func (c *Conn) Info(ctx context.Context) (Info, error) {
	var i Info
	var number, segment, checksums string
	var system, timeline int64
	err := c.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('server_version_num'),
		current_setting('archive_mode'), current_setting('data_checksums'), current_setting('wal_segment_size'), pg_is_in_recovery(),
		(SELECT system_identifier FROM pg_control_system()), (SELECT timeline_id FROM pg_control_checkpoint())`).
		Scan(&i.Version, &number, &i.ArchiveMode, &checksums, &segment, &i.InRecovery, &system, &timeline)
	if err != nil {
		return i, fmt.Errorf("ask the server what it is: %w", err)
	}
	n, err := strconv.Atoi(number)
	if err != nil {
		return i, fmt.Errorf("server_version_num is %q", number)
	}
	i.Major, i.SystemID, i.Timeline, i.Checksums = n/10000, wal.SystemID(system), wal.Timeline(timeline), checksums == "on"
	if i.SegmentSize, err = wal.ParseSegmentSize(segment); err != nil {
		return i, err
	}
	// Only pg_monitor and pg_read_all_settings may read it; it is of use, but not needed.
	c.QueryRow(ctx, `SELECT setting FROM pg_settings WHERE name = 'data_directory'`).Scan(&i.DataDir)
	return i, nil
}
