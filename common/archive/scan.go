package archive

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"walkeep/common/wal"
)

// scan reads the segments of a way with the numbers from first to before end, in order, as one stream of records. Each
// object is expanded on all cores and compared with its hashes. event gets what recovery targets are about, of all
// records that begin in these segments and end before to; after each segment, more tells whether to go on.
func (a *Archive) scan(ctx context.Context, w way, first, end uint64, to wal.LSN, event func(wal.Event), more func(number uint64, r wal.Result) bool) error {
	walker := wal.Walker{Events: func(e wal.Event) {
		if e.End <= to {
			event(e)
		}
	}}
	return a.walk(ctx, w, first, end, to, &walker, more)
}

// walk is scan with a walker that says what it is to report.
func (a *Archive) walk(ctx context.Context, w way, first, end uint64, to wal.LSN, walker *wal.Walker, more func(number uint64, r wal.Result) bool) error {
	for number := first; number < end; number++ {
		n := w.name(number)
		if number == first {
			walker.Reset(n)
		} else {
			walker.Continue(n)
		}
		got, err := a.Fetch(ctx, n, 0, &inOrder{walker: walker})
		if err != nil {
			return err
		}
		r := walker.Finish()
		if r.HeaderErr != nil {
			return fmt.Errorf("%s: %w: %w", got.Object, ErrDamaged, r.HeaderErr)
		}
		if r.Damage != nil && r.Damage.LSN < to {
			return fmt.Errorf("%s: %w: %w", got.Object, ErrBroken, r.Damage)
		}
		if !more(number, r) {
			return nil
		}
	}
	return nil
}

// An inOrder hands to the walker in order what is expanded out of order. Whoever expands is never far ahead.
type inOrder struct {
	mu      sync.Mutex
	walker  *wal.Walker
	next    int64 // offset that the walker waits for
	waiting map[int64][]byte
}

func (o *inOrder) WriteAt(p []byte, at int64) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if at != o.next {
		if o.waiting == nil {
			o.waiting = make(map[int64][]byte)
		}
		o.waiting[at] = bytes.Clone(p)
		return len(p), nil
	}
	for part := p; part != nil; part = o.waiting[o.next] {
		delete(o.waiting, o.next)
		o.walker.Write(part)
		o.next += int64(len(part))
	}
	return len(p), nil
}
