package backup

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"walkeep/common/codec"
	"walkeep/common/sealed"
	"walkeep/common/storage"
)

// ReadManifest reads a backup's manifest. storage.ErrNotExist: there is no such backup.
func ReadManifest(ctx context.Context, b storage.Backend, id string) (*Manifest, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	content, err := storage.ReadAll(ctx, b, Dir(id)+ManifestName, MaxManifest)
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(content)
	if err == nil && m.ID != id {
		err = fmt.Errorf("%w: it is that of backup %s", codec.ErrDamaged, m.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", Dir(id), ManifestName, err)
	}
	return m, nil
}

// Open opens an object of the backup and compares its name, its sizes and the hash in its trailer with the manifest. It
// does not compute the hash. The caller closes the object. Only who has one of the private keys opens an encrypted object: the error is
// sealed.ErrNoKey otherwise, and keys may be nil where nothing is encrypted.
func (m *Manifest) Open(ctx context.Context, b storage.Backend, keys *sealed.Identities, s Stored) (*codec.Object, io.Closer, error) {
	f, err := m.openStored(ctx, b, s)
	if err != nil {
		return nil, nil, err
	}
	o, err := m.openObject(f, keys, s)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("%s: %w", Dir(m.ID)+s.Name, err)
	}
	return o, f, nil
}

// openStored opens what is stored, and compares its size with the manifest.
func (m *Manifest) openStored(ctx context.Context, b storage.Backend, s Stored) (storage.Object, error) {
	name := Dir(m.ID) + s.Name
	f, err := b.Open(ctx, name)
	if errors.Is(err, storage.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: it is missing", name, codec.ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	if f.Size() != s.Stored {
		f.Close()
		return nil, fmt.Errorf("%s: %w: it has %d bytes instead of %d", name, codec.ErrDamaged, f.Size(), s.Stored)
	}
	return f, nil
}

// errOther says that an object is another one than it should be.
var errOther = fmt.Errorf("%w: it is not the object that the manifest names", codec.ErrDamaged)

func (m *Manifest) openObject(f storage.Object, keys *sealed.Identities, s Stored) (*codec.Object, error) {
	c, err := codec.ByName(m.Codec)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	ext, r, size := c.Ext(), io.ReaderAt(f), f.Size()
	if s.Encrypted() {
		e, err := openEncrypted(f)
		if err != nil {
			return nil, err
		}
		plain, err := e.Plain(keys)
		if err != nil {
			return nil, err
		}
		ext, r, size = ext+sealed.Ext, plain, plain.Size()
	}
	o, err := codec.OpenObject(c, r, size)
	switch {
	case err != nil:
		return nil, err
	case o.Trailer == nil:
		return nil, fmt.Errorf("%w: it has no trailer", codec.ErrDamaged)
	case int64(o.Trailer.PlainSize) != s.Plain || o.Trailer.Name+ext != s.Name ||
		!s.Encrypted() && hex.EncodeToString(o.Trailer.StoredSHA256[:]) != s.SHA256:
		return nil, errOther
	}
	return o, nil
}

// openEncrypted reads the header of an encrypted object, which must be one of a backup.
func openEncrypted(f storage.Object) (*sealed.Object, error) {
	e, err := sealed.Open(f, f.Size())
	if err == nil && (e.Facts == nil || !e.Facts.Elsewhere) {
		err = errOther
	}
	return e, err
}

// ReadFiles reads the index, all of it compared with its hashes.
func (m *Manifest) ReadFiles(ctx context.Context, b storage.Backend, keys *sealed.Identities) ([]File, error) {
	return m.ReadFilesOn(ctx, b, keys, 0)
}

// ReadFilesOn is ReadFiles on so many cores; 0: on all.
func (m *Manifest) ReadFilesOn(ctx context.Context, b storage.Backend, keys *sealed.Identities, workers int) ([]File, error) {
	var files []File
	if err := m.eachFile(ctx, b, keys, workers, func(f *File) { files = append(files, *f) }); err != nil {
		return nil, err
	}
	return files, nil
}

// errUnread ends the expansion of an index that could not be read.
var errUnread = errors.New("the index could not be read")

// eachFile calls visit with each file of the index. The calls only count if it returns no error: then all of the index was compared
// with its hashes.
func (m *Manifest) eachFile(ctx context.Context, b storage.Backend, keys *sealed.Identities, workers int, visit func(*File)) error {
	o, closer, err := m.Open(ctx, b, keys, m.Index)
	if err != nil {
		return err
	}
	defer closer.Close()
	if m.Index.Plain > MaxIndex {
		return fmt.Errorf("%w: an index of %d bytes", codec.ErrDamaged, m.Index.Plain)
	}
	if m.Index.Encrypted() {
		if err := m.CheckBytes(ctx, b, m.Index); err != nil {
			return err
		}
	}
	o.Workers = workers
	check := checker{m: m}
	// The index is not kept as a whole, as it can be large.
	plain, w := io.Pipe()
	unpacked := make(chan error, 1)
	go func() {
		var size int64
		err := o.Unpack(ctx, &codec.InOrder{Write: func(p []byte) error {
			if size += int64(len(p)); size > m.Index.Plain {
				return fmt.Errorf("%w: more than %d bytes", codec.ErrDamaged, m.Index.Plain)
			}
			_, err := w.Write(p)
			return err
		}})
		w.CloseWithError(err)
		unpacked <- err
	}()
	err = eachFile(plain, func(f *File) {
		check.add(f)
		visit(f)
	})
	plain.CloseWithError(errUnread)
	if damaged := <-unpacked; damaged != nil && !errors.Is(damaged, errUnread) {
		err = damaged // what it is made of counts more than how it reads
	}
	if err == nil {
		err = check.result()
	}
	if err != nil {
		return fmt.Errorf("%s%s: %w", Dir(m.ID), m.Index.Name, err)
	}
	return nil
}

// CheckStored checks the objects that the manifest names, as a restore would: it reads the whole index, and compares the size and
// the trailer of each volume with the manifest. Without a private key that opens the index it compares each byte of the
// encrypted index with its hash, and of the encrypted volumes their sizes and headers.
func (m *Manifest) CheckStored(ctx context.Context, b storage.Backend, keys *sealed.Identities) error {
	err := m.eachFile(ctx, b, keys, 0, func(*File) {})
	if errors.Is(err, sealed.ErrNoKey) {
		keys, err = nil, m.CheckBytes(ctx, b, m.Index)
	}
	if err != nil {
		return err
	}
	return m.CheckVolumes(ctx, b, keys)
}

// CheckVolumes looks that each volume is there, with its size and the trailer that belongs to it; without keys, of an encrypted
// volume, with its size and a header that is sound.
func (m *Manifest) CheckVolumes(ctx context.Context, b storage.Backend, keys *sealed.Identities) error {
	for _, v := range m.Volumes {
		if err := m.CheckObject(ctx, b, keys, v); err != nil {
			return err
		}
	}
	return nil
}

// CheckObject is CheckVolumes for one object.
func (m *Manifest) CheckObject(ctx context.Context, b storage.Backend, keys *sealed.Identities, s Stored) error {
	if !s.Encrypted() || keys != nil {
		_, closer, err := m.Open(ctx, b, keys, s)
		if err != nil {
			return err
		}
		return closer.Close()
	}
	f, err := m.openStored(ctx, b, s)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := openEncrypted(f); err != nil {
		return fmt.Errorf("%s: %w", Dir(m.ID)+s.Name, err)
	}
	return nil
}

// CheckBytes reads every stored byte of an encrypted object and compares the SHA-256 with the manifest's. It needs no private key.
func (m *Manifest) CheckBytes(ctx context.Context, b storage.Backend, s Stored) error {
	f, err := m.openStored(ctx, b, s)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := f.Reader(ctx, 0, f.Size())
	if err != nil {
		return err
	}
	defer r.Close()
	found, err := sealed.CheckStored(r, s.Name)
	if err == nil && (found.Size != s.Stored || hex.EncodeToString(found.SHA256[:]) != s.SHA256) {
		err = fmt.Errorf("%w: its SHA-256 is not the one that the manifest says", codec.ErrDamaged)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", Dir(m.ID)+s.Name, err)
	}
	return nil
}

// A checker compares the index with the manifest.
type checker struct {
	m     *Manifest
	files int
	bytes int64
	err   error // about the first file that cannot be right
}

func (c *checker) add(f *File) {
	if !f.Dir {
		c.files++
	}
	c.bytes += f.Size
	if v := c.m.Volumes; c.err == nil && (f.Volume > len(v) || f.Volume > 0 && f.Offset > v[f.Volume-1].Plain-f.Size) {
		c.err = fmt.Errorf("%w: %q lies outside of the volumes", codec.ErrDamaged, f.Path)
	}
}

func (c *checker) result() error {
	if c.err == nil && (c.files != c.m.Files || c.bytes != c.m.Bytes) {
		c.err = fmt.Errorf("%w: it lists %d files of %d bytes, the manifest %d of %d", codec.ErrDamaged, c.files, c.bytes, c.m.Files, c.m.Bytes)
	}
	return c.err
}
