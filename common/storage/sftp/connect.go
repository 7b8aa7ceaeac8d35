package sftp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"walkeep/common/cli"
	"walkeep/common/storage"
)

// keepaliveInterval is how often an idle connection is used, so that nothing in between forgets it.
const keepaliveInterval = 30 * time.Second

// errSilent ends a connection whose server does not answer.
var errSilent = errors.New("the server has not answered in time")

// A conn is a connection with one SFTP session. All its methods may be called concurrently.
type conn struct {
	*sftp.Client
	ssh     *ssh.Client
	timeout time.Duration

	calls atomic.Int64 // that wait for an answer
	heard atomic.Int64 // when the SFTP server was heard, or asked after silence; nanoseconds since epoch

	once   sync.Once
	failed chan struct{} // closed with the connection
	why    error         // set before failed is closed

	checkDirSync sync.Once
	dirSync      error // why directories cannot be made durable; nil where they can
}

var epoch = time.Now()

// connection returns the connection, which is made where there is none or the last one has broken.
func (b *Backend) connection(ctx context.Context) (*conn, error) {
	select {
	case b.lock <- struct{}{}:
		defer func() { <-b.lock }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if b.closed {
		return nil, fmt.Errorf("%s: the connection was closed", b)
	}
	if b.conn != nil && b.conn.alive() {
		return b.conn, nil
	}
	c, err := b.dial(ctx)
	if err == nil {
		b.conn = c
	}
	return c, err
}

// connected reports whether there is a connection, as far as is known.
func (b *Backend) connected(ctx context.Context) bool {
	select {
	case b.lock <- struct{}{}:
		defer func() { <-b.lock }()
		return b.conn != nil && b.conn.alive()
	case <-ctx.Done():
		return false
	}
}

// Close ends the connection. No method may be called afterwards.
func (b *Backend) Close() error {
	b.lock <- struct{}{}
	defer func() { <-b.lock }()
	b.closed = true
	if b.conn != nil {
		b.conn.fail(net.ErrClosed)
	}
	return nil
}

// dial connects, checks the host's key, and logs in.
func (b *Backend) dial(ctx context.Context) (*conn, error) {
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, b.o.Timeout)
	defer cancel()
	c, err := b.dialAny(ctx)
	if err != nil && outer.Err() == nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: connect to %s: %w", storage.ErrUnavailable, b, errSilent)
	}
	return c, err
}

func (b *Backend) dialAny(ctx context.Context) (c *conn, err error) {
	auth, done, err := b.auth(ctx)
	if err != nil {
		return nil, fmt.Errorf("log in to %s: %w", b, err)
	}
	defer done()
	keys, err := newHostKeys(b.o)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", b, err)
	}
	var refused error
	for _, algorithms := range keys.algorithms(b.address) {
		var refusedNow error
		config := &ssh.ClientConfig{
			User: b.o.User, Auth: auth, HostKeyAlgorithms: algorithms,
			HostKeyCallback: func(address string, remote net.Addr, key ssh.PublicKey) error {
				refusedNow = keys.check(address, remote, key)
				return refusedNow
			},
		}
		if c, err = b.handshake(ctx, config); err == nil {
			return c, nil
		}
		var none *ssh.AlgorithmNegotiationError
		switch {
		case refusedNow != nil:
			refused = refusedNow
		case errors.As(err, &none) && ctx.Err() == nil:
			continue // the host has no key of this kind
		default:
			return nil, err
		}
	}
	if refused != nil {
		err = fmt.Errorf("connect to %s: %w", b, refused)
	}
	return nil, err
}

func (b *Backend) handshake(ctx context.Context, config *ssh.ClientConfig) (*conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepaliveInterval}}
	raw, err := d.DialContext(ctx, "tcp", b.address)
	if err != nil {
		return nil, fmt.Errorf("%w: connect to %s: %w", storage.ErrUnavailable, b, err)
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	c, err := b.login(raw, config)
	if !stop() && err == nil {
		c.fail(ctx.Err())
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

func (b *Backend) login(raw net.Conn, config *ssh.ClientConfig) (*conn, error) {
	sc, channels, requests, err := ssh.NewClientConn(raw, b.address, config)
	if err != nil {
		if strings.Contains(err.Error(), "unable to authenticate") {
			return nil, final{cli.Hinted(fmt.Errorf("log in to %s: the server accepts no key that was offered", b),
				"add the public key to the account's authorized_keys, and look into the server's log")}
		}
		return nil, fmt.Errorf("connect to %s: %w", b, err)
	}
	client := ssh.NewClient(sc, channels, requests)
	c, err := newConn(client, b.o.Timeout)
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("begin an SFTP session with %s: %w", b, err)
	}
	return c, nil
}

func newConn(client *ssh.Client, timeout time.Duration) (*conn, error) {
	s, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	in, err := s.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.StdoutPipe()
	if err != nil {
		return nil, err
	}
	messages, err := s.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.RequestSubsystem("sftp"); err != nil {
		return nil, err
	}
	go io.Copy(io.Discard, messages)
	c := &conn{ssh: client, timeout: timeout, failed: make(chan struct{})}
	if c.Client, err = sftp.NewClientPipe(heard{out, c}, in, sftp.UseConcurrentWrites(true)); err != nil {
		return nil, err
	}
	go func() { c.fail(c.Client.Wait()) }()
	go c.watch()
	go c.keepalive()
	return c, nil
}

// heard notes when the server is heard.
type heard struct {
	io.Reader
	c *conn
}

func (h heard) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	h.c.heard.Store(int64(time.Since(epoch)))
	return n, err
}

func (c *conn) begin() {
	if c.calls.Add(1) == 1 {
		c.heard.Store(int64(time.Since(epoch)))
	}
}

func (c *conn) end() { c.calls.Add(-1) }

// watch ends the connection if the server is silent while calls wait.
func (c *conn) watch() {
	tick := time.NewTicker(max(c.timeout/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-c.failed:
			return
		case <-tick.C:
		}
		if c.calls.Load() > 0 && time.Since(epoch)-time.Duration(c.heard.Load()) > c.timeout {
			c.fail(errSilent)
			return
		}
	}
}

// keepalive uses the connection, also while nobody else does.
func (c *conn) keepalive() {
	for {
		select {
		case <-c.failed:
			return
		case <-time.After(keepaliveInterval):
		}
		answered := make(chan error, 1)
		go func() {
			_, _, err := c.ssh.SendRequest("keepalive@openssh.com", true, nil)
			answered <- err
		}()
		select {
		case err := <-answered:
			if err != nil {
				c.fail(err)
				return
			}
		case <-c.failed:
			return
		case <-time.After(c.timeout):
			c.fail(errSilent)
			return
		}
	}
}

func (c *conn) alive() bool {
	select {
	case <-c.failed:
		return false
	default:
		return true
	}
}

// fail ends the connection, and with it all calls that wait. The first reason stays.
func (c *conn) fail(why error) {
	c.once.Do(func() {
		c.why = why
		close(c.failed)
		c.ssh.Close()
	})
}

// reason gives the error of a call whose connection was lost.
func (c *conn) reason(err error) error {
	select {
	case <-c.failed:
		if c.why != nil && !errors.Is(c.why, io.EOF) {
			return fmt.Errorf("the connection was lost: %w", c.why)
		}
	default:
	}
	return fmt.Errorf("the connection was lost: %w", err)
}

// answered reports whether an error is the server's answer, or a decision made from it. With any other error it is not
// known what the server has done.
func answered(err error) bool {
	var status *sftp.StatusError
	if errors.As(err, &status) {
		return status.FxCode() != sftp.ErrSSHFxConnectionLost && status.FxCode() != sftp.ErrSSHFxNoConnection
	}
	var d decision
	return err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.As(err, &d)
}

// A notAsked error is one of reaching the server. That a key's file is missing, or may not be read, is no answer of the server.
type notAsked struct{ err error }

func (n notAsked) Error() string      { return n.err.Error() }
func (n notAsked) As(target any) bool { return errors.As(n.err, target) }
func (n notAsked) Is(target error) bool {
	return target != fs.ErrNotExist && target != fs.ErrPermission && errors.Is(n.err, target)
}

// A decision is an error that was concluded from the server's answers.
type decision struct{ error }

func (d decision) Unwrap() error { return d.error }

// do calls f with the connection, and a second time with a new one if the connection was lost. f must be safe to call
// twice; again says that an earlier call may have done its work. When ctx ends, do returns, and f may still run: what f has
// opened is closed then, and what it reads from or writes to must not be used for anything else.
func do[T any](ctx context.Context, b *Backend, f func(c *conn, again bool) (T, error)) (T, error) {
	var none T
	for again := false; ; again = true {
		if err := ctx.Err(); err != nil {
			return none, err
		}
		c, err := b.connection(ctx)
		if err != nil {
			return none, notAsked{err}
		}
		v, err := wait(ctx, c, func() (T, error) { return f(c, again) })
		switch {
		case ctx.Err() != nil && err != nil:
			return none, ctx.Err()
		case answered(err):
			return v, err
		}
		c.fail(err)
		if err = c.reason(err); again || errors.Is(err, errSilent) {
			return none, err
		}
	}
}

func wait[T any](ctx context.Context, c *conn, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	c.begin()
	go func() {
		defer c.end()
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		go func() {
			r := <-done
			if opened, ok := any(r.v).(io.Closer); ok && r.err == nil {
				opened.Close()
			}
		}()
		var none T
		return none, ctx.Err()
	}
}

// auth gives the ways to log in, and a function that is called afterwards.
func (b *Backend) auth(ctx context.Context) ([]ssh.AuthMethod, func(), error) {
	if b.o.KeyFile != "" {
		signer, err := readKey(b.o.KeyFile, b.o.PassphraseFile)
		if err != nil {
			return nil, nil, err
		}
		return []ssh.AuthMethod{ssh.PublicKeys(signer)}, func() {}, nil
	}
	const hint = "set key-file to a private key, or start ssh-agent and add one with ssh-add"
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, nil, cli.NewError("there is no key: key-file is not set, and neither is SSH_AUTH_SOCK", hint)
	}
	var d net.Dialer
	a, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, nil, cli.Hinted(fmt.Errorf("connect to the SSH agent: %w", err), hint)
	}
	stop := context.AfterFunc(ctx, func() { a.Close() })
	done := func() { stop(); a.Close() }
	signers, err := agent.NewClient(a).Signers()
	if err == nil && len(signers) == 0 {
		err = errors.New("it has no keys")
	}
	if err != nil {
		done()
		return nil, nil, cli.Hinted(fmt.Errorf("ask the SSH agent for keys: %w", err), hint)
	}
	return []ssh.AuthMethod{ssh.PublicKeys(signers...)}, done, nil
}

// readKey reads a private key. Its errors contain nothing of the key or of its passphrase.
func readKey(file, passphraseFile string) (ssh.Signer, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the private key: %w", err)
	}
	if passphraseFile == "" {
		signer, err := ssh.ParsePrivateKey(content)
		var missing *ssh.PassphraseMissingError
		switch {
		case errors.As(err, &missing):
			return nil, cli.NewError(fmt.Sprintf("the private key %s has a passphrase", file), "set key-passphrase-file to a file that holds it")
		case err != nil:
			return nil, fmt.Errorf("the file %s holds no private key that can be used: %w", file, err)
		}
		return signer, nil
	}
	passphrase, err := os.ReadFile(passphraseFile)
	if err != nil {
		return nil, fmt.Errorf("read the passphrase of the private key: %w", err)
	}
	signer, err := ssh.ParsePrivateKeyWithPassphrase(content, bytes.TrimRight(passphrase, "\r\n"))
	if err != nil {
		return nil, fmt.Errorf("the private key %s cannot be opened with the passphrase in %s: %w", file, passphraseFile, err)
	}
	return signer, nil
}

// place is how messages name the archive.
func place(o Options) string {
	at := o.Host
	if strings.Contains(at, ":") {
		at = "[" + at + "]"
	}
	if o.Port != defaultPort {
		at += ":" + strconv.Itoa(o.Port)
	}
	p := o.Path
	if !strings.HasPrefix(p, "/") {
		p = "/~/" + p
	}
	return "sftp://" + o.User + "@" + at + p
}
