package archive

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"

	"walkeep/common/backup"
	"walkeep/common/codec"
	"walkeep/common/sealed"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// Copied is how an object of another archive came to be in this one.
type Copied struct {
	Object    string // its name here, which differs only for a partial segment beside another one
	Duplicate bool   // it was there before
	Stored    int64  // bytes that were written; 0 for a duplicate
}

// Copy stores an object of another archive as it is: its stored bytes, under its name. The bytes are compared with the
// object's trailer while they are read. When Copy returns without an error, the object is durable here, whole and compared. An
// object that is here already is compared with the other one.
//
// [ErrNotStored]: from does not hold the object. Errors that will not pass with time are [ErrConflict], where another content is
// here under the name, and [ErrDamaged], where one of the two objects is damaged. After any other error the object may be
// here or not.
func (a *Archive) Copy(ctx context.Context, from *Archive, object string) (Copied, error) {
	done := Copied{Object: object}
	for {
		err := a.copyTo(ctx, from, object, &done)
		if !errors.Is(err, storage.ErrExist) {
			return done, err
		}
		err = a.Compare(ctx, from, object, done.Object)
		if err == nil {
			done.Duplicate = true
			return done, nil
		}
		if !errors.Is(err, ErrConflict) || done.Object != object {
			return done, err
		}
		// Two promotions from one segment: what both servers have archived must be kept.
		variant, bad := from.variantName(ctx, object)
		if bad != nil || variant == "" {
			return done, errors.Join(err, bad)
		}
		done.Object = variant
	}
}

func (a *Archive) copyTo(ctx context.Context, from *Archive, object string, done *Copied) error {
	src, err := from.b.Open(ctx, object)
	if errors.Is(err, storage.ErrNotExist) {
		return fmt.Errorf("%s is %w", object, ErrNotStored)
	}
	if err != nil {
		return err
	}
	defer src.Close()
	if err := a.CheckWAL(ctx); err != nil { // a directory that is not mounted would be made again
		return err
	}
	r, err := src.Reader(ctx, 0, src.Size())
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := a.b.Create(ctx, done.Object, storage.CreateOptions{Size: src.Size()})
	if err != nil {
		return err
	}
	defer w.Discard()
	sums := codec.NewSummer(w)
	if err := from.checkBytes(ctx, object, src, io.TeeReader(r, sums)); err != nil {
		return fmt.Errorf("copy %s: %w", object, err)
	}
	size, hash := sums.Sum()
	if int64(size) != src.Size() {
		return fmt.Errorf("copy %s: %d bytes were read of %d", object, size, src.Size())
	}
	err = w.Verify(ctx, func(r io.Reader) error {
		gotSize, gotHash, err := codec.Sum(r)
		if err == nil && (gotSize != size || gotHash != hash) {
			err = errors.New("what was read back is not what was written")
		}
		return err
	})
	if err == nil {
		err = w.Commit(ctx)
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", done.Object, err)
	}
	done.Stored = int64(size)
	return nil
}

// checkBytes reads all stored bytes of an object of the archive from r, and compares them with the object's trailer or stanza where it
// has one, or with the manifest of the backup whose volume it is.
func (a *Archive) checkBytes(ctx context.Context, object string, o storage.Object, r io.Reader) error {
	if isSealed(object) {
		return a.checkSealed(ctx, object, r)
	}
	t, err := trailerOf(object, o)
	if err != nil {
		return err
	}
	if t != nil {
		return t.Check(r)
	}
	_, err = io.Copy(io.Discard, r)
	return err
}

// isSealed reports whether an object is encrypted, as its name says.
func isSealed(object string) bool {
	_, encrypted, ok := sealed.ByExt(sealed.ExtOf(object))
	return ok && encrypted
}

func (a *Archive) checkSealed(ctx context.Context, object string, r io.Reader) error {
	found, err := sealed.CheckStored(r, object)
	if err != nil || found.Facts == nil || !found.Facts.Elsewhere {
		return err
	}
	dir, name := path.Split(object)
	m, err := a.Manifest(ctx, path.Base(dir))
	if err != nil {
		return fmt.Errorf("read the hash of %s: %w", object, err)
	}
	for _, s := range append([]backup.Stored{m.Index}, m.Volumes...) {
		if s.Name == name && s.SHA256 == hex.EncodeToString(found.SHA256[:]) {
			return nil
		}
	}
	return fmt.Errorf("%w: its SHA-256 is not the one that the manifest says", ErrDamaged)
}

// trailerOf reads the trailer of any object of an archive that is not encrypted; nil if it has none: a foreign file, a manifest or a
// note.
func trailerOf(object string, o storage.Object) (*codec.Trailer, error) {
	c, ok := codec.ByExt(path.Ext(object))
	if !ok {
		return nil, nil
	}
	return codec.ReadTrailer(c, o, o.Size())
}

// Compare compares an object of another archive with an object of this one, all of which is read: do both hold the same
// file, however it is stored? The object here is durable afterwards. Errors are those of Copy; [ErrNotStored] is said of either
// archive.
func (a *Archive) Compare(ctx context.Context, from *Archive, theirs, ours string) error {
	want, err := from.summary(ctx, theirs, false)
	if err != nil {
		return err
	}
	got, err := a.summary(ctx, ours, true)
	if err != nil {
		return err
	}
	same, err := got.same(want)
	if err != nil {
		return fmt.Errorf("%s: %w", ours, err)
	}
	if !same {
		return fmt.Errorf("%w: %s", ErrConflict, ours)
	}
	return a.sync(ctx, ours)
}

// A summary identifies the content of an object: the plain size and hash of what has a trailer or holds a WAL file, the bytes of a
// manifest or a note, the hash of the stored bytes of an encrypted part of a backup.
type summary struct {
	content
	other []byte
}

func (s summary) same(other summary) (bool, error) {
	if !bytes.Equal(s.other, other.other) {
		return false, nil
	}
	return s.content.same(other.content)
}

// summary reads what identifies an object. With all, every stored byte is read.
func (a *Archive) summary(ctx context.Context, object string, all bool) (summary, error) {
	o, err := a.b.Open(ctx, object)
	if errors.Is(err, storage.ErrNotExist) {
		return summary{}, fmt.Errorf("%s is %w", object, ErrNotStored)
	}
	if err != nil {
		return summary{}, err
	}
	defer o.Close()
	t, err := trailerOf(object, o)
	if err != nil {
		return summary{}, fmt.Errorf("%s: %w", object, err)
	}
	if t == nil {
		n, s, ok := parseObject(storage.Entry{Name: object, Size: o.Size()})
		if ok {
			c, err := a.content(ctx, n, s)
			return summary{content: c}, err
		}
		if !isSealed(object) {
			b, err := storage.ReadAll(ctx, a.b, object, backup.MaxManifest)
			return summary{content{hashed: true}, b}, err
		}
	}
	if !all && t != nil {
		return summaryOf(t), nil
	}
	r, err := o.Reader(ctx, 0, o.Size())
	if err != nil {
		return summary{}, err
	}
	defer r.Close()
	if t != nil {
		err = t.Check(r)
	} else {
		var found *sealed.Checked
		if found, err = sealed.CheckStored(r, object); err == nil {
			return summary{content{hashed: true}, found.SHA256[:]}, nil
		}
	}
	if err != nil {
		return summary{}, fmt.Errorf("%s: %w", object, err)
	}
	return summaryOf(t), nil
}

// summaryOf leaves out the name of a WAL file, which objects of other archivers do not have.
func summaryOf(t *codec.Trailer) summary {
	s := summary{content: content{size: t.PlainSize, hash: t.PlainHash, hashed: true}}
	if _, err := wal.ParseName(t.Name); err != nil {
		s.other = []byte(t.Name)
	}
	return s
}

// variantName is where a partial segment is stored beside another one; empty for any other object.
func (a *Archive) variantName(ctx context.Context, object string) (string, error) {
	n, s, ok := parseObject(storage.Entry{Name: object, Size: 1})
	if !ok || s.codec == nil || n.Kind != wal.KindPartial || s.variant {
		return "", nil
	}
	c, err := a.content(ctx, n, s)
	if err != nil {
		return "", err
	}
	hash, ext := c.hash, s.codec.Ext()
	if s.encrypted { // nobody is to guess the content by its hash
		hash, ext = c.tag.Sum, ext+sealed.Ext
	}
	return Location(n) + "." + hex.EncodeToString(hash[:]) + ext, nil
}
