//go:build unix

package main_test

import (
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A server that listens on all addresses and has no socket is asked whether it has recovered, whatever its sessions are set to
// and whatever other servers conninfo names; and a backup of one that ends idle sessions is taken.
func TestStartWithoutSocket(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	c := r.start("primary", nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	r.must(err)
	port := l.Addr().(*net.TCPAddr).Port
	r.must(l.Close())
	for _, s := range []string{
		"listen_addresses = '*'", "port = " + strconv.Itoa(port), // from the next start on
		"default_transaction_isolation = 'serializable'", "idle_session_timeout = '1s'", "statement_timeout = '1s'",
	} {
		r.must(c.Exec(r.ctx(), "ALTER SYSTEM SET "+s))
	}
	r.must(c.Configure(map[string]string{"unix_socket_directories": ""}))
	r.must(c.Reload(r.ctx()))
	r.until("the reload", func() bool {
		s, err := c.QueryString(r.ctx(), "SHOW idle_session_timeout")
		return err == nil && s == "1s"
	})
	r.backup(c, "--max-rate", "8MB") // longer than that
	dir := filepath.Join(r.dir, "restored")
	out := r.run("restore", "--target-immediate", "--target-dir", dir, "--start", "--bindir", c.Bindir(),
		"--conninfo", "host=db1.invalid,db2.invalid user=postgres sslmode=disable target_session_attrs=read-write")
	defer r.stopStarted(c, dir)
	if !strings.Contains(out, "is paused there") {
		t.Errorf("restore says\n%s", out)
	}
}
