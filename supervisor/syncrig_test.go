package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/notes"
	"walkeep/common/pgtest"
	"walkeep/common/wal"
)

// keepAll are settings of a server that keeps all of its WAL, so that what was streamed can be held against it.
func (r *rig) keepAll(more map[string]string) map[string]string {
	settings := map[string]string{"wal_keep_size": "1GB"}
	if r.major < 13 {
		settings = map[string]string{"wal_keep_segments": "64"}
	}
	for key, value := range more {
		settings[key] = value
	}
	return settings
}

// write makes WAL: so many messages of so many bytes each, which compress badly, each in a record of its own.
func (r *rig) write(c *pgtest.Cluster, messages, size int) {
	r.t.Helper()
	r.must(c.Exec(r.ctx(), `SELECT count(pg_logical_emit_message(false, 'walkeep', (SELECT string_agg(md5((n * 7919 + i)::text), '') FROM generate_series(1, $2::int / 32) i)))
		FROM generate_series(1, $1::int) n`, messages, size))
}

// writeWhile writes small and large records while f runs, until the server or f ends.
func (r *rig) writeWhile(c *pgtest.Cluster, f func()) {
	r.t.Helper()
	ctx, stop := context.WithCancel(r.ctx())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ; ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
			conn, err := c.Conn(ctx)
			for ; err == nil; time.Sleep(5 * time.Millisecond) {
				size := 40 << rand.IntN(12)
				_, err = conn.Exec(ctx, `SELECT pg_logical_emit_message(true, 'walkeep', string_agg(md5((random())::text), '')) FROM generate_series(1, $1::int / 32 + 1)`, size)
			}
			if conn != nil {
				conn.Close(context.WithoutCancel(ctx))
			}
		}
	}()
	f()
	stop()
	<-done
}

// flushed waits until the server has heard, of the stream that was started last, that all that it has written by now is durable
// in the archive.
func (r *rig) flushed(c *pgtest.Cluster) string {
	r.t.Helper()
	end, err := c.QueryString(r.ctx(), `SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END`)
	r.must(err)
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "the stream to come to "+end, func(ctx context.Context) (bool, error) {
		n, err := c.QueryInt(ctx, `SELECT count(*) FROM pg_stat_replication WHERE application_name = 'walkeep' AND flush_lsn >= $1::pg_lsn AND backend_start >= $2`, end, r.begun)
		return n > 0, err
	}))
	return end
}

// until waits for something.
func (r *rig) until(what string, done func() bool) {
	r.t.Helper()
	for limit := time.Now().Add(pgtest.Timeout); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			r.t.Fatalf("%s: not within %s", what, pgtest.Timeout)
		}
	}
}

// archived expands a file of the archive; nil if it is not there.
func (r *rig) archived(name string) []byte {
	r.t.Helper()
	dir := filepath.Join(r.spool, "wal")
	if len(name) > 16 {
		dir = filepath.Join(dir, name[:16])
	}
	found, err := filepath.Glob(filepath.Join(dir, name+".zst"))
	r.must(err)
	if len(found) == 0 {
		return nil
	}
	stored, err := os.ReadFile(found[0])
	r.must(err)
	content, err := cmdtest.Object{Path: found[0], Ending: ".zst", Stored: stored}.Expand()
	r.must(err)
	return content
}

// streamedFile reads a file of partial/; nil if it is not there.
func (r *rig) streamedFile(name string) []byte {
	r.t.Helper()
	content, err := os.ReadFile(filepath.Join(r.spool, "partial", name))
	if !errors.Is(err, fs.ErrNotExist) {
		r.must(err)
	}
	return content
}

// streamedFiles lists partial/.
func (r *rig) streamedFiles() []string {
	r.t.Helper()
	var names []string
	entries, err := os.ReadDir(filepath.Join(r.spool, "partial"))
	r.must(err)
	for _, e := range entries {
		if e.Name() != ".lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

// streamedEvents are the commits and the like in what lies in partial/.
func (r *rig) streamedEvents() (events []wal.Event) {
	r.t.Helper()
	w := wal.Walker{Events: func(e wal.Event) { events = append(events, e) }}
	next := w.Reset
	for _, name := range r.streamedFiles() { // ascending
		n, err := wal.ParseName(name)
		r.must(err)
		next(n)
		next = w.Continue
		w.Write(r.streamedFile(name))
		w.Finish()
	}
	return events
}

// settled waits until no complete segment waits in partial/.
func (r *rig) settled() {
	r.t.Helper()
	r.until("segments of partial/ to be archived", func() bool {
		for _, name := range r.streamedFiles() {
			if n, err := wal.ParseName(name); err == nil && n.Kind != wal.KindPartial {
				return false
			}
		}
		return true
	})
}

// compare holds what is archived and streamed of a timeline against the server's own segments, from the first that is
// archived on: each must be there up to end, and each byte be the same. It gives how many bytes it compared. The stream may go
// on meanwhile, so what is there is read in the order in which a segment is moved.
func (r *rig) compare(c *pgtest.Cluster, tli uint32, end string) (compared int) {
	r.t.Helper()
	to, err := wal.ParseLSN(end)
	r.must(err)
	own, err := filepath.Glob(filepath.Join(c.Path("pg_wal"), wal.Timeline(tli).String()+strings.Repeat("?", 16)))
	r.must(err)
	begun := false
	for _, path := range own {
		name := filepath.Base(path)
		want, err := os.ReadFile(path)
		if _, gone := os.Stat(path); errors.Is(gone, fs.ErrNotExist) {
			continue // recycled by a checkpoint, and what was read may be of its next use
		}
		r.must(err)
		n, err := wal.ParseName(name)
		r.must(err)
		start, err := n.Start(wal.SegmentSize(len(want)))
		r.must(err)
		if start >= to {
			continue // of the future, with old bytes
		}
		need := min(len(want), int(to-start))
		var got []byte
		for _, streamed := range []string{name + ".partial", name} {
			content := r.streamedFile(streamed)
			if len(content) > len(want) || !bytes.Equal(content[:min(len(content), need)], want[:min(len(content), need)]) {
				r.t.Errorf("%s was streamed wrongly, at byte %d", streamed, differ(content, want))
			}
			if len(content) > len(got) {
				got = content
			}
		}
		if archived := r.archived(name); archived != nil {
			got = archived
		}
		if got == nil && !begun {
			continue
		}
		begun = true
		switch {
		case len(got) < need:
			r.t.Errorf("%s: %d bytes are there, want %d", name, len(got), need)
		case !bytes.Equal(got[:need], want[:need]):
			r.t.Errorf("%s differs from the server's at byte %d", name, differ(got, want))
		}
		compared += need
	}
	if compared == 0 {
		r.t.Errorf("nothing could be compared")
	}
	return compared
}

// differ is the first byte in which two differ.
func differ(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// streamNote reads the stream's note from the archive.
func (r *rig) streamNote() (s notes.Stream) {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.spool, "streams", "walkeep.json"))
	r.must(err)
	r.must(json.Unmarshal(text, &s))
	return s
}

// noted waits for the first note of the stream.
func (r *rig) noted() {
	r.t.Helper()
	r.until("the stream is noted", func() bool {
		_, err := os.Stat(filepath.Join(r.spool, "streams", "walkeep.json"))
		return err == nil
	})
}

// says waits until sync says something.
func (s *streamer) says(words string) {
	s.r.t.Helper()
	s.r.until("sync says "+words, func() bool { return strings.Contains(s.said(), words) })
}

// majors are two that differ much, for tests that take long.
func majors(t *testing.T, f func(r *rig)) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		f(newRig(t, major))
	}, 10, 15)
}
