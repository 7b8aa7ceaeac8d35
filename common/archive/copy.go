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
	if err := checkBytes(object, src, io.TeeReader(r, sums)); err != nil {
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

// checkBytes reads all stored bytes of an object from r, and compares them with the object's trailer where it has one.
func checkBytes(object string, o storage.Object, r io.Reader) error {
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

// trailerOf reads the trailer of any object of an archive; nil if it has none: a foreign file, a manifest or a note.
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
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%w: %s", ErrConflict, ours)
	}
	return a.sync(ctx, ours)
}

// summary gives what identifies the content of an object: the plain size and hash of what has a trailer or holds a WAL file,
// the bytes of a manifest or a note. With all, every stored byte is read.
func (a *Archive) summary(ctx context.Context, object string, all bool) ([]byte, error) {
	o, err := a.b.Open(ctx, object)
	if errors.Is(err, storage.ErrNotExist) {
		return nil, fmt.Errorf("%s is %w", object, ErrNotStored)
	}
	if err != nil {
		return nil, err
	}
	defer o.Close()
	t, err := trailerOf(object, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", object, err)
	}
	if t == nil {
		n, s, ok := parseObject(storage.Entry{Name: object, Size: o.Size()})
		if !ok {
			return storage.ReadAll(ctx, a.b, object, backup.MaxManifest)
		}
		c, err := a.content(ctx, n, s)
		return c.summary(""), err
	}
	if all {
		r, err := o.Reader(ctx, 0, o.Size())
		if err != nil {
			return nil, err
		}
		defer r.Close()
		if err := t.Check(r); err != nil {
			return nil, fmt.Errorf("%s: %w", object, err)
		}
	}
	return content{t.PlainSize, t.PlainHash}.summary(t.Name), nil
}

// summary is empty of a name where the content is that of a WAL file, which objects of other archivers do not name.
func (c content) summary(name string) []byte {
	if _, err := wal.ParseName(name); err == nil {
		name = ""
	}
	return fmt.Appendf(nil, "%d %x %s", c.size, c.hash, name)
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
	return Location(n) + "." + hex.EncodeToString(c.hash[:]) + s.codec.Ext(), nil
}
