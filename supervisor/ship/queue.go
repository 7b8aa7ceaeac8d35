package ship

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"walkeep/common/archive"
	"walkeep/common/notes"
	"walkeep/common/storage"
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
	s     *shipper
	lock  *os.File // nil until this process is the one that ships there
	woken chan struct{}
	calls chan struct{}    // has an element for each call that has not returned
	notes map[string]owned // that were copied; only the lane beside the WAL uses them

	mu      sync.Mutex // guards what follows
	remote  *Remote
	shelves map[string]*shelf
	holes   map[wal.Timeline]hole
	stuck   map[string]stuck
	prove   []object
	before  notes.Shipping // what an earlier process has left
	marks   []notes.Mark
	note    notes.Shipping // as it was written last
	written time.Time
	done    Result
	err     error     // of the last call; nil after a success
	failing time.Time // since when there is one
	refused bool
	asked   time.Time // when the repository answered last
	backups backups
	sent    sent
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
	was, err := s.Spool.Archive.Notes().Shipping(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	if was.URL != r.URL {
		was = notes.Shipping{} // it is about another place
	}
	q.before, q.marks = was, was.Marks
	q.begin()
	return q, nil
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
	lock, err := q.s.lock(ctx, q.Name)
	if err != nil {
		q.failed(ctx, err)
		return
	}
	q.mu.Lock()
	q.lock = lock
	q.mu.Unlock()
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

// call makes a call on the repository that moves so many bytes. It returns when the time is over, even if the call does not.
func (q *queue) call(ctx context.Context, size int64, f func(ctx context.Context, a *archive.Archive) error) error {
	r := q.opened()
	if r == nil { // the queue begins again
		return errors.New("the repository is not open")
	}
	limit := q.Timeout + time.Duration(size/slowest)*time.Second
	err := q.limited(ctx, limit, func(ctx context.Context) error { return f(ctx, r.Archive) })
	if err == nil {
		q.answered()
	}
	return err
}

// grace is how long a call may take to end after its context has.
const grace = 2 * time.Second

func (q *queue) limited(ctx context.Context, limit time.Duration, f func(ctx context.Context) error) error {
	ctx, stop := context.WithTimeout(ctx, limit)
	select {
	case q.calls <- struct{}{}:
	case <-ctx.Done(): // earlier calls hang
		stop()
		return hung(limit)
	}
	ended := make(chan error, 1)
	go func() {
		defer stop()
		err := f(ctx)
		<-q.calls
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(min(grace, limit))
	defer timer.Stop()
	select {
	case err := <-ended:
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%w: %w", hung(limit), err)
		}
		return err
	case <-timer.C:
		return hung(limit)
	}
}

// connect opens the repository, and binds it to the spool's cluster.
func (q *queue) connect(ctx context.Context) error {
	var remote Remote
	got := make(chan struct{})
	err := q.limited(ctx, q.Timeout, func(ctx context.Context) error {
		r, err := q.Open(ctx)
		if err == nil {
			if err = r.Archive.Bind(ctx, q.s.id); err == nil {
				err = r.Archive.CheckWAL(ctx)
			}
			if err != nil {
				r.Close()
			}
		}
		remote = r
		close(got)
		return err
	})
	q.mu.Lock()
	q.refused = errors.Is(err, archive.ErrForeign)
	q.mu.Unlock()
	if err != nil {
		return err
	}
	<-got
	q.mu.Lock()
	q.remote = &remote
	q.mu.Unlock()
	q.answered()
	return nil
}

func (q *queue) opened() *Remote {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.remote
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

// look lists a directory of the repository, once.
func (q *queue) look(ctx context.Context, l *listing) error {
	sizes, holders, err := q.listing(ctx, l.dir)
	if err != nil {
		return err
	}
	for _, o := range l.objects {
		size, ok := sizes[o.name]
		other := holders[o.wal]
		switch {
		case ok && size == o.size && q.marked(o):
			q.holding(o, listed)
		case ok:
			err = q.meet(ctx, o, o.name)
		case other != "" && o.wal.Kind != wal.KindPartial:
			err = q.meet(ctx, o, other)
		}
		if err != nil {
			return err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shelves[l.dir].asked = true
	return nil
}

// listing lists a directory of the repository. It returns the sizes of the objects, and by the name of each file an object that
// holds it, under whatever ending.
func (q *queue) listing(ctx context.Context, dir string) (sizes map[string]int64, holders map[wal.Name]string, err error) {
	var there []storage.Entry
	err = q.call(ctx, 0, func(ctx context.Context, a *archive.Archive) (err error) {
		var found []storage.Entry
		if found, err = a.List(ctx, dir); err == nil {
			there = found
		}
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list %s: %w", dir, err)
	}
	sizes, holders = make(map[string]int64, len(there)), make(map[wal.Name]string)
	for _, e := range there {
		if o, ok := archive.ParseObject(e); ok && o.Bad == nil {
			sizes[o.Name] = o.Size
			holders[o.WAL] = o.Name
		}
	}
	return sizes, holders, nil
}

// marked reports whether an earlier process has shipped an object. Of partial segments it is not known which of several the
// repository lists.
func (q *queue) marked(o object) bool {
	return o.wal.Kind != wal.KindHistory && o.wal.Kind != wal.KindPartial && q.s.position(o.number+1) <= q.before.Mark(o.wal.Timeline)
}

// meet compares an object with the one that the repository holds.
func (q *queue) meet(ctx context.Context, o object, name string) error {
	err := q.call(ctx, o.size, func(ctx context.Context, a *archive.Archive) error {
		return a.Compare(ctx, q.s.Spool.Archive, o.name, name)
	})
	switch {
	case err == nil:
		q.found(o)
	case errors.Is(err, archive.ErrConflict) && o.wal.Kind == wal.KindPartial:
		return nil // it will be stored beside that one
	case final(err):
		q.stop(o.name, err)
	case errors.Is(err, archive.ErrNotStored): // one of the two has gone
	default:
		return err
	}
	return nil
}

// final reports whether an error of an object will not pass with time.
func final(err error) bool {
	return errors.Is(err, archive.ErrConflict) || errors.Is(err, archive.ErrDamaged)
}

// mark returns how far the repository holds a timeline.
func (q *queue) mark(tli wal.Timeline) wal.LSN {
	return notes.Shipping{Marks: q.marks}.Mark(tli)
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

// unproven returns an object that is to be compared before it may leave the spool.
func (q *queue) unproven() *object {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.prove) == 0 {
		return nil
	}
	o := q.prove[0]
	q.prove = q.prove[1:]
	return &o
}

// compare proves an object that an earlier process has shipped.
func (q *queue) compare(ctx context.Context, o object) error {
	err := q.call(ctx, o.size, func(ctx context.Context, a *archive.Archive) error {
		return a.Compare(ctx, q.s.Spool.Archive, o.name, o.name)
	})
	switch {
	case err == nil:
		q.holding(o, proven)
	case errors.Is(err, archive.ErrNotStored) && ctx.Err() == nil: // it is not there any more
		q.drop(o)
	case final(err):
		q.drop(o)
		q.stop(o.name, err)
	default:
		return err
	}
	return nil
}

// proveAll proves all that an earlier process has shipped and that may leave the spool.
func (q *queue) proveAll(ctx context.Context) {
	if q.opened() == nil {
		return
	}
	q.s.tidy(ctx)
	for o := q.unproven(); o != nil && ctx.Err() == nil; o = q.unproven() {
		if q.compare(ctx, *o) != nil {
			return
		}
	}
	for dir := q.unconfirmed(); dir != "" && ctx.Err() == nil; dir = q.unconfirmed() {
		if q.confirm(ctx, dir) != nil {
			return
		}
	}
}

// unconfirmed returns a directory of which objects may leave the spool when the repository is seen to have them still.
func (q *queue) unconfirmed() (dir string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for dir, sh := range q.shelves {
		if sh.confirm {
			return dir
		}
	}
	return ""
}

// confirm lists a directory of the repository, so that what it held and does not hold as it was is shipped again.
func (q *queue) confirm(ctx context.Context, dir string) error {
	at := time.Now()
	sizes, holders, err := q.listing(ctx, dir)
	if err != nil {
		return err
	}
	stock, _ := q.s.current()
	q.mu.Lock()
	defer q.mu.Unlock()
	sh := q.shelves[dir]
	if sh == nil {
		return nil
	}
	for _, l := range stock {
		for _, o := range l.objects {
			size, ok := sizes[o.name]
			if sh.have[o.name] == 0 || ok && size == o.size || !ok && holders[o.wal] != "" {
				continue
			}
			q.s.Log.Error("an object that was shipped is not in the repository as it was, and is shipped again", "repository", q.Name, "object", o.name)
			delete(sh.have, o.name)
			sh.all = nil
		}
	}
	sh.confirmed, sh.confirm = at, false
	return nil
}

// ping asks the repository for the object that must be there. If that has gone, so has everything else, and the queue begins
// again.
func (q *queue) ping(ctx context.Context) error {
	err := q.call(ctx, 0, func(ctx context.Context, a *archive.Archive) error {
		there, err := a.List(ctx, archive.IdentityName)
		if err == nil && !slices.ContainsFunc(there, func(e storage.Entry) bool { return e.Name == archive.IdentityName }) {
			err = fmt.Errorf("what was shipped has gone: %w", archive.ErrUnbound)
		}
		return err
	})
	if errors.Is(err, archive.ErrUnbound) {
		q.begin()
	}
	return err
}

// begin forgets what is known of the repository.
func (q *queue) begin() {
	stock, _ := q.s.current()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.remote != nil && len(q.calls) == 0 {
		q.remote.Close()
	}
	q.remote, q.prove, q.backups.whole, q.sent = nil, nil, nil, sent{}
	q.shelves = make(map[string]*shelf)
	for _, l := range stock {
		q.shelves[l.dir] = &shelf{have: make(map[string]state)}
	}
}

// holding records that the repository holds an object.
func (q *queue) holding(o object, s state) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if sh := q.shelves[path.Dir(o.name)+"/"]; sh != nil {
		if sh.have[o.name] == 0 {
			q.s.progress(o.size)
			if s == listed {
				q.done.Found++
			}
		}
		sh.have[o.name] = s
	}
	delete(q.stuck, o.name)
}

// found records that the repository held an object before it was shipped.
func (q *queue) found(o object) {
	q.holding(o, proven)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.done.Found++
}

func (q *queue) copied(size int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.done.Objects++
	q.done.Bytes += size
}

// drop forgets an object, so that it is shipped again.
func (q *queue) drop(o object) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if sh := q.shelves[path.Dir(o.name)+"/"]; sh != nil {
		delete(sh.have, o.name)
		sh.all = nil
	}
}

// stop records that an object cannot be shipped.
func (q *queue) stop(name string, err error) {
	q.mu.Lock()
	_, again := q.stuck[name]
	q.stuck[name] = stuck{err, time.Now().Add(stuckPause)}
	q.mu.Unlock()
	if !again {
		q.s.Log.Error("an object cannot be shipped, and stays in the spool", "repository", q.Name, "object", name, "error", err.Error())
	}
}

func (q *queue) answered() {
	q.mu.Lock()
	was := q.err
	q.err, q.failing, q.asked = nil, time.Time{}, time.Now()
	q.mu.Unlock()
	if was != nil {
		q.s.Log.Info("the repository answers again", "repository", q.Name)
	}
}

func (q *queue) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	q.mu.Lock()
	first := q.err == nil
	if first {
		q.failing = time.Now()
	}
	q.err = err
	q.mu.Unlock()
	if first {
		q.s.Log.Error("shipping fails, and is tried again", "repository", q.Name, "error", err.Error())
	}
}

func (q *queue) failure() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

func (q *queue) isRefused() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.refused
}

// locked reports whether this process ships to the repository, and has reached it.
func (q *queue) locked() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lock != nil && q.remote != nil
}

// end gives up the repository and its lock.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.remote != nil && len(q.calls) == 0 {
		q.remote.Close()
	}
	if q.lock != nil {
		q.lock.Close()
	}
}
