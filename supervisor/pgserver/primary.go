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

	"walkeep/common/conninfo"
	"walkeep/common/pgdata"
)

// A Receiver is a standby's row of pg_stat_wal_receiver.
type Receiver struct {
	Streaming bool
	Host      string // of the sending server; empty if the standby does not report it
	Port      uint16
	Heard     time.Time // when the last message came
	Now       time.Time // the server's
	// Patience is wal_receiver_timeout: after half of it without a message the process asks for one. 0: it never does.
	Patience time.Duration
}

// String returns the host and port of the sending server.
func (r Receiver) String() string { return net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port))) }

// Receiver asks for the process that receives WAL. A role that may not see it gets one that does not stream.
func (c *Conn) Receiver(ctx context.Context) (Receiver, error) {
	var r Receiver
	var port, patience int64
	var heard *time.Time
	var text string
	// By column names, because not every version has all columns.
	err := c.QueryRow(ctx, `SELECT coalesce(max(j->>'status'), '') = 'streaming', coalesce(max(j->>'sender_host'), ''), coalesce(max(j->>'sender_port'), '0')::bigint,
		coalesce(max(j->>'conninfo'), ''), max((j->>'last_msg_receipt_time')::timestamptz), clock_timestamp(), (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_receiver_timeout')
		FROM (SELECT to_jsonb(w) AS j FROM pg_stat_wal_receiver w) s`).Scan(&r.Streaming, &r.Host, &port, &text, &heard, &r.Now, &patience)
	if err != nil {
		return r, fmt.Errorf("ask the standby for its WAL receiver: %w", err)
	}
	if heard != nil {
		r.Heard = *heard
	}
	r.Port, r.Patience = uint16(port), time.Duration(patience)*time.Millisecond
	if r.Host == "" { // as in version 10, whose conninfo has what was left open filled in
		if c, err := conninfo.Parse(text); err == nil {
			if all, err := c.Addresses(); err == nil && len(all) == 1 {
				r.Host, r.Port = all[0].Host, all[0].Port
				if all[0].Addr != "" {
					r.Host = all[0].Addr
				}
			}
		}
	}
	return r, nil
}

// ErrNotHere reports that a place cannot be reached from here as the server reaches it.
var ErrNotHere = errors.New("cannot be reached from this host as the standby reaches it")

// PrimaryPlaces returns the servers that a primary_conninfo of this server names. The environment of the server's process
// supplies what the conninfo leaves open, and sockets and loopback addresses are those of the server's host. If
// PrimaryPlaces needs either and cannot know it on this host, it returns an error.
func (c *Conn) PrimaryPlaces(text, data string) ([]Place, error) {
	var look conninfo.Environment
	if sameHost(c.PgConn().Conn()) {
		if p, err := pgdata.ReadPostmaster(data); err == nil {
			look = environmentOf(p.PID)
		}
	}
	whole, err := read(text, look)
	if err != nil {
		return nil, err
	}
	places, err := placesOf(withUser(whole, c.Config().User))
	if err != nil {
		return nil, err
	}
	for _, p := range places {
		if look == nil && p.Host == "" && p.Addr == "" {
			return nil, errors.New("it names no host, and the environment of the server, which may, cannot be read from here")
		}
		if err := c.reaches(p); err != nil {
			return nil, err
		}
	}
	return places, nil
}

// Sender returns the place from which the server receives WAL, with the user and authentication of this connection.
func (c *Conn) Sender(r Receiver) (Place, error) {
	if r.Host == "" || r.Port == 0 {
		return Place{}, fmt.Errorf("the place from which it streams is not said, so it %w", ErrNotHere)
	}
	p, err := placeOf(c.here, conninfo.Address{Host: r.Host, Port: r.Port})
	if err == nil {
		err = c.reaches(p)
	}
	return p, err
}

// reaches fails for a place that is on the server's own host, if that is not this one.
func (c *Conn) reaches(p Place) error {
	if sameHost(c.PgConn().Conn()) {
		return nil
	}
	name := p.Host
	if p.Addr != "" {
		name = p.Addr
	}
	ip := net.ParseIP(name)
	if name == "localhost" || filepath.IsAbs(name) || strings.HasPrefix(name, "@") || ip != nil && ip.IsLoopback() {
		return fmt.Errorf("%s %w: it is on the standby's host", p, ErrNotHere)
	}
	return nil
}

// withUser returns c with a user if it has none.
func withUser(c conninfo.Info, name string) conninfo.Info {
	if user, _ := c.Value("user"); user != "" {
		return c
	}
	return c.With("user", name)
}

// environmentOf looks into the environment of a process of this host, as it was started; nil if it cannot be seen.
func environmentOf(pid int) conninfo.Environment {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil {
		return nil
	}
	values := make(map[string]string)
	for v := range strings.SplitSeq(string(text), "\x00") {
		if name, value, ok := strings.Cut(v, "="); ok {
			values[name] = value
		}
	}
	return func(name string) string { return values[name] }
}
