package backup

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"

	"walkeep/common/codec"
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
// does not compute the hash. The caller closes the object.
func (m *Manifest) Open(ctx context.Context, b storage.Backend, s Stored) (*codec.Object, io.Closer, error) {
	name := Dir(m.ID) + s.Name
	f, err := b.Open(ctx, name)
	if errors.Is(err, storage.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s: %w: it is missing", name, codec.ErrDamaged)
	}
	if err != nil {
		return nil, nil, err
	}
	o, err := m.openObject(f, s)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return o, f, nil
}

func (m *Manifest) openObject(f storage.Object, s Stored) (*codec.Object, error) {
	c, err := codec.ByName(m.Codec)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	if f.Size() != s.Stored {
		return nil, fmt.Errorf("%w: it has %d bytes instead of %d", codec.ErrDamaged, f.Size(), s.Stored)
	}
	o, err := codec.OpenObject(c, f, f.Size())
	switch {
	case err != nil:
		return nil, err
	case o.Trailer == nil:
		return nil, fmt.Errorf("%w: it has no trailer", codec.ErrDamaged)
	case int64(o.Trailer.PlainSize) != s.Plain || hex.EncodeToString(o.Trailer.StoredHash[:]) != s.SHA256 ||
		o.Trailer.Name+path.Ext(s.Name) != s.Name:
		return nil, fmt.Errorf("%w: it is not the object that the manifest speaks of", codec.ErrDamaged)
	}
	return o, nil
}

// ReadFiles reads the index, all of it compared with its hashes.
func (m *Manifest) ReadFiles(ctx context.Context, b storage.Backend) ([]File, error) {
	return m.ReadFilesOn(ctx, b, 0)
}

// ReadFilesOn is ReadFiles on so many cores; 0: on all.
func (m *Manifest) ReadFilesOn(ctx context.Context, b storage.Backend, workers int) ([]File, error) {
	o, closer, err := m.Open(ctx, b, m.Index)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	if m.Index.Plain > MaxIndex {
		return nil, fmt.Errorf("%w: an index of %d bytes", codec.ErrDamaged, m.Index.Plain)
	}
	o.Workers = workers
	plain := codec.Memory{Limit: m.Index.Plain}
	var files []File
	if err = o.Unpack(ctx, &plain); err == nil {
		files, err = ReadIndex(bytes.NewReader(plain.Bytes()))
	}
	if err == nil {
		err = m.checkFiles(files)
	}
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", Dir(m.ID), m.Index.Name, err)
	}
	return files, nil
}

// CheckStored reads what the manifest speaks of as a restore would: the index with all of it, and of each volume that it is
// there, with its size and the trailer that belongs to it.
func (m *Manifest) CheckStored(ctx context.Context, b storage.Backend) error {
	if _, err := m.ReadFiles(ctx, b); err != nil {
		return err
	}
	return m.CheckVolumes(ctx, b)
}

// CheckVolumes looks that each volume is there, with its size and the trailer that belongs to it.
func (m *Manifest) CheckVolumes(ctx context.Context, b storage.Backend) error {
	for _, v := range m.Volumes {
		_, closer, err := m.Open(ctx, b, v)
		if err != nil {
			return err
		}
		if err := closer.Close(); err != nil {
			return err
		}
	}
	return nil
}

// checkFiles compares the index with the manifest.
func (m *Manifest) checkFiles(files []File) error {
	var count int
	var size int64
	for i := range files {
		f := &files[i]
		if !f.Dir {
			count++
		}
		size += f.Size
		if f.Volume > len(m.Volumes) || f.Volume > 0 && f.Offset > m.Volumes[f.Volume-1].Plain-f.Size {
			return fmt.Errorf("%w: %q lies outside of the volumes", codec.ErrDamaged, f.Path)
		}
	}
	if count != m.Files || size != m.Bytes {
		return fmt.Errorf("%w: it lists %d files of %d bytes, the manifest %d of %d", codec.ErrDamaged, count, size, m.Files, m.Bytes)
	}
	return nil
}
