package ship

import (
	"context"
	"errors"
	"path"
	"slices"
	"time"

	"walkeep/common/archive"
	"walkeep/common/storage"
)

// batch is how many objects are removed at once, so that notes are written in between.
const batch = 1000

// group is the part of the bytes that stay of which so much leaves at once, or else each object would cost a listing.
const group = 16

// confirmation is for how long it counts that the repository was seen to hold what was proven.
const confirmation = 10 * time.Second

// tidy removes from the spool what all repositories hold, but the newest bytes. What an earlier process has shipped is
// handed to the queues first, which compare it.
func (s *shipper) tidy(ctx context.Context) {
	if !s.Remove || slices.ContainsFunc(s.queues, func(q *queue) bool { return !q.locked() }) {
		return
	}
	stock, _ := s.current()
	var old []object
	var kept int64
	for _, l := range slices.Backward(stock) {
		if l.dir == archive.WALDir {
			continue // histories stay
		}
		for _, o := range slices.Backward(l.objects) {
			if kept += o.size; kept > s.Keep {
				old = append(old, o)
			}
		}
	}
	if s.Follow && kept < s.Keep+s.Keep/group {
		return
	}
	slices.Reverse(old)
	var leave []object
	for _, o := range old {
		if len(leave) < batch && s.mayLeave(o) {
			leave = append(leave, o)
		}
	}
	if len(leave) > 0 {
		s.note(ctx, false) // or the marks would not pass what has left
	}
	for _, o := range leave {
		if err := s.remove(ctx, o.name); err != nil {
			s.Log.Warn("an object that all repositories hold cannot be removed from the spool", "object", o.name, "error", err.Error())
			return
		}
		for _, q := range s.queues {
			q.drop(o)
		}
	}
	var dirs []string
	for _, o := range leave {
		if dir := path.Dir(o.name) + "/"; !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	if err := s.Spool.Archive.Prune(ctx, dirs...); err != nil {
		s.Log.Warn("empty directories of the spool cannot be removed", "error", err.Error())
	}
	if len(leave) > 0 {
		s.rescan(ctx) // or the queues would ship what is not there
	}
}

// mayLeave reports whether every repository was proven to hold an object. It asks a queue that has not proven it yet to do so.
func (s *shipper) mayLeave(o object) bool {
	all := true
	for _, q := range s.queues {
		all = q.proves(o) && all
	}
	return all
}

func (q *queue) proves(o object) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	sh := q.shelves[path.Dir(o.name)+"/"]
	if sh == nil {
		return false
	}
	have := sh.have[o.name]
	confirmed := time.Since(sh.confirmed) < confirmation
	if have != 0 && !confirmed {
		sh.confirm = true
		q.wake()
	}
	switch have {
	case proven:
		return confirmed
	case listed:
		if !slices.ContainsFunc(q.prove, func(p object) bool { return p.name == o.name }) && len(q.prove) < batch {
			q.prove = append(q.prove, o)
			q.wake()
		}
	}
	return false
}

func (s *shipper) remove(ctx context.Context, names ...string) error {
	err := s.Spool.Archive.Backend().Remove(ctx, names...)
	if errors.Is(err, storage.ErrNotExist) {
		return nil
	}
	return err
}
