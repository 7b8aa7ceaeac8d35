package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"walkeep/common/codec"
	"walkeep/common/sealed"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// Fetched describes a delivered file.
type Fetched struct {
	Object    string  // the stored object's name
	Size      int64   // plain bytes
	Foreign   bool    // it was stored by another archiver, and its own content is all the proof there is
	DamageLSN wal.LSN // where its records were already broken when it was archived; 0 if they were not
}

// Deliver expands a file of the cluster with this system identifier (0 if it is not known) into w. If Deliver fails,
// the caller must discard what was written to w. The error is [ErrNotStored] if no object of the name is there,
// [ErrForeign] if the archive is another cluster's, [ErrUnbound] if it is no cluster's; any other error means that the
// archive could not be read, or holds no sound copy; among them [sealed.ErrNoKey] for an encrypted object without its private key.
func (a *Archive) Deliver(ctx context.Context, n wal.Name, cluster wal.SystemID, w io.WriterAt) (Fetched, error) {
	id, one, err := a.locate(ctx, n, cluster)
	if err != nil {
		return Fetched{}, err
	}
	got, err := a.deliver(ctx, n, id, one, w)
	if err != nil {
		return got, fmt.Errorf("%s: %w", one.Name, err)
	}
	return got, nil
}

// locate finds the object from which a file of the cluster is read, and whose archive this is. Errors are those of Deliver.
func (a *Archive) locate(ctx context.Context, n wal.Name, cluster wal.SystemID) (Identity, stored, error) {
	id, idErr := a.Identity(ctx)
	if idErr != nil && !errors.Is(idErr, ErrUnbound) {
		return id, stored{}, idErr
	}
	if idErr == nil && cluster != 0 && cluster != id.SystemID {
		return id, stored{}, fmt.Errorf("%w: the system identifier of the data directory is %s, that of the archive %s", ErrForeign, cluster, id.SystemID)
	}
	found, err := a.find(ctx, n)
	if err != nil {
		return id, stored{}, err
	}
	if idErr != nil {
		if len(found) == 0 {
			return id, stored{}, idErr
		}
		id = Identity{SystemID: cluster} // only foreign files are here
	}
	if len(found) == 0 {
		return id, stored{}, fmt.Errorf("%s is %w", n, ErrNotStored)
	}
	one, err := a.choose(ctx, n, found)
	return id, one, err
}

// An opened is a stored object that is open for reading.
type opened struct {
	*codec.Object                // nil unless it is not encrypted, or was decrypted
	sealed        *sealed.Object // nil if it is not encrypted
	file          storage.Object
}

func (o *opened) Close() error { return o.file.Close() }

// open opens a stored object with its trailer. The caller closes what it gets.
func (a *Archive) open(ctx context.Context, s stored) (*opened, error) {
	o, err := a.openStored(ctx, s)
	if err == nil && o.sealed != nil {
		if err = a.decrypt(o, s); err != nil {
			o.Close()
			return nil, err
		}
	}
	return o, err
}

// openStored is open without private keys: an object that is encrypted stays so.
func (a *Archive) openStored(ctx context.Context, s stored) (*opened, error) {
	if s.bad != nil {
		return nil, s.bad
	}
	f, err := a.b.Open(ctx, s.Name)
	if err != nil {
		return nil, err
	}
	o := &opened{file: f}
	if s.encrypted {
		o.sealed, err = sealed.Open(f, f.Size())
	} else {
		o.Object, err = codec.OpenObject(s.codec, f, f.Size())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	if o.Object != nil {
		o.Workers, o.PlainOnly = a.Workers, a.PlainOnly
	}
	return o, nil
}

// decrypt opens what an encrypted object holds, with the archive's private keys.
func (a *Archive) decrypt(o *opened, s stored) error {
	plain, err := o.sealed.Plain(a.keys)
	if err != nil {
		return err
	}
	inner, err := codec.OpenObject(s.codec, plain, plain.Size())
	if err != nil {
		return err
	}
	if f, t := o.sealed.Facts, inner.Trailer; f != nil && (t == nil || !f.Agrees(t)) {
		return fmt.Errorf("%w: its header and its trailer differ", ErrDamaged)
	}
	inner.Workers = a.Workers
	o.Object = inner
	return nil
}

// content reads the whole stored object and gives what it holds; [ErrDamaged] if it is not whole.
func (a *Archive) content(ctx context.Context, n wal.Name, s stored) (content, error) {
	c, err := a.readContent(ctx, n, s)
	if err != nil {
		return c, fmt.Errorf("%s: %w", s.Name, err)
	}
	return c, nil
}

func (a *Archive) readContent(ctx context.Context, n wal.Name, s stored) (content, error) {
	o, err := a.openStored(ctx, s)
	if err != nil {
		return content{}, err
	}
	defer o.Close()
	if o.sealed != nil && o.sealed.Facts != nil {
		f := o.sealed.Facts
		if err := checkFacts(f, n); err != nil {
			return content{}, err
		}
		if err := o.sealed.Verify(ctx); err != nil {
			return content{}, err
		}
		c := content{size: f.PlainSize, tag: f.Tag}
		if a.keys != nil {
			if err := a.decrypt(o, s); err != nil {
				return content{}, err
			}
			c.hash, c.hashed = o.Trailer.PlainHash, true
		}
		return c, nil
	}
	if o.sealed != nil {
		if err := a.decrypt(o, s); err != nil {
			return content{}, err
		}
	}
	if t := o.Trailer; t != nil {
		if err := checkTrailerName(t, n); err != nil {
			return content{}, err
		}
		return content{size: t.PlainSize, hash: t.PlainHash, hashed: true}, o.Verify(ctx)
	}
	r, err := o.Reader(ctx, int64(wal.MaxSegmentSize))
	if err != nil {
		return content{}, err
	}
	defer r.Close()
	size, hash, err := codec.Sum(r)
	if err != nil {
		return content{}, notExpanded(err)
	}
	if size == 0 {
		return content{}, fmt.Errorf("%w: it holds nothing", ErrDamaged)
	}
	return content{size: size, hash: hash, hashed: true}, nil
}

// checkFacts compares what an encrypted object says of itself without a private key with its name.
func checkFacts(f *sealed.Facts, n wal.Name) error {
	start, err := n.Start(wal.SegmentSize(f.PlainSize))
	switch {
	case n.Kind != wal.KindSegment && n.Kind != wal.KindPartial:
		return fmt.Errorf("%w: it is encrypted as WAL, which a %s is not", ErrDamaged, n.Kind)
	case f.Timeline != uint32(n.Timeline), n.Kind == wal.KindSegment && (err != nil || f.Start != uint64(start)):
		return fmt.Errorf("%w: it says that it holds %d bytes of timeline %d from %s on", ErrDamaged, f.PlainSize, f.Timeline, wal.LSN(f.Start))
	}
	return nil
}

func checkTrailerName(t *codec.Trailer, n wal.Name) error {
	if t.Name != n.String() {
		return fmt.Errorf("%w: it says that it is %q", ErrDamaged, t.Name)
	}
	return nil
}

// choose finds the object from which a file is read. What only lies beside it is of no account. Where several hold it, all
// must be whole and agree. Variants of a partial segment differ.
func (a *Archive) choose(ctx context.Context, n wal.Name, found []stored) (stored, error) {
	one := found[0]
	if one.bad != nil {
		return one, fmt.Errorf("%s: %w", one.Name, one.bad)
	}
	found = usable(found)
	if len(found) == 1 {
		return one, nil // which is checked when it is read
	}
	var first content
	for i, s := range found {
		if s.variant {
			return one, fmt.Errorf("%w: %s and %s differ, and nothing says which is wanted", ErrConflict, one.Name, s.Name)
		}
		c, err := a.content(ctx, n, s)
		if err != nil {
			return one, err
		}
		if i == 0 {
			first = c
			continue
		}
		switch same, err := c.same(first); {
		case err != nil:
			return one, fmt.Errorf("%s: %w", s.Name, err)
		case !same:
			return one, fmt.Errorf("%w: %s and %s differ", ErrConflict, one.Name, s.Name)
		}
	}
	return one, nil
}

// usable leaves those of what find gives that may hold the file.
func usable(found []stored) []stored {
	for i, s := range found {
		if s.bad != nil {
			return found[:i]
		}
	}
	return found
}

// deliver expands one object and checks it against its name, its cluster, its sizes and its hashes.
func (a *Archive) deliver(ctx context.Context, n wal.Name, id Identity, s stored, w io.WriterAt) (Fetched, error) {
	o, err := a.open(ctx, s)
	if err != nil {
		return Fetched{Object: s.Name}, err
	}
	defer o.Close()
	return deliverOpen(ctx, n, id, s.Name, o.Object, w)
}

// deliverOpen is deliver for an object that is open.
func deliverOpen(ctx context.Context, n wal.Name, id Identity, object string, o *codec.Object, w io.WriterAt) (got Fetched, err error) {
	got.Object = object
	t := o.Trailer
	if t == nil {
		got.Foreign = true
		got.Size, err = deliverForeign(ctx, n, id, o, w)
		return got, err
	}
	if err := checkTrailerName(t, n); err != nil {
		return got, err
	}
	if t.SystemID != 0 && id.SystemID != 0 && t.SystemID != uint64(id.SystemID) {
		return got, fmt.Errorf("%w: its system identifier is %d, not %s", ErrForeign, t.SystemID, id.SystemID)
	}
	if n.Kind == wal.KindSegment && id.SegmentSize != 0 && t.PlainSize != uint64(id.SegmentSize) {
		return got, fmt.Errorf("%w: it holds %d bytes, a segment has %d", ErrDamaged, t.PlainSize, id.SegmentSize)
	}
	if most := mostBytes(n, id); t.PlainSize > uint64(most) {
		return got, fmt.Errorf("%w: it holds %d bytes, a %s has at most %d", ErrDamaged, t.PlainSize, n.Kind, most)
	}
	got.Size, got.DamageLSN = int64(t.PlainSize), wal.LSN(t.DamageLSN)
	return got, o.Unpack(ctx, w)
}

// mostBytes bounds what a file can hold.
func mostBytes(n wal.Name, id Identity) int64 {
	switch {
	case n.Kind == wal.KindHistory || n.Kind == wal.KindBackup:
		return maxSmall
	case id.SegmentSize != 0:
		return int64(id.SegmentSize)
	}
	return int64(wal.MaxSegmentSize)
}

// deliverForeign expands a file that nothing but its own content speaks for, so that all of it is checked.
func deliverForeign(ctx context.Context, n wal.Name, id Identity, o *codec.Object, w io.WriterAt) (int64, error) {
	if n.Kind == wal.KindHistory || n.Kind == wal.KindBackup {
		return deliverText(ctx, n, o, w)
	}
	r, err := o.Reader(ctx, mostBytes(n, id))
	if err != nil {
		return 0, err
	}
	defer r.Close()
	var walker wal.Walker
	walker.Reset(n)
	size, err := io.CopyBuffer(io.MultiWriter(io.NewOffsetWriter(w, 0), &walker), struct{ io.Reader }{r}, make([]byte, 256<<10))
	if err != nil {
		return size, notExpanded(err)
	}
	found := walker.Finish()
	switch h := found.Header; {
	case found.HeaderErr != nil:
		return size, fmt.Errorf("%w: %w", ErrDamaged, found.HeaderErr)
	case id.SystemID != 0 && h.SystemID != id.SystemID:
		return size, fmt.Errorf("%w: its system identifier is %s, not %s", ErrForeign, h.SystemID, id.SystemID)
	case id.SegmentSize != 0 && h.SegmentSize != id.SegmentSize:
		return size, fmt.Errorf("%w: its segments have %d bytes, those of the archive %d", ErrForeign, h.SegmentSize, id.SegmentSize)
	case found.Damage != nil:
		return size, fmt.Errorf("%w: %w", ErrDamaged, found.Damage)
	}
	return size, nil
}

// notExpanded returns the error of a foreign file that is damaged, unless reading it or writing its content failed.
func notExpanded(err error) error {
	if errors.Is(err, codec.ErrUnsupported) {
		return fmt.Errorf("it is %w: %w", ErrNoFormat, err)
	}
	var failed *fs.PathError
	if errors.As(err, &failed) {
		return fmt.Errorf("expand: %w", err)
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

func deliverText(ctx context.Context, n wal.Name, o *codec.Object, w io.WriterAt) (int64, error) {
	content, err := readText(ctx, n, o)
	if err != nil {
		return 0, err
	}
	_, err = w.WriteAt(content, 0)
	return int64(len(content)), err
}

func readText(ctx context.Context, n wal.Name, o *codec.Object) ([]byte, error) {
	r, err := o.Reader(ctx, maxSmall)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		return nil, notExpanded(err)
	}
	if len(content) > maxSmall {
		return nil, fmt.Errorf("%w: a %s of more than %d bytes", ErrDamaged, n.Kind, maxSmall)
	}
	if err := checkText(n, content); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if content[len(content)-1] != '\n' {
		return nil, fmt.Errorf("%w: its last line is cut off", ErrDamaged)
	}
	return content, nil
}
