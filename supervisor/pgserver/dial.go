package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"walkeep/common/conninfo"
)

// connectTimeout is how long connecting may take if connect_timeout is not set.
const connectTimeout = 30 * time.Second

// A Conn is a connection for SQL. It is not safe for concurrent use.
type Conn struct {
	*pgx.Conn
	here conninfo.Info
}

// Here returns the conninfo of the very server that the connection leads to, for another connection to it. It may hold a
// password.
func (c *Conn) Here() string { return c.here.String() }

// Connect connects by libpq's keywords or a URL. What they leave open is taken from the service file, the PG* variables
// and the password file. Of several servers it uses the first that answers and that satisfies target_session_attrs. The
// database is postgres if none is named.
func Connect(ctx context.Context, conninfo string) (*Conn, error) {
	c, err := connectFirst(ctx, conninfo, func(ctx context.Context, p Place, wanted string) (*Conn, error) {
		return p.open(ctx, validateSQL[wanted])
	})
	if err != nil {
		return nil, fmt.Errorf("connect to the server: %w", err)
	}
	return c, nil
}

// ConnectAt connects to the server that listens at this host, or in this socket directory, and port. Of conninfo and
// the environment it uses only the user and how the user is authenticated.
func ConnectAt(ctx context.Context, conninfo, host string, port uint16) (*Conn, error) {
	return connectTo(ctx, conninfo, host, port, "postgres", "", nil)
}

// ConnectReplication connects for replication commands. notice is called with the server's warnings.
func ConnectReplication(ctx context.Context, conninfo string, notice func(*pgconn.Notice)) (*pgconn.PgConn, error) {
	pg, err := connectFirst(ctx, conninfo, func(ctx context.Context, p Place, wanted string) (*pgconn.PgConn, error) {
		return p.replicate(ctx, validateReplication(wanted), notice)
	})
	if err != nil {
		return nil, fmt.Errorf("connect to the server for replication: %w", err)
	}
	return pg, nil
}

// connectFirst opens the first of a conninfo's servers that can be opened.
func connectFirst[C any](ctx context.Context, conninfo string, open func(ctx context.Context, p Place, wanted string) (C, error)) (none C, _ error) {
	whole, err := read(conninfo, os.Getenv)
	if err != nil {
		return none, err
	}
	places, err := placesOf(whole)
	if err != nil {
		return none, err
	}
	wanted, _ := whole.Value("target_session_attrs")
	tries := []string{wanted}
	switch wanted {
	case "", "any":
		tries = []string{"any"}
	case "prefer-standby":
		tries = []string{"standby", "any"}
	case "read-write", "read-only", "primary", "standby":
	default:
		return none, fmt.Errorf("conninfo: target_session_attrs is any, read-write, read-only, primary, standby or prefer-standby, not %q", wanted)
	}
	var failed []error
	for _, wanted := range tries {
		failed = nil
		for _, p := range places {
			c, err := open(ctx, p, wanted)
			if err == nil {
				return c, nil
			}
			failed = append(failed, err)
			if refusedLogin(err) {
				break
			}
		}
	}
	return none, errors.Join(failed...)
}

// refusedLogin reports whether a server knows the client and does not let it in: libpq asks no other server then.
func refusedLogin(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code {
	case "28P01", "3D000", "42501": // invalid_password, invalid_catalog_name, insufficient_privilege
		return true
	}
	return false
}

// A Place is one of the servers that a conninfo names.
type Place struct {
	conninfo.Address
	whole  conninfo.Info // complete, of all servers
	config *pgx.ConnConfig
}

// String returns the host and the port.
func (p Place) String() string {
	host := p.Host
	if p.Addr != "" {
		host = p.Addr
	}
	return net.JoinHostPort(host, strconv.Itoa(int(p.Port)))
}

// read reads a conninfo, with what the service and the environment add to it.
func read(text string, look conninfo.Environment) (conninfo.Info, error) {
	c, err := conninfo.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("read conninfo: %w", err)
	}
	return c.Complete(look)
}

// placesOf returns the servers that a complete conninfo names.
func placesOf(c conninfo.Info) ([]Place, error) {
	addresses, err := c.Addresses()
	if err != nil {
		return nil, err
	}
	var all []Place
	for _, a := range addresses {
		hosts := []string{a.Host}
		if a.Host == "" && a.Addr == "" {
			hosts = conninfo.DefaultHosts(a.Port)
		}
		for _, a.Host = range hosts {
			p, err := placeOf(c, a)
			if err != nil {
				return nil, err
			}
			all = append(all, p)
		}
	}
	return all, nil
}

// placeOf returns the place of one of the servers, with the driver's configuration for it.
func placeOf(c conninfo.Info, a conninfo.Address) (Place, error) {
	p := Place{Address: a, whole: c}
	host := a.Host
	switch {
	case a.Addr != "" && (host == "" || filepath.IsAbs(host) || host[0] == '@'):
		host = a.Addr // it counts, and there is no name to check
	case strings.HasPrefix(host, "@"):
		host = "/" + host // an abstract socket, which the driver would look up as a name
	}
	words := c.Passed()
	timeout, err := timeoutOf(c)
	if err != nil {
		return p, err
	}
	words = words.With("host", host).With("port", strconv.Itoa(int(a.Port))).With("target_session_attrs", "any").
		With("connect_timeout", strconv.Itoa(int(timeout/time.Second)))
	for _, name := range []string{"service", "servicefile"} { // the driver reads it once more, if PGSERVICE is set
		if value, said := c.Value(name); said {
			words = words.With(name, value)
		}
	}
	keyPassword, _ := c.Value("sslpassword")
	config, err := pgx.ParseConfigWithOptions(words.String(), pgx.ParseConfigOptions{ParseConfigOptions: pgconn.ParseConfigOptions{
		GetSSLPassword: func(context.Context) string { return keyPassword },
	}})
	if err != nil {
		return p, fmt.Errorf("read conninfo: %w", reason(err))
	}
	if password, said := c.Value("password"); said && password != "" {
		config.Password = password
	}
	if config.Database == "" {
		config.Database = "postgres"
	}
	config.DialFunc = dialAbstract(config.DialFunc)
	if a.Addr != "" {
		config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{a.Addr}, nil }
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // nothing is worth preparing
	prepareSession(config)
	p.config = config
	return p, nil
}

// timeoutOf returns connect_timeout.
func timeoutOf(c conninfo.Info) (time.Duration, error) {
	text, _ := c.Value("connect_timeout")
	if text == "" {
		return connectTimeout, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return 0, errors.New("conninfo has a connect_timeout that is no number of seconds")
	}
	if n <= 0 {
		return connectTimeout, nil
	}
	return time.Duration(max(n, 2)) * time.Second, nil // as libpq has it
}

// dialAbstract dials what the driver has made of the name of an abstract socket.
func dialAbstract(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if network == "unix" && strings.HasPrefix(address, "/@") {
			address = address[1:]
		}
		return dial(ctx, network, address)
	}
}

// reason keeps a conninfo that the driver cannot read out of the logs: it may hold a password.
func reason(err error) error {
	var parse *pgconn.ParseConfigError
	if !errors.As(err, &parse) {
		return err
	}
	text := parse.Error()
	if at := strings.LastIndex(text, "`: "); at >= 0 {
		return errors.New(text[at+len("`: "):])
	}
	return errors.New("it cannot be read")
}

// open connects to this server for SQL.
func (p Place) open(ctx context.Context, validate pgconn.ValidateConnectFunc) (*Conn, error) {
	config := p.config.Copy()
	config.ValidateConnect = validate
	return p.connectWith(ctx, config)
}

func (p Place) connectWith(ctx context.Context, config *pgx.ConnConfig) (*Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	return &Conn{conn, at(p.whole, p.Address, conn.PgConn().Conn().RemoteAddr())}, nil
}

// at returns a conninfo for the very server to which a connection was made, independent of the environment.
func at(c conninfo.Info, a conninfo.Address, remote net.Addr) conninfo.Info {
	addr := ""
	if tcp, ok := remote.(*net.TCPAddr); ok {
		addr = (&net.IPAddr{IP: tcp.IP, Zone: tcp.Zone}).String()
	}
	return c.With("host", a.Host).With("hostaddr", addr).With("port", strconv.Itoa(int(a.Port))).
		With("target_session_attrs", "any").With("load_balance_hosts", "disable")
}

// replicate connects to this server for replication commands.
func (p Place) replicate(ctx context.Context, validate pgconn.ValidateConnectFunc, notice func(*pgconn.Notice)) (*pgconn.PgConn, error) {
	config := p.config.Config.Copy()
	config.ValidateConnect = validate
	config.AfterConnect = nil
	config.RuntimeParams["replication"] = "true"
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notice(n) }
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	// A connection for replication cannot change a setting later, and a server refuses a connection for a setting that it does
	// not know. So the first connection finds out whether the server has the setting.
	if Major(conn.ParameterStatus("server_version")) < 14 {
		return conn, nil
	}
	found, err := conn.Exec(ctx, "SHOW idle_session_timeout").ReadAll()
	if err != nil || len(found) != 1 || len(found[0].Rows) != 1 || string(found[0].Rows[0][0]) == "0" {
		return conn, err
	}
	conn.Close(context.WithoutCancel(ctx))
	config.RuntimeParams["idle_session_timeout"] = "0"
	return pgconn.ConnectConfig(ctx, config)
}

// Major is the first number of a version, as server_version has it; 0 if there is none.
func Major(version string) int {
	end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(version)
	}
	n, _ := strconv.Atoi(version[:end])
	return n
}

// validateSQL maps values of target_session_attrs to what is asked of a server.
var validateSQL = map[string]pgconn.ValidateConnectFunc{
	"read-write": pgconn.ValidateConnectTargetSessionAttrsReadWrite,
	"read-only":  pgconn.ValidateConnectTargetSessionAttrsReadOnly,
	"primary":    pgconn.ValidateConnectTargetSessionAttrsPrimary,
	"standby":    pgconn.ValidateConnectTargetSessionAttrsStandby,
}

// validateReplication is the same in the words that a connection for replication takes: those of SQL are refused there.
func validateReplication(wanted string) pgconn.ValidateConnectFunc {
	readOnly := ""
	switch wanted {
	case "read-write", "primary":
		readOnly = "off"
	case "read-only", "standby":
		readOnly = "on"
	default:
		return nil
	}
	return func(ctx context.Context, conn *pgconn.PgConn) error {
		found, err := conn.Exec(ctx, "SHOW transaction_read_only").ReadAll()
		switch {
		case err != nil:
			return err
		case len(found) != 1 || len(found[0].Rows) != 1:
			return errors.New("the server does not say whether it is open for writing")
		case string(found[0].Rows[0][0]) != readOnly:
			return fmt.Errorf("it is not %s", wanted)
		}
		return nil
	}
}
