package main_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"walkeep/common/pgtest"
)

// A proxy stands between sync and the server, and is as bad as a network can be.
type proxy struct {
	r      *rig
	listen net.Listener
	server func() (net.Conn, error)
	mode   atomic.Int32
	after  atomic.Int64 // bytes of the server that pass a connection before it is cut or stalls

	mu   sync.Mutex
	open []net.Conn
	seen int // connections, those that are closed included
}

// connections is how many were made so far.
func (p *proxy) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

const (
	passes int32 = iota
	refuses
	cuts    // after some bytes
	stalls  // after some bytes: nothing passes, and nobody hears of it
	trickle // one byte at a time
)

// proxy makes one before a cluster.
func (r *rig) proxy(c *pgtest.Cluster) *proxy {
	r.t.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	r.must(err)
	sockets, err := filepath.Glob(filepath.Join(c.RunDir(), ".s.PGSQL.*"))
	r.must(err)
	socket := ""
	for _, s := range sockets {
		if !strings.HasSuffix(s, ".lock") {
			socket = s
		}
	}
	p := &proxy{r: r, listen: listen, server: func() (net.Conn, error) { return net.Dial("unix", socket) }}
	go func() {
		for {
			client, err := listen.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	r.t.Cleanup(func() {
		listen.Close()
		p.cut()
	})
	return p
}

func (p *proxy) conninfo() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres sslmode=disable", p.listen.Addr().(*net.TCPAddr).Port)
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		c.Close()
	}
	p.open = nil
}

func (p *proxy) serve(client net.Conn) {
	if p.mode.Load() == refuses {
		client.Close()
		return
	}
	server, err := p.server()
	if err != nil {
		client.Close()
		return
	}
	p.mu.Lock()
	p.open = append(p.open, client, server)
	p.seen++
	p.mu.Unlock()
	var fromServer atomic.Int64
	pass := func(to, from net.Conn, down bool) {
		buffer := make([]byte, 4096)
		for {
			size := len(buffer)
			if p.mode.Load() == trickle && down {
				size = 1
			}
			n, err := from.Read(buffer[:size])
			if err != nil {
				break
			}
			if down {
				at := fromServer.Add(int64(n))
				if over := at - p.after.Load(); over > 0 {
					switch p.mode.Load() {
					case cuts:
						to.Write(buffer[:max(0, int64(n)-over)])
						client.Close()
						server.Close()
						return
					case stalls:
						to.Write(buffer[:max(0, int64(n)-over)])
						io.Copy(io.Discard, from)
						return
					}
				}
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				break
			}
		}
		client.Close()
		server.Close()
	}
	go pass(server, client, false)
	pass(client, server, true)
}

// The network between refuses, cuts messages and is slow: the stream continues from where it was.
func TestSyncNetwork(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off"}))
	p := r.proxy(c)
	sync := r.sync(c, "--conninfo", p.conninfo())
	r.writeWhile(c, func() {
		p.mode.Store(cuts)
		for range 25 { // in the handshake, between messages and within
			p.after.Store(rand.Int64N(1 << rand.IntN(19)))
			p.cut()
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		}
		p.mode.Store(refuses)
		p.cut()
		time.Sleep(500 * time.Millisecond)
		p.mode.Store(trickle)
		time.Sleep(2 * time.Second)
		p.mode.Store(passes)
	})
	end := r.flushed(c)
	r.settled()
	sync.stop()
	t.Logf("%d bytes compared", r.compare(c, 1, end))
}

// A network that swallows everything, at whatever point, is noticed. Each stream has a slot and an archive of its own.
func TestSyncSilence(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off", "max_wal_senders": "20", "max_replication_slots": "20"}))
	var all sync.WaitGroup
	for i, after := range []int64{0, 1, 300, 350, 400, 450, 500, 550, 600, 1000, 100_000} {
		r := r.in(t)
		r.dir = filepath.Join(r.dir, fmt.Sprint(after))
		r.spool = filepath.Join(r.dir, "spool")
		r.mkdir(r.dir)
		r.mkdir(r.spool)
		p := r.proxy(c)
		p.mode.Store(stalls)
		p.after.Store(after)
		slot := fmt.Sprintf("slot%d", i)
		s := &streamer{r: r, log: filepath.Join(r.dir, "sync.log"), args: []string{"sync", "--conninfo", p.conninfo(), "--slot", slot}}
		s.start()
		all.Go(func() {
			defer s.kill()
			time.Sleep(2 * time.Second) // it is held up by now, and does not know
			p.mode.Store(passes)
			for limit := time.Now().Add(pgtest.Timeout); ; time.Sleep(50 * time.Millisecond) {
				n, err := c.QueryInt(context.WithoutCancel(r.ctx()), `SELECT count(*) FROM pg_stat_replication
					JOIN pg_replication_slots ON active_pid = pid WHERE slot_name = $1 AND flush_lsn >= pg_current_wal_flush_lsn()`, slot)
				if err == nil && n == 1 {
					return
				}
				if time.Now().After(limit) {
					t.Errorf("silence after %d bytes is not noticed:\n%s", after, s.said())
					return
				}
			}
		})
	}
	// It ends in order at once, too, while a server is silent.
	p := r.proxy(c)
	p.mode.Store(stalls)
	for i, after := range []int64{0, 350, 600} {
		p.after.Store(after)
		r := r.in(t)
		r.dir = filepath.Join(r.dir, fmt.Sprintf("stopped%d", i))
		r.spool = filepath.Join(r.dir, "spool")
		r.mkdir(r.dir)
		r.mkdir(r.spool)
		s := &streamer{r: r, log: filepath.Join(r.dir, "sync.log"), args: []string{"sync", "--conninfo", p.conninfo(), "--slot", "stopped"}}
		before := p.connections()
		s.start()
		r.until("sync to connect", func() bool { return p.connections() > before })
		time.Sleep(500 * time.Millisecond) // it is held up by now
		begun := time.Now()
		s.stop()
		if took := time.Since(begun); took > 14*time.Second { // when it counts as broken is a second later
			t.Errorf("silence after %d bytes: it took %s to end", after, took)
		}
	}
	r.write(c, 10, 100_000)
	all.Wait()
}
