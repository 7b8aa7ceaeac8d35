package notes

import (
	"context"
	"walkeep/common/host"
)

// An Offer hands one standby, which is about to be promoted, the segment that its primary was writing, as far as it was
// streamed. The archive never holds such a segment under a complete segment's name.
type Offer struct {
	ID      string `json:"-"` // names its note
	Host    string `json:"host"`
	Machine string `json:"machine,omitempty"` // as in a Standby; filled in by NoteOffer
	Data    string `json:"data_directory"`    // of the standby
	Segment string `json:"segment"`           // the complete segment's name
	// Source is the object in partial/, of which the first Length bytes have this XXH3-128.
	Source string `json:"source"`
	Length int64  `json:"length"`
	Hash   string `json:"xxh3"`
}

// NoteOffer leaves an offer in place of what was offered to the same standby before.
func (n Notes) NoteOffer(ctx context.Context, o Offer) error {
	o.Machine = host.Here().Machine
	return n.replace(ctx, offerName(o.ID), o)
}

// WithdrawOffer removes an offer. That there is none is no error.
func (n Notes) WithdrawOffer(ctx context.Context, id string) error {
	return n.remove(ctx, offerName(id))
}

func offerName(id string) string { return offersDir + id + ".json" }

const offersDir = "offers/"

// Offers reads all offers.
func (n Notes) Offers(ctx context.Context) ([]Offer, []Fault, error) {
	return collect(ctx, n, offersDir, func(name string, o *Offer) error {
		o.ID = id(name)
		return nil
	})
}
