package archive

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sync/errgroup"

	"walkeep/common/codec"
	"walkeep/common/sealed"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// Verify selects how segments with broken records are handled. Their headers are always checked.
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
	// Recipients are those for whom segments and partial segments are encrypted; nil: they are not. Histories and backup label files
	// are never encrypted: they hold no data, and everybody who decides what can be recovered reads them.
	Recipients *sealed.Recipients
	// CompareKey is the key by which the contents of encrypted objects are compared; nil: they cannot be compared.
	CompareKey *sealed.CompareKey
}

// encrypts reports whether a file is stored encrypted.
func (o *PushOptions) encrypts(s *source) bool { return o.Recipients != nil && s.isWAL() }

// ext returns the ending of a file's object.
func (o *PushOptions) ext(s *source) string {
	if o.encrypts(s) {
		return o.Codec.Ext() + sealed.Ext
	}
	return o.Codec.Ext()
}

// A Pusher archives files, one at a time; several work side by side.
type Pusher struct {
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
	f, err := p.Open(ctx, path)
	if err != nil {
		return Pushed{}, err
	}
	defer f.Close()
	return f.Push(ctx)
}

// An Incoming is a file on its way into the archive. It keeps its Pusher busy until it is closed.
type Incoming struct {
	p     *Pusher
	s     *source
	found []stored       // what holds the file, or another one of its name
	w     storage.Writer // the new object, which has no name yet; nil if there is none
	done  Pushed
}

// Open opens the file at path, and looks whether the archive has one of its name. Errors are those of Push.
func (p *Pusher) Open(ctx context.Context, path string) (*Incoming, error) {
	s, err := openSource(path)
	if err != nil {
		return nil, err
	}
	f := &Incoming{p: p, s: s}
	if err = p.bind(ctx, s); err == nil {
		f.done = Pushed{Name: s.name, Plain: s.size, Newer: s.header.NewerText()}
		f.found, err = p.a.find(ctx, s.name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Taken reports whether the archive had an object under the file's name when it was opened, whatever its content.
func (f *Incoming) Taken() bool { return len(usable(f.found)) > 0 }

// Push does what is left to do after Open, as Pusher.Push does.
func (f *Incoming) Push(ctx context.Context) (Pushed, error) {
	for {
		err := f.Write(ctx)
		if err == nil {
			err = f.Commit(ctx)
		}
		if !errors.Is(err, storage.ErrExist) {
			return f.done, err
		}
		if f.found, err = f.p.a.find(ctx, f.s.name); err != nil { // another writer was quicker: compare
			return f.done, err
		}
	}
}

// Write compares the file with what was found under its name. Where nothing was, it writes and verifies an object, which
// is not visible before Commit. Errors are those of Push.
func (f *Incoming) Write(ctx context.Context) error {
	f.discard() // what lost a race
	if len(f.found) > 0 {
		same, err := f.p.findSame(ctx, f.s, f.found)
		if err == nil {
			f.done.Object, f.done.Duplicate, f.done.Variant = same.Name, true, same.variant
			return f.p.a.sync(ctx, same.Name)
		}
		if f.s.name.Kind != wal.KindPartial || !errors.Is(err, ErrConflict) {
			return err
		}
		// Two promotions from one segment: both servers must be able to archive what they have.
		f.done.Variant = true
	}
	if err := f.name(); err != nil {
		return err
	}
	if err := f.store(ctx); err != nil {
		return fmt.Errorf("store %s: %w", f.done.Object, err)
	}
	return nil
}

// Commit gives the object that Write has written its name; a duplicate has one. storage.ErrExist means that another writer
// was quicker. Else errors are those of Push.
func (f *Incoming) Commit(ctx context.Context) error {
	if f.w == nil {
		return nil
	}
	if err := f.w.Commit(ctx); err != nil {
		f.done.Stored = 0
		return fmt.Errorf("store %s: %w", f.done.Object, err)
	}
	return f.checkAlone(ctx)
}

// Pushed says how the file came to be in the archive, once Commit has returned.
func (f *Incoming) Pushed() Pushed { return f.done }

// Close gives up what has no name yet.
func (f *Incoming) Close() {
	f.s.file.Close()
	f.discard()
}

func (f *Incoming) discard() {
	if f.w != nil {
		f.w.Discard()
		f.w = nil
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
		return p.a.CheckWAL(ctx)
	}
	id, err := p.a.Identity(ctx)
	if errors.Is(err, ErrUnbound) {
		return nil // the first segment will bind the archive
	}
	if known := p.options.SystemID; err == nil && known != 0 && known != id.SystemID {
		return fmt.Errorf("%w: the system identifier of the data directory is %s, that of the archive %s", ErrForeign, known, id.SystemID)
	}
	if err == nil {
		err = p.a.CheckWAL(ctx)
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
		mine, err = s.sum(p.options.CompareKey)
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
		equal, err := theirs[i].same(mine)
		switch {
		case err != nil:
			return stored{}, fmt.Errorf("%s: %w", found[i].Name, err)
		case equal:
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

// name sets the new object's name.
func (f *Incoming) name() error {
	f.done.Object = Location(f.s.name) + f.p.options.ext(f.s)
	if !f.done.Variant {
		return nil
	}
	mine, err := f.s.sum(f.p.options.CompareKey)
	hash := mine.hash
	if f.p.options.encrypts(f.s) { // nobody is to guess the content by its hash
		hash = mine.tag.Sum
	}
	f.done.Object = Location(f.s.name) + "." + hex.EncodeToString(hash[:]) + f.p.options.ext(f.s)
	return err
}

// store packs the file into a new object, and reads that back. It fails with ErrExist where the object's name is taken.
func (f *Incoming) store(ctx context.Context) error {
	if err := f.s.rewind(); err != nil {
		return err
	}
	if err := f.p.prepare(); err != nil {
		return err
	}
	w, err := f.p.a.b.Create(ctx, f.done.Object, storage.CreateOptions{Size: f.s.size})
	if err != nil {
		return err
	}
	f.w = w
	if f.p.options.encrypts(f.s) {
		return f.seal(ctx)
	}
	sums := codec.NewSummer(w)
	if _, err := f.p.pack(ctx, f.s, sums, &f.done); err != nil {
		return err
	}
	size, hash := sums.Sum()
	f.done.Stored = int64(size)
	return w.Verify(ctx, func(r io.Reader) error {
		gotSize, gotHash, err := f.p.packer.Sum(r)
		if err == nil && (gotSize != size || gotHash != hash) {
			err = errors.New("what was read back is not what was written")
		}
		return err
	})
}

// seal is what store does for an object that is encrypted.
func (f *Incoming) seal(ctx context.Context) error {
	done, err := f.p.options.Recipients.Seal(f.w, func(w io.Writer) (sealed.Facts, error) {
		t, err := f.p.pack(ctx, f.s, w, &f.done)
		if err != nil {
			return sealed.Facts{}, err
		}
		facts := sealed.FactsOf(t)
		facts.Timeline = uint32(f.s.name.Timeline)
		if key := f.p.options.CompareKey; key != nil {
			facts.Tag = key.Tag(t.Name, t.PlainSize, t.PlainHash)
		}
		return facts, nil
	})
	if err != nil {
		return err
	}
	f.done.Stored = done.Size
	return f.w.Verify(ctx, done.Check)
}

// prepare makes the packer, if it is not there yet.
func (p *Pusher) prepare() (err error) {
	if p.packer != nil {
		return nil
	}
	level := p.options.Level
	if level == 0 {
		_, _, level = p.options.Codec.Levels()
	}
	p.packer, err = codec.NewPacker(p.options.Codec, level)
	return err
}

// pack writes the stored object of a file, without encryption, and refuses what turns out to be no WAL file of its name on the
// way.
func (p *Pusher) pack(ctx context.Context, s *source, w io.Writer, done *Pushed) (*codec.Trailer, error) {
	tap := io.Discard
	walk := s.isWAL() && p.options.Verify != VerifyOff
	if walk {
		p.walker.Reset(s.name)
		tap = &p.walker
	}
	before := s.mark()
	t, err := p.packer.Pack(w, s.file, tap)
	if err != nil {
		return nil, err
	}
	if before == s.mark() {
		t.Mark = before
	}
	if t.PlainSize != uint64(s.size) {
		return nil, fmt.Errorf("the file had %d bytes and then %d: it changes while it is read", s.size, t.PlainSize)
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
			return nil, err
		}
	}
	trailer, err := t.Encode()
	if err != nil {
		return nil, err
	}
	_, err = w.Write(trailer)
	return t, err
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
		return p.a.Notes().NoteDamage(ctx, s.name, found.Damage)
	}
	return nil
}

// checkAlone looks for objects of the same file that other Pushers stored under other endings at the same time: that several
// exist is no loss as long as they hold the same. It must look after the name was given: of two writers that are at work at
// once, the later one then sees both objects. It opens each name that a Pusher could have chosen, because the directory, which can
// hold many files, was listed for this file already.
func (f *Incoming) checkAlone(ctx context.Context) error {
	if f.s.name.Kind == wal.KindPartial {
		return nil // several may exist
	}
	var twins []stored
	for _, ext := range endings() {
		name := Location(f.s.name) + ext
		if name == f.done.Object {
			continue
		}
		o, err := f.p.a.b.Open(ctx, name)
		if errors.Is(err, storage.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		size := o.Size()
		o.Close()
		if _, s, _ := parseObject(storage.Entry{Name: name, Size: size}); s.bad == nil {
			twins = append(twins, s)
		}
	}
	if len(twins) == 0 {
		return nil
	}
	_, err := f.p.findSame(ctx, f.s, twins)
	return err
}

// endings returns those that a Pusher gives: a codec's, with .age behind it where the object is encrypted.
func endings() (all []string) {
	for _, name := range codec.Names() {
		if c, err := codec.ByName(name); err == nil && !slices.Contains(all, c.Ext()) {
			all = append(all, c.Ext(), c.Ext()+sealed.Ext)
		}
	}
	return all
}

// sync makes an object durable that another writer has stored, who may have died before it was.
func (a *Archive) sync(ctx context.Context, object string) error {
	if b, ok := storage.As[storage.Syncer](a.b); ok {
		return b.Sync(ctx, object)
	}
	return nil
}

// HasName reports whether the archive holds an object under the name of a file, whatever its content.
func (a *Archive) HasName(ctx context.Context, n wal.Name) (bool, error) {
	found, err := a.find(ctx, n)
	return len(usable(found)) > 0, err
}
