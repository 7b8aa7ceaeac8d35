// Package listing lists all that an archive holds at once, and keeps of it what does not change any more, so that a later
// listing is a few requests, however much the archive holds.
//
// # Settled directories
//
// An archive's [Policy] says which directories nothing is added to any more, such as a full directory of WAL segments, and
// between which of them no other directory appears. They are kept, and the next [Take] leaves them out of what it lists.
//
// # What a snapshot proves
//
// What it lists was there when Take was called, except for objects of kept directories that another program than walkeep has
// removed in the last 24 hours ([MaxAge]). So a snapshot that uses what was kept is for reports alone. Nobody removes anything
// because of it, takes a segment for stored, or begins a recovery. With anew there is no such exception.
//
// What it does not list was not there when Take was called, except for what another program than walkeep has put between kept
// directories in that time.
//
// # Changes of settled directories
//
// Who removes objects of settled directories, or adds a directory where others may keep a run without it, announces it by a note:
// [Announce] decorates a backend for this. The note is
//
//	changing ID     while this is done; also if who did so was killed
//	done ID         after that, with an ID that no other change has
//
// What was kept is used only while the note says what it said then. Something is kept only if the note was "done", with one ID,
// before and after it was listed. If two announce at the same time, and the one that began first is killed after the other is
// done, what the first has removed is listed for up to MaxAge.
package listing

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"iter"
	"path"
	"slices"
	"sort"
	"strings"
	"time"

	"walkeep/common/storage"
)

// MaxAge is how long a listing is kept. After that all is listed anew.
const MaxAge = 24 * time.Hour

// A Policy says what an archive's directories are.
type Policy struct {
	Note string // name of the note of changes
	// Settles reports whether a directory, by its name with a slash at the end, is of a kind that can be settled.
	Settles func(dir string) bool
	// Settled gives the settled directories of dirs, which are of such a kind and ascending, in runs of which each has no other
	// directory between its first and its last. identity is the content of the archive's identity.
	Settled func(identity []byte, dirs []*Dir) [][]*Dir
	// Announces reports whether the removal of an object changes a settled directory, or its creation makes a directory within what
	// others may keep as a run.
	Announces func(name string, created bool) bool
}

// A Dir is a directory with the objects directly in it. A million names have to fit into memory.
type Dir struct {
	Name           string // with a slash at the end
	Prefix, Suffix string // of all names
	Middles        []string
	Sizes          []int64 // bytes

	entries []storage.Entry // instead, where they are not packed
}

// All gives the entries, ascending.
func (d *Dir) All() iter.Seq[storage.Entry] {
	return func(yield func(storage.Entry) bool) {
		for _, e := range d.entries {
			if !yield(e) {
				return
			}
		}
		for i, m := range d.Middles {
			if !yield(storage.Entry{Name: d.Prefix + m + d.Suffix, Size: d.Sizes[i]}) {
				return
			}
		}
	}
}

// pack makes the directory small. What cannot be read keeps its error, and the directory its size.
func (d *Dir) pack() {
	if len(d.entries) == 0 || slices.ContainsFunc(d.entries, func(e storage.Entry) bool { return e.Err != nil }) {
		return
	}
	first, last := d.entries[0].Name, d.entries[len(d.entries)-1].Name
	n := 0
	for n < len(first) && n < len(last) && first[n] == last[n] {
		n++
	}
	d.Prefix, d.Suffix = first[:n], first[n:]
	for _, e := range d.entries {
		for !strings.HasSuffix(e.Name[n:], d.Suffix) {
			d.Suffix = d.Suffix[1:]
		}
	}
	var joined strings.Builder
	for _, e := range d.entries {
		joined.WriteString(e.Name[n : len(e.Name)-len(d.Suffix)])
	}
	d.Prefix, d.Suffix = strings.Clone(d.Prefix), strings.Clone(d.Suffix)
	d.Middles, d.Sizes = make([]string, len(d.entries)), make([]int64, len(d.entries))
	all, at := joined.String(), 0
	for i, e := range d.entries {
		end := at + len(e.Name) - n - len(d.Suffix)
		d.Middles[i], d.Sizes[i] = all[at:end], e.Size
		at = end
	}
	d.entries = nil
}

func (d *Dir) unpack() {
	if d.Middles != nil {
		d.entries = slices.Collect(d.All())
		d.Middles, d.Sizes = nil, nil
	}
}

// Kept is what a later Take need not list again.
type Kept struct {
	Note  string    // what the note of changes said
	Taken time.Time // when the oldest part of it was listed
	Runs  [][]*Dir  // as Policy.Settled gives them
}

// count is how many directories are kept.
func (k *Kept) count() (n int) {
	for _, run := range k.Runs {
		n += len(run)
	}
	return n
}

// A Snapshot is what an archive held at a moment.
type Snapshot struct {
	dirs  map[string]*Dir
	names []string // of dirs, ascending
}

// Take lists an archive, except for what kept has, which may be nil. With anew it does not use kept. keep is what is to be kept from
// now on: kept itself if that has not changed, nil if nothing can be kept.
func Take(ctx context.Context, b storage.Backend, p Policy, identity []byte, kept *Kept, anew bool) (s *Snapshot, keep *Kept, err error) {
	note, err := readNote(ctx, b, p.Note)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	if kept == nil || anew || kept.Note != note || now.Before(kept.Taken) || now.Sub(kept.Taken) > MaxAge {
		kept = &Kept{Note: note, Taken: now}
	}
	if s, err = list(ctx, b, p, kept.Runs); err != nil {
		return nil, nil, err
	}
	keep = &Kept{Note: note, Taken: kept.Taken, Runs: p.Settled(identity, s.settling(p))}
	switch keep.count() {
	case 0:
		return s, nil, nil
	case kept.count():
		return s, kept, nil
	}
	after, err := readNote(ctx, b, p.Note)
	if err != nil {
		return nil, nil, err
	}
	if after != note || changing(note) {
		keep = nil
	}
	return s, keep, nil
}

// list lists all but the runs, and adds them.
func list(ctx context.Context, b storage.Backend, p Policy, runs [][]*Dir) (*Snapshot, error) {
	s := &Snapshot{dirs: make(map[string]*Dir)}
	after := ""
	for _, run := range append(slices.Clone(runs), nil) {
		var current *Dir
		for e, err := range b.List(ctx, "", storage.ListOptions{Recursive: true, After: after}) {
			if err != nil {
				return nil, err
			}
			if len(run) > 0 && e.Name >= run[0].Name {
				break
			}
			dir := path.Dir(e.Name) + "/"
			if dir == "./" {
				dir = ""
			}
			if current == nil || current.Name != dir {
				s.finish(p, current)
				if current = s.dirs[dir]; current == nil {
					current = &Dir{Name: strings.Clone(dir)}
					s.dirs[current.Name] = current
				}
				current.unpack()
			}
			current.entries = append(current.entries, e)
		}
		s.finish(p, current)
		for _, d := range run {
			s.dirs[d.Name] = d
			after = strings.TrimSuffix(d.Name, "/") + "0" // what follows the slash
		}
	}
	for name := range s.dirs {
		s.names = append(s.names, name)
	}
	slices.Sort(s.names)
	return s, nil
}

func (s *Snapshot) finish(p Policy, d *Dir) {
	if d != nil && p.Settles(d.Name) {
		d.pack()
	}
}

// settling gives the directories that can be settled.
func (s *Snapshot) settling(p Policy) []*Dir {
	var found []*Dir
	for _, name := range s.names {
		if d := s.dirs[name]; p.Settles(name) && d.entries == nil {
			found = append(found, d)
		}
	}
	return found
}

// List is [storage.Backend.List] of what was there.
func (s *Snapshot) List(prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		if err := storage.CheckPrefix(prefix); err != nil {
			yield(storage.Entry{}, err)
			return
		}
		dir, _ := path.Split(prefix)
		var found []storage.Entry
		take := func(d *Dir) {
			if d == nil {
				return
			}
			for e := range d.All() {
				if strings.HasPrefix(e.Name, prefix) && e.Name > o.After {
					found = append(found, e)
				}
			}
		}
		take(s.dirs[dir])
		for i := sort.SearchStrings(s.names, prefix); i < len(s.names) && strings.HasPrefix(s.names[i], prefix); {
			name := s.names[i]
			switch {
			case name == dir:
				i++
			case o.Recursive:
				take(s.dirs[name])
				i++
			default:
				first, _, _ := strings.Cut(name[len(dir):], "/")
				if sub := dir + first + "/"; sub > o.After {
					found = append(found, storage.Entry{Name: sub})
				}
				i += sort.SearchStrings(s.names[i:], dir+first+"0")
			}
		}
		slices.SortFunc(found, func(a, b storage.Entry) int { return strings.Compare(a.Name, b.Name) })
		for _, e := range found {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Find finds an object in a directory of no kind that can be settled.
func (s *Snapshot) Find(name string) (storage.Entry, bool) {
	dir, _ := path.Split(name)
	d := s.dirs[dir]
	if d == nil {
		return storage.Entry{}, false
	}
	i, ok := slices.BinarySearchFunc(d.entries, name, func(e storage.Entry, name string) int { return strings.Compare(e.Name, name) })
	if !ok {
		return storage.Entry{}, false
	}
	return d.entries[i], true
}

const maxNote = 4096

// readNote reads the note of changes; empty if there is none.
func readNote(ctx context.Context, b storage.Backend, name string) (string, error) {
	content, err := storage.ReadAll(ctx, b, name, maxNote)
	if errors.Is(err, storage.ErrNotExist) {
		return "", nil
	}
	return string(bytes.TrimSpace(content)), err
}

const (
	stateChanging = "changing "
	stateDone     = "done "
)

// changing reports whether directories are being changed, or what the note says is not understood.
func changing(note string) bool { return note != "" && !strings.HasPrefix(note, stateDone) }

// Announce decorates a backend so that Remove and Commit announce what the policy asks for.
func Announce(b storage.Backend, p Policy) storage.Backend { return &announcer{b, p} }

type announcer struct {
	storage.Backend
	p Policy
}

// Unwrap gives the backend behind it; see [storage.As].
func (a *announcer) Unwrap() storage.Backend { return a.Backend }

// announce announces what change does. If the note cannot be written, change is not called.
func (a *announcer) announce(ctx context.Context, change func() error) error {
	id := rand.Text()
	if err := a.Backend.Replace(ctx, a.p.Note, []byte(stateChanging+id+"\n")); err != nil {
		return err
	}
	err := change()
	// Also after an error: a part may be done. Where this fails, the note stays as it is, and nothing is kept.
	if failed := a.Backend.Replace(ctx, a.p.Note, []byte(stateDone+id+"\n")); err == nil {
		err = failed
	}
	return err
}

// Remove implements [storage.Backend].
func (a *announcer) Remove(ctx context.Context, names ...string) error {
	remove := func() error { return a.Backend.Remove(ctx, names...) }
	if slices.ContainsFunc(names, func(name string) bool { return a.p.Announces(name, false) }) {
		return a.announce(ctx, remove)
	}
	return remove()
}

// Create implements [storage.Backend].
func (a *announcer) Create(ctx context.Context, name string, o storage.CreateOptions) (storage.Writer, error) {
	w, err := a.Backend.Create(ctx, name, o)
	if err != nil || !a.p.Announces(name, true) {
		return w, err
	}
	return &announced{w, a}, nil
}

// An announced object is announced when it gets its name.
type announced struct {
	storage.Writer
	by *announcer
}

// Commit implements [storage.Writer].
func (w *announced) Commit(ctx context.Context) error {
	return w.by.announce(ctx, func() error { return w.Writer.Commit(ctx) })
}

// Walk lists a whole archive, each of its directories by itself, and returns a backend whose listings are those of this moment. A
// directory that cannot be listed has its error there. All but List is passed to b.
func Walk(ctx context.Context, b storage.Backend) (storage.Backend, error) {
	w := &walked{Backend: b, dirs: make(map[string]content)}
	w.walk(ctx, "")
	return w, ctx.Err()
}

// deepest is how many directories lie within each other at most. A link can lead back to where it is.
const deepest = 4

type content struct {
	entries []storage.Entry
	err     error
}

type walked struct {
	storage.Backend
	dirs map[string]content
}

func (w *walked) walk(ctx context.Context, dir string) {
	entries, err := storage.ListAll(ctx, w.Backend, dir)
	w.dirs[dir] = content{entries, err}
	for _, e := range entries {
		if e.IsDir() && strings.Count(e.Name, "/") <= deepest {
			w.walk(ctx, e.Name)
		}
	}
}

// Unwrap gives the backend behind it; see [storage.As].
func (w *walked) Unwrap() storage.Backend { return w.Backend }

// List implements [storage.Backend].
func (w *walked) List(_ context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	return storage.Walk(prefix, o, func(prefix string) ([]storage.Entry, error) {
		if err := storage.CheckPrefix(prefix); err != nil {
			return nil, err
		}
		dir, _ := path.Split(prefix)
		c := w.dirs[dir] // nothing, if it was in no listing
		return slices.DeleteFunc(slices.Clone(c.entries), func(e storage.Entry) bool { return !strings.HasPrefix(e.Name, prefix) }), c.err
	})
}
