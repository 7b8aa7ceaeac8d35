package pgserver

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

// ConnectAt is [Connect] to the server that listens at this host, or in this socket directory, and port, whatever conninfo
// says: of it, and of the environment, only who connects is taken.
func ConnectAt(ctx context.Context, conninfo, host string, port uint16) (*Conn, error) {
	c, err := pgx.ParseConfig(conninfo)
	if err != nil {
		return nil, fmt.Errorf("read conninfo: %w", withoutPassword(err))
	}
	c.Host, c.Port, c.Fallbacks, c.Database = host, port, nil, "postgres"
	if filepath.IsAbs(host) {
		c.TLSConfig = nil
	}
	prepare(&c.Config)
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("connect to the server: %w", err)
	}
	return &Conn{conn}, nil
}
