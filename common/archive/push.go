package archive

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"walkeep/common/codec"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// Verify says what becomes of segments whose records are broken. Their headers are always checked.
type Verify string

const (
	VerifyWarn   Verify = "warn"   // archive them as they are, marked
	VerifyStrict Verify = "strict" // refuse them
	VerifyOff    Verify = "off"    // do not look
)

// PushOptions say how files are archived.
type PushOptions struct {
	Codec    codec.Codec
	Level    int // 0: the codec's standard level
	Verify   Verify
	SystemID wal.SystemID // of the cluster, where it is known from elsewhere than the files; 0 if not
	Tool     string       // version to be noted in the objects
}

// A Pusher archives files, one at a time; several work side by side.
type Pusher struct {
	// Turn, unless nil, holds the next Push back from giving its file a name, until it is closed. Pushers that work side
	// by side thus can leave no hole behind when they are killed.
	Turn <-chan struct{}

	a       *Archive
	options PushOptions
	packer  *codec.Packer // made when it is needed: a file that is there already needs none
	walker  wal.Walker
}

// NewPusher prepares a Pusher.
func (a *Archive) NewPusher(options PushOptions) *Pusher { return &Pusher{a: a, options: options} }

// Pushed is how a file came to be in the archive.
type Pushed struct {
	Name      wal.Name
	Object    string      // the stored object's name
	Duplicate bool        // it was there before
	Variant   bool        // a partial segment that was stored beside another one of its name
	Damage    *wal.Damage // what was found broken while it was stored; nil if nothing
	Newer     string      // says that it is of a version of PostgreSQL that is not known; empty for one that is
	Unchecked *wal.Damage // the first thing that could not be checked of that; nil if nothing
	Plain     int64       // bytes
	Stored    int64       // bytes; 0 for a duplicate
}

// Push archives the file at path, whose last element is the name that PostgreSQL gave it. When it returns without an
// error, the file is durable in the archive, whole and compared. Errors that will not pass with time are [ErrNotWAL],
// [ErrForeign], [ErrConflict] and, where it is strict, [ErrBroken].
func (p *Pusher) Push(ctx context.Context, path string) (Pushed, error) {
	s, err := openSource(path)
	if err != nil {
		return Pushed{}, err
	}
	defer s.file.Close()
	if err := p.bind(ctx, s); err != nil {
		return Pushed{}, err
	}
	done := Pushed{Name: s.name, Plain: s.size, Newer: s.header.NewerText()}
	for {
		found, err := p.a.find(ctx, s.name)
		if err != nil {
			return done, err
		}
		if len(found) > 0 {
			same, err := p.findSame(ctx, s, found)
			if err == nil {
				done.Object, done.Duplicate, done.Variant = same.Name, true, same.variant
				return done, p.a.sync(ctx, same.Name)
			}
			if s.name.Kind != wal.KindPartial || !errors.Is(err, ErrConflict) {
				return done, err
			}
			// Two promotions from one segment: both servers must be able to archive what they have.
			done.Variant = true
		}
		err = p.store(ctx, s, &done)
		if errors.Is(err, storage.ErrExist) {
			continue // another writer was quicker: compare
		}
		if err != nil {
			return done, err
		}
		return done, p.checkAlone(ctx, s, done)
	}
}

// bind holds the file's cluster against the archive's. Text files do not say whose they are; the data directory does.
func (p *Pusher) bind(ctx context.Context, s *source) error {
	if s.isWAL() {
		h := s.header
		if known := p.options.SystemID; known != 0 && known != h.SystemID {
			return fmt.Errorf("%w: its system identifier is %s, that of the data directory %s", ErrForeign, h.SystemID, known)
		}
		if err := p.a.Bind(ctx, Identity{SystemID: h.SystemID, SegmentSize: h.SegmentSize}); err != nil {
			return err
		}
		return p.a.checkWAL(ctx)
	}
	id, err := p.a.Identity(ctx)
	if errors.Is(err, ErrUnbound) {
		return nil // the first segment will bind the archive
	}
	if known := p.options.SystemID; err == nil && known != 0 && known != id.SystemID {
		return fmt.Errorf("%w: the system identifier of the data directory is %s, that of the archive %s", ErrForeign, known, id.SystemID)
	}
	if err == nil {
		err = p.a.checkWAL(ctx)
	}
	return err
}

// findSame finds the object that holds the same content, and reads all of it to be sure. [ErrConflict] means that all
// objects are whole and hold something else.
func (p *Pusher) findSame(ctx context.Context, s *source, found []stored) (stored, error) {
	if sound := usable(found); len(sound) > 0 { // or it is said why there is none
		found = sound
	}
	if len(found) == 1 && p.a.marked(ctx, s, found[0]) {
		return found[0], nil
	}
	var mine content
	var group errgroup.Group
	group.Go(func() (err error) {
		mine, err = s.sum()
		return err
	})
	theirs := make([]content, len(found))
	for i := range found {
		group.Go(func() (err error) {
			theirs[i], err = p.a.content(ctx, s.name, found[i])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return stored{}, err
	}
	var same *stored
	for i := range found {
		switch {
		case theirs[i] == mine:
			same = &found[i]
		case s.name.Kind == wal.KindSegment && theirs[i].size != mine.size:
			// It can be expanded, but all segments of an archive have one size.
			return stored{}, fmt.Errorf("%s: %w: it holds %d bytes, a segment has %d", found[i].Name, ErrDamaged, theirs[i].size, mine.size)
		case s.name.Kind != wal.KindPartial:
			return stored{}, fmt.Errorf("%w: %s", ErrConflict, found[i].Name)
		}
	}
	if same == nil {
		return stored{}, ErrConflict
	}
	return *same, nil
}

// store packs the file into a new object. It fails with ErrExist where the object's name is taken.
func (p *Pusher) store(ctx context.Context, s *source, done *Pushed) error {
	if err := s.rewind(); err != nil {
		return err
	}
	if p.packer == nil {
		level := p.options.Level
		if level == 0 {
			_, _, level = p.options.Codec.Levels()
		}
		var err error
		if p.packer, err = codec.NewPacker(p.options.Codec, level); err != nil {
			return err
		}
	}
	done.Object = location(s.name) + p.options.Codec.Ext()
	if done.Variant {
		mine, err := s.sum()
		if err != nil {
			return err
		}
		if err := s.rewind(); err != nil {
			return err
		}
		done.Object = location(s.name) + "." + hex.EncodeToString(mine.hash[:]) + p.options.Codec.Ext()
	}
	var written content
	write := func(w io.Writer) error {
		sums := codec.NewSummer(w)
		err := p.pack(ctx, s, sums, done)
		written.size, written.hash = sums.Sum()
		return err
	}
	readBack := func(r io.Reader) error {
		size, hash, err := codec.Sum(r)
		if err == nil && written != (content{size, hash}) {
			err = errors.New("what was read back is not what was written")
		}
		if err == nil && p.Turn != nil {
			select {
			case <-p.Turn:
				err = ctx.Err() // both may be so
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		return err
	}
	if err := p.a.b.Put(ctx, done.Object, write, readBack); err != nil {
		return fmt.Errorf("store %s: %w", done.Object, err)
	}
	done.Stored = int64(written.size)
	return nil
}

// pack writes the stored object of a file, and refuses what turns out to be no WAL file of its name on the way.
func (p *Pusher) pack(ctx context.Context, s *source, w io.Writer, done *Pushed) error {
	tap := io.Discard
	walk := s.isWAL() && p.options.Verify != VerifyOff
	if walk {
		p.walker.Reset(s.name)
		tap = &p.walker
	}
	before := s.mark()
	t, err := p.packer.Pack(w, s.file, tap)
	if err != nil {
		return err
	}
	if before == s.mark() {
		t.Mark = before
	}
	if t.PlainSize != uint64(s.size) {
		return fmt.Errorf("the file had %d bytes and then %d: it changes while it is read", s.size, t.PlainSize)
	}
	t.Name, t.Tool, t.SystemID = s.name.String(), p.options.Tool, uint64(s.header.SystemID)
	if t.SystemID == 0 {
		t.SystemID = uint64(p.options.SystemID)
	}
	if s.isWAL() {
		t.WALCheck, t.Start = codec.NotChecked, uint64(s.header.PageAddr)
	}
	if walk {
		if err := p.judge(ctx, t, s, done); err != nil {
			return err
		}
	}
	trailer, err := t.Encode()
	if err != nil {
		return err
	}
	_, err = w.Write(trailer)
	return err
}

// judge notes in the trailer what the walker found.
func (p *Pusher) judge(ctx context.Context, t *codec.Trailer, s *source, done *Pushed) error {
	found := p.walker.Finish()
	short := s.name.Kind == wal.KindPartial && errors.Is(found.HeaderErr, wal.ErrSize)
	if found.HeaderErr != nil && !short {
		return fmt.Errorf("%w: %w", ErrNotWAL, found.HeaderErr)
	}
	t.WALCheck, t.End = codec.Intact, uint64(found.End)
	if done.Unchecked = found.Unchecked; found.Unchecked != nil {
		t.WALCheck, t.End = codec.NotChecked, 0 // where the records end may not be known
	}
	if found.Damage != nil {
		if p.options.Verify == VerifyStrict {
			return fmt.Errorf("%w: %w", ErrBroken, found.Damage)
		}
		t.WALCheck, t.DamageLSN = codec.Damaged, uint64(found.Damage.LSN)
		done.Damage = found.Damage
		return p.a.noteDamage(ctx, s.name, found.Damage)
	}
	return nil
}

// checkAlone looks for an object of the same file that another writer stored under another ending at the same time:
// that both exist is no loss as long as they hold the same.
func (p *Pusher) checkAlone(ctx context.Context, s *source, done Pushed) error {
	found, err := p.a.find(ctx, s.name)
	if err != nil || len(usable(found)) < 2 || s.name.Kind == wal.KindPartial {
		return err
	}
	_, err = p.findSame(ctx, s, found)
	return err
}

// sync makes an object durable that another writer has stored, who may have died before it was.
func (a *Archive) sync(ctx context.Context, object string) error {
	if b, ok := a.b.(storage.Syncer); ok {
		return b.Sync(ctx, object)
	}
	return nil
}

// Has tells whether the archive holds an object under the name of the file at path, whatever its content.
func (a *Archive) Has(ctx context.Context, path string) (bool, error) {
	n, err := wal.ParseName(filepath.Base(path))
	if err != nil {
		return false, err
	}
	return a.HasName(ctx, n)
}

// HasName is Has for a file's name.
func (a *Archive) HasName(ctx context.Context, n wal.Name) (bool, error) {
	found, err := a.find(ctx, n)
	return len(usable(found)) > 0, err
}
