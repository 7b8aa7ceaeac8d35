package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"walkeep/common/storage"
)

// errUnread says that an object is there and cannot be read: because of its permissions, or because it is a link that leads
// nowhere, a directory, or far too large. What it says is not known; the rest of the archive can be read all the same.
var errUnread = errors.New("cannot be read")

// unread marks an error of reading an object as an errUnread if a listing shows that the object is what is wrong, and not
// the archive.
func (a *Archive) unread(ctx context.Context, name string, err error) error {
	if err == nil || errors.Is(err, storage.ErrNotExist) || ctx.Err() != nil {
		return err
	}
	entries, bad := storage.ListAll(ctx, a.b, name)
	if bad != nil {
		return err
	}
	for _, e := range entries {
		if strings.TrimSuffix(e.Name, "/") == name && (e.Err != nil || e.IsDir() || e.Size > maxNote) {
			return fmt.Errorf("%w: %w", errUnread, err)
		}
	}
	return err
}

// cannotRead gives the first fault that is an errUnread, of the objects with a prefix; nil if there is none.
func (inv *Inventory) cannotRead(prefix string) error {
	for _, f := range inv.Faults {
		if strings.HasPrefix(f.Object, prefix) && errors.Is(f.Err, errUnread) {
			return f
		}
	}
	return nil
}

// readNotes reads the notes in a directory. A note that is removed meanwhile is none; one that cannot be read or understood
// is a fault.
func readNotes[T any](ctx context.Context, a *Archive, inv *Inventory, dir string, take func(name string, note T) error) error {
	entries, err := storage.ListAll(ctx, a.b, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name, ".json") {
			continue
		}
		content, err := storage.ReadAll(ctx, a.b, e.Name, maxNote)
		switch err = a.unread(ctx, e.Name, err); {
		case errors.Is(err, storage.ErrNotExist):
			continue
		case errors.Is(err, errUnread):
			inv.fault(e.Name, err)
			continue
		case err != nil:
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
