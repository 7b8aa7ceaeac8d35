package ship

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"walkeep/common/archive"
	"walkeep/common/notes"
	"walkeep/common/wal"
)

// A state says what is known of an object of the spool in a repository.
type state uint8

const (
	listed state = iota + 1 // the repository lists it, and an earlier process has shipped it
	proven                  // this process has copied it, or compared it
)

// A shelf is what a queue knows of a directory of the spool.
type shelf struct {
	all   *listing // of which the repository holds everything; nil while it does not
	have  map[string]state
	asked bool // the repository was listed, or need not be
	// What was proven long ago can be lost by now, so that the repository is listed again before objects leave the spool.
	confirmed time.Time // when everything that is proven was last seen there
	confirm   bool      // an object waits for that
}

// A stuck object cannot be shipped until somebody has removed the cause.
type stuck struct {
	err   error
	again time.Time // when it is tried again
}

// stuckPause is how long an object rests that cannot be shipped.
const stuckPause = 10 * time.Minute

// hungCalls is how many calls may not have returned although their time is over.
const hungCalls = 4

// slowest is the rate in bytes per second with which a repository is still considered to answer.
const slowest = 64 << 10

// A queue ships to one repository.
type queue struct {
	Repository
	s         *shipper
	lock      *os.File // nil until this process is the one that ships there
	elsewhere bool     // another process has shipped what was there
	woken     chan struct{}
	calls     chan struct{}    // has an element for each call that has not returned
	notes     map[string]owned // that were copied; only the lane beside the WAL uses them

	mu       sync.Mutex // guards what follows
	remote   *Remote
	shelves  map[string]*shelf
	holes    map[wal.Timeline]hole
	stuck    map[string]stuck
	prove    []object
	before   notes.Shipping // what an earlier process has left
	marks    []notes.Mark
	note     notes.Shipping // as it was written last
	written  time.Time
	done     Result
	err      error     // of the last call; nil after a success
	failing  time.Time // since when there is one
	failedAt time.Time // when that call ended
	refused  bool
	asked    time.Time // when the repository answered last
	backups  backups
	sent     sent
}

// A hole is a segment that the spool lacks, although it holds later ones.
type hole struct {
	number uint64
	since  time.Time
}

func newQueue(ctx context.Context, s *shipper, r Repository) (*queue, error) {
	q := &queue{
		Repository: r, s: s, woken: make(chan struct{}, 1), calls: make(chan struct{}, hungCalls),
		shelves: make(map[string]*shelf), holes: make(map[wal.Timeline]hole), stuck: make(map[string]stuck), notes: make(map[string]owned),
	}
	q.done.Repository = r.Name
	return q, q.recall(ctx)
}

// recall begins with what an earlier process has left.
func (q *queue) recall(ctx context.Context) error {
	was, err := q.noted(ctx)
	if err != nil {
		return err
	}
	q.mu.Lock()
	q.before, q.marks = was, was.Marks
	q.mu.Unlock()
	q.begin()
	return nil
}

// noted reads the note of the repository.
func (q *queue) noted(ctx context.Context) (notes.Shipping, error) {
	n, err := q.s.Spool.Archive.Notes().Shipping(ctx, q.Name)
	if n.URL != q.URL {
		n = notes.Shipping{} // it is about another place
	}
	return n, err
}

// wake makes the queue look for something to do.
func (q *queue) wake() {
	select {
	case q.woken <- struct{}{}:
	default:
	}
}

// run ships until the context ends; where Run does not follow, until nothing can be shipped.
func (q *queue) run(ctx context.Context) {
	if err := q.takeLock(ctx); err != nil {
		q.failed(ctx, err)
		return
	}
	if q.elsewhere {
		return
	}
	var beside sync.WaitGroup
	if q.s.Follow {
		beside.Go(func() { q.shipBeside(ctx) })
	}
	q.shipWAL(ctx)
	if !q.s.Follow && ctx.Err() == nil && q.failure() == nil {
		q.shipBeside(ctx)
	}
	beside.Wait()
}

// tries is how often a call is made that fails, where Run does not follow.
const tries = 3

func (q *queue) shipWAL(ctx context.Context) {
	pause, failures := q.s.Pace.First, 0
	for ctx.Err() == nil {
		idle, err := q.step(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			q.failed(ctx, err)
			if failures++; !q.s.Follow && (failures == tries || q.isRefused()) {
				return
			}
			if sleep(ctx, pause, nil) != nil {
				return
			}
			pause = min(2*pause, q.s.Pace.Longest)
		case idle > 0 && !q.s.Follow:
			return
		case idle > 0:
			if sleep(ctx, idle, q.woken) != nil {
				return
			}
		default:
			pause, failures = q.s.Pace.First, 0
		}
	}
}

// step does the next thing, or returns how long nothing needs to be done.
func (q *queue) step(ctx context.Context) (idle time.Duration, err error) {
	if q.opened() == nil {
		return 0, q.connect(ctx)
	}
	dir, o, wait := q.next()
	switch {
	case dir != nil:
		return 0, q.look(ctx, dir)
	case o != nil:
		return 0, q.ship(ctx, *o)
	}
	if o := q.unproven(); o != nil {
		return 0, q.compare(ctx, *o)
	}
	if dir := q.unconfirmed(); dir != "" {
		return 0, q.confirm(ctx, dir)
	}
	q.mu.Lock()
	failing := q.err != nil
	q.mu.Unlock()
	if failing {
		return 0, q.ping(ctx)
	}
	piece := q.s.Pace.Ping
	if wait == 0 { // all before the segment that is being written is there
		if piece, err = q.shipPiece(ctx); err != nil {
			return 0, err
		}
	}
	q.mu.Lock()
	rest := q.s.Pace.Ping - time.Since(q.asked)
	q.mu.Unlock()
	if rest <= 0 {
		return 0, q.ping(ctx)
	}
	if wait > 0 {
		rest = min(rest, wait)
	}
	return max(time.Millisecond, min(rest, piece)), nil
}

// next finds what to do: list a directory of the repository, or ship an object. wait says when there may be something that
// has to wait; 0 if there is nothing.
func (q *queue) next() (dir *listing, o *object, wait time.Duration) {
	stock, _ := q.s.current()
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.shelves) > 2*len(stock)+16 {
		q.forget(stock)
	}
	now := time.Now()
	later := func(d time.Duration) {
		if wait == 0 || d < wait {
			wait = d
		}
	}
	held := make(map[wal.Timeline]uint64) // the number behind the last segment that is held
	var resting wal.Timeline              // the rest of which waits
	for _, l := range stock {
		sh := q.shelves[l.dir]
		if sh == nil {
			sh = &shelf{have: make(map[string]state), asked: true}
			q.shelves[l.dir] = sh
		}
		if !sh.asked {
			return l, nil, 0
		}
		if sh.all == l {
			if n := len(l.objects); n > 0 && l.dir != archive.WALDir {
				held[l.timeline] = l.objects[n-1].number + 1
			}
			continue
		}
		whole := true
		for i := range l.objects {
			o := &l.objects[i]
			if sh.have[o.name] != 0 {
				if o.wal.Kind == wal.KindSegment {
					held[l.timeline] = o.number + 1
				}
				continue
			}
			whole = false
			if s, ok := q.stuck[o.name]; ok && now.Before(s.again) {
				later(s.again.Sub(now))
				held[l.timeline] = o.number + 1
				continue
			}
			if l.timeline == resting && l.dir != archive.WALDir {
				break
			}
			if d := q.holds(o, held, now); d > 0 {
				later(d)
				resting = l.timeline
				break
			}
			return nil, o, 0
		}
		if whole {
			for name := range sh.have {
				if !slices.ContainsFunc(l.objects, func(o object) bool { return o.name == name }) {
					delete(sh.have, name)
				}
			}
			sh.all = l
		}
	}
	return nil, nil, wait
}

// forget drops what is known of directories that the spool does not have any more.
func (q *queue) forget(stock []*listing) {
	have := make(map[string]bool, len(stock))
	for _, l := range stock {
		have[l.dir] = true
	}
	for dir := range q.shelves {
		if !have[dir] {
			delete(q.shelves, dir)
		}
	}
}

// holds returns how long a segment waits for the one before it: archive-cmd stores several at the same time, and a reader of
// the repository would see a hole.
func (q *queue) holds(o *object, held map[wal.Timeline]uint64, now time.Time) time.Duration {
	tli := o.wal.Timeline
	if o.wal.Kind != wal.KindSegment || !q.s.Follow {
		return 0
	}
	next := held[tli]
	if next == 0 {
		next = uint64(q.mark(tli)) / uint64(q.s.id.SegmentSize)
	}
	if next == 0 || o.number <= next {
		return 0
	}
	h := q.holes[tli]
	if h.number != next {
		h = hole{next, now}
		q.holes[tli] = h
	}
	return h.since.Add(q.s.Pace.Hole).Sub(now)
}

// ship copies an object to the repository.
func (q *queue) ship(ctx context.Context, o object) error {
	if o.bad != nil {
		q.stop(o.name, o.bad)
		return nil
	}
	if o.wal.Kind == wal.KindSegment {
		if err := q.shipFindings(ctx, notes.DamageName(o.wal), notes.VerifiedName(o.wal.String())); err != nil {
			return err
		}
	}
	done, err := q.copy(ctx, o.name, o.size)
	switch {
	case err == nil && done.Duplicate:
		q.found(o)
	case err == nil:
		q.holding(o, proven)
		q.copied(o.size)
	case errors.Is(err, archive.ErrNotStored): // it was removed from the spool; the next listing lacks it
		return sleep(ctx, q.s.Pace.Poll, nil)
	case final(err):
		q.stop(o.name, err)
	default:
		return err
	}
	return nil
}

// copy copies an object of the spool to the repository.
func (q *queue) copy(ctx context.Context, name string, size int64) (archive.Copied, error) {
	var done archive.Copied
	err := q.call(ctx, size, func(ctx context.Context, a *archive.Archive) error {
		d, err := a.Copy(ctx, q.s.Spool.Archive, name)
		if err == nil {
			done = d
		}
		return err
	})
	return done, err
}

// shipFindings copies notes of what is known to be wrong with an object, which must be there before the object is.
func (q *queue) shipFindings(ctx context.Context, names ...string) error {
	for _, note := range names {
		if _, err := os.Stat(filepath.Join(q.s.Spool.Dir, filepath.FromSlash(note))); err != nil {
			continue
		}
		_, err := q.copy(ctx, note, 0)
		if err != nil && !errors.Is(err, archive.ErrConflict) && !errors.Is(err, archive.ErrNotStored) { // any note leads to the object
			return err
		}
	}
	return nil
}

func (q *queue) copied(size int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.done.Objects++
	q.done.Bytes += size
}
