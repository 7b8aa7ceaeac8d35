package pgserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"walkeep/common/conninfo"
)

// ConnectSuperuser connects to a database of a server that trusts everyone who can reach it, as the role that initdb has
// made, and whatever the settings of roles and databases are. Which role that is, is asked as the user of conninfo, as the user
// of the system, or as postgres.
func ConnectSuperuser(ctx context.Context, conninfo, host string, port uint16, database string) (*Conn, error) {
	var first error
	for _, user := range []string{"", "postgres"} {
		c, err := connectTo(ctx, conninfo, host, port, database, user, untouched)
		if Denied(err) { // it is no superuser, who alone may set them
			c, err = connectTo(ctx, conninfo, host, port, database, user, nil)
		}
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		names, err := c.Strings(ctx, "SELECT rolname FROM pg_roles WHERE oid = 10")
		c.Close(context.WithoutCancel(ctx))
		if err != nil || len(names) == 0 {
			return nil, fmt.Errorf("find the superuser: %w", err)
		}
		return connectTo(ctx, conninfo, host, port, database, names[0], untouched)
	}
	return nil, first
}

// connectTo connects to one server; with the user of conninfo where none is given.
func connectTo(ctx context.Context, text, host string, port uint16, database, user string, settings map[string]string) (*Conn, error) {
	if host == "" || port == 0 {
		return nil, errors.New("connect to the server: it does not say where it listens")
	}
	c, err := read(text, os.Getenv)
	if err != nil {
		return nil, err
	}
	c = c.With("dbname", database)
	if user != "" {
		c = c.With("user", user)
	}
	p, err := placeOf(c, conninfo.Address{Host: host, Port: port})
	if err != nil {
		return nil, err
	}
	maps.Copy(p.config.RuntimeParams, settings)
	conn, err := p.open(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("connect to the server: %w", err)
	}
	return conn, nil
}

// NotReady reports whether a connection's error may disappear by itself: the server is starting, or does not listen
// yet.
func NotReady(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "57P03" // cannot_connect_now
	}
	return true
}

// Warm reports whether a server refused a connection because it is a standby with hot_standby = off. Servers before 14
// do not report that.
func Warm(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "57P03" && strings.Contains(pg.Detail, "Hot standby mode is disabled")
}

// Answered reports whether the server itself refused a connection, so that it runs.
func Answered(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg)
}

// Strings gives the first column of all rows.
func (c *Conn) Strings(ctx context.Context, sql string) ([]string, error) {
	rows, err := c.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
