// Package ship copies what a spool holds to repositories, and removes from the spool what every repository holds.
//
// # Order
//
// Each repository has a queue of its own, so that one that does not answer delays no other. Histories are shipped first, then the
// WAL of each timeline in its order, one object after the other: a segment is visible in a repository only after all before
// it are, so that no reader sees a hole. Volumes and index of a backup are shipped beside the WAL. Its manifest follows when the
// repository holds the WAL that the backup needs.
//
// # What is proven
//
// Objects are copied as they are stored; see [archive.Archive.Copy]. An object leaves the spool after this process has copied
// it to every repository, or has compared it there with what the spool holds. Removal is the only act that relies on this: an
// object that an earlier process has shipped counts as held if the repository lists it below the mark with the same size, and
// is compared before it is removed. Before objects leave, each repository is listed again: what has gone there, or has another
// size, is shipped again.
//
// # Requests
//
// When a queue begins, it lists those directories of the repository that the spool has. After that, an object costs one Create and
// one Commit, and a sixteenth of the WAL that stays in the spool one listing. A queue that had nothing to ship for a minute makes
// one request, to notice an outage.
package ship

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"walkeep/common/archive"
	"walkeep/common/wal"
	"walkeep/supervisor/spool"
)

// A Repository is one to which is shipped.
type Repository struct {
	Name string
	URL  string
	// Timeout is how long a call may take, beside the time that its bytes need on a slow line.
	Timeout time.Duration
	Open    func(ctx context.Context) (Remote, error)
}

// A Remote is an open repository.
type Remote struct {
	Archive  *archive.Archive
	Requests func() (requests int, sent int64) // so far
	Close    func() error
}

// Options describe what is shipped, and where.
type Options struct {
	Spool        *spool.Spool
	Repositories []Repository
	// Remove lets leave the spool what all of Repositories hold, except for the newest Keep bytes of WAL.
	Remove bool
	Keep   int64
	// Follow ships until the context ends. Otherwise Run returns when everything that is there was shipped, or cannot be.
	Follow bool
	// Wait lets Run, where it does not follow, wait for another process that ships to a repository, until that has shipped what is
	// there or has ended. Then Run ships.
	Wait bool
	Log  *slog.Logger
	// Begin gets the number of bytes that the spool holds for all repositories, and returns a function that gets the bytes done; may
	// be nil.
	Begin  func(total int64) (progress func(bytes int64))
	Pieces Pieces
	Pace   Pace
}

// A Pace says how often things are done. Zero values are the defaults.
type Pace struct {
	Poll    time.Duration // between two looks into the spool; 200 ms
	Note    time.Duration // between two notes in the spool; 5 s
	Ping    time.Duration // after which a repository that was not needed is asked; 1 min
	First   time.Duration // pause after a failure, which grows to Longest; 1 s
	Longest time.Duration // 1 min
	Hole    time.Duration // how long a segment waits for the one before it; 10 s
}

func (p *Pace) complete() {
	for _, d := range []struct {
		have *time.Duration
		want time.Duration
	}{
		{&p.Poll, 200 * time.Millisecond}, {&p.Note, 5 * time.Second}, {&p.Ping, time.Minute}, {&p.First, time.Second},
		{&p.Longest, time.Minute}, {&p.Hole, 10 * time.Second},
	} {
		if *d.have == 0 {
			*d.have = d.want
		}
	}
}

// A Result is what was shipped to a repository.
type Result struct {
	Repository string
	Objects    int   // that were copied
	Bytes      int64 // of these
	Found      int   // that the repository held
	Waiting    int   // that could not be shipped
	Elsewhere  bool  // another process has shipped what was there
	Err        error // why; nil if nothing waits
}

// Run ships until the context ends, or all is done. The error is that of the spool; those of the repositories are in
// the results.
func Run(ctx context.Context, o Options) ([]Result, error) {
	o.Pace.complete()
	s := &shipper{Options: o, progress: func(int64) {}}
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	if o.Begin != nil {
		s.progress = o.Begin(s.total() * int64(len(s.queues)))
	}
	var group sync.WaitGroup
	for _, q := range s.queues {
		group.Go(func() { q.run(ctx) })
	}
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	err := s.watch(ctx, done)
	<-done
	s.finish(ctx)
	var results []Result
	for _, q := range s.queues {
		results = append(results, q.result())
		q.end()
	}
	return results, err
}

// A shipper is one Run.
type shipper struct {
	Options
	id       archive.Identity
	queues   []*queue
	progress func(bytes int64)

	tail      tail      // the segment that is being written, at the last note
	tailSince time.Time // when that segment was first seen

	leaving sync.Mutex // guards the removal of backups, which all queues begin

	mu    sync.Mutex
	stock []*listing // what the spool holds, in the order in which it is shipped
	at    time.Time  // when it was listed
}

// begin waits until the spool belongs to a cluster, and lists it.
func (s *shipper) begin(ctx context.Context) error {
	for {
		id, err := s.Spool.Archive.Identity(ctx)
		if err == nil {
			s.id = id
			break
		}
		if !s.Follow || !errors.Is(err, archive.ErrUnbound) {
			return err
		}
		if err := sleep(ctx, 10*s.Pace.Poll, nil); err != nil {
			return err
		}
	}
	if err := s.Spool.Archive.CheckWAL(ctx); err != nil {
		return err
	}
	if _, err := s.scan(ctx); err != nil {
		return err
	}
	for _, r := range s.Repositories {
		q, err := newQueue(ctx, s, r)
		if err != nil {
			return err
		}
		s.queues = append(s.queues, q)
	}
	return nil
}

// watch looks for what is new in the spool, writes notes, and removes what may leave, until the queues have ended.
func (s *shipper) watch(ctx context.Context, done <-chan struct{}) error {
	poll := time.NewTicker(s.Pace.Poll)
	defer poll.Stop()
	var noted, failed, swept time.Time
	var scanned time.Duration // how long the last scan took
	rest := time.Now()
	for {
		select {
		case <-done:
			return nil
		case <-poll.C:
		}
		if !s.Follow || ctx.Err() != nil || time.Now().Before(rest) {
			if time.Since(noted) >= s.Pace.Note {
				noted = time.Now()
				s.note(ctx, false)
			}
			continue
		}
		began := time.Now()
		err := s.rescan(ctx)
		if err != nil && ctx.Err() == nil && time.Since(failed) > s.Pace.Longest {
			failed = time.Now()
			s.Log.Error("the spool cannot be read", "error", err.Error())
		}
		scanned = time.Since(began)
		rest = time.Now().Add(20 * scanned) // a spool with very many directories
		if time.Since(noted) >= s.Pace.Note {
			noted = time.Now()
			s.note(ctx, false)
			s.tidy(ctx)
		}
		if time.Since(swept) >= sweepInterval {
			swept = time.Now()
			s.sweepBackups(ctx)
		}
	}
}

// rescan lists the spool again, and wakes the queues if it has changed.
func (s *shipper) rescan(ctx context.Context) error {
	changed, err := s.scan(ctx)
	if changed {
		for _, q := range s.queues {
			q.wake()
		}
	}
	return err
}

// finish removes what may leave now, and writes the last notes.
func (s *shipper) finish(ctx context.Context) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	if !s.Follow {
		for _, q := range s.queues {
			q.proveAll(ctx)
		}
	}
	s.tidy(ctx)
	s.note(ctx, true)
}

// sleep waits for a time, or until wake, which may be nil, receives. It fails if the context ends.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	case <-wake:
	}
	return nil
}

// total is how many bytes of WAL the spool holds.
func (s *shipper) total() (bytes int64) {
	stock, _ := s.current()
	for _, l := range stock {
		for _, o := range l.objects {
			bytes += o.size
		}
	}
	return bytes
}

// current returns what the spool held when it was listed last.
func (s *shipper) current() ([]*listing, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stock, s.at
}

// number is that of the segment to which a WAL file belongs.
func (s *shipper) number(n wal.Name) uint64 {
	number, err := n.Number(s.id.SegmentSize)
	if err != nil {
		return 0 // a history
	}
	return number
}

// position is the beginning of the segment with a number.
func (s *shipper) position(number uint64) wal.LSN {
	return wal.LSN(number * uint64(s.id.SegmentSize))
}

// errHung says that a call did not even end when its time was over.
var errHung = errors.New("there was no answer in time")

func hung(limit time.Duration) error { return fmt.Errorf("%w (%s)", errHung, limit.Round(time.Second)) }
