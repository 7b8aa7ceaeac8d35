package recovery

import (
	"context"
	"fmt"

	"walkeep/common/archive"
	"walkeep/common/codec"
	"walkeep/common/wal"
)

// scan reads the segments of a way with the numbers from first to before end, in order, as one stream of records. Each
// object is expanded on all cores and compared with its hashes. event receives what recovery targets refer to, from all
// records that begin in these segments and end before to. After each segment, more reports whether to continue.
func (a reader) scan(ctx context.Context, w way, first, end uint64, to wal.LSN, event func(wal.Event), more func(number uint64, r wal.Result) bool) error {
	walker := wal.Walker{Events: func(e wal.Event) {
		if e.End <= to {
			event(e)
		}
	}}
	return a.walk(ctx, w, first, end, to, &walker, more)
}

// walk is scan with a walker whose callbacks the caller has set.
func (a reader) walk(ctx context.Context, w way, first, end uint64, to wal.LSN, walker *wal.Walker, more func(number uint64, r wal.Result) bool) error {
	for number := first; number < end; number++ {
		n := w.name(number)
		if number == first {
			walker.Reset(n)
		} else {
			walker.Continue(n)
		}
		got, err := a.Deliver(ctx, n, 0, &codec.InOrder{Write: func(p []byte) error { _, err := walker.Write(p); return err }})
		if err != nil {
			return err
		}
		r := walker.Finish()
		if r.HeaderErr != nil {
			return fmt.Errorf("%s: %w: %w", got.Object, archive.ErrDamaged, r.HeaderErr)
		}
		if r.Damage != nil && r.Damage.LSN < to {
			return fmt.Errorf("%s: %w: %w", got.Object, archive.ErrBroken, r.Damage)
		}
		if !more(number, r) {
			return nil
		}
	}
	return nil
}
