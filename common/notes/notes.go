// Package notes keeps what those who work on an archive leave for each other in it: small JSON objects, each of which its owner
// replaces as a whole.
//
//	leases/<id>.json          what a running backup, restore or drill needs: [Lease]
//	standbys/<id>.json        what a standby still needs: [Standby]
//	streams/<slot>.json       how a stream is doing: [Stream]
//	offers/<id>.json          the streamed part of a segment that one standby gets before its promotion: [Offer]
//	damaged/<name>.json       a segment that was archived with broken records: [Damage]; written once
//	verified/<backup>.json    what verify and drill found of a backup: [Record]
//	verified/<name>.json      a segment that verify --deep found damaged: [Spoiled]
//	server.json               what the production server said: [Server]
//	lag.json                  the oldest segment that the archive lacks: [Lacking]
//
// A note that cannot be read or understood is a [Fault], which the reader of a directory of notes returns beside the others.
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

// read reads the notes in a directory. A note that is removed meanwhile is none; one that cannot be read or understood is a
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

// remove removes a note. That there is none is no error.
func (n Notes) remove(ctx context.Context, name string) error {
	if err := n.b.Remove(ctx, name); err != nil && !errors.Is(err, storage.ErrNotExist) {
		return err
	}
	return nil
}

// id is the part of a note's name that names it in its directory.
func id(name string) string { return strings.TrimSuffix(path.Base(name), ".json") }
