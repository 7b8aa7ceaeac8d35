package codec

import (
	"bytes"
	"fmt"
	"io"
)

// Check reads a stored object from r, from its first byte to its last, and compares it with the trailer t that was read of
// it before. [ErrDamaged] says that the object is not what was stored; other errors are those of r.
func (t *Trailer) Check(r io.Reader) error {
	want, err := t.Encode()
	if err != nil {
		return err
	}
	size, sum, err := Sum(io.LimitReader(r, t.stored()))
	if err != nil {
		return err
	}
	if int64(size) != t.stored() || sum != t.StoredXXH3 {
		return fmt.Errorf("%w: its stored bytes do not have the hash that its trailer says", ErrDamaged)
	}
	got, err := io.ReadAll(io.LimitReader(r, int64(len(want))+1))
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%w: its trailer is not the one that was read before", ErrDamaged)
	}
	return nil
}
