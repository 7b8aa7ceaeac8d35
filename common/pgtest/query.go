package pgtest

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5"
)

// Conn opens a connection as superuser to the database postgres. The caller closes it.
func (c *Cluster) Conn(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	return pgx.Connect(ctx, c.ConnString())
}

// withConn opens a connection for the duration of f, or within WaitFor for that of the waiting.
func (c *Cluster) withConn(ctx context.Context, f func(*pgx.Conn) error) error {
	if h, ok := ctx.Value(heldKey{}).(*held); ok && h.mu.TryLock() {
		defer h.mu.Unlock()
		return h.with(ctx, c, f)
	}
	conn, err := c.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return f(conn)
}

// held are the connections that a waiting function keeps: a server works longer on a new connection than on a short query.
type held struct {
	mu    sync.Mutex
	conns map[*Cluster]*pgx.Conn
}

type heldKey struct{}

// with calls f with the connection to that cluster, which it opens if there is none, and closes after an error.
func (h *held) with(ctx context.Context, c *Cluster, f func(*pgx.Conn) error) (err error) {
	conn := h.conns[c]
	if conn == nil {
		if conn, err = c.Conn(ctx); err != nil {
			return err
		}
		h.conns[c] = conn
	}
	if err = f(conn); err != nil {
		delete(h.conns, c)
		conn.Close(context.WithoutCancel(ctx))
	}
	return err
}

func (h *held) close(ctx context.Context) {
	for _, conn := range h.conns {
		conn.Close(context.WithoutCancel(ctx))
	}
}

// Exec runs SQL on a connection of its own. Without args it may be several statements, separated by semicolons, which
// are then one transaction.
func (c *Cluster) Exec(ctx context.Context, sql string, args ...any) error {
	err := c.withConn(ctx, func(conn *pgx.Conn) error {
		// The simple protocol, in which the server accepts every command.
		_, err := conn.Exec(ctx, sql, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// QueryString returns the first column of the first row as text, whatever its type, and "" for NULL. No row is
// pgx.ErrNoRows.
func (c *Cluster) QueryString(ctx context.Context, sql string, args ...any) (string, error) {
	var s string
	err := c.withConn(ctx, func(conn *pgx.Conn) (err error) {
		s, err = queryString(ctx, conn, sql, args...)
		return err
	})
	return s, err
}

// QueryInt is QueryString for whole numbers.
func (c *Cluster) QueryInt(ctx context.Context, sql string, args ...any) (int64, error) {
	s, err := c.QueryString(ctx, sql, args...)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", sql, err)
	}
	return n, nil
}

func queryString(ctx context.Context, conn *pgx.Conn, sql string, args ...any) (string, error) {
	row, err := queryRow(ctx, conn, sql, args...)
	if err != nil {
		return "", err
	}
	return row[0], nil
}

// queryRow returns the first row's columns as text.
func queryRow(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]string, error) {
	rows, err := conn.Query(ctx, sql, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sql, err)
	}
	defer rows.Close()
	var row []string
	if rows.Next() {
		for _, v := range rows.RawValues() {
			row = append(row, string(v))
		}
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", sql, err)
	}
	if row == nil {
		return nil, fmt.Errorf("%s: %w", sql, pgx.ErrNoRows)
	}
	return row, nil
}
