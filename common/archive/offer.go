package archive

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/zeebo/xxh3"

	"walkeep/common/host"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// An Offer hands one standby, which is about to be promoted, the segment that its primary was writing, as far as it was
// streamed. The archive never holds such a segment under a complete segment's name.
type Offer struct {
	ID      string `json:"-"` // names its note
	Host    string `json:"host"`
	Machine string `json:"machine,omitempty"` // as in a Standby; filled in by MakeOffer
	Data    string `json:"data_directory"`    // of the standby
	Segment string `json:"segment"`           // the complete segment's name
	// Source is the object in partial/, of which the first Length bytes have this XXH3-128.
	Source string `json:"source"`
	Length int64  `json:"length"`
	Hash   string `json:"xxh3"`
}

// MakeOffer leaves an offer, in place of what was offered to the same standby before.
func (a *Archive) MakeOffer(ctx context.Context, o Offer) error {
	source, err := a.b.Open(ctx, o.Source)
	if err != nil {
		return err
	}
	defer source.Close()
	if o.Hash, err = sumFirst(ctx, source, o.Length); err != nil {
		return fmt.Errorf("%s: %w", o.Source, err)
	}
	o.Machine = host.Here().Machine
	return a.replaceNote(ctx, offerName(o.ID), o)
}

// WithdrawOffer takes an offer back. That there is none is no error.
func (a *Archive) WithdrawOffer(ctx context.Context, id string) error {
	if err := a.b.Remove(ctx, offerName(id)); err != nil && !errors.Is(err, storage.ErrNotExist) {
		return err
	}
	return nil
}

func offerName(id string) string { return "offers/" + id + ".json" }

// Offered delivers what a standby on this host, with this data directory, is offered of a segment, and zeros behind it;
// [ErrAbsent] if that is nothing.
func (a *Archive) Offered(ctx context.Context, n wal.Name, data string, w io.WriterAt) (Fetched, error) {
	var got Fetched
	absent := fmt.Errorf("%s is %w", n, ErrAbsent)
	if n.Kind != wal.KindSegment {
		return got, absent
	}
	here := host.Here()
	own, err := os.Stat(data)
	if err != nil {
		return got, err
	}
	var inv Inventory
	err = readNotes(ctx, a, &inv, "offers/", func(name string, o Offer) error {
		theirs, err := os.Stat(o.Data)
		if err != nil || o.Segment != n.String() || o.Host != here.Host || o.Machine != "" && o.Machine != here.Machine || !os.SameFile(own, theirs) {
			return nil // it is for another one
		}
		got = Fetched{Object: o.Source}
		return a.deliverOffer(ctx, o, &got, w)
	})
	switch {
	case err != nil:
		return got, err
	case got.Size > 0:
		return got, nil
	case len(inv.Faults) > 0:
		return got, fmt.Errorf("%s is offered in vain: %w", n, inv.Faults[0].Err)
	}
	return got, absent
}

func (a *Archive) deliverOffer(ctx context.Context, o Offer, got *Fetched, w io.WriterAt) error {
	id, err := a.Identity(ctx)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(o.Source, partialDir) || o.Length <= 0 || o.Length > int64(id.SegmentSize) {
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
