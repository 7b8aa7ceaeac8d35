package service

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// A part is a Part that runs. Only the loop's own goroutine reads and writes it.
type part struct {
	Part
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
}

// steady is how long a part must have run for the next pause to be the shortest again.
const steady = time.Minute

// adoptParts ends the parts that the plan lacks or has with other settings, and begins the new ones.
func (l *Loop) adoptParts(ctx context.Context, wanted []Part) {
	var keep []string
	for _, p := range l.parts {
		same := func(w Part) bool { return w.Name == p.Name && w.Settings == p.Settings }
		if slices.ContainsFunc(wanted, same) {
			keep = append(keep, p.Name)
		} else {
			p.cancel()
		}
	}
	for _, w := range wanted {
		if !slices.Contains(keep, w.Name) {
			l.beginPart(ctx, w)
		}
	}
}

// beginPart runs a part until it is cancelled. It first waits for the end of parts with the same name, which may
// still use what it needs.
func (l *Loop) beginPart(ctx context.Context, w Part) {
	ctx, cancel := context.WithCancel(ctx)
	var before []*part
	for _, p := range l.parts {
		if p.Name == w.Name {
			before = append(before, p)
		}
	}
	p := &part{w, cancel, make(chan struct{})}
	l.parts = append(l.parts, p)
	go func() {
		for _, b := range before {
			<-b.done
		}
		l.keepUp(ctx, w)
		close(p.done)
		cancel()
		l.report(func() { l.parts = without(l.parts, p) })
	}()
}

func (l *Loop) keepUp(ctx context.Context, w Part) {
	log := l.Log.With("part", w.Name)
	pauses := backoff.NewExponentialBackOff(backoff.WithInitialInterval(time.Second), backoff.WithMaxInterval(time.Minute),
		backoff.WithMultiplier(2), backoff.WithRandomizationFactor(0.1), backoff.WithMaxElapsedTime(0))
	for ctx.Err() == nil {
		began := time.Now()
		err := safely(func() error { return w.Run(ctx, log) })
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		if time.Since(began) >= steady {
			pauses.Reset()
		}
		pause := pauses.NextBackOff()
		logError(log.With("next_try", clock(now().Add(pause))), "failed", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// without returns the list without one of its elements.
func without[T comparable](all []T, one T) []T {
	return slices.DeleteFunc(slices.Clone(all), func(t T) bool { return t == one })
}
