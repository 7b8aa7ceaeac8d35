package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"walkeep/common/cli"
	"walkeep/common/pgdata"
)

// Errors of ConnectStandby.
var (
	// ErrNoStandby reports that none of several servers is a standby, or runs on this host.
	ErrNoStandby = cli.NewError("none of the servers in conninfo is a standby that answers",
		"name the server with --conninfo, and the data directory of the standby on this host with --pgdata")
	// ErrWhichStandby reports that several servers are standbys.
	ErrWhichStandby = cli.NewError("several of the servers in conninfo are standbys, and which one runs on this host is not known",
		"name the server with --conninfo, and the data directory of the standby on this host with --pgdata")
)

// answerTimeout is how long each of several servers has to answer.
const answerTimeout = 5 * time.Second

// A candidate is a server that may be the one that is looked for.
type candidate struct {
	*Conn
	place              Place
	here, ours, replay bool // it runs on this host; on the data directory; it is in recovery
}

// ConnectStandby connects to the standby that a command on its host is about. A conninfo with one server names it. With
// several servers, which target_session_attrs may exclude, it is the one that runs on the data directory, or else the
// one on this host, or else the only standby. If none of the servers answers, it is the standby that runs on the data
// directory.
func ConnectStandby(ctx context.Context, conninfo, data string) (*Conn, error) {
	c, err := read(conninfo, os.Getenv)
	if err != nil {
		return nil, err
	}
	places, err := placesOf(c)
	if err != nil {
		return nil, err
	}
	if len(places) == 1 {
		conn, err := places[0].open(ctx, nil)
		if err == nil {
			return conn, nil
		}
		if conn := standbyAt(ctx, conninfo, data); conn != nil && !Answered(err) {
			return conn, nil
		}
		return nil, fmt.Errorf("connect to the server: %w", err)
	}
	found, failed := candidates(ctx, places, data)
	chosen, err := choose(found, failed)
	for _, f := range found {
		if f.Conn != chosen {
			f.Close(context.WithoutCancel(ctx))
		}
	}
	if errors.Is(err, ErrNoStandby) && !Answered(err) {
		if conn := standbyAt(ctx, conninfo, data); conn != nil {
			return conn, nil
		}
	}
	return chosen, err
}

// candidates asks each of the servers what it is.
func candidates(ctx context.Context, places []Place, data string) (found []candidate, failed []error) {
	postmaster, noPostmaster := pgdata.ReadPostmaster(data)
	for _, p := range places {
		f := candidate{place: p}
		err := func() (err error) {
			ctx, cancel := context.WithTimeout(ctx, answerTimeout)
			defer cancel()
			if f.Conn, err = p.open(ctx, nil); err != nil {
				return err
			}
			return f.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&f.replay)
		}()
		if err != nil {
			if f.Conn != nil {
				f.Close(context.WithoutCancel(ctx))
			}
			failed = append(failed, fmt.Errorf("%s: %w", p, err))
			continue
		}
		f.here = sameHost(f.PgConn().Conn())
		f.ours = f.here && noPostmaster == nil && postmaster.Port == p.Port && (!filepath.IsAbs(p.Host) || filepath.Clean(p.Host) == filepath.Clean(postmaster.Host))
		found = append(found, f)
	}
	return found, failed
}

// choose chooses among servers that have answered.
func choose(found []candidate, failed []error) (*Conn, error) {
	for _, better := range []func(candidate) bool{
		func(f candidate) bool { return f.ours },
		func(f candidate) bool { return f.here && f.replay },
		func(f candidate) bool { return f.replay },
	} {
		var fit []candidate
		for _, f := range found {
			if better(f) {
				fit = append(fit, f)
			}
		}
		if len(fit) > 1 {
			return nil, fmt.Errorf("%w: %s", ErrWhichStandby, names(fit))
		}
		if len(fit) == 1 {
			return fit[0].Conn, nil
		}
	}
	for _, err := range failed { // a server that is starting may be the standby
		if NotReady(err) && Answered(err) {
			return nil, fmt.Errorf("connect to the server: %w", err)
		}
	}
	if len(found) == 1 && found[0].here { // as after a promotion
		return found[0].Conn, nil
	}
	if len(found) > 0 {
		failed = append(failed, fmt.Errorf("%s is open for writing", names(found)))
	}
	return nil, fmt.Errorf("%w: %w", ErrNoStandby, errors.Join(failed...))
}

func names(all []candidate) string {
	var words []string
	for _, f := range all {
		words = append(words, f.place.String())
	}
	return strings.Join(words, ", ")
}

// standbyAt connects to the server that runs on a data directory, if it is a standby.
func standbyAt(ctx context.Context, conninfo, data string) *Conn {
	p, err := pgdata.ReadPostmaster(data)
	if data == "" || err != nil {
		return nil
	}
	c, err := ConnectAt(ctx, conninfo, p.Host, p.Port)
	if err != nil {
		return nil
	}
	var replay bool
	if err := c.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&replay); err != nil || !replay {
		c.Close(context.WithoutCancel(ctx))
		return nil
	}
	return c
}

// sameHost reports whether both ends of a connection are on this host.
func sameHost(c net.Conn) bool {
	remote, tcp := c.RemoteAddr().(*net.TCPAddr)
	if !tcp {
		return true
	}
	local, ok := c.LocalAddr().(*net.TCPAddr)
	return ok && (remote.IP.IsLoopback() || remote.IP.Equal(local.IP))
}
