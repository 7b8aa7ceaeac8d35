package archive

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/zeebo/xxh3"

	"walkeep/common/host"
	"walkeep/common/notes"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// MakeOffer leaves an offer, in place of what was offered to the same standby before.
func (a *Archive) MakeOffer(ctx context.Context, o notes.Offer) error {
	source, err := a.b.Open(ctx, o.Source)
	if err != nil {
		return err
	}
	defer source.Close()
	if o.Hash, err = sumFirst(ctx, source, o.Length); err != nil {
		return fmt.Errorf("%s: %w", o.Source, err)
	}
	return a.Notes().NoteOffer(ctx, o)
}

// Offered delivers what a standby on this host, with this data directory, is offered of a segment, and zeros behind it;
// [ErrNotStored] if that is nothing.
func (a *Archive) Offered(ctx context.Context, n wal.Name, data string, w io.WriterAt) (Fetched, error) {
	var got Fetched
	absent := fmt.Errorf("%s is %w", n, ErrNotStored)
	if n.Kind != wal.KindSegment {
		return got, absent
	}
	here := host.Here()
	own, err := os.Stat(data)
	if err != nil {
		return got, err
	}
	offers, faults, err := a.Notes().Offers(ctx)
	if err != nil {
		return got, err
	}
	for _, o := range offers {
		theirs, err := os.Stat(o.Data)
		if err != nil || o.Segment != n.String() || o.Host != here.Host || o.Machine != "" && o.Machine != here.Machine || !os.SameFile(own, theirs) {
			continue // it is for another one
		}
		got = Fetched{Object: o.Source}
		if err := a.deliverOffer(ctx, o, &got, w); err != nil {
			faults = append(faults, notes.Fault{Object: o.Source, Err: err})
		}
	}
	switch {
	case got.Size > 0:
		return got, nil
	case len(faults) > 0:
		return got, fmt.Errorf("the offer of %s cannot be delivered: %w", n, faults[0].Err)
	}
	return got, absent
}

func (a *Archive) deliverOffer(ctx context.Context, o notes.Offer, got *Fetched, w io.WriterAt) error {
	id, err := a.Identity(ctx)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(o.Source, PartialDir) || o.Length <= 0 || o.Length > int64(id.SegmentSize) {
		return fmt.Errorf("%w: an offer of %d bytes of %q", ErrDamaged, o.Length, o.Source)
	}
	source, err := a.b.Open(ctx, o.Source)
	if err != nil {
		return err
	}
	defer source.Close()
	hash, err := sumFirst(ctx, source, o.Length)
	if err != nil {
		return fmt.Errorf("%s: %w", o.Source, err)
	}
	if hash != o.Hash {
		return fmt.Errorf("%w: %s is not what was offered", ErrDamaged, o.Source)
	}
	r, err := source.Reader(ctx, 0, o.Length)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.Copy(io.NewOffsetWriter(w, 0), r); err != nil {
		return err
	}
	zeros := make([]byte, 128<<10)
	for at := o.Length; at < int64(id.SegmentSize); at += int64(len(zeros)) {
		if _, err := w.WriteAt(zeros[:min(int64(len(zeros)), int64(id.SegmentSize)-at)], at); err != nil {
			return err
		}
	}
	got.Size = int64(id.SegmentSize)
	return nil
}

// sumFirst is the XXH3-128 of the first bytes of an object.
func sumFirst(ctx context.Context, o storage.Object, length int64) (string, error) {
	h := xxh3.New128()
	r, err := o.Reader(ctx, 0, length)
	if err != nil {
		return "", err
	}
	defer r.Close()
	n, err := io.Copy(h, r)
	if err == nil && n < length {
		err = fmt.Errorf("%w: it holds %d bytes, not %d", ErrDamaged, n, length)
	}
	sum := h.Sum128().Bytes()
	return hex.EncodeToString(sum[:]), err
}
