// Package faultproxy stands between an HTTP client and a server and does to requests what a bad network does, for tests of clients of
// remote stores. Which request meets which fault is a function of its number, so that a run can be repeated.
package faultproxy

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"
)

// A Fault is what happens to one request.
type Fault int

// The faults.
const (
	None         Fault = iota
	Delay              // it passes after a moment
	Reset              // the connection is reset, and the server hears nothing
	CutRequest         // the connection is reset in the middle of the request's body, as seen by the server, too
	Status500          // the store answers so, and has done nothing
	Status503          // the same
	Status429          // the same
	LostAnswer         // the server does what it was asked for, and the connection is reset instead of its answer
	CutAnswer          // the answer ends in the middle of its body, or, if it has none, before it
	ForeignPage        // somebody else answers 404 with a page in HTML
	Hang               // there is no answer until the client goes away
	WrongRequest       // one bit of the request's body is changed
	Conflict           // the store answers that another request for the name is on its way, and has done nothing
)

// Transient are the faults that end soon.
var Transient = []Fault{Delay, Reset, CutRequest, Status500, Status503, Status429, LostAnswer, CutAnswer, ForeignPage}

// A Plan says what happens to the n-th request, counted from 1. It is not called concurrently.
type Plan func(n int, r *http.Request) Fault

// At gives one request a fault.
func At(number int, f Fault) Plan {
	return func(n int, _ *http.Request) Fault {
		if n == number {
			return f
		}
		return None
	}
}

// Seeded gives each request a fault with a probability, from a sequence that the seed determines.
func Seeded(seed uint64, probability float64, faults ...Fault) Plan {
	random := rand.New(rand.NewPCG(seed, 0))
	return func(int, *http.Request) Fault {
		p, i := random.Float64(), random.IntN(len(faults))
		if p < probability {
			return faults[i]
		}
		return None
	}
}

// A Proxy passes requests on.
type Proxy struct {
	URL string // of the proxy: http://127.0.0.1:PORT

	target   *url.URL
	client   http.Transport
	request  func(*http.Request)
	response func(*http.Response)
	stop     chan struct{}

	mu   sync.Mutex
	plan Plan
	log  []string
}

// Start starts a proxy before a server that ends with the test.
func Start(t testing.TB, target string) *Proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: u, stop: make(chan struct{})}
	p.client.DisableCompression = true
	server := httptest.NewServer(p)
	p.URL = server.URL
	t.Cleanup(func() {
		close(p.stop)
		server.CloseClientConnections()
		server.Close()
		p.client.CloseIdleConnections()
	})
	return p
}

// Do gives the requests that follow a plan, whose first request is the next one; nil: no faults.
func (p *Proxy) Do(plan Plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan, p.log = plan, nil
}

// Change gives functions that change each request before it is passed on, and each answer; either may be nil. It is called
// before the first request.
func (p *Proxy) Change(request func(*http.Request), response func(*http.Response)) {
	p.request, p.response = request, response
}

// Log returns the requests since Do, as "METHOD /path?query".
func (p *Proxy) Log() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.log...)
}

func (p *Proxy) next(r *http.Request) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, r.Method+" "+r.URL.RequestURI())
	if p.plan == nil {
		return None
	}
	return p.plan(len(p.log), r)
}

// ServeHTTP implements [http.Handler].
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault := p.next(r)
	switch fault {
	case Delay:
		time.Sleep(20 * time.Millisecond)
	case Reset:
		reset(w)
		return
	case Status500, Status503, Status429, Conflict:
		said := map[Fault]struct {
			status int
			code   string
		}{Status500: {500, "InternalError"}, Status503: {503, "SlowDown"}, Status429: {429, "TooManyRequests"}, Conflict: {409, "ConditionalRequestConflict"}}[fault]
		io.Copy(io.Discard, r.Body)
		answer(w, said.status, "application/xml", "<Error><Code>"+said.code+"</Code><Message>a fault</Message></Error>")
		return
	case ForeignPage:
		io.Copy(io.Discard, r.Body)
		answer(w, http.StatusNotFound, "text/html", "<html><body><h1>There is nothing here</h1></body></html>")
		return
	case Hang:
		io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-p.stop:
		}
		reset(w)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		reset(w)
		return
	}
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host = p.target.Scheme, p.target.Host
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if len(body) == 0 {
		out.Body = http.NoBody // or Go sends no Content-Length
	}
	if fault == WrongRequest && len(body) > 0 {
		body[len(body)/2] ^= 1
	}
	if fault == CutRequest {
		out.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:len(body)/2]), broken{}))
		if len(body) == 0 {
			reset(w)
			return
		}
	}
	if p.request != nil {
		p.request(out)
	}
	resp, err := p.client.RoundTrip(out)
	if err != nil {
		reset(w)
		return
	}
	defer resp.Body.Close()
	if p.response != nil {
		p.response(resp)
	}
	if fault == LostAnswer {
		io.Copy(io.Discard, resp.Body)
		reset(w)
		return
	}
	if fault == CutAnswer {
		content, _ := io.ReadAll(resp.Body)
		if len(content) > 1 {
			copyHeader(w, resp)
			w.Write(content[:len(content)/2])
			w.(http.Flusher).Flush()
		}
		reset(w)
		return
	}
	copyHeader(w, resp)
	io.Copy(w, resp.Body)
}

func copyHeader(w http.ResponseWriter, resp *http.Response) {
	for k, v := range resp.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(resp.StatusCode)
}

func answer(w http.ResponseWriter, status int, kind, body string) {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	io.WriteString(w, body)
}

// reset ends the client's connection without a word.
func reset(w http.ResponseWriter) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }
