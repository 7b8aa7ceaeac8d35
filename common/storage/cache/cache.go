// Package cache keeps objects of a remote archive in a local directory, so that they are asked for once.
//
// It keeps the objects that a function names. Their content must never change, and a name must never be used again for another
// content while the archive's identity stays the same. Manifests and indexes of backups are such objects; a history is one where no
// timeline is dropped and its number used again.
//
// # What the cache does not prove
//
// Open can return an object that the archive no longer has. List always asks the archive: a caller that must know whether an
// object is there lists first, and opens what was listed. [Backend.Snapshot] alone keeps listings; package listing has what they
// prove. Replace and Remove drop what this host has kept of a name, and know nothing of the caches of other hosts.
//
// # Files
//
// An object is one file, whose name is the SHA-256 of the repository's ID, of the content of the archive's identity, and of the
// object's name: a new archive at the same place finds nothing of the earlier one. The file begins with the
// SHA-256 of its own name and of the object's bytes. A kept listing is such a file, too. A file that is damaged, cut off or
// unreadable counts as missing, and whatever fails in the directory is no failure of a call. The bytes are those of the archive:
// what is encrypted there is encrypted here. Files are of mode 0600. A file without an object keeps that the store creates
// conditionally.
package cache

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"walkeep/common/durable"
	"walkeep/common/storage"
	"walkeep/common/storage/listing"
)

// Options say what is kept, and where.
type Options struct {
	Dir        string                 // is made where it is missing
	Repository string                 // ID that no other repository of this host has, such as its URL
	Identity   string                 // name of the object that identifies the archive; it is read once, and not kept
	Limit      int64                  // bytes that the directory may hold, of all repositories together
	Keep       func(name string) bool // whether an object of this name is kept
	Listing    *listing.Policy        // which parts of listings are kept; nil: none
}

// largest is the part of the limit that one object may take.
const largest = 4

// maxIdentity is the largest identity in bytes.
const maxIdentity = 1 << 20

// A Backend keeps objects of another one. Its methods may be called concurrently, also by several processes with one directory.
type Backend struct {
	storage.Backend
	o Options

	mu       sync.Mutex
	content  []byte // of the identity; nil while it is not known
	identity []byte // its hash
	used     int64  // bytes in the directory, as far as this process knows; 0 while it has not looked
}

// New keeps objects of b.
func New(b storage.Backend, o Options) *Backend { return &Backend{Backend: b, o: o} }

// Unwrap gives the backend behind it; see [storage.As].
func (b *Backend) Unwrap() storage.Backend { return b.Backend }

// Open implements [storage.Backend]. The object can be one that the archive no longer has.
func (b *Backend) Open(ctx context.Context, name string) (storage.Object, error) {
	if storage.CheckName(name) != nil || !b.o.Keep(name) {
		return b.Backend.Open(ctx, name)
	}
	key, ok := b.key(ctx, name)
	if !ok {
		return b.Backend.Open(ctx, name)
	}
	if kept, ok := b.load(key); ok {
		return kept, nil
	}
	o, err := b.Backend.Open(ctx, name)
	if err != nil || o.Size() > b.o.Limit/largest {
		return o, err
	}
	if b.store(ctx, key, o) != nil {
		return o, nil // its reader will see the error where it is one of the archive
	}
	kept, ok := b.load(key)
	if !ok {
		return o, nil
	}
	return kept, o.Close()
}

// Replace implements [storage.Backend].
func (b *Backend) Replace(ctx context.Context, name string, content []byte) error {
	defer b.drop(ctx, name)
	return b.Backend.Replace(ctx, name, content)
}

// Remove implements [storage.Backend].
func (b *Backend) Remove(ctx context.Context, names ...string) error {
	defer b.drop(ctx, names...)
	return b.Backend.Remove(ctx, names...)
}

// conditional is no object's name.
const conditional = "/conditional"

// Conditional implements [storage.Conditional], where the backend behind it does. It asks the store once a day as long as that is sound
// or refuses what this caller writes.
func (b *Backend) Conditional(ctx context.Context) (bool, error) {
	store, ok := storage.As[storage.Conditional](b.Backend)
	if !ok {
		return true, nil
	}
	key, known := b.key(ctx, conditional)
	if known {
		if info, err := os.Stat(b.path(key)); err == nil && time.Since(info.ModTime()).Abs() < 24*time.Hour {
			return true, nil
		}
	}
	sound, err := store.Conditional(ctx)
	if known && (err == nil && sound || errors.Is(err, storage.ErrDenied)) {
		b.store(ctx, key, object{SectionReader: io.NewSectionReader(strings.NewReader(""), 0, 0)}) // without it the store is asked again
	}
	return sound, err
}

// drop removes what is kept of objects.
func (b *Backend) drop(ctx context.Context, names ...string) {
	for _, name := range names {
		if !b.o.Keep(name) {
			continue
		}
		if key, ok := b.key(context.WithoutCancel(ctx), name); ok {
			durable.Remove(b.path(key))
		}
	}
}

// Snapshot implements [storage.Snapshotter].
func (b *Backend) Snapshot(ctx context.Context, anew bool) (storage.Backend, error) {
	key, ok := b.key(ctx, listingName)
	if b.o.Listing == nil || !ok {
		return b, nil
	}
	kept := b.loadListing(key)
	s, keep, err := listing.Take(ctx, b.Backend, *b.o.Listing, b.identityOf(), kept, anew)
	if err != nil {
		return nil, err
	}
	if keep != nil && keep != kept {
		b.storeListing(ctx, key, keep)
	}
	return &snapshot{b, s}, nil
}

// listingName is no object's name.
const listingName = "/listing 1"

func (b *Backend) loadListing(key string) *listing.Kept {
	o, ok := b.load(key)
	if !ok {
		return nil
	}
	defer o.Close()
	kept := new(listing.Kept)
	if err := gob.NewDecoder(io.NewSectionReader(o, 0, o.Size())).Decode(kept); err != nil {
		return nil
	}
	return kept
}

func (b *Backend) storeListing(ctx context.Context, key string, keep *listing.Kept) {
	var content bytes.Buffer
	if err := gob.NewEncoder(&content).Encode(keep); err != nil || int64(content.Len()) > b.o.Limit/largest {
		return
	}
	b.store(ctx, key, inMemory(content.Bytes())) // without it the next call lists more
}

func inMemory(content []byte) object {
	return object{io.NewSectionReader(bytes.NewReader(content), 0, int64(len(content))), io.NopCloser(nil)}
}

// A snapshot has the listings of one moment.
type snapshot struct {
	*Backend
	s *listing.Snapshot
}

// Unwrap gives the backend behind it; see [storage.As].
func (s *snapshot) Unwrap() storage.Backend { return s.Backend }

// List implements [storage.Backend].
func (s *snapshot) List(_ context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	return s.s.List(prefix, o)
}

// Open implements [storage.Backend]. A note is asked for again only if its tag has changed.
func (s *snapshot) Open(ctx context.Context, name string) (storage.Object, error) {
	if storage.CheckName(name) != nil || s.o.Listing.Settles(path.Dir(name)+"/") {
		return s.Backend.Open(ctx, name)
	}
	e, ok := s.s.Find(name)
	if !ok {
		return nil, fmt.Errorf("open %s: %w", name, storage.ErrNotExist)
	}
	key, ok := s.key(ctx, name+"\n"+e.Tag)
	if sum, err := hex.DecodeString(e.Tag); !ok || err != nil || len(sum) != md5.Size || e.Size > maxNote {
		return s.Backend.Open(ctx, name)
	}
	if o, ok := s.load(key); ok {
		return o, nil
	}
	o, err := s.Backend.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	content := make([]byte, o.Size())
	if n, err := o.ReadAt(content, 0); n < len(content) {
		o.Close()
		return nil, err
	}
	if sum := md5.Sum(content); hex.EncodeToString(sum[:]) == e.Tag { // else it was replaced meanwhile
		s.store(ctx, key, inMemory(content))
	}
	return inMemory(content), o.Close()
}

// maxNote is the largest note in bytes that is kept.
const maxNote = 64 << 10

// key gives the name of an object's file. It reports false where the archive's identity cannot be read.
func (b *Backend) key(ctx context.Context, name string) (string, bool) {
	b.mu.Lock()
	identity := b.identity
	b.mu.Unlock()
	if identity == nil {
		content, err := storage.ReadAll(ctx, b.Backend, b.o.Identity, maxIdentity)
		if err != nil {
			return "", false
		}
		sum := sha256.Sum256(content)
		identity = sum[:]
		b.mu.Lock()
		b.content, b.identity = content, identity
		b.mu.Unlock()
	}
	h := sha256.New()
	repository := sha256.Sum256([]byte(b.o.Repository))
	h.Write(repository[:])
	h.Write(identity)
	io.WriteString(h, name)
	return hex.EncodeToString(h.Sum(nil)), true
}

func (b *Backend) identityOf() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content
}

func (b *Backend) path(key string) string { return filepath.Join(b.o.Dir, key) }

// isKey reports whether a file's name is one of those that the cache gives.
func isKey(name string) bool {
	raw, err := hex.DecodeString(name)
	return err == nil && len(raw) == sha256.Size
}

// load opens what is kept, if all of its bytes are those that were stored.
func (b *Backend) load(key string) (storage.Object, bool) {
	f, err := durable.Open(b.path(key))
	if err != nil {
		return nil, false
	}
	var want [sha256.Size]byte
	h := newHash(key)
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrInvalid
	}
	if err == nil {
		_, err = io.ReadFull(f, want[:])
	}
	if err == nil {
		_, err = io.Copy(h, f)
	}
	if err != nil || string(h.Sum(nil)) != string(want[:]) {
		f.Close()
		return nil, false
	}
	size := info.Size() - sha256.Size
	return object{io.NewSectionReader(f, sha256.Size, size), f}, true
}

func newHash(key string) interface {
	io.Writer
	Sum([]byte) []byte
} {
	h := sha256.New()
	io.WriteString(h, key)
	return h
}

// An object is a part of an open file.
type object struct {
	*io.SectionReader
	io.Closer
}

// Reader implements [storage.Object].
func (o object) Reader(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(o.SectionReader, off, n)), ctx.Err()
}

// store keeps an object. The file is not brought to disk: what a power cut leaves of it is found to be damaged.
func (b *Backend) store(ctx context.Context, key string, o storage.Object) error {
	if err := os.MkdirAll(b.o.Dir, durable.DirMode); err != nil {
		return err
	}
	b.makeRoom(o.Size() + sha256.Size)
	r, err := o.Reader(ctx, 0, o.Size())
	if err != nil {
		return err
	}
	defer r.Close()
	var random [8]byte
	rand.Read(random[:]) // never fails
	temp := filepath.Join(b.o.Dir, "."+key+"."+hex.EncodeToString(random[:])+".tmp")
	f, err := durable.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	defer f.Close()
	h := newHash(key)
	if _, err := f.Seek(sha256.Size, io.SeekStart); err != nil {
		return err
	}
	n, err := io.Copy(io.MultiWriter(f, h), r)
	if err == nil && n != o.Size() {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		_, err = f.WriteAt(h.Sum(nil), 0)
	}
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = durable.Replace(temp, b.path(key))
	}
	return err
}

// makeRoom removes the oldest files where size bytes more would be too many. It then makes more room than is needed, so that the
// directory is not read for each file.
func (b *Backend) makeRoom(size int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := b.used == 0
	if b.used += size; !first && b.used <= b.o.Limit {
		return
	}
	durable.Sweep(b.o.Dir) // which may cost another process the keeping of one object
	entries, err := os.ReadDir(b.o.Dir)
	if err != nil {
		return
	}
	var files []fs.FileInfo
	b.used = size
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && isKey(e.Name()) {
			files = append(files, info)
			b.used += info.Size()
		}
	}
	if b.used <= b.o.Limit {
		return
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	for _, f := range files {
		if b.used <= b.o.Limit-b.o.Limit/8 {
			break
		}
		if err := durable.Remove(b.path(f.Name())); err == nil || errors.Is(err, fs.ErrNotExist) {
			b.used -= f.Size()
		}
	}
}
