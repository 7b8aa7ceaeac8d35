package ship

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"walkeep/common/archive"
	"walkeep/common/storage"
)

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
	q.err, q.failedAt = err, time.Now()
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
