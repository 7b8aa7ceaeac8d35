package main_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
	"walkeep/common/wal"
)

// The streamed bytes are those of the server's WAL, in every version.
func TestSyncBytes(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		c := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off"}))
		sync := r.sync(c)
		r.load(c, 50, 1)
		r.write(c, 3, 300_000) // records that span pages and segments
		_, err := c.SwitchWAL(r.ctx())
		r.must(err)
		r.load(c, 20, 2)
		end := r.flushed(c)
		r.settled()
		sync.stop()
		r.compare(c, 1, end)
		r.run("verify")
		if s := r.streamNote(); !s.Ended || s.Trouble != "" {
			t.Errorf("the note of the stream: got %+v", s)
		}
	}, pgtest.Few()...)
}

// pg_receivewal beside it writes the same bytes.
func TestSyncLikeReceivewal(t *testing.T) {
	majors(t, func(r *rig) {
		c := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off"}))
		tool, err := pgtest.ClientTool("pg_receivewal")
		if err != nil {
			r.t.Skip(err)
		}
		dir := filepath.Join(r.dir, "received")
		r.mkdir(dir)
		peer := pgtest.Command(r.ctx(), tool, "-D", dir, "-d", c.ConnString(), "--status-interval", "1")
		r.must(peer.Start())
		defer peer.Wait()
		defer peer.Process.Kill()
		sync := r.sync(c)
		r.loadWhile(c, 1, func() {
			r.write(c, 4, r.segmentSize()/2)
			time.Sleep(time.Second)
		})
		end := r.flushed(c)
		r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "pg_receivewal", func(ctx context.Context) (bool, error) {
			n, err := c.QueryInt(ctx, `SELECT count(*) FROM pg_stat_replication WHERE write_lsn >= $1::pg_lsn`, end)
			return n == 2, err
		}))
		r.settled()
		sync.stop()
		r.must(peer.Process.Signal(os.Interrupt))
		peer.Wait()
		received, err := os.ReadDir(dir)
		r.must(err)
		whole, part := 0, 0
		for _, e := range received {
			theirs, err := os.ReadFile(filepath.Join(dir, e.Name()))
			r.must(err)
			if strings.HasSuffix(e.Name(), ".partial") { // theirs is filled up with zeros
				ours := r.streamedFile(e.Name())
				part++
				if len(ours) == 0 || !bytes.HasPrefix(theirs, ours) {
					r.t.Errorf("%s: %d bytes, which differ at %d", e.Name(), len(ours), differ(ours, theirs))
				}
				continue
			}
			if ours := r.archived(e.Name()); ours != nil {
				whole++
				if !bytes.Equal(ours, theirs) {
					r.t.Errorf("%s: %d bytes, which differ at %d", e.Name(), len(ours), differ(ours, theirs))
				}
			}
		}
		if whole < 2 || part != 1 {
			r.t.Errorf("compared %d complete segments and %d partial ones", whole, part)
		}
		r.compare(c, 1, end)
	})
}

// With a synchronous stream each commit that a client hears of is here, and without the stream none is heard of.
func TestSyncSynchronous(t *testing.T) {
	majors(t, func(r *rig) {
		c := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off", "synchronous_standby_names": "walkeep", "synchronous_commit": "local"}))
		sync := r.sync(c, "--synchronous", "--flush-interval", "1m")
		r.must(c.Exec(r.ctx(), ledgerTable))
		conn, err := c.Conn(r.ctx())
		r.must(err)
		defer conn.Close(context.WithoutCancel(r.ctx()))
		_, err = conn.Exec(r.ctx(), "SET synchronous_commit = on")
		r.must(err)
		id := 0
		var last int64 // the last transaction that was acknowledged
		commit := func(ctx context.Context) error {
			id++
			return conn.QueryRow(ctx, "INSERT INTO ledger VALUES ($1, repeat('x', 300)) RETURNING txid_current()", id).Scan(&last)
		}
		acknowledged := func() {
			r.t.Helper()
			if !slices.ContainsFunc(r.streamedEvents(), func(e wal.Event) bool { return e.Kind == wal.Commit && e.XID == uint32(last) }) {
				r.t.Errorf("transaction %d was acknowledged, and its commit is not here", last)
			}
		}
		for range 50 {
			r.must(commit(r.ctx()))
			acknowledged()
		}
		for range 3 {
			sync.kill()
			acknowledged()
			_, err = conn.Exec(r.ctx(), "SET statement_timeout = '300ms'")
			r.must(err)
			waited := make(chan error, 1)
			begun := time.Now()
			go func() {
				// A commit that waits cannot be timed out, only warned of when it is cancelled: so it is seen from outside.
				xid, err := c.QueryInt(r.ctx(), `INSERT INTO ledger SELECT $1, 'waits' FROM set_config('synchronous_commit', 'on', false)
					RETURNING txid_current()`, -time.Now().UnixNano())
				last = xid
				waited <- err
			}()
			select {
			case err := <-waited:
				r.t.Errorf("a commit went through without the stream, after %s: %v", time.Since(begun), err)
			case <-time.After(300 * time.Millisecond):
			}
			sync.start()
			select {
			case err := <-waited:
				r.must(err)
			case <-time.After(pgtest.Timeout):
				r.t.Fatal("the commit still waits")
			}
			acknowledged()
			_, err = conn.Exec(r.ctx(), "SET statement_timeout = 0")
			r.must(err)
			for range 10 {
				r.must(commit(r.ctx()))
				acknowledged()
			}
		}
		end := r.flushed(c)
		sync.stop()
		r.compare(c, 1, end)
	})
}

// The stream is ended in order and by force, again and again, and continues where it was.
func TestSyncKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off"}))
	sync := r.sync(c)
	last := wal.LSN(0)
	r.writeWhile(c, func() {
		for i := range 40 {
			time.Sleep(time.Duration(rand.IntN(120)) * time.Millisecond)
			if i%3 == 0 {
				r.must(sync.cmd.Process.Signal(syscall.SIGTERM))
				if end := cmdtest.Ended(sync.cmd, sync.cmd.Wait()); end.Code != 0 && end.Signal != syscall.SIGTERM { // it may hardly have begun
					t.Errorf("SIGTERM ended it with %d", end.Code)
				}
			} else {
				sync.kill()
			}
			// What the slot says is what was reported last. It may only lie behind where recovery of the segment begins again.
			text, err := c.QueryString(r.ctx(), "SELECT coalesce(max(restart_lsn)::text, '0/0') FROM pg_replication_slots")
			r.must(err)
			at, err := wal.ParseLSN(text)
			r.must(err)
			if segment := at &^ (1<<20 - 1); segment < last {
				t.Errorf("the stream went back from %s to %s", last, at)
			} else {
				last = segment
			}
			r.holds(at)
			sync.start()
		}
	})
	end := r.flushed(c)
	r.settled()
	sync.stop()
	t.Logf("%d bytes compared", r.compare(c, 1, end))
	r.run("verify", "--deep")
}

// holds checks that what was reported as durable is there.
func (r *rig) holds(at wal.LSN) {
	r.t.Helper()
	if at == 0 {
		return
	}
	n := wal.SegmentAt(1, at-1, 1<<20)
	start, err := n.Start(1 << 20)
	r.must(err)
	if r.archived(n.String()) != nil || r.streamedFile(n.String()) != nil {
		return
	}
	if have := start + wal.LSN(len(r.streamedFile(n.String()+".partial"))); have < at {
		r.t.Errorf("%s was reported as durable, %s is there", at, have)
	}
}

// The stream cuts off and receives again what a power cut may leave at the end of a partial segment, and keeps files that are no WAL.
func TestSyncTornTail(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off"}))
	sync := r.sync(c)
	for name, tear := range map[string]func(path string, content []byte) error{
		"garbage": func(path string, b []byte) error {
			return os.WriteFile(path, append(b, bytes.Repeat([]byte("garbage"), 999)...), 0o600)
		},
		"zeros": func(path string, b []byte) error {
			return os.WriteFile(path, append(b, make([]byte, 20_000)...), 0o600)
		},
		"cut":       func(path string, b []byte) error { return os.Truncate(path, int64(len(b)-3)) },
		"zeroed":    func(path string, b []byte) error { clear(b[len(b)/2:]); return os.WriteFile(path, b, 0o600) },
		"to a page": func(path string, b []byte) error { return os.Truncate(path, int64(len(b)&^8191)) },
		"header":    func(path string, b []byte) error { return os.Truncate(path, 17) },
		"empty":     func(path string, b []byte) error { return os.Truncate(path, 0) },
		"too long":  func(path string, b []byte) error { return os.Truncate(path, 3<<20) },
		"no WAL": func(path string, b []byte) error {
			return os.WriteFile(path, bytes.Repeat([]byte("no WAL"), 10_000), 0o600)
		},
	} {
		r.load(c, 10, 1)
		r.flushed(c)
		sync.kill()
		var path string
		for _, file := range r.streamedFiles() {
			if strings.HasSuffix(file, ".partial") {
				path = filepath.Join(r.spool, "partial", file)
			}
		}
		content, err := os.ReadFile(path)
		r.must(err)
		before := len(content)
		r.must(tear(path, content))
		torn, err := os.ReadFile(path)
		r.must(err)
		sync.start()
		r.load(c, 10, 2)
		end := r.flushed(c)
		t.Logf("%s: %d bytes, torn to %d", name, before, len(torn))
		r.compare(c, 1, end)
		aside, err := filepath.Glob(path + ".not-wal-*")
		r.must(err)
		if name != "no WAL" {
			if len(aside) > 0 {
				t.Errorf("%s: it was put aside", name)
			}
			continue
		}
		if len(aside) != 1 {
			t.Fatalf("%d files were put aside", len(aside))
		}
		if kept, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(kept, torn) {
			t.Errorf("what is no WAL was not kept: %v", err)
		}
		r.must(os.Remove(aside[0]))
	}
	r.settled()
	sync.stop()
	r.run("verify", "--deep")
}

func TestSyncRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", map[string]string{"wal_level": "logical"})
	r.must(c.Exec(r.ctx(), "SELECT pg_create_logical_replication_slot('decoded', 'test_decoding')"))
	r.fails(1, []string{"decoded is a logical one", "hint: "}, "sync", "--conninfo", c.ConnString(), "--slot", "decoded")
	sync := r.sync(c)
	r.fails(1, []string{"another supervisor streams", "hint: "}, "sync", "--conninfo", c.ConnString())

	// The stream of another archive uses the same slot: it reports that it waits, and waits until the slot is free.
	other := r.in(t)
	other.dir, other.spool = filepath.Join(r.dir, "other"), filepath.Join(r.dir, "other", "spool")
	r.mkdir(other.dir)
	r.mkdir(other.spool)
	second := &streamer{r: other, log: filepath.Join(other.dir, "sync.log"), args: []string{"sync", "--conninfo", c.ConnString()}}
	second.start()
	defer second.cmd.Process.Kill()
	second.says(`is active for PID`)
	sync.stop()
	second.says("msg=streaming")
	second.stop()

	// The archive of another cluster.
	r2 := r.in(t)
	foreign := r2.start("foreign", nil)
	r2.fails(1, []string{"system identifier", "hint: "}, "sync", "--conninfo", foreign.ConnString())
}

// Names of slots that are words of the protocol's grammar, or begin with a digit.
func TestSyncSlotNames(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", nil)
	for _, slot := range []string{"physical", "1st", "timeline"} {
		sync := r.sync(c, "--slot", slot)
		r.flushed(c)
		sync.stop()
	}
}

// A server's restarts, of each kind, are survived, and none is held up: the server would wait for what does not answer for ever.
func TestSyncServerRestarts(t *testing.T) {
	majors(t, func(r *rig) {
		c := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off", "wal_sender_timeout": "0"}))
		sync := r.sync(c)
		for _, how := range []pgtest.Mode{pgtest.Fast, pgtest.Immediate, "kill", pgtest.Fast} {
			r.writeWhile(c, func() {
				time.Sleep(300 * time.Millisecond)
				if how == "kill" {
					r.must(c.Kill())
				} else {
					r.must(c.Stop(r.ctx(), how))
				}
			})
			r.must(c.Start(r.ctx()))
		}
		r.write(c, 5, 50_000)
		end := r.flushed(c)
		r.settled()
		sync.stop()
		r.compare(c, 1, end)
		r.run("verify")
	})
}

// The role that the documentation asks for is enough.
func TestSyncRole(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		c := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off"}))
		r.must(c.Exec(r.ctx(), "CREATE ROLE streams LOGIN REPLICATION; GRANT pg_monitor TO streams"))
		sync := r.sync(c, "--conninfo", c.ConnString()+" user=streams")
		end := r.flushed(c)
		sync.stop()
		r.compare(c, 1, end)
	}, 10, 15, pgtest.MaxMajor)
}
