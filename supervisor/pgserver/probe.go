package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// A Contact is the answer from a server's place.
type Contact int

const (
	// Silent: nothing came back. The host may be down, or only the way to it.
	Silent Contact = iota
	// Refused: the host answered that nothing listens there.
	Refused
	// Accepted: something accepts connections there, whether it answered or not.
	Accepted
)

// Places returns the servers that a conninfo names, so that each can be asked by itself. It ignores target_session_attrs.
func Places(conninfo string) ([]Place, error) {
	c, err := read(conninfo, os.Getenv)
	if err != nil {
		return nil, err
	}
	return placesOf(c)
}

// wsaConnectionRefused is the error code of Windows, where syscall.ECONNREFUSED is an invented number.
const wsaConnectionRefused = syscall.Errno(10061)

// closing is for how long a connection that is accepted and closed is tried again: a server may be going down.
const closing = time.Second

// Connect connects to the place. If that fails, the Contact is the kind of answer that came back.
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
	conn, err := p.connectWith(ctx, c)
	if err == nil {
		return conn, Accepted, nil
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
