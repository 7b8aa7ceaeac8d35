package notes

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"walkeep/common/backup"
	"walkeep/common/codec"
	"walkeep/common/host"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// A Lease records what a running backup, restore or drill needs, so that cleanup keeps it. Its holder renews it.
type Lease struct {
	ID     string `json:"id"`
	Kind   string `json:"kind"`             // backup, restore, drill
	Backup string `json:"backup,omitempty"` // the backup that is taken or read
	// WAL is needed from LSN on, on Timeline and all that come from it. Timeline 0 means all WAL there is.
	Timeline wal.Timeline `json:"timeline"`
	LSN      wal.LSN      `json:"lsn"`
	// Host, Machine, Boot and PIDs are the holder's [host.Origin], PID and Started its process.
	Host    string    `json:"host"`
	Machine string    `json:"machine,omitempty"`
	Boot    string    `json:"boot"`
	PIDs    string    `json:"pid_namespace,omitempty"`
	PID     int       `json:"pid"`
	Started uint64    `json:"started,omitempty"` // when the process was, by the host's own count; 0 where it is not known
	Renewed time.Time `json:"renewed"`           // by the holder's clock
}

// ErrLost says that a lease was removed or replaced by somebody else, so that what it protected may have been removed.
// It is final.
var ErrLost = errors.New("lease was lost")

const (
	leaseRenewal = time.Minute
	// LeaseTimeout is how long a lease holds without being renewed whose holder cannot be seen from here. It is long,
	// because clocks differ, and because what a lease holds too long costs only space. A holder whose lease is taken away,
	// because its clock is more than that behind, notices it.
	LeaseTimeout = 24 * time.Hour
)

// Live reports whether the lease's holder may still be at work. Where its process can be seen, that is known; a holder in
// another container or on another machine is believed for as long as it renews the lease.
func (l Lease) Live() bool {
	switch (host.Origin{Host: l.Host, Machine: l.Machine, Boot: l.Boot, PIDs: l.PIDs}).Look(l.PID, l.Started) {
	case host.Runs:
		return true
	case host.Gone:
		return false
	}
	return time.Since(l.Renewed) < LeaseTimeout
}

// A Held lease is renewed until it is released. A nil one holds nothing.
type Held struct {
	n       Notes
	mu      sync.Mutex
	lease   Lease
	written []byte // what its note says,
	tried   []byte // or may say, where it was not known whether writing it failed
	lost    error
	stop    context.CancelFunc
	done    chan struct{}
}

// Hold takes a lease, under a new ID where l has none; storage.ErrExist if another one has that ID. What is read from the
// archive after Hold has returned will stay.
func (n Notes) Hold(ctx context.Context, l Lease) (*Held, error) {
	if l.ID == "" {
		l.ID = rand.Text()
	}
	here := host.Here()
	l.Host, l.Machine, l.Boot, l.PIDs = here.Host, here.Machine, here.Boot, here.PIDs
	l.PID, l.Started = os.Getpid(), host.Started(os.Getpid())
	h := &Held{n: n, lease: l, done: make(chan struct{})}
	var err error
	if h.written, err = h.content(); err != nil {
		return nil, err
	}
	if err := storage.PutAll(ctx, n.b, LeaseName(l.ID), h.written); err != nil {
		return nil, fmt.Errorf("take lease: %w", err)
	}
	ctx, h.stop = context.WithCancel(context.WithoutCancel(ctx))
	go h.renew(ctx)
	return h, nil
}

// LeaseName is the name of the note of a lease.
func LeaseName(id string) string { return leasesDir + id + ".json" }

const leasesDir = "leases/"

// Lease returns a copy of the lease.
func (h *Held) Lease() Lease {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lease
}

// Change changes the lease; [ErrLost] if it is no longer the holder's.
func (h *Held) Change(ctx context.Context, change func(*Lease)) error {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.check(ctx); err != nil {
		return err
	}
	change(&h.lease)
	content, err := h.content()
	if err != nil {
		return err
	}
	h.tried = content
	if err := h.n.b.Replace(ctx, LeaseName(h.lease.ID), content); err != nil {
		return err
	}
	h.written = content
	return nil
}

// Check reports whether the lease has been the holder's all the time, with [ErrLost] if it was not.
func (h *Held) Check(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.check(ctx)
}

// check never lets a lease that was lost once be taken for one that was held: what it protected may be gone.
func (h *Held) check(ctx context.Context) error {
	if h.lost != nil {
		return h.lost
	}
	name := LeaseName(h.lease.ID)
	now, err := storage.ReadAll(ctx, h.n.b, name, maxSize)
	switch {
	case errors.Is(err, storage.ErrNotExist):
		h.lost = fmt.Errorf("%w: somebody has removed %s", ErrLost, name)
	case err != nil:
		return err
	case !bytes.Equal(now, h.written) && !bytes.Equal(now, h.tried):
		h.lost = fmt.Errorf("%w: somebody else has written %s", ErrLost, name)
	}
	return h.lost
}

// content is the lease's note, renewed.
func (h *Held) content() ([]byte, error) {
	h.lease.Renewed = time.Now().UTC().Truncate(time.Second)
	content, err := json.Marshal(h.lease)
	return append(content, '\n'), err
}

func (h *Held) renew(ctx context.Context) {
	defer close(h.done)
	tick := time.NewTicker(leaseRenewal)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			h.Change(ctx, func(*Lease) {}) // one that fails is made up for by the next, long before the lease ends, or is met by Check
		}
	}
}

// Release gives the lease back.
func (h *Held) Release() error {
	if h == nil {
		return nil
	}
	h.stop()
	<-h.done
	if err := h.Check(context.Background()); errors.Is(err, ErrLost) {
		return nil // it is gone, or another one's
	}
	return h.n.DropLease(context.Background(), h.lease.ID)
}

// DropLease removes a lease, or releases it where the store lets nobody remove. That there is none is no error.
func (n Notes) DropLease(ctx context.Context, id string) error { return n.remove(ctx, LeaseName(id)) }

// Leases reads all leases, including those whose holder has ended without releasing them.
func (n Notes) Leases(ctx context.Context) ([]Lease, []Fault, error) {
	return collect(ctx, n, leasesDir, func(name string, l *Lease) error {
		if LeaseName(l.ID) != name || l.Backup != "" && backup.CheckID(l.Backup) != nil {
			return fmt.Errorf("%w: it is lease %q", codec.ErrDamaged, l.ID)
		}
		return nil
	})
}
