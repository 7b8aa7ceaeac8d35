package verify

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"

	"walkeep/common/backup"
	"walkeep/common/codec"
	"walkeep/common/sealed"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// backup checks that a backup's objects are those of its manifest, and with Deep all their contents.
func (v *verifier) backup(ctx context.Context, m *backup.Manifest) error {
	object := func(s backup.Stored) string { return backup.Dir(m.ID) + s.Name }
	damaged := func(s backup.Stored, err error) {
		var open openError
		v.problem(Problem{Severity: Damage, Object: object(s), Text: err.Error(), backup: m.ID, open: errors.As(err, &open)})
	}
	keys := v.keysFor(ctx, m)
	files, err := v.index(ctx, m, keys)
	if stop := stops(ctx, err); stop != nil {
		return stop
	}
	if err != nil {
		damaged(m.Index, err)
	}
	list := &fileList{m: m, files: files, unknown: err != nil || files == nil}
	for i, s := range m.Volumes {
		err := v.volume(ctx, m, keys, s, i+1, list)
		if stop := stops(ctx, err); stop != nil {
			return stop
		}
		if err != nil {
			damaged(s, err)
			list.skip(i + 1)
		}
	}
	if f := list.rest(); f != nil {
		damaged(m.Index, fmt.Errorf("%w: %q is in no volume", codec.ErrDamaged, f.Path))
	}
	return nil
}

// stops returns those errors after which nothing more can be verified.
func stops(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, storage.ErrUnavailable) {
		return err
	}
	return nil
}

// An openError is a fault of an object that opening it shows.
type openError struct{ error }

func (e openError) Unwrap() error { return e.error }

func (v *verifier) index(ctx context.Context, m *backup.Manifest, keys *sealed.Identities) ([]backup.File, error) {
	if err := m.CheckObject(ctx, v.a.Backend(), keys, m.Index); err != nil {
		v.read(0)
		return nil, openError{err}
	}
	if !v.Deep {
		v.read(0)
		return nil, nil
	}
	if m.Encrypted() && keys == nil {
		return nil, v.bytes(ctx, m, m.Index)
	}
	files, err := m.ReadFilesOn(ctx, v.a.Backend(), keys, v.Jobs)
	v.read(m.Index.Stored)
	return files, err
}

// keysFor returns the private keys if they open the objects of a backup; nil otherwise.
func (v *verifier) keysFor(ctx context.Context, m *backup.Manifest) *sealed.Identities {
	keys := v.a.Keys()
	if !m.Encrypted() || keys == nil || errors.Is(m.CheckObject(ctx, v.a.Backend(), keys, m.Index), sealed.ErrNoKey) {
		return nil
	}
	return keys
}

// bytes compares the stored bytes of an encrypted object with the manifest, without a private key.
func (v *verifier) bytes(ctx context.Context, m *backup.Manifest, s backup.Stored) error {
	v.countLocked(wal.Name{})
	err := m.CheckBytes(ctx, v.a.Backend(), s)
	v.read(s.Stored)
	return err
}

// volume checks one volume. It reads the tar stream from its beginning to its end.
func (v *verifier) volume(ctx context.Context, m *backup.Manifest, keys *sealed.Identities, s backup.Stored, number int, list *fileList) error {
	if s.Encrypted() && keys == nil {
		if err := m.CheckObject(ctx, v.a.Backend(), nil, s); err != nil {
			v.read(0)
			return openError{err}
		}
		if !v.Deep {
			v.read(0)
			return nil
		}
		return v.bytes(ctx, m, s)
	}
	o, closer, err := m.Open(ctx, v.a.Backend(), keys, s)
	if err != nil {
		v.read(0)
		return openError{err}
	}
	defer closer.Close()
	if !v.Deep {
		v.read(0)
		return nil
	}
	if s.Encrypted() {
		if err := m.CheckBytes(ctx, v.a.Backend(), s); err != nil {
			v.read(s.Stored)
			return err
		}
	}
	r, w := io.Pipe()
	checked := make(chan error, 1)
	go func() {
		err := list.check(r, number)
		r.CloseWithError(err)
		checked <- err
	}()
	out := &codec.InOrder{Write: func(p []byte) error {
		_, err := w.Write(p)
		return err
	}}
	o.Workers = v.Jobs
	err = o.Unpack(ctx, out)
	w.CloseWithError(err)
	v.read(s.Stored)
	if wrong := <-checked; wrong != nil {
		return wrong
	}
	return err
}

// A fileList walks a backup's index while its volumes are read.
type fileList struct {
	m       *backup.Manifest
	files   []backup.File
	at      int
	skipped bool // a volume was not read to its end
	unknown bool // the index cannot be read, so that only hashes of stored bytes are compared
}

func (l *fileList) next() *backup.File {
	if l.unknown || l.at == len(l.files) {
		return nil
	}
	return &l.files[l.at]
}

// skip continues behind a volume that could not be read to its end. Directories and empty files, which the index
// assigns to no volume, may be the last of that volume or the first of the next.
func (l *fileList) skip(volume int) {
	for i, f := range l.files {
		if f.Volume == volume {
			l.at = max(l.at, i+1)
		}
	}
	l.skipped = true
}

// find returns the index's entry for a file of a volume; nil if there is none.
func (l *fileList) find(name string) *backup.File {
	f := l.next()
	for l.skipped && f != nil && f.Volume == 0 && entryName(f) != name {
		l.at++
		f = l.next()
	}
	l.skipped = false
	return f
}

// rest returns the first entry that no volume contained; nil if there is none.
func (l *fileList) rest() *backup.File {
	for f := l.next(); l.skipped && f != nil && f.Volume == 0; f = l.next() {
		l.at++
	}
	return l.next()
}

// entryName returns the name of a file in a tar archive.
func entryName(f *backup.File) string {
	if f.Dir {
		return f.Path + "/"
	}
	return f.Path
}

// check compares a volume's tar stream with the index, to its end.
func (l *fileList) check(r io.Reader, volume int) error {
	if l.unknown {
		_, err := io.Copy(io.Discard, r)
		return err
	}
	counted := &counter{r: r}
	archive := tar.NewReader(counted)
	block := make([]byte, backup.BlockSize)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return fmt.Errorf("%w: %w", codec.ErrDamaged, err)
		}
		f := l.find(h.Name)
		if f == nil {
			return fmt.Errorf("%w: it holds %q, which the index does not list", codec.ErrDamaged, h.Name)
		}
		if err := checkHeader(h, f, volume, counted.n); err != nil {
			return err
		}
		for i := range f.Blocks() {
			part := block[:min(int64(len(block)), f.Size-int64(i)*backup.BlockSize)]
			if _, err := io.ReadFull(archive, part); err != nil {
				return fmt.Errorf("%w: %q: %w", codec.ErrDamaged, f.Path, err)
			}
			if xxh3.Hash128(part).Bytes() != f.Hash(i) {
				return fmt.Errorf("%w: block %d of %q does not have the hash that the index gives", codec.ErrDamaged, i, f.Path)
			}
		}
		l.at++
	}
}

func checkHeader(h *tar.Header, f *backup.File, volume int, offset int64) error {
	name, kind := entryName(f), byte(tar.TypeReg)
	if f.Dir {
		kind = tar.TypeDir
	}
	switch {
	case h.Name != name || h.Typeflag != kind:
		return fmt.Errorf("%w: it holds %q where the index has %q", codec.ErrDamaged, h.Name, name)
	case h.Size != f.Size || h.Mode != int64(f.Mode) || !h.ModTime.Equal(f.ModTime):
		return fmt.Errorf("%w: size, mode or time of %q are not those of the index", codec.ErrDamaged, f.Path)
	case f.Size > 0 && (f.Volume != volume || f.Offset != offset):
		return fmt.Errorf("%w: %q is at %d of volume %d, and in the index at %d of volume %d", codec.ErrDamaged, f.Path, offset, volume, f.Offset, f.Volume)
	}
	return nil
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
