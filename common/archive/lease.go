package archive

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"walkeep/common/backup"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// A Lease says what a running backup or restore needs, for those who remove what nobody needs. It is renewed while its
// holder lives.
type Lease struct {
	ID     string `json:"id"`
	Kind   string `json:"kind"`             // backup, restore, drill
	Backup string `json:"backup,omitempty"` // the backup that is taken or read
	// WAL is needed from LSN on, on Timeline and all that come from it. Timeline 0 means all WAL there is.
	Timeline wal.Timeline `json:"timeline"`
	LSN      wal.LSN      `json:"lsn"`
	Host     string       `json:"host"`
	Boot     string       `json:"boot"` // identifies the run of the host's system; empty where it is not known
	PID      int          `json:"pid"`
	Started  uint64       `json:"started,omitempty"` // when the process was, by the host's own count; 0 where it is not known
	Renewed  time.Time    `json:"renewed"`           // by the holder's clock
}

const (
	leaseRenewal = time.Minute
	// LeaseTimeout is how long a lease of another host holds without being renewed. It is long, because clocks differ,
	// and because what a lease holds too long costs only space.
	LeaseTimeout = 24 * time.Hour
)

// Live tells whether the lease's holder may still be at work. On the holder's own host that is known.
func (l Lease) Live() bool {
	host, _ := os.Hostname()
	if l.Host == host {
		if l.Boot != "" && l.Boot != bootID() {
			return false
		}
		if !running(l.PID) {
			return false
		}
		// Numbers of processes are used again. Those of others may be hidden from this one (ProtectProc of systemd).
		now := started(l.PID)
		return l.Started == 0 || now == 0 || now == l.Started
	}
	return time.Since(l.Renewed) < LeaseTimeout
}

// A Held lease is renewed until it is released.
type Held struct {
	a     *Archive
	b     storage.Replacer
	mu    sync.Mutex
	lease Lease
	stop  context.CancelFunc
	done  chan struct{}
}

// Hold takes a lease, under a new ID where l has none; storage.ErrExist if another one has that ID. What is read from the
// archive after Hold has returned will stay.
func (a *Archive) Hold(ctx context.Context, l Lease) (*Held, error) {
	b, ok := a.b.(storage.Replacer)
	if !ok {
		return nil, errors.New("take lease: this archive keeps none")
	}
	if l.ID == "" {
		l.ID = rand.Text()
	}
	l.PID, l.Started, l.Boot = os.Getpid(), started(os.Getpid()), bootID()
	l.Host, _ = os.Hostname()
	h := &Held{a: a, b: b, lease: l, done: make(chan struct{})}
	content, err := h.content()
	if err != nil {
		return nil, err
	}
	if err := storage.PutAll(ctx, a.b, leaseName(l.ID), content); err != nil {
		return nil, fmt.Errorf("take lease: %w", err)
	}
	ctx, h.stop = context.WithCancel(context.WithoutCancel(ctx))
	go h.renew(ctx)
	return h, nil
}

func leaseName(id string) string { return "leases/" + id + ".json" }

// Lease is what the lease says.
func (h *Held) Lease() Lease {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lease
}

// Change changes what the lease says.
func (h *Held) Change(ctx context.Context, change func(*Lease)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(&h.lease)
	content, err := h.content()
	if err != nil {
		return err
	}
	return h.b.Replace(ctx, leaseName(h.lease.ID), content)
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
			h.Change(ctx, func(*Lease) {}) // one that fails is made up for by the next, long before the lease ends
		}
	}
}

// Release gives the lease back.
func (h *Held) Release() error {
	h.stop()
	<-h.done
	return h.a.DropLease(context.Background(), h.lease.ID)
}

// DropLease removes a lease.
func (a *Archive) DropLease(ctx context.Context, id string) error {
	err := a.b.Remove(ctx, leaseName(id))
	if errors.Is(err, storage.ErrNotExist) {
		return nil
	}
	return err
}

// Leases reads all leases, those that nobody holds any more included.
func (a *Archive) Leases(ctx context.Context) ([]Lease, error) {
	var inv Inventory
	if err := a.takeLeases(ctx, &inv); err != nil {
		return nil, err
	}
	if len(inv.Faults) > 0 {
		return nil, inv.Faults[0]
	}
	return inv.Leases, nil
}

func (a *Archive) takeLeases(ctx context.Context, inv *Inventory) error {
	return readNotes(ctx, a, inv, "leases/", func(name string, l Lease) error {
		if leaseName(l.ID) != name || l.Backup != "" && backup.CheckID(l.Backup) != nil {
			return fmt.Errorf("%w: it is lease %q", ErrDamaged, l.ID)
		}
		inv.Leases = append(inv.Leases, l)
		return nil
	})
}

func (a *Archive) takeStandbys(ctx context.Context, inv *Inventory) error {
	return readNotes(ctx, a, inv, "standbys/", func(name string, s Standby) error {
		if _, err := wal.ParseName(s.Restartpoint); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		s.ID = strings.TrimSuffix(path.Base(name), ".json")
		inv.Standbys = append(inv.Standbys, s)
		return nil
	})
}

// readNotes reads the notes in a directory. A note that is removed meanwhile is none; one that cannot be understood is a
// fault.
func readNotes[T any](ctx context.Context, a *Archive, inv *Inventory, dir string, take func(name string, note T) error) error {
	entries, err := a.b.List(ctx, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name, ".json") {
			continue
		}
		content, err := storage.ReadAll(ctx, a.b, e.Name, maxNote)
		if errors.Is(err, storage.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		var note T
		if err = json.Unmarshal(content, &note); err != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, err)
		} else {
			err = take(e.Name, note)
		}
		if err != nil {
			inv.fault(e.Name, err)
		}
	}
	return nil
}
