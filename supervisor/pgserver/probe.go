package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A Contact is what came back from where a server is said to be.
type Contact int

const (
	// Silent: nothing came back. The host may be down, or only the way to it.
	Silent Contact = iota
	// Refused: the host says that nothing listens there.
	Refused
	// Accepted: something accepts connections there, whether it answered or not.
	Accepted
)

// A Place is one of the servers that a conninfo names.
type Place struct{ config *pgx.ConnConfig }

// Places gives the servers that a conninfo names, each to be asked by itself and whatever it is: target_session_attrs
// does not count.
func Places(conninfo string) ([]Place, error) {
	c, err := pgx.ParseConfig(conninfo)
	if err != nil {
		return nil, fmt.Errorf("read conninfo: %w", withoutPassword(err))
	}
	prepare(&c.Config)
	c.ValidateConnect = nil
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	attempts := append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}}, c.Fallbacks...)
	var places []Place
	for i, a := range attempts {
		if i > 0 && a.Host == attempts[i-1].Host && a.Port == attempts[i-1].Port { // the same one with TLS, or without
			last := places[len(places)-1].config
			last.Fallbacks = append(last.Fallbacks, a)
			continue
		}
		one := c.Copy()
		one.Host, one.Port, one.TLSConfig, one.Fallbacks = a.Host, a.Port, a.TLSConfig, nil
		places = append(places, Place{one})
	}
	return places, nil
}

// Port is that of the first server that a conninfo names; 0 if it cannot be read.
func Port(conninfo string) uint16 {
	c, err := pgconn.ParseConfig(conninfo)
	if err != nil {
		return 0
	}
	return c.Port
}

// String is the host and the port.
func (p Place) String() string {
	return net.JoinHostPort(p.config.Host, strconv.Itoa(int(p.config.Port)))
}

// wsaConnectionRefused is what Windows says, where syscall.ECONNREFUSED is an invented number.
const wsaConnectionRefused = syscall.Errno(10061)

// closing is for how long a connection that is accepted and closed is tried again: a server may be going down.
const closing = time.Second

// Connect connects, and tells what came back if that fails.
func (p Place) Connect(ctx context.Context) (*Conn, Contact, error) {
	begun := time.Now()
	for {
		c, contact, err := p.connect(ctx)
		if err == nil || contact != Accepted || Answered(err) || ctx.Err() != nil || time.Since(begun) > closing {
			return c, contact, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (p Place) connect(ctx context.Context) (*Conn, Contact, error) {
	c := p.config.Copy()
	var mu sync.Mutex
	accepted, refused, silent := false, false, false
	dial := c.DialFunc
	c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			accepted = true
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, wsaConnectionRefused), network == "unix" && errors.Is(err, fs.ErrNotExist):
			refused = true
		default:
			silent = true
		}
		return conn, err
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err == nil {
		return &Conn{conn}, Accepted, nil
	}
	err = fmt.Errorf("connect to %s: %w", p, err)
	mu.Lock()
	defer mu.Unlock()
	switch {
	case accepted:
		return nil, Accepted, err
	case refused && !silent:
		return nil, Refused, err
	}
	return nil, Silent, err
}
