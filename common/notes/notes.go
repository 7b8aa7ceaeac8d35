package notes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	"walkeep/common/codec"
	"walkeep/common/storage"
)

// Notes are the notes of one archive. Its methods may be called concurrently.
type Notes struct{ b storage.Backend }

// In returns the notes of the archive on a backend.
func In(b storage.Backend) Notes { return Notes{b} }

// maxSize is the largest size of a note in bytes.
const maxSize = 1 << 20

// A Fault is an object that could not be read, or is not what it should be.
type Fault struct {
	Object string
	Err    error
}

func (f Fault) Error() string { return f.Object + ": " + f.Err.Error() }

// Unwrap returns the reason.
func (f Fault) Unwrap() error { return f.Err }

// ErrUnread says that an object is there and cannot be read: because of its permissions, or because it is a link that leads
// nowhere, a directory, or far too large. What it says is not known; the rest of the archive can be read all the same.
var ErrUnread = errors.New("cannot be read")

// unread marks an error of reading an object as an ErrUnread if a listing shows that the object is what is wrong, and not
// the archive.
func (n Notes) unread(ctx context.Context, name string, err error) error {
	if err == nil || errors.Is(err, storage.ErrNotExist) || ctx.Err() != nil {
		return err
	}
	entries, bad := storage.ListAll(ctx, n.b, name)
	if bad != nil {
		return err
	}
	for _, e := range entries {
		if strings.TrimSuffix(e.Name, "/") == name && (e.Err != nil || e.IsDir() || e.Size > maxSize) {
			return fmt.Errorf("%w: %w", ErrUnread, err)
		}
	}
	return err
}

// read reads the notes in a directory. A note that is released or removed meanwhile is none; one that cannot be read or understood is a
// fault.
func read[T any](ctx context.Context, n Notes, dir string, take func(name string, note T) error) (faults []Fault, err error) {
	entries, err := storage.ListAll(ctx, n.b, dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name, "/")
		if !strings.HasSuffix(name, ".json") {
			continue
		}
		if e.IsDir() {
			faults = append(faults, Fault{name, fmt.Errorf("%w: it is a directory", ErrUnread)})
			continue
		}
		content, err := storage.ReadAll(ctx, n.b, e.Name, maxSize)
		switch err = n.unread(ctx, e.Name, err); {
		case errors.Is(err, storage.ErrNotExist):
			continue
		case errors.Is(err, ErrUnread):
			faults = append(faults, Fault{e.Name, err})
			continue
		case err != nil:
			return faults, err
		}
		if isReleased(content) {
			continue
		}
		var note T
		if err = json.Unmarshal(content, &note); err != nil {
			err = fmt.Errorf("%w: %v", codec.ErrDamaged, err)
		} else if string(bytes.TrimSpace(content)) == "null" {
			err = fmt.Errorf("%w: it says nothing", codec.ErrDamaged)
		} else {
			err = take(e.Name, note)
		}
		if err != nil {
			faults = append(faults, Fault{e.Name, err})
		}
	}
	return faults, nil
}

// collect is read for notes that are kept as they are, after check has completed and judged each.
func collect[T any](ctx context.Context, n Notes, dir string, check func(name string, note *T) error) (all []T, faults []Fault, err error) {
	faults, err = read(ctx, n, dir, func(name string, note T) error {
		if err := check(name, &note); err != nil {
			return err
		}
		all = append(all, note)
		return nil
	})
	return all, faults, err
}

// replace writes a note in place of the one that is there.
func (n Notes) replace(ctx context.Context, name string, note any) error {
	content, err := json.Marshal(note)
	if err != nil {
		return err
	}
	return n.b.Replace(ctx, name, append(content, '\n'))
}

// remove removes a note, or releases it where the store lets nobody remove. That there is none is no error.
func (n Notes) remove(ctx context.Context, name string) error {
	if err := n.withdraw(ctx, name); err != nil && !errors.Is(err, storage.ErrNotExist) {
		return err
	}
	return nil
}

// withdraw is remove, but for its error where there is no note: storage.ErrNotExist.
func (n Notes) withdraw(ctx context.Context, name string) error {
	denied := n.b.Remove(ctx, name)
	if !errors.Is(denied, storage.ErrDenied) {
		return denied
	}
	content, err := storage.ReadAll(ctx, n.b, name, maxSize)
	if errors.Is(err, storage.ErrNotExist) {
		return err
	}
	if err == nil && isReleased(content) {
		return fmt.Errorf("%s is released: %w", name, storage.ErrNotExist)
	}
	if n.b.Replace(ctx, name, []byte(released)) != nil {
		return denied
	}
	return nil
}

// released is the content of a note that its owner has given up where the store lets nobody remove it.
const released = `{"released":true}` + "\n"

func isReleased(content []byte) bool {
	var note struct{ Released bool }
	return json.Unmarshal(content, &note) == nil && note.Released
}

// Released lists the notes that were released. They say nothing, and anyone who may remove objects can remove them.
func (n Notes) Released(ctx context.Context) ([]storage.Entry, error) {
	var found []storage.Entry
	for _, dir := range []string{leasesDir, standbysDir, streamsDir, offersDir, VerifiedDir, RemovalsDir, lackingName} {
		entries, err := storage.ListAll(ctx, n.b, dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.Size != int64(len(released)) {
				continue
			}
			content, err := storage.ReadAll(ctx, n.b, e.Name, maxSize)
			if err == nil && isReleased(content) {
				found = append(found, e)
			} else if err != nil && !errors.Is(err, storage.ErrNotExist) {
				return nil, err
			}
		}
	}
	return found, nil
}

// id is the part of a note's name that names it in its directory.
func id(name string) string { return strings.TrimSuffix(path.Base(name), ".json") }
