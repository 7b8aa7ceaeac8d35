package archive

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/zeebo/xxh3"

	"walkeep/common/codec"
	"walkeep/common/sealed"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// MaxPiece is how many plain bytes a piece has at most. A reader takes a piece into memory as a whole.
const MaxPiece = 16 << 20

// A Piece is a part of a segment that is being written, in a repository.
type Piece struct {
	Segment wal.Name
	Offset  int64 // in the segment, bytes
	Length  int64 // plain bytes
}

// String is the name of the plain file that the piece's object holds, as its trailer has it.
func (p Piece) String() string { return fmt.Sprintf("%s/%08X-%08X", p.Segment, p.Offset, p.Length) }

// PieceDir is where the pieces of a segment are.
func PieceDir(segment wal.Name) string { return PartialDir + segment.Segment().String() + "/" }

// StreamedOf reads a line of the listing of partial/: of which segment it is a part, as one file or as a directory of pieces.
// It returns false for everything else, such as a complete segment.
func StreamedOf(e storage.Entry) (wal.Name, bool) {
	n, err := wal.ParseName(path.Base(e.Name))
	if err != nil || n.Kind != wal.KindPartial && !(n.Kind == wal.KindSegment && e.IsDir()) {
		return wal.Name{}, false
	}
	return n.Segment(), true
}

// parsePiece reads the name of a piece's object.
func parsePiece(segment wal.Name, e storage.Entry) (Piece, stored, bool) {
	s := stored{Entry: e}
	base := path.Base(e.Name)
	text, rest := base[:min(17, len(base))], base[min(17, len(base)):]
	offset, length, ok := strings.Cut(text, "-")
	if !ok || len(offset) != 8 || len(length) != 8 || e.IsDir() || e.Err != nil {
		return Piece{}, s, false
	}
	off, bad := strconv.ParseUint(offset, 16, 32)
	n, worse := strconv.ParseUint(length, 16, 32)
	p := Piece{segment.Segment(), int64(off), int64(n)}
	s.codec, s.encrypted, ok = sealed.ByExt(rest)
	return p, s, ok && bad == nil && worse == nil && n > 0 && n <= MaxPiece && e.Name == PartialDir+p.String()+rest
}

// PutPiece stores a piece. Its bytes are those of plain. Where a piece of the name is there already, it is compared; if it
// has another content, the error is [ErrConflict].
func (a *Archive) PutPiece(ctx context.Context, o PushOptions, p Piece, plain []byte) error {
	if p.Length = int64(len(plain)); p.Length == 0 || p.Length > MaxPiece {
		return fmt.Errorf("a piece of %d bytes", p.Length)
	}
	object := PartialDir + p.String() + o.Codec.Ext()
	if o.Recipients != nil {
		object += sealed.Ext
	}
	err := a.putPiece(ctx, o, p, object, plain)
	if !errors.Is(err, storage.ErrExist) {
		return err
	}
	same, err := a.samePiece(ctx, o, p, object, plain)
	if err == nil && !same {
		err = fmt.Errorf("%w: %s", ErrConflict, object)
	}
	return err
}

func (a *Archive) putPiece(ctx context.Context, o PushOptions, p Piece, object string, plain []byte) error {
	level := o.Level
	if level == 0 {
		_, _, level = o.Codec.Levels()
	}
	packer, err := codec.NewPacker(o.Codec, level)
	if err != nil {
		return err
	}
	if err := a.CheckWAL(ctx); err != nil {
		return err
	}
	w, err := a.b.Create(ctx, object, storage.CreateOptions{Size: p.Length})
	if err != nil {
		return err
	}
	defer w.Discard()
	pack := func(w io.Writer) (*codec.Trailer, error) {
		t, err := packer.Pack(w, bytes.NewReader(plain), io.Discard)
		if err != nil {
			return nil, err
		}
		t.Name, t.Tool, t.SystemID, t.WALCheck = p.String(), o.Tool, uint64(o.SystemID), codec.NotChecked
		encoded, err := t.Encode()
		if err == nil {
			_, err = w.Write(encoded)
		}
		return t, err
	}
	var check func(io.Reader) error
	if o.Recipients != nil {
		var done *sealed.Sealed
		done, err = o.Recipients.Seal(w, func(w io.Writer) (sealed.Facts, error) {
			t, err := pack(w)
			if err != nil {
				return sealed.Facts{}, err
			}
			facts := sealed.FactsOf(t)
			facts.Timeline = uint32(p.Segment.Timeline)
			if o.CompareKey != nil {
				facts.Tag = o.CompareKey.Tag(t.Name, t.PlainSize, t.PlainHash)
			}
			return facts, nil
		})
		if err == nil {
			check = done.Check
		}
	} else {
		sums := codec.NewSummer(w)
		_, err = pack(sums)
		size, hash := sums.Sum()
		check = func(r io.Reader) error {
			gotSize, gotHash, err := codec.Sum(r)
			if err == nil && (gotSize != size || gotHash != hash) {
				err = errors.New("what was read back is not what was written")
			}
			return err
		}
	}
	if err == nil {
		err = w.Verify(ctx, check)
	}
	if err == nil {
		err = w.Commit(ctx)
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", object, err)
	}
	return nil
}

// samePiece reports whether a stored piece has these plain bytes.
func (a *Archive) samePiece(ctx context.Context, o PushOptions, p Piece, object string, plain []byte) (bool, error) {
	_, s, _ := parsePiece(p.Segment, storage.Entry{Name: object})
	hash := xxh3.Hash128(plain).Bytes()
	found, err := a.openStored(ctx, s)
	if err != nil {
		return false, err
	}
	defer found.Close()
	if found.sealed == nil {
		return found.Trailer != nil && found.Trailer.PlainHash == hash && found.Trailer.PlainSize == uint64(len(plain)), nil
	}
	key := o.CompareKey
	if found.sealed.Facts == nil || key == nil {
		return false, sealed.ErrNoCompareKey
	}
	return found.sealed.Facts.Tag == key.Tag(p.String(), uint64(len(plain)), hash), nil
}

// readPiece expands a piece, all of it compared with its hashes.
func (a *Archive) readPiece(ctx context.Context, p Piece, s stored, id Identity) ([]byte, error) {
	o, err := a.open(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	defer o.Close()
	switch t := o.Trailer; {
	case t == nil || t.Name != p.String() || t.PlainSize != uint64(p.Length):
		return nil, fmt.Errorf("%s: %w: its trailer is not that of this piece", s.Name, ErrDamaged)
	case t.SystemID != uint64(id.SystemID):
		return nil, fmt.Errorf("%s: it is %w", s.Name, ErrForeign)
	}
	plain := codec.Memory{Limit: p.Length}
	if err := o.Unpack(ctx, &plain); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	return plain.Bytes(), nil
}

// Pieces returns how many bytes of a segment its pieces make up, from the first one on without a hole, by their names alone.
func (a *Archive) Pieces(ctx context.Context, segment wal.Name) (length int64, err error) {
	all, err := a.listPieces(ctx, segment)
	for _, l := range chain(all) {
		length = l.Offset + l.Length
	}
	return length, err
}

// A link is a piece in the archive.
type link struct {
	Piece
	stored
}

func (a *Archive) listPieces(ctx context.Context, segment wal.Name) ([]link, error) {
	entries, err := storage.ListAll(ctx, a.b, PieceDir(segment))
	if err != nil {
		return nil, err
	}
	var all []link
	for _, e := range entries {
		if p, s, ok := parsePiece(segment, e); ok {
			all = append(all, link{p, s})
		}
	}
	return all, nil
}

// chain puts pieces together from offset 0 up to the first hole. Two hosts that ship the same segment cut it in their own
// ways, so that pieces can overlap: the one that goes on furthest is taken.
func chain(all []link) []link {
	slices.SortStableFunc(all, func(a, b link) int { return cmp.Compare(a.Offset, b.Offset) })
	var chosen []link
	var at int64
	for i := 0; i < len(all); {
		best := -1
		for ; i < len(all) && all[i].Offset <= at; i++ {
			if end := all[i].Offset + all[i].Length; end > at && (best < 0 || end > all[best].Offset+all[best].Length) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		chosen = append(chosen, all[best])
		at = all[best].Offset + all[best].Length
	}
	return chosen
}

// openPieces opens what the pieces of a segment make up; storage.ErrNotExist if there are none. All pieces are read and
// compared with their hashes. A piece that is damaged or missing ends the chain. The result keeps one piece in memory.
func (a *Archive) openPieces(ctx context.Context, segment wal.Name) (storage.Object, error) {
	all, err := a.listPieces(ctx, segment)
	if err != nil {
		return nil, err
	}
	none := fmt.Errorf("%s: %w", PieceDir(segment), storage.ErrNotExist)
	if len(all) == 0 {
		return nil, none
	}
	id, err := a.Identity(ctx)
	if err != nil {
		return nil, err
	}
	c := &chained{ctx: ctx, a: a, id: id}
	verified := make(map[string]bool)
	var failed error
	for whole := false; !whole; {
		c.links, whole = chain(all), true
		for _, l := range c.links {
			if verified[l.Name] {
				continue
			}
			_, err := c.load(l)
			if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrForeign) && !errors.Is(err, storage.ErrNotExist) {
				return nil, err
			}
			if err != nil { // another one may do as well
				all = slices.DeleteFunc(all, func(other link) bool { return other.Name == l.Name })
				failed, whole = err, false
				break
			}
			verified[l.Name] = true
		}
	}
	if n := len(c.links); n > 0 {
		c.size = c.links[n-1].Offset + c.links[n-1].Length
		return c, nil
	}
	if failed == nil {
		failed = none
	}
	return nil, failed
}

// A chained is a storage.Object of pieces. It is not safe for concurrent use.
type chained struct {
	ctx   context.Context
	a     *Archive
	id    Identity
	links []link
	size  int64
	at    string // the object whose plain bytes these are
	plain []byte
}

func (c *chained) load(l link) ([]byte, error) {
	if c.at == l.Name {
		return c.plain, nil
	}
	plain, err := c.a.readPiece(c.ctx, l.Piece, l.stored, c.id)
	if err == nil {
		c.at, c.plain = l.Name, plain
	}
	return plain, err
}

// Size implements [storage.Object].
func (c *chained) Size() int64 { return c.size }

// Close implements [storage.Object].
func (c *chained) Close() error { return nil }

// ReadAt implements [storage.Object].
func (c *chained) ReadAt(p []byte, at int64) (n int, err error) {
	for _, l := range c.links {
		if len(p) == 0 {
			return n, nil
		}
		if at < l.Offset || at >= l.Offset+l.Length {
			continue
		}
		plain, err := c.load(l)
		if err != nil {
			return n, err
		}
		done := copy(p, plain[at-l.Offset:])
		p, at, n = p[done:], at+int64(done), n+done
	}
	if len(p) > 0 {
		return n, io.EOF
	}
	return n, nil
}

// Reader implements [storage.Object].
func (c *chained) Reader(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(c, off, n)), ctx.Err()
}

// OpenStreamed opens what was streamed of a segment so far, as one file or as pieces, whichever goes further;
// storage.ErrNotExist if there is nothing. The caller closes it.
func (a *Archive) OpenStreamed(ctx context.Context, segment wal.Name) (storage.Object, error) {
	file, err := a.b.Open(ctx, StreamedObject(segment))
	if err != nil && !errors.Is(err, storage.ErrNotExist) {
		return nil, err
	}
	pieces, bad := a.openPieces(ctx, segment)
	switch {
	case err != nil && bad != nil:
		return nil, bad
	case err != nil:
		return pieces, nil
	case bad != nil || file.Size() >= pieces.Size():
		return file, nil
	}
	file.Close()
	return pieces, nil
}
