package pgserver

import (
	"context"
	"fmt"
	"strings"
)

// A Role describes which of the rights that walkeep needs a role of the server has.
type Role struct {
	Name                        string
	Login, Replication, Monitor bool
	BackUp                      bool // it may begin and end backups of files, in the session's database
	Superuser                   bool
}

// FindRole looks for a role; nil if there is none of that name.
func (c *Conn) FindRole(ctx context.Context, name string) (*Role, error) {
	start, stop := backupFunctions(c.major())
	rows, err := c.Query(ctx, `SELECT rolcanlogin, rolreplication, rolsuper, pg_has_role(oid, 'pg_monitor', 'member'),
		has_function_privilege(oid, $2, 'EXECUTE') AND has_function_privilege(oid, $3, 'EXECUTE')
		FROM pg_roles WHERE rolname = $1`, name, start, stop)
	if err != nil {
		return nil, fmt.Errorf("look for the role %s: %w", name, err)
	}
	defer rows.Close()
	var r *Role
	for rows.Next() {
		r = &Role{Name: name}
		if err := rows.Scan(&r.Login, &r.Replication, &r.Superuser, &r.Monitor, &r.BackUp); err != nil {
			return nil, fmt.Errorf("look for the role %s: %w", name, err)
		}
	}
	return r, rows.Err()
}

// MayGrantBackUp reports whether the session's role may let others begin and end backups of files.
func (c *Conn) MayGrantBackUp(ctx context.Context) (may bool, err error) {
	const option = "EXECUTE WITH GRANT OPTION"
	start, stop := backupFunctions(c.major())
	err = c.QueryRow(ctx, `SELECT has_function_privilege($1, $3) AND has_function_privilege($2, $3)`, start, stop, option).Scan(&may)
	if err != nil {
		return false, fmt.Errorf("ask for the right to grant backups of files: %w", err)
	}
	return may, nil
}

func (c *Conn) major() int { return Major(c.PgConn().ParameterStatus("server_version")) }

// MakeRole makes a role that may log in, replicate and monitor, and, if backUp is true, begin and end backups of files. It has no
// password.
func (c *Conn) MakeRole(ctx context.Context, name string, backUp bool) error {
	id := Identifier(name)
	sql := "CREATE ROLE " + id + " LOGIN REPLICATION; GRANT pg_monitor TO " + id
	if backUp {
		sql += "; " + BackupGrant(c.major(), name)
	}
	// In one message all are one transaction.
	if _, err := c.Exec(ctx, sql); err != nil {
		return fmt.Errorf("make the role %s: %w", name, err)
	}
	return nil
}

// What a role may be granted, and what is taken from it again.
const (
	GrantLogin       = "LOGIN"
	GrantReplication = "REPLICATION"
	GrantMonitor     = "pg_monitor"
	GrantBackUp      = "EXECUTE on the functions that begin and end a backup"
)

// Grant gives a role what is named.
func (c *Conn) Grant(ctx context.Context, name string, what []string) error {
	return c.changeRole(ctx, name, what, "", "GRANT "+GrantMonitor+" TO ", BackupGrant(c.major(), name))
}

// Revoke revokes it.
func (c *Conn) Revoke(ctx context.Context, name string, what []string) error {
	return c.changeRole(ctx, name, what, "NO", "REVOKE "+GrantMonitor+" FROM ", backupRevoke(c.major(), name))
}

func (c *Conn) changeRole(ctx context.Context, name string, what []string, no, membership, backUp string) error {
	var all []string
	for _, w := range what {
		switch w {
		case GrantMonitor:
			all = append(all, membership+Identifier(name))
		case GrantBackUp:
			all = append(all, backUp)
		default:
			all = append(all, "ALTER ROLE "+Identifier(name)+" "+no+w)
		}
	}
	if _, err := c.Exec(ctx, strings.Join(all, "; ")); err != nil {
		return fmt.Errorf("change the role %s: %w", name, err)
	}
	return nil
}

// DropRole removes a role, after the right to begin backups of files is taken from it in the session's database.
func (c *Conn) DropRole(ctx context.Context, name string) error {
	sql := "DROP ROLE " + Identifier(name)
	if may, err := c.MayGrantBackUp(ctx); err != nil {
		return err
	} else if may {
		sql = backupRevoke(c.major(), name) + "; " + sql
	}
	if _, err := c.Exec(ctx, sql); err != nil {
		return fmt.Errorf("drop the role %s: %w", name, err)
	}
	return nil
}
