package main_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"walkeep/common/pgtest"
)

// lsn is a position in the WAL.
type lsn uint64

func parseLSN(text string) (lsn, error) {
	var high, low uint32
	if _, err := fmt.Sscanf(text, "%X/%X", &high, &low); err != nil {
		return 0, fmt.Errorf("LSN %q: %w", text, err)
	}
	return lsn(high)<<32 | lsn(low), nil
}

// segmentEnd is the position after a segment.
func segmentEnd(t testing.TB, name string, sizeMB int) lsn {
	t.Helper()
	var timeline, log, segment uint32
	if _, err := fmt.Sscanf(name, "%08X%08X%08X", &timeline, &log, &segment); err != nil {
		t.Fatalf("segment %q: %v", name, err)
	}
	return lsn(log)<<32 + lsn(segment+1)*lsn(sizeMB)<<20
}

// A journal is a row per transaction, written one after the other while the test does other things, with where in the WAL each
// commit is: it lies between the positions after the commits before it and after itself.
type journal struct {
	before int // rows that were there
	start  lsn
	stop   atomic.Bool
	ended  chan struct{}

	mu    sync.Mutex
	after []lsn
	err   error
}

// write begins to write the journal, until it is stopped or the server goes away.
func (r *rig) write(c *pgtest.Cluster) *journal {
	r.t.Helper()
	rows, err := c.QueryInt(r.ctx(), "SELECT count(*) FROM journal")
	r.must(err)
	at, err := c.QueryString(r.ctx(), "SELECT pg_current_wal_insert_lsn()")
	r.must(err)
	j := &journal{before: int(rows), ended: make(chan struct{})}
	j.start, err = parseLSN(at)
	r.must(err)
	go func() {
		defer close(j.ended)
		err := j.run(r.ctx(), c)
		j.mu.Lock()
		defer j.mu.Unlock()
		j.err = err
	}()
	r.t.Cleanup(j.end)
	return j
}

func (j *journal) run(ctx context.Context, c *pgtest.Cluster) error {
	conn, err := c.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for n := j.before + 1; !j.stop.Load(); n++ {
		if _, err := conn.Exec(ctx, "INSERT INTO journal VALUES ($1, 'row ' || $1::int)", n); err != nil {
			return err
		}
		var text string
		if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
			return err
		}
		at, err := parseLSN(text)
		if err != nil {
			return err
		}
		j.mu.Lock()
		j.after = append(j.after, at)
		j.mu.Unlock()
	}
	return nil
}

// wait waits until so many rows more are committed.
func (r *rig) wait(c *pgtest.Cluster, j *journal, rows int) {
	r.t.Helper()
	want := rows + j.rows()
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "rows of the journal", func(context.Context) (bool, error) {
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.before+len(j.after) >= want, j.err
	}))
}

// rows is the number of rows whose commits were acknowledged.
func (j *journal) rows() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.before + len(j.after)
}

// end stops the writer and waits for it.
func (j *journal) end() {
	j.stop.Store(true)
	<-j.ended
}

// upTo gives the least and the greatest number of rows that a database has which was recovered up to a position. They
// differ at most by the one row whose commit is about there.
func (j *journal) upTo(end lsn) (least, most int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	least = j.before
	last := j.start
	for _, at := range j.after {
		if at > end {
			break
		}
		least, last = least+1, at
	}
	most = least
	if last < end {
		most++
	}
	return least, most
}

// wantJournal checks that a database has the rows that were committed up to a position, and no others.
func (r *rig) wantJournal(c *pgtest.Cluster, j *journal, end lsn) {
	r.t.Helper()
	r.state(c) // no transaction of the load is there by half
	rows, err := c.QueryInt(r.ctx(), "SELECT count(*) FROM journal")
	r.must(err)
	last, err := c.QueryInt(r.ctx(), "SELECT coalesce(max(n), 0) FROM journal")
	r.must(err)
	least, most := j.upTo(end)
	if rows != last || int(rows) < least || int(rows) > most {
		r.t.Errorf("the journal up to %X has %d rows, the last of them %d, want %d to %d\n%s",
			end, rows, last, least, most, c.LogTail(20))
	}
}
