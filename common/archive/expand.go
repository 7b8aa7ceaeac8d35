package archive

import (
	"context"
	"errors"
	"fmt"
	"io"

	"walkeep/common/codec"
	"walkeep/common/sealed"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// Expand copies the object of a file so that delivery from the copy takes little time: expanded, as the codec "none" stores it, with
// the same trailer. It copies an encrypted object, and one of another archiver, as it is. All is verified before Expand returns, of an
// encrypted object what can be verified without its private key.
//
// create is called once, with the name that the copy has in an archive; the copy is written to what it returns. If Expand fails, the
// caller must discard the copy. Errors are those of Deliver, and those of create.
func (a *Archive) Expand(ctx context.Context, n wal.Name, cluster wal.SystemID, create func(object string) (io.Writer, error)) (Fetched, error) {
	id, one, err := a.locate(ctx, n, cluster)
	if err != nil {
		return Fetched{}, err
	}
	got, err := a.expand(ctx, n, id, one, create)
	if err != nil {
		return got, fmt.Errorf("%s: %w", one.Name, err)
	}
	return got, nil
}

func (a *Archive) expand(ctx context.Context, n wal.Name, id Identity, s stored, create func(object string) (io.Writer, error)) (Fetched, error) {
	if s.bad == nil && s.encrypted {
		return a.copySealed(ctx, n, id, s, func() (io.Writer, error) { return create(s.Name) })
	}
	o, err := a.openStored(ctx, s)
	if err != nil {
		return Fetched{Object: s.Name}, err
	}
	defer o.Close()
	if o.Trailer == nil {
		return a.copyForeign(ctx, n, id, s, o.Object, create)
	}
	none, err := codec.ByName("none")
	if err != nil {
		return Fetched{}, err
	}
	w, err := create(Location(n) + none.Ext())
	if err != nil {
		return Fetched{}, err
	}
	packed, err := codec.NewWriter(w, codec.WriterOptions{Codec: none, ChunkSize: codec.ChunkSize, Workers: 1})
	if err != nil {
		return Fetched{}, err
	}
	plain := codec.InOrder{Write: func(p []byte) error {
		_, err := packed.Write(p)
		return err
	}}
	got, err := deliverOpen(ctx, n, id, s.Name, o.Object, &plain)
	if err != nil {
		packed.Abort()
		return got, err
	}
	t := *o.Trailer
	t.Mark = 0 // it is of the file that was archived, on the host that has it
	_, err = packed.Finish(t)
	return got, err
}

// copySealed copies the stored bytes of an encrypted object, which it compares with their hash on the way.
func (a *Archive) copySealed(ctx context.Context, n wal.Name, id Identity, s stored, create func() (io.Writer, error)) (Fetched, error) {
	got := Fetched{Object: s.Name}
	f, err := a.b.Open(ctx, s.Name)
	if err != nil {
		return got, err
	}
	defer f.Close()
	copied := &copying{Object: f}
	o, err := sealed.Open(copied, f.Size())
	if err != nil {
		return got, err
	}
	facts := o.Facts
	if facts == nil {
		return got, fmt.Errorf("it is %w: another program encrypted it", ErrNoFormat)
	}
	if err := checkFacts(facts, n); err != nil {
		return got, err
	}
	if facts.SystemID != 0 && id.SystemID != 0 && facts.SystemID != uint64(id.SystemID) {
		return got, fmt.Errorf("%w: its system identifier is %d, not %s", ErrForeign, facts.SystemID, id.SystemID)
	}
	got.Size, got.DamageLSN = int64(facts.PlainSize), wal.LSN(facts.DamageLSN)
	if copied.to, err = create(); err == nil {
		err = o.Verify(ctx)
	}
	if err == nil && copied.bytes != f.Size() {
		err = errors.New("not all of it was read")
	}
	return got, err
}

// A copying object writes to another place what is read of it in one stream.
type copying struct {
	storage.Object
	to    io.Writer
	bytes int64
}

// Reader implements codec.Ranged.
func (c *copying) Reader(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	r, err := c.Object.Reader(ctx, off, n)
	if err != nil || c.to == nil {
		return r, err
	}
	return copyingReader{io.TeeReader(r, c), r}, nil
}

func (c *copying) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.bytes += int64(n)
	return n, err
}

type copyingReader struct {
	io.Reader
	io.Closer
}

// copyForeign checks the object of another archiver, and then copies its stored bytes.
func (a *Archive) copyForeign(ctx context.Context, n wal.Name, id Identity, s stored, o *codec.Object, create func(object string) (io.Writer, error)) (Fetched, error) {
	got, err := deliverOpen(ctx, n, id, s.Name, o, discard{})
	if err != nil {
		return got, err
	}
	w, err := create(s.Name)
	if err != nil {
		return got, err
	}
	f, err := a.b.Open(ctx, s.Name)
	if err != nil {
		return got, err
	}
	defer f.Close()
	r, err := f.Reader(ctx, 0, f.Size())
	if err != nil {
		return got, err
	}
	defer r.Close()
	size, err := io.Copy(w, r)
	if err == nil && size != f.Size() {
		err = fmt.Errorf("%d bytes were read of %d", size, f.Size())
	}
	return got, err
}

// discard takes the bytes of a file that is only checked.
type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// Check verifies the object from which a file of the cluster is delivered: as Deliver does, or, if it is encrypted, what can be verified
// without its private key. Errors are those of Deliver.
func (a *Archive) Check(ctx context.Context, n wal.Name, cluster wal.SystemID) (Fetched, error) {
	id, one, err := a.locate(ctx, n, cluster)
	if err != nil {
		return Fetched{}, err
	}
	var got Fetched
	if one.bad == nil && one.encrypted {
		got, err = a.copySealed(ctx, n, id, one, func() (io.Writer, error) { return io.Discard, nil })
	} else {
		got, err = a.deliver(ctx, n, id, one, discard{})
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", one.Name, err)
	}
	return got, err
}
