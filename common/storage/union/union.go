// Package union reads several backends as one archive, the nearest first: a spool, then repositories.
//
// It serves commands that read an archive wherever its objects are. Such commands write nothing but notes: leases, results of
// checks, notes of standbys. These are written to all members, so that cleanup finds them in each.
//
// # Objects that move
//
// Objects move from the first member to the others: they are copied, and then removed from the first. A listing therefore
// reads the first member to its end before it asks the others, and Open asks the first member first. An object that is
// somewhere all the time is found.
//
// # Members that cannot be reached
//
// A member with an Err is not asked. List lists what the other members hold, Create, Replace and Remove leave it out, and Open
// returns Err in place of storage.ErrNotExist. While [Backend.Unreachable] returns an error, nobody may conclude from a listing
// that an object is absent. A member that has no Err and fails makes the call fail, except for an Open that finds the object in
// another member.
package union

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"slices"

	"walkeep/common/storage"
	"walkeep/common/storage/listing"
)

// A Member is one of the backends.
type Member struct {
	Backend storage.Backend // nil where Err is not
	Err     error           // why it cannot be reached
}

// A Backend is the union of its members. Its methods may be called concurrently.
type Backend struct {
	members  []storage.Backend // that can be reached, the nearest first
	lost     error             // of those that cannot
	identity string
}

// New makes the union of members, the nearest first. identity is the name of the object that every archive holds
// from its beginning on: a member without it has no directories that could have gone.
func New(identity string, members ...Member) *Backend {
	b := &Backend{identity: identity}
	for _, m := range members {
		if m.Err != nil {
			b.lost = errors.Join(b.lost, m.Err)
		} else {
			b.members = append(b.members, m.Backend)
		}
	}
	return b
}

// Unreachable returns why members cannot be reached; nil if all can.
func (b *Backend) Unreachable() error { return b.lost }

// Open implements [storage.Backend]. It returns the object of the nearest member that has it. ErrNotExist is the answer of all
// members. If one member fails and no other has the object, the error is that of the member.
func (b *Backend) Open(ctx context.Context, name string) (storage.Object, error) {
	if err := storage.CheckName(name); err != nil {
		return nil, err
	}
	failed, missing := b.lost, error(nil)
	for _, m := range b.members {
		o, err := m.Open(ctx, name)
		switch {
		case err == nil:
			return o, nil
		case errors.Is(err, storage.ErrNotExist):
			missing = err
		case ctx.Err() != nil:
			return nil, err
		default:
			failed = errors.Join(failed, err)
		}
	}
	return nil, judge(failed, missing)
}

// judge gives the error of a call that no member has answered otherwise.
func judge(failed, missing error) error {
	switch {
	case failed != nil:
		return failed
	case missing != nil:
		return missing
	default:
		return fmt.Errorf("%w: no member is given", storage.ErrUnavailable)
	}
}

// List implements [storage.Backend]. Of entries with one name it gives that of the nearest member that can read it.
func (b *Backend) List(ctx context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		if err := storage.CheckPrefix(prefix); err != nil {
			yield(storage.Entry{}, err)
			return
		}
		if len(b.members) == 0 {
			yield(storage.Entry{}, judge(b.lost, nil))
			return
		}
		var first []storage.Entry
		for e, err := range b.members[0].List(ctx, prefix, o) {
			if err != nil {
				yield(storage.Entry{}, err)
				return
			}
			first = append(first, e)
		}
		heads := []*head{{next: pull(first)}}
		for _, m := range b.members[1:] {
			next, stop := iter.Pull2(m.List(ctx, prefix, o))
			defer stop()
			heads = append(heads, &head{next: next})
		}
		merge(heads, yield)
	}
}

func pull(entries []storage.Entry) func() (storage.Entry, error, bool) {
	return func() (e storage.Entry, err error, ok bool) {
		if len(entries) == 0 {
			return e, nil, false
		}
		e, entries = entries[0], entries[1:]
		return e, nil, true
	}
}

// A head is the first entry of a member's listing that was not given yet.
type head struct {
	next  func() (storage.Entry, error, bool)
	entry storage.Entry
	there bool
}

func (h *head) advance() (err error) {
	h.entry, err, h.there = h.next()
	return err
}

// merge yields the entries of listings in the order of their names, one of each name, until one listing fails.
func merge(heads []*head, yield func(storage.Entry, error) bool) {
	for _, h := range heads {
		if err := h.advance(); err != nil {
			yield(storage.Entry{}, err)
			return
		}
	}
	for {
		var least *head
		for _, h := range heads {
			if h.there && (least == nil || h.entry.Name < least.entry.Name) {
				least = h
			}
		}
		if least == nil {
			return
		}
		e := least.entry
		for _, h := range heads {
			if !h.there || h.entry.Name != e.Name {
				continue
			}
			if e.Err != nil && h.entry.Err == nil {
				e = h.entry
			}
			if err := h.advance(); err != nil {
				yield(storage.Entry{}, err)
				return
			}
		}
		if !yield(e, nil) {
			return
		}
	}
}

// Members returns the members that can be reached, the nearest first.
func (b *Backend) Members() []storage.Backend { return b.members }

// Snapshot implements [storage.Snapshotter]. A member that can only be listed is listed directory by directory. The nearest member is listed
// first, for the reason that List has.
func (b *Backend) Snapshot(ctx context.Context, anew bool) (storage.Backend, error) {
	then := &Backend{lost: b.lost, identity: b.identity}
	for _, m := range b.members {
		var err error
		if s, ok := storage.As[storage.Snapshotter](m); ok {
			m, err = s.Snapshot(ctx, anew)
		} else {
			m, err = listing.Walk(ctx, m)
		}
		if err != nil {
			return nil, err
		}
		then.members = append(then.members, m)
	}
	return then, nil
}

// Create implements [storage.Backend]. The object is created in all members. If one of them has the name, the error is ErrExist.
// Several writers of one name commit in the order of the members, so that one of them succeeds. After another error some members
// may have the object.
func (b *Backend) Create(ctx context.Context, name string, o storage.CreateOptions) (storage.Writer, error) {
	if err := b.writable(name); err != nil {
		return nil, err
	}
	w := &writer{hash: sha256.New()}
	for _, m := range b.members {
		part, err := m.Create(ctx, name, o)
		if err != nil {
			w.Discard()
			return nil, err
		}
		w.parts = append(w.parts, part)
	}
	return w, nil
}

func (b *Backend) writable(name string) error {
	if err := storage.CheckName(name); err != nil {
		return err
	}
	if len(b.members) == 0 {
		return judge(b.lost, nil)
	}
	return nil
}

// A writer is a new object in each member.
type writer struct {
	parts []storage.Writer
	hash  hash.Hash // of what was written
}

// Write implements [storage.Writer].
func (w *writer) Write(p []byte) (int, error) {
	for _, part := range w.parts {
		if n, err := part.Write(p); err != nil {
			return n, err
		}
	}
	return w.hash.Write(p)
}

// Verify implements [storage.Writer]. read reads the object of the first member; those of the others must have the bytes that
// were written.
func (w *writer) Verify(ctx context.Context, read func(io.Reader) error) error {
	for i, part := range w.parts {
		if i > 0 {
			read = w.compare
		}
		if err := part.Verify(ctx, read); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) compare(r io.Reader) error {
	got := sha256.New()
	if _, err := io.Copy(got, r); err != nil {
		return err
	}
	if !slices.Equal(got.Sum(nil), w.hash.Sum(nil)) {
		return errors.New("the bytes that were read back differ from those that were written")
	}
	return nil
}

// Commit implements [storage.Writer].
func (w *writer) Commit(ctx context.Context) error {
	for _, part := range w.parts {
		if err := part.Commit(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Discard implements [storage.Writer].
func (w *writer) Discard() {
	for _, part := range w.parts {
		part.Discard()
	}
}

// Replace implements [storage.Backend]. The note is written to all members, also after one has failed.
func (b *Backend) Replace(ctx context.Context, name string, content []byte) error {
	if err := b.writable(name); err != nil {
		return err
	}
	var failed error
	for _, m := range b.members {
		failed = errors.Join(failed, m.Replace(ctx, name, content))
	}
	return failed
}

// Remove implements [storage.Backend]. The objects are removed from all members.
func (b *Backend) Remove(ctx context.Context, names ...string) error {
	var missing error
	for _, name := range names {
		if err := b.writable(name); err != nil {
			return err
		}
		err := b.each(func(m storage.Backend) error { return m.Remove(ctx, name) })
		if errors.Is(err, storage.ErrNotExist) {
			missing = err
		} else if err != nil {
			return err
		}
	}
	return missing
}

// each calls f for all members. Its error is ErrNotExist only if all members have said so.
func (b *Backend) each(f func(storage.Backend) error) error {
	var missing error
	there := false
	for _, m := range b.members {
		if err := f(m); errors.Is(err, storage.ErrNotExist) {
			missing = err
		} else if err != nil {
			return err
		} else {
			there = true
		}
	}
	if there {
		return nil
	}
	return missing
}

// Sync implements [storage.Syncer] for the members that need it.
func (b *Backend) Sync(ctx context.Context, name string) error {
	if err := b.writable(name); err != nil {
		return err
	}
	return b.each(func(m storage.Backend) error {
		if s, ok := storage.As[storage.Syncer](m); ok {
			return s.Sync(ctx, name)
		}
		o, err := m.Open(ctx, name)
		if err != nil {
			return err
		}
		return o.Close()
	})
}

// MakeDir implements [storage.Directories].
func (b *Backend) MakeDir(ctx context.Context, dir string) error {
	if err := b.writable(dir); err != nil {
		return err
	}
	for _, m := range b.members {
		if d, ok := storage.As[storage.Directories](m); ok {
			if err := d.MakeDir(ctx, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// HasDir implements [storage.Directories]. It reports false if the directory has gone in one member, whatever the others hold:
// what that member held is not known then. A member without directories has none that could go, and one that holds no
// archive yet has lost none.
func (b *Backend) HasDir(ctx context.Context, dir string) (bool, error) {
	if err := b.writable(dir); err != nil {
		return false, err
	}
	for _, m := range b.members {
		d, ok := storage.As[storage.Directories](m)
		if !ok {
			continue
		}
		if there, err := d.HasDir(ctx, dir); err != nil {
			return false, err
		} else if there {
			continue
		}
		o, err := m.Open(ctx, b.identity)
		if errors.Is(err, storage.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		return false, o.Close()
	}
	return true, nil
}

// Prune implements [storage.Pruner] for the members that have directories.
func (b *Backend) Prune(ctx context.Context, dir string) error {
	for _, m := range b.members {
		if p, ok := storage.As[storage.Pruner](m); ok {
			if err := p.Prune(ctx, dir); err != nil {
				return err
			}
		}
	}
	return nil
}
