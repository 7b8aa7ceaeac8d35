package sealed

import (
	"bufio"
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"

	"walkeep/common/codec"
)

// stanzas is the one recipient for which age encrypts: it wraps the file key for all recipients, and puts the stanza walkeep
// behind theirs.
type stanzas struct {
	to    []age.Recipient
	facts *Facts // Wrap sets the key of the header's MAC
}

// Wrap implements [age.Recipient].
func (s stanzas) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	var all []*age.Stanza
	for _, r := range s.to {
		own, err := r.Wrap(fileKey)
		if err != nil {
			return nil, err
		}
		all = append(all, own...)
	}
	key, err := hkdf.Key(sha256.New, fileKey, nil, "header", len(s.facts.macKey))
	if err != nil {
		return nil, err
	}
	copy(s.facts.macKey[:], key)
	body, err := s.facts.encode()
	if err != nil {
		return nil, err
	}
	return append(all, &age.Stanza{Type: "walkeep", Args: []string{"1"}, Body: body}), nil
}

// A writer encrypts what is written to it.
type writer struct {
	io.WriteCloser           // age's
	header         *header   // as it was written
	hash           hash.Hash // of the stored bytes: of all of them, or of those that the stanza's SHA-256 covers
	size           int64     // stored bytes
}

// newWriter writes the header with these facts to dst.
func (r *Recipients) newWriter(dst io.Writer, facts Facts) (*writer, error) {
	var begin bytes.Buffer
	out := &output{dst: &begin}
	enc, err := age.Encrypt(out, stanzas{r.list, &facts})
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	h, err := readHeader(bufio.NewReader(bytes.NewReader(begin.Bytes())))
	if err != nil {
		return nil, fmt.Errorf("encrypt: read the header that age made: %w", err)
	}
	w := &writer{WriteCloser: enc, header: h, hash: sha256.New(), size: int64(len(h.raw))}
	if facts.Elsewhere {
		w.hash.Write(h.raw)
	} else {
		h.hash(w.hash)
	}
	if _, err := dst.Write(h.raw); err != nil {
		return nil, err
	}
	out.dst, out.writer = dst, w
	_, err = out.Write(begin.Bytes()[len(h.raw):]) // the nonce
	return w, err
}

// An output gets what age writes: first the header and the nonce, which are kept, then the rest of the payload.
type output struct {
	dst    io.Writer
	writer *writer // nil at first
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.dst.Write(p)
	if o.writer != nil {
		o.writer.hash.Write(p[:n])
		o.writer.size += int64(n)
	}
	return n, err
}

// finish lets write write the plain text.
func (w *writer) finish(write func() error) error {
	if err := write(); err != nil {
		return err
	}
	return w.Close()
}

// Sealed describes an object that was written.
type Sealed struct {
	Size   int64    // stored bytes
	Facts  Facts    // those of its stanza
	SHA256 [32]byte // of all stored bytes, where the facts are Elsewhere; else that of the facts

	header []byte
}

// Seal writes an encrypted object to dst, whose plain text is what write writes. The facts that write returns, to which Seal
// adds the SHA-256, become those of the object.
//
// They are known only at the end, and the header comes first. If dst is an [io.WriterAt] whose first byte is the first that is
// written here, Seal writes the header again when all else is there. Otherwise it keeps the whole encrypted object in memory.
func (r *Recipients) Seal(dst io.Writer, write func(io.Writer) (Facts, error)) (*Sealed, error) {
	at, patch := dst.(io.WriterAt)
	var kept bytes.Buffer
	out := dst
	if !patch {
		out = &kept
	}
	w, err := r.newWriter(out, Facts{Codec: codec.Default})
	if err != nil {
		return nil, err
	}
	var facts Facts
	err = w.finish(func() (err error) {
		facts, err = write(w)
		return err
	})
	if err != nil {
		return nil, err
	}
	facts.macKey = w.header.facts.macKey
	w.hash.Sum(facts.SHA256[:0])
	if err := w.header.set(&facts); err != nil {
		return nil, err
	}
	if patch {
		_, err = at.WriteAt(w.header.raw, 0)
	} else {
		copy(kept.Bytes(), w.header.raw)
		_, err = dst.Write(kept.Bytes())
	}
	return &Sealed{Size: w.size, Facts: facts, SHA256: facts.SHA256, header: w.header.raw}, err
}

// SealStream is Seal for an object that may be too large to be kept in memory. A backup's manifest records its SHA-256 and plain
// size.
func (r *Recipients) SealStream(dst io.Writer, c codec.Codec, write func(io.Writer) error) (*Sealed, error) {
	w, err := r.newWriter(dst, Facts{Codec: c.Name(), Elsewhere: true})
	if err != nil {
		return nil, err
	}
	if err := w.finish(func() error { return write(w) }); err != nil {
		return nil, err
	}
	s := &Sealed{Size: w.size, Facts: *w.header.facts, header: w.header.raw}
	w.hash.Sum(s.SHA256[:0])
	return s, nil
}

// Check reads an object back from r, from its first byte to its last, and compares it with what was written.
func (s *Sealed) Check(r io.Reader) error {
	in := bufio.NewReaderSize(r, readSize)
	c, err := check(in)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	sum := c.SHA256
	if !s.Facts.Elsewhere {
		sum = c.Facts.SHA256 // which check has compared
	}
	if !bytes.Equal(c.header, s.header) || sum != s.SHA256 || c.Size != s.Size {
		return errors.New("what was read back is not what was written")
	}
	return nil
}
