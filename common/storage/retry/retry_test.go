package retry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"walkeep/common/storage"
	"walkeep/common/storage/flaky"
	"walkeep/common/storage/mem"
	"walkeep/common/storage/retry"
)

// failing is a backend whose Open fails.
type failing struct {
	mem.Backend
	err   error
	calls int
	after func()
}

func (f *failing) Open(context.Context, string) (storage.Object, error) {
	f.calls++
	if f.after != nil {
		f.after()
	}
	return nil, f.err
}

// What another call would answer the same is not asked again.
func TestFinalErrors(t *testing.T) {
	for _, want := range []error{storage.ErrNotExist, storage.ErrExist, storage.ErrDenied, storage.ErrName} {
		b := &failing{err: want}
		if _, err := retry.New(b, time.Microsecond, time.Minute).Open(t.Context(), "x"); !errors.Is(err, want) || b.calls != 1 {
			t.Errorf("got %v after %d calls, want %v after one", err, b.calls, want)
		}
	}
}

// It ends with its context, and with its time.
func TestGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := &failing{err: flaky.ErrBusy}
	b.after = func() {
		if b.calls == 3 {
			cancel()
		}
	}
	if _, err := retry.New(b, time.Microsecond, time.Hour).Open(ctx, "x"); err == nil || b.calls != 3 {
		t.Errorf("got %v after %d calls", err, b.calls)
	}
	if _, err := retry.New(&failing{err: flaky.ErrBusy}, time.Microsecond, time.Millisecond).Open(t.Context(), "x"); !errors.Is(err, flaky.ErrBusy) {
		t.Errorf("got %v, want the error of the last call", err)
	}
}

// A commit is never repeated: after the answer that the name is taken, the caller would not know whose object has it.
func TestCommitOnce(t *testing.T) {
	store := &flaky.Backend{Manners: flaky.Manners{LostAnswers: 1}}
	err := storage.PutAll(t.Context(), retry.New(store, time.Microsecond, time.Minute), "x", []byte("x"))
	if !errors.Is(err, flaky.ErrLost) || errors.Is(err, storage.ErrExist) {
		t.Errorf("got %v, want that the answer was lost", err)
	}
}
