package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
)

// Errors of a Backend, to be found with errors.Is. With any other error it is not known whether the object is there.
var (
	// ErrNotExist is the answer of a backend that was reached and does not hold the object. A directory on the way to it that
	// cannot be read, or a link that leads nowhere, is no such answer. It is not fs.ErrNotExist, which a missing key file or a
	// socket that nobody listens on give as well: absence lets volumes be removed.
	ErrNotExist = errors.New("there is no such object")
	// ErrExist is the answer for a name that is taken. It is not fs.ErrExist, for the same reason.
	ErrExist = errors.New("there is an object of this name already")
	// ErrDenied is the answer of a backend that was reached and refuses this caller: asking again does not help.
	ErrDenied = errors.New("access to the archive is denied")
	// ErrName is a programming error or an attack: a name that could lead out of the archive.
	ErrName = errors.New("not an object's name")
	// ErrUnavailable says that the backend's root is not there: not mounted, not created, or not a directory.
	ErrUnavailable = errors.New("archive is not there")
	// ErrUnconditional says that the store cannot create an object only if its name is free; see [Conditional].
	ErrUnconditional = errors.New("the store does not keep two writers from one name")
)

// A Backend stores objects under relative names with slashes. All methods may be called concurrently.
type Backend interface {
	// Create begins a new object. ErrExist if the name is taken, where that is known already.
	Create(ctx context.Context, name string, o CreateOptions) (Writer, error)

	// Open opens an object for reading; ErrNotExist if it is not there.
	Open(ctx context.Context, name string) (Object, error)

	// List returns the objects and directories directly in the directory part of prefix whose names begin with prefix,
	// in the order of their names: "wal/" lists the directory wal, and "wal/00" its entries that begin with 00. An
	// empty result is no error. An error ends the listing.
	List(ctx context.Context, prefix string, o ListOptions) iter.Seq2[Entry, error]

	// Remove removes objects: the first before all others, and these in their order, of which a store may remove up to
	// 1,000 with one request. It ends where one cannot be removed. It passes over one that is not there, and then returns
	// ErrNotExist if there was no other error; a store that does not know whether an object was there returns nil.
	Remove(ctx context.Context, names ...string) error

	// Replace writes a note: a small object that is replaced as a whole, by its owner alone. Who reads it meanwhile gets
	// the old content or the new one.
	Replace(ctx context.Context, name string, content []byte) error
}

// ListOptions say what is listed.
type ListOptions struct {
	Recursive bool   // the objects in all directories below, too, and no directories
	After     string // only entries whose names come behind this one; empty: all. What is below a directory comes behind its name
}

// CreateOptions are properties of a new object that can help a store.
type CreateOptions struct {
	Size int64 // expected bytes, which may turn out to be more or fewer; 0 if not known
}

// A Writer is a new object that has no name yet. It is not safe for concurrent use. Its order is: Write as often as wanted,
// Verify at most once, Commit at most once. The caller of Create calls Discard in the end.
type Writer interface {
	io.Writer

	// Verify makes what was written durable, where the store can do so before the object has a name, and calls read to read it
	// back, from its first byte. Reading less is no fault. read is called at most once: by Verify, before the object has a name;
	// or, by a store that gives nothing back of an object that is not complete, by Commit, at once after the name; or not at
	// all, where that store has confirmed the SHA-256 of all that was written. The error is that of read, and after it
	// Commit must not be called.
	Verify(ctx context.Context, read func(io.Reader) error) error

	// Commit gives the object its name, unless ctx has ended. It is visible from now on, whole, durable, and never changed by another Create. If
	// the name is taken, the object there is untouched and the error is ErrExist; of several writers exactly one succeeds. With
	// any other error it is not known whether the object is there, unless the store can know.
	Commit(ctx context.Context) error

	// Discard gives up what has no name. After Commit it does nothing.
	Discard()
}

// An Object is open for reading until it is closed.
type Object interface {
	io.ReaderAt // for few bytes, here and there
	io.Closer
	Size() int64 // bytes

	// Reader reads n bytes from offset off on, or fewer where the object ends before. For a remote store it is one
	// request, which ends with ctx. The reader is closed before the object.
	Reader(ctx context.Context, off, n int64) (io.ReadCloser, error)
}

// An Entry is one line of a listing.
type Entry struct {
	Name string // with the directory, as Open takes it; directories end with a slash
	Size int64  // bytes; 0 for directories
	Err  error  // why nothing can be read there, such as a link that leads nowhere; nil where that is not known
	// Tag changes whenever the content does; empty where the store has none. A tag of 32 hexadecimal digits that is the MD5 of a
	// content is the tag of that content.
	Tag string
}

// IsDir reports whether the entry is a directory.
func (e Entry) IsDir() bool { return strings.HasSuffix(e.Name, "/") }

// As gives the optional power T of a backend: its own, or that of a backend that it decorates, which Unwrap gives.
func As[T any](b Backend) (T, bool) {
	for {
		if power, ok := b.(T); ok {
			return power, true
		}
		u, ok := b.(interface{ Unwrap() Backend })
		if !ok {
			var none T
			return none, false
		}
		b = u.Unwrap()
	}
}

// A Syncer is a backend in which an object can be visible before it is durable, if its writer died in between.
type Syncer interface {
	// Sync makes an object that is there durable.
	Sync(ctx context.Context, name string) error
}

// A Directories is a backend whose directories are there by themselves, so that one can have gone with all that it held.
type Directories interface {
	// MakeDir makes a directory below the root durable, which may be there already.
	MakeDir(ctx context.Context, dir string) error
	// HasDir reports whether a directory is there.
	HasDir(ctx context.Context, dir string) (bool, error)
}

// A Snapshotter is a backend that can list all that it holds with few requests.
type Snapshotter interface {
	// Snapshot lists the archive and returns a backend whose listings are those of this moment. With anew all is asked of the
	// store; without it they can show what another program has removed: see package listing. The other calls are those of
	// the backend itself, but for Open of objects that were not listed, where it can return ErrNotExist.
	Snapshot(ctx context.Context, anew bool) (Backend, error)
}

// A Pruner is a backend whose directories remain after they have become empty.
type Pruner interface {
	// Prune removes what killed writers have left in a directory, named as List names it, and then the directory if it holds
	// nothing. If there is no such directory, it does nothing and returns nil.
	Prune(ctx context.Context, dir string) error
}

// A Conditional is a backend whose store may lack what Commit promises: that of several writers of a name exactly one
// succeeds. Where it is lacking, Create returns [ErrUnconditional].
type Conditional interface {
	// Conditional reports whether the store has it. It asks the store at each call, and may leave a small object there, under
	// one name that is never listed.
	Conditional(ctx context.Context) (bool, error)
}

// A Sweeper is a backend in which killed writers leave what costs money or space and is not listed.
type Sweeper interface {
	// AbortStale removes what any process began longer than olderThan ago and did not complete, and returns how
	// many it has removed. The age is by the store's clock and this host's.
	AbortStale(ctx context.Context, olderThan time.Duration) (int, error)
}

// A Limited is a backend that may lack what an archive should have, because of its server or of its account.
type Limited interface {
	// Lacks returns what is lacking, each in words for a report. It may ask the server.
	Lacks(ctx context.Context) ([]string, error)
}

// A Locker is a backend whose store can lock objects for a time, in which it refuses to remove them.
type Locker interface {
	// LockedUntil returns when the lock of an object ends; the zero time if it has none.
	LockedUntil(ctx context.Context, name string) (time.Time, error)
}

// CheckName returns ErrName for a name that could lead out of the archive's root on some system, or that is hidden: one
// of its elements begins with a dot.
func CheckName(name string) error {
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] == '.' || strings.ContainsAny(part, "\\:\x00") {
			return fmt.Errorf("%w: %q", ErrName, name)
		}
	}
	return nil
}

// CheckPrefix is CheckName for a prefix as List takes it: the beginning of names, which can end anywhere, or nothing.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return CheckName(strings.TrimSuffix(prefix, "/"))
}

// ReadAll reads a whole small object, of at most limit bytes.
func ReadAll(ctx context.Context, b Backend, name string, limit int64) ([]byte, error) {
	o, err := b.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	if o.Size() > limit {
		return nil, fmt.Errorf("read %s: it has %d bytes, more than the %d it can have", name, o.Size(), limit)
	}
	content := make([]byte, o.Size())
	r, err := o.Reader(ctx, 0, o.Size())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, content); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return content, nil
}

// ListAll gives all that List lists below one directory, or of one beginning of a name.
func ListAll(ctx context.Context, b Backend, prefix string) ([]Entry, error) {
	var entries []Entry
	for e, err := range b.List(ctx, prefix, ListOptions{}) {
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// Walk gives the entries of a listing from directories, of which list reads one at a time, in the order of the names. If it is
// recursive, it gives what a directory holds in place of the directory. It does not read directories in front of o.After. An error of
// list ends it.
func Walk(prefix string, o ListOptions, list func(prefix string) ([]Entry, error)) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) { walk(prefix, o, list, yield) }
}

// walk reports whether it reached the end.
func walk(prefix string, o ListOptions, list func(prefix string) ([]Entry, error), yield func(Entry, error) bool) bool {
	entries, err := list(prefix)
	if err != nil {
		yield(Entry{}, err)
		return false
	}
	for _, e := range entries {
		switch {
		case o.Recursive && e.IsDir():
			if (e.Name > o.After || strings.HasPrefix(o.After, e.Name)) && !walk(e.Name, o, list, yield) {
				return false
			}
		case e.Name > o.After && !yield(e, nil):
			return false
		}
	}
	return true
}

// Put stores what write writes under a new name, after read, where it is not nil, has read it back.
func Put(ctx context.Context, b Backend, name string, write func(io.Writer) error, read func(io.Reader) error) error {
	w, err := b.Create(ctx, name, CreateOptions{})
	if err != nil {
		return err
	}
	defer w.Discard()
	if err := write(w); err != nil {
		return err
	}
	if read != nil {
		if err := w.Verify(ctx, read); err != nil {
			return err
		}
	}
	return w.Commit(ctx)
}

// PutAll stores a whole small object under a new name.
func PutAll(ctx context.Context, b Backend, name string, content []byte) error {
	w, err := b.Create(ctx, name, CreateOptions{Size: int64(len(content))})
	if err != nil {
		return err
	}
	defer w.Discard()
	if _, err := w.Write(content); err != nil {
		return err
	}
	return w.Commit(ctx)
}
