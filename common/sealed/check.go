package sealed

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"

	"walkeep/common/codec"
)

// readSize is how many stored bytes are read at once.
const readSize = 128 << 10

// ByExt finds the codec of an object by the end of its name: a codec's ending, which is empty for a plain file, and [Ext] where the
// object is encrypted. ok is false if it is the ending of nothing that is stored.
func ByExt(ext string) (c codec.Codec, encrypted, ok bool) {
	inner, encrypted := strings.CutSuffix(ext, Ext)
	c, ok = codec.ByExt(inner)
	return c, encrypted, ok
}

// ExtOf returns the end of an object's name that [ByExt] takes, such as .zst.age; empty where the name ends in no codec's ending.
func ExtOf(name string) string {
	inner, encrypted := strings.CutSuffix(name, Ext)
	ext := path.Ext(inner)
	if _, known := codec.ByExt(ext); !known {
		ext = ""
	}
	if encrypted {
		ext += Ext
	}
	return ext
}

// Checked is what was read of a stored object without a private key.
type Checked struct {
	Size    int64          // stored bytes
	SHA256  [32]byte       // of all stored bytes
	Trailer *codec.Trailer // of an object that is not encrypted; nil for a foreign one
	Facts   *Facts         // of an encrypted object; nil for a foreign one

	header []byte
}

// Proven reports whether every byte was compared with a hash that the object itself holds. Otherwise it is foreign, or its
// SHA-256 is recorded in a backup's manifest.
func (c *Checked) Proven() bool {
	return c.Trailer != nil || c.Facts != nil && !c.Facts.Elsewhere
}

// CheckStored reads a stored object of this name from r, from its first byte to its last, encrypted or not, and compares it with the
// hashes in its trailer or its stanza. It needs no key. The error is [codec.ErrDamaged] if the object is not what was stored;
// other errors are those of r.
func CheckStored(r io.Reader, name string) (*Checked, error) {
	c, encrypted, ok := ByExt(ExtOf(name))
	if !ok {
		return nil, fmt.Errorf("%s has the ending of no codec", name)
	}
	if encrypted {
		return check(bufio.NewReaderSize(r, readSize))
	}
	all := sha256.New()
	count := counter{h: all}
	t, err := codec.CheckStream(c, io.TeeReader(r, &count))
	if err != nil {
		return nil, err
	}
	return &Checked{Size: count.n, SHA256: [32]byte(all.Sum(nil)), Trailer: t}, nil
}

type counter struct {
	h hash.Hash
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.h.Write(p)
}

// check reads an encrypted object to its end.
func check(r *bufio.Reader) (*Checked, error) {
	h, err := readHeader(r)
	if err != nil {
		return nil, damaged(err)
	}
	all := sha256.New()
	all.Write(h.raw)
	covered := sha256.New()
	h.hash(covered)
	var dst io.Writer = all
	compare := h.facts != nil && !h.facts.Elsewhere
	if compare {
		dst = io.MultiWriter(all, covered)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{r}, make([]byte, readSize))
	if err != nil {
		return nil, err
	}
	if compare && [32]byte(covered.Sum(nil)) != h.facts.SHA256 {
		return nil, fmt.Errorf("%w: its SHA-256 is not the one that its header says", codec.ErrDamaged)
	}
	return &Checked{Size: n + int64(len(h.raw)), SHA256: [32]byte(all.Sum(nil)), Facts: h.facts, header: h.raw}, nil
}
