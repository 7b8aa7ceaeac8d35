package sftptest

import (
	"net"
	"sync"
	"testing"
)

// A Proxy stands between a client and a server, and breaks connections when it is told to. It ends with the test.
type Proxy struct {
	Port int

	target string
	mu     sync.Mutex
	pairs  map[net.Conn]net.Conn // clients with their servers
	count  int                   // packets from clients until a connection breaks; 0: none breaks
	answer bool                  // it breaks when the server answers to the packet, which the server has got
	broke  int                   // connections
	hang   bool                  // nothing passes
	resume *sync.Cond
}

// NewProxy starts a proxy before a server.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Port: l.Addr().(*net.TCPAddr).Port, target: target, pairs: make(map[net.Conn]net.Conn)}
	p.resume = sync.NewCond(&p.mu)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", p.target)
			if err != nil {
				c.Close()
				continue
			}
			p.mu.Lock()
			p.pairs[c] = s
			p.mu.Unlock()
			state := new(struct{ lost bool })
			go p.pass(c, s, c, &state.lost, true)
			go p.pass(s, c, c, &state.lost, false)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		p.Hang(false)
		p.Cut()
	})
	return p
}

// CutBefore breaks the connection in place of the n-th packet that comes from a client from now on.
func (p *Proxy) CutBefore(n int) { p.arm(n, false) }

// LoseAnswer breaks the connection in place of the server's answer to the n-th packet that comes from a client from now on.
func (p *Proxy) LoseAnswer(n int) { p.arm(n, true) }

func (p *Proxy) arm(n int, answer bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count, p.answer, p.broke = n, answer, 0
}

// Broke reports whether the connection was broken since the last call of CutBefore or LoseAnswer.
func (p *Proxy) Broke() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broke > 0
}

// Cut breaks all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c, s := range p.pairs {
		c.Close()
		s.Close()
	}
}

// Hang lets nothing pass until it is called again with false.
func (p *Proxy) Hang(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hang = on
	p.resume.Broadcast()
}

func (p *Proxy) pass(from, to, client net.Conn, lost *bool, fromClient bool) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 1<<20)
	for {
		n, err := from.Read(buffer)
		if err != nil || !p.may(client, lost, fromClient) {
			break
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			break
		}
	}
	p.mu.Lock()
	delete(p.pairs, client)
	p.mu.Unlock()
}

// may reports whether a packet passes.
func (p *Proxy) may(client net.Conn, lost *bool, fromClient bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.hang {
		p.resume.Wait()
	}
	if !fromClient {
		if *lost {
			p.broke++
		}
		return !*lost
	}
	if p.count == 0 {
		return true
	}
	if p.count--; p.count > 0 {
		return true
	}
	if p.answer {
		*lost = true
		return true
	}
	p.broke++
	return false
}
