package codec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/zeebo/xxh3"
)

const (
	formatVersion = 1

	payloadFixed = 136       // bytes before the chunks' lengths
	payloadEnd   = 4 + 8 + 8 // length, hash, magic
	maxText      = 255
	maxPayload   = payloadFixed + 4*maxChunks + 2*maxText + payloadEnd
	maxChunks    = 1 << 13 // 1 GB needs 1024; a gzip member's extra field has room for 16,000
	maxWrap      = 32      // bytes of head and tail together, at most
	usualTrailer = 2 << 10 // bytes of an object's end in which most trailers lie: those of up to 256 chunks

	// chunkOverhead is what a codec may add to a chunk that it cannot compress, beside doubling it. The bound keeps a
	// reader from taking a chunk of gigabytes into memory.
	chunkOverhead = 1 << 10
)

var (
	magicBegin = []byte("WALKEEP\x00")
	magicEnd   = []byte("WALKEEP\xff")
)

// A WALCheck is the result of the check of the WAL's pages and records.
type WALCheck uint8

const (
	NotWAL     WALCheck = iota // a history or backup label file
	NotChecked                 // archived with the check switched off, or of a version of PostgreSQL of which not all is known
	Intact
	Damaged // the records were broken before they came here; see Trailer.DamageLSN
)

func (c WALCheck) String() string {
	if s := [...]string{"not WAL", "not checked", "intact", "damaged"}; int(c) < len(s) {
		return s[c]
	}
	return fmt.Sprintf("unknown (%d)", uint8(c))
}

// A Trailer is the metadata at the end of a stored object. The package's documentation specifies its form.
type Trailer struct {
	Codec        string // by name
	WALCheck     WALCheck
	ChunkSize    uint32 // bytes
	SystemID     uint64 // 0: not known
	PlainSize    uint64 // bytes
	PlainHash    [16]byte
	StoredSHA256 [32]byte
	Start, End   uint64 // LSN
	DamageLSN    uint64
	StoredXXH3   [16]byte
	Mark         uint64   // of the file that was read; 0: none
	Chunks       []uint32 // stored bytes of each chunk
	Name         string
	Tool         string
}

// Encode gives the trailer with the head and tail of its codec.
func (t *Trailer) Encode() ([]byte, error) {
	c, err := ByName(t.Codec)
	if err != nil {
		return nil, err
	}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("encode trailer: %w", err)
	}
	le := binary.LittleEndian
	p := append([]byte(nil), magicBegin...)
	p = le.AppendUint16(p, formatVersion)
	p = append(p, c.id(), byte(t.WALCheck))
	p = le.AppendUint32(p, t.ChunkSize)
	p = le.AppendUint64(p, t.SystemID)
	p = le.AppendUint64(p, t.PlainSize)
	p = append(p, t.PlainHash[:]...)
	p = append(p, t.StoredSHA256[:]...)
	p = le.AppendUint64(p, t.Start)
	p = le.AppendUint64(p, t.End)
	p = le.AppendUint64(p, t.DamageLSN)
	p = le.AppendUint64(p, t.Mark)
	p = append(p, t.StoredXXH3[:]...)
	p = append(p, byte(len(t.Name)), byte(len(t.Tool)), 0, 0)
	p = le.AppendUint32(p, uint32(len(t.Chunks)))
	for _, n := range t.Chunks {
		p = le.AppendUint32(p, n)
	}
	p = append(p, t.Name...)
	p = append(p, t.Tool...)
	p = le.AppendUint32(p, uint32(len(p)+payloadEnd))
	p = le.AppendUint64(p, xxh3.Hash(p))
	p = append(p, magicEnd...)
	head, tail := c.wrap(len(p))
	return slices.Concat(head, p, tail), nil
}

// check compares the fields with each other, before they are written and after they were read.
func (t *Trailer) check() error {
	switch {
	case t.ChunkSize == 0 || t.ChunkSize > maxChunkSize:
		return fmt.Errorf("chunk size %d", t.ChunkSize)
	case len(t.Chunks) > maxChunks:
		return fmt.Errorf("%d chunks", len(t.Chunks))
	case t.PlainSize > maxChunks*uint64(t.ChunkSize),
		uint64(len(t.Chunks)) != (t.PlainSize+uint64(t.ChunkSize)-1)/uint64(t.ChunkSize):
		return fmt.Errorf("%d chunks of %d bytes for %d bytes", len(t.Chunks), t.ChunkSize, t.PlainSize)
	case len(t.Chunks) > 0 && uint64(slices.Max(t.Chunks)) > 2*uint64(t.ChunkSize)+chunkOverhead:
		return fmt.Errorf("a chunk of %d bytes is stored in %d", t.ChunkSize, slices.Max(t.Chunks))
	case t.WALCheck > Damaged:
		return fmt.Errorf("WAL check %d", t.WALCheck)
	case len(t.Name) > maxText || len(t.Tool) > maxText:
		return fmt.Errorf("name or version longer than %d bytes", maxText)
	}
	return nil
}

// stored is the size in bytes of the chunks together.
func (t *Trailer) stored() int64 {
	var n int64
	for _, c := range t.Chunks {
		n += int64(c)
	}
	return n
}

// ReadTrailer reads the trailer of a stored object of size bytes, whose name has the codec's ending. For a foreign
// file, which has no trailer, both results are nil. The error is [ErrDamaged] for an object that is neither a foreign
// file nor has a whole trailer.
func ReadTrailer(c Codec, r io.ReaderAt, size int64) (*Trailer, error) {
	if c.Ext() == "" {
		return nil, nil
	}
	var (
		t      *Trailer
		end    []byte
		length int
		err    error
	)
	for _, most := range []int64{usualTrailer, maxPayload + maxWrap} {
		end = make([]byte, min(size, most))
		if n, err := r.ReadAt(end, size-int64(len(end))); n < len(end) {
			return nil, fmt.Errorf("read trailer: %w", err)
		}
		if t, length, err = decodeTrailer(c, end); err == nil {
			break
		}
	}
	if err != nil {
		// Any mark of ours makes the object ours, however few bytes of its trailer still are what they were.
		if bytes.Contains(end, magicBegin) || bytes.Contains(end, magicEnd) {
			return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
		}
		return nil, nil
	}
	if t.stored()+int64(length) != size {
		return nil, fmt.Errorf("%w: %d bytes instead of %d", ErrDamaged, size, t.stored()+int64(length))
	}
	return t, nil
}

// decodeTrailer reads the trailer at the end of b, and returns its length in bytes.
func decodeTrailer(c Codec, b []byte) (*Trailer, int, error) {
	_, tail := c.wrap(0)
	p, ok := bytes.CutSuffix(b, append(slices.Clone(magicEnd), tail...))
	if !ok {
		return nil, 0, fmt.Errorf("trailer's last bytes are wrong")
	}
	if len(p) < payloadFixed+12 {
		return nil, 0, fmt.Errorf("trailer is cut off")
	}
	le := binary.LittleEndian
	hash := le.Uint64(p[len(p)-8:])
	length := int(le.Uint32(p[len(p)-12:]))
	if length < payloadFixed+payloadEnd || length > len(p)+8 {
		return nil, 0, fmt.Errorf("trailer's length is wrong")
	}
	start := len(p) + 8 - length
	p, before := p[start:len(p)-8], p[:start]
	if xxh3.Hash(p) != hash {
		return nil, 0, fmt.Errorf("trailer's hash is wrong")
	}
	head, _ := c.wrap(length)
	if !bytes.HasSuffix(before, head) {
		return nil, 0, fmt.Errorf("trailer's first bytes are wrong")
	}
	t, err := decodePayload(p)
	if err != nil {
		return nil, 0, err
	}
	if own, err := ByName(t.Codec); err != nil || own.Ext() != c.Ext() {
		return nil, 0, fmt.Errorf("trailer is that of another codec, %s", t.Codec)
	}
	return t, len(head) + length + len(tail), nil
}

// decodePayload reads what its hash has shown to be as it was written.
func decodePayload(p []byte) (*Trailer, error) {
	le := binary.LittleEndian
	if !bytes.HasPrefix(p, magicBegin) {
		return nil, fmt.Errorf("trailer's magic is wrong")
	}
	if v := le.Uint16(p[8:]); v != formatVersion {
		return nil, fmt.Errorf("trailer has version %d, this program knows %d", v, formatVersion)
	}
	t := &Trailer{
		WALCheck:  WALCheck(p[11]),
		ChunkSize: le.Uint32(p[12:]),
		SystemID:  le.Uint64(p[16:]),
		PlainSize: le.Uint64(p[24:]),
		Start:     le.Uint64(p[80:]),
		End:       le.Uint64(p[88:]),
		DamageLSN: le.Uint64(p[96:]),
		Mark:      le.Uint64(p[104:]),
	}
	copy(t.PlainHash[:], p[32:])
	copy(t.StoredSHA256[:], p[48:])
	copy(t.StoredXXH3[:], p[112:])
	t.Codec, _ = NameOf(p[10])
	name, tool, zero, chunks := int(p[128]), int(p[129]), le.Uint16(p[130:]), int(le.Uint32(p[132:]))
	if t.Codec == "" || zero != 0 || chunks > maxChunks || len(p) != payloadFixed+4*chunks+name+tool+4 {
		return nil, fmt.Errorf("trailer's fields are wrong")
	}
	p = p[payloadFixed:]
	t.Chunks = make([]uint32, chunks)
	for i := range t.Chunks {
		t.Chunks[i] = le.Uint32(p[4*i:])
	}
	p = p[4*chunks:]
	t.Name, t.Tool = string(p[:name]), string(p[name:name+tool])
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("trailer's fields are wrong: %v", err)
	}
	return t, nil
}
