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
	Superuser                   bool
}

// FindRole looks for a role; nil if there is none of that name.
func (c *Conn) FindRole(ctx context.Context, name string) (*Role, error) {
	rows, err := c.Query(ctx, `SELECT rolcanlogin, rolreplication, rolsuper, pg_has_role(oid, 'pg_monitor', 'member') FROM pg_roles WHERE rolname = $1`, name)
	if err != nil {
		return nil, fmt.Errorf("look for the role %s: %w", name, err)
	}
	defer rows.Close()
	var r *Role
	for rows.Next() {
		r = &Role{Name: name}
		if err := rows.Scan(&r.Login, &r.Replication, &r.Superuser, &r.Monitor); err != nil {
			return nil, fmt.Errorf("look for the role %s: %w", name, err)
		}
	}
	return r, rows.Err()
}

// MakeRole makes a role that may log in, replicate and monitor. It has no password.
func (c *Conn) MakeRole(ctx context.Context, name string) error {
	id := Identifier(name)
	// In one message the two are one transaction.
	if _, err := c.Exec(ctx, "CREATE ROLE "+id+" LOGIN REPLICATION; GRANT pg_monitor TO "+id); err != nil {
		return fmt.Errorf("make the role %s: %w", name, err)
	}
	return nil
}

// What a role may be granted, and what is taken from it again.
const (
	GrantLogin       = "LOGIN"
	GrantReplication = "REPLICATION"
	GrantMonitor     = "pg_monitor"
)

// Grant gives a role what is named.
func (c *Conn) Grant(ctx context.Context, name string, what []string) error {
	return c.changeRole(ctx, name, what, "", "GRANT "+GrantMonitor+" TO ")
}

// Revoke revokes it.
func (c *Conn) Revoke(ctx context.Context, name string, what []string) error {
	return c.changeRole(ctx, name, what, "NO", "REVOKE "+GrantMonitor+" FROM ")
}

func (c *Conn) changeRole(ctx context.Context, name string, what []string, no, membership string) error {
	var all []string
	for _, w := range what {
		if w == GrantMonitor {
			all = append(all, membership+Identifier(name))
		} else {
			all = append(all, "ALTER ROLE "+Identifier(name)+" "+no+w)
		}
	}
	if _, err := c.Exec(ctx, strings.Join(all, "; ")); err != nil {
		return fmt.Errorf("change the role %s: %w", name, err)
	}
	return nil
}

// DropRole removes a role.
func (c *Conn) DropRole(ctx context.Context, name string) error {
	if _, err := c.Exec(ctx, "DROP ROLE "+Identifier(name)); err != nil {
		return fmt.Errorf("drop the role %s: %w", name, err)
	}
	return nil
}
