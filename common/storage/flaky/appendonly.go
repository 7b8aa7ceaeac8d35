package flaky

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"walkeep/common/storage"
)

// AppendOnly lets nobody remove objects of a backend, nor replace what is no note, as a store does with a credential that may
// only read and write.
type AppendOnly struct {
	storage.Backend

	mu      sync.Mutex
	refused []string
}

// Unwrap gives the backend behind it; see [storage.As].
func (b *AppendOnly) Unwrap() storage.Backend { return b.Backend }

// Refused lists what the backend was asked to do and has refused.
func (b *AppendOnly) Refused() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.refused...)
}

func (b *AppendOnly) refuse(what, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused = append(b.refused, what+" "+name)
	return fmt.Errorf("%s %s: 403 AccessDenied: %w", what, name, storage.ErrDenied)
}

// Remove implements [storage.Backend].
func (b *AppendOnly) Remove(_ context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	return b.refuse("remove", strings.Join(names, ", "))
}

// Prune implements [storage.Pruner].
func (b *AppendOnly) Prune(_ context.Context, dir string) error { return b.refuse("prune", dir) }

// Replace implements [storage.Backend].
func (b *AppendOnly) Replace(ctx context.Context, name string, content []byte) error {
	dir, _, _ := strings.Cut(name, "/")
	switch dir {
	case "leases", "standbys", "streams", "offers", "verified", "removals", "server.json", "lag.json":
		return b.Backend.Replace(ctx, name, content)
	}
	return b.refuse("replace", name)
}
