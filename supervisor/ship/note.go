package ship

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"walkeep/common/notes"
	"walkeep/common/wal"
)

// heartbeat is how often a note is replaced although nothing has changed.
const heartbeat = 30 * time.Second

// note writes the notes of all queues that ship.
func (s *shipper) note(ctx context.Context, last bool) {
	if t, err := s.lookAtTail(); err == nil {
		if t.segment != s.tail.segment {
			s.tailSince = time.Now()
		}
		s.tail = t
	}
	for _, q := range s.queues {
		n, due := q.shipping(last)
		if !due {
			continue
		}
		if err := s.Spool.Archive.Notes().NoteShipping(context.WithoutCancel(ctx), n); err != nil {
			s.Log.Warn("how far the repository has come cannot be noted in the spool", "repository", q.Name, "error", err.Error())
		}
	}
}

// shipping makes the note of a queue, and reports whether it is to be written.
func (q *queue) shipping(last bool) (notes.Shipping, bool) {
	stock, at := q.s.current()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lock == nil {
		return notes.Shipping{}, false
	}
	n := notes.Shipping{
		Repository: q.Name, URL: q.URL, Ended: last, Answered: q.asked.UTC(), Refused: q.refused,
		Recoverable: at.UTC(), Looked: q.backups.looked.UTC(),
	}
	if q.asked.IsZero() {
		n.Answered = q.before.Answered
	}
	if q.err != nil {
		n.Error, n.Failed, n.Failing = wal.ShortLSNs(q.err.Error()), q.failedAt.UTC(), q.failing.UTC()
	}
	for name, s := range q.stuck {
		n.Stuck = append(n.Stuck, notes.Problem{Object: name, Text: wal.ShortLSNs(s.err.Error())})
	}
	slices.SortFunc(n.Stuck, func(a, b notes.Problem) int { return cmp.Compare(a.Object, b.Object) })
	if q.remote != nil {
		n.Requests, n.Sent = q.remote.Requests()
	}
	q.move(stock)
	n.Marks = slices.Clone(q.marks)
	oldest := q.backlog(stock, &n)
	if oldest != "" {
		n.Oldest, n.Since = oldest, q.s.since(oldest).UTC()
		n.Recoverable = n.Since
	}
	if n.Objects > 0 && n.Since.IsZero() {
		n.Recoverable = q.before.Recoverable
	}
	// What was streamed since the last piece is not in the repository.
	if t := q.s.tail; t.length > 0 && t != q.sent.tail {
		at := q.s.tailSince
		if q.sent.at.After(at) {
			at = q.sent.at
		}
		if at.Before(n.Recoverable) {
			n.Recoverable = at.UTC()
		}
	}
	same := q.note
	same.Updated, same.Recoverable, same.Looked, same.Answered, same.Requests = n.Updated, n.Recoverable, n.Looked, n.Answered, n.Requests
	if !last && reflect.DeepEqual(same, n) && time.Since(q.written) < heartbeat {
		return n, false
	}
	q.note, q.written = n, time.Now()
	n.Updated = q.written.UTC()
	return n, true
}

// move moves the marks, once it is known what the repository holds. As long as the spool has nothing of a timeline but its
// history, its mark stays. A history goes with a timeline that is dropped, whose number can be used again.
func (q *queue) move(stock []*listing) {
	for _, l := range stock {
		if sh := q.shelves[l.dir]; sh == nil || !sh.asked {
			return
		}
	}
	marks := slices.DeleteFunc(slices.Clone(q.marks), func(m notes.Mark) bool {
		return m.Timeline > 1 && !slices.ContainsFunc(stock, func(l *listing) bool {
			return slices.ContainsFunc(l.objects, func(o object) bool { return o.wal.Timeline == m.Timeline })
		})
	})
	set := func(tli wal.Timeline, number uint64) {
		m := notes.Mark{Timeline: tli, LSN: q.s.position(number)}
		if i := slices.IndexFunc(marks, func(m notes.Mark) bool { return m.Timeline == tli }); i >= 0 {
			marks[i] = m
		} else {
			marks = append(marks, m)
		}
	}
	stops := make(map[wal.Timeline]bool)
	for _, l := range stock {
		sh := q.shelves[l.dir]
		for _, o := range l.objects {
			if o.wal.Kind != wal.KindSegment || stops[l.timeline] {
				continue
			}
			number := o.number
			if sh.all == l || sh.have[o.name] != 0 {
				number++
			} else {
				stops[l.timeline] = true
			}
			set(l.timeline, number)
		}
	}
	slices.SortFunc(marks, func(a, b notes.Mark) int { return cmp.Compare(a.Timeline, b.Timeline) })
	q.marks = marks
}

// backlog counts what waits, and returns the object that comes first.
func (q *queue) backlog(stock []*listing, n *notes.Shipping) (oldest string) {
	for _, l := range stock {
		sh := q.shelves[l.dir]
		if sh != nil && sh.all == l {
			continue
		}
		for _, o := range l.objects {
			if sh != nil && (sh.have[o.name] != 0 || !sh.asked && q.marked(o)) {
				continue
			}
			if n.Objects++; oldest == "" {
				oldest = o.name
			}
			n.Bytes += o.size
		}
	}
	objects, bytes := q.backups.waiting()
	n.Objects += objects
	n.Bytes += bytes
	return oldest
}

// since returns when an object came into the spool.
func (s *shipper) since(object string) time.Time {
	now := time.Now()
	info, err := os.Stat(filepath.Join(s.Spool.Dir, filepath.FromSlash(object)))
	if err != nil || info.ModTime().After(now) {
		return now
	}
	return info.ModTime()
}

// result returns what was shipped.
func (q *queue) result() Result {
	if q.elsewhere {
		return Result{Repository: q.Name, Elsewhere: true}
	}
	n, _ := q.shipping(false)
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.done
	r.Waiting = n.Objects
	switch {
	case q.err != nil:
		r.Err = q.err
	case len(n.Stuck) > 0:
		r.Err = fmt.Errorf("%s: %w", n.Stuck[0].Object, q.stuck[n.Stuck[0].Object].err)
	case q.remote == nil:
		r.Err = errors.New("the repository was not reached")
	case q.backups.err != nil:
		r.Err = q.backups.err
	}
	return r
}
