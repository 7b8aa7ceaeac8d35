package page

import (
	"bytes"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A Live page shows the last recorded state. Its methods may be called concurrently.
type Live struct {
	Version string // of the program

	mu   sync.Mutex
	last State
}

// Record records a state, in place of the previous one. If it has no report because the archive could not be read, the page still
// shows the last report, below what is wrong.
func (l *Live) Record(s State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.Report == nil && s.Error != "" {
		s.Report, s.Findings = l.last.Report, l.last.Findings
	}
	s.Version = l.Version
	l.last = s
}

// ServeHTTP implements [http.Handler].
func (l *Live) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !named(r) {
		http.Error(w, "this page is on the loopback interface, where it is served under localhost or an address alone", http.StatusMisdirectedRequest)
		return
	}
	l.mu.Lock()
	s := l.last
	l.mu.Unlock()
	s.Version = l.Version
	var page bytes.Buffer
	if err := Write(&page, s, time.Now()); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", Policy+"; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	page.WriteTo(w)
}

// named reports whether a request to the loopback interface names it. A page of another site, whose name was made to lead to this
// host, could otherwise read this one through the browser of a person here.
func named(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || !at.IP.IsLoopback() {
		return true
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	return host == "" || strings.EqualFold(host, "localhost") || net.ParseIP(host) != nil
}
