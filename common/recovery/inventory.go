package recovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/notes"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// An Inventory is what an archive holds, according to its listings, its histories, its backups' manifests and its
// notes. Reading it opens no other object, except segments that were found damaged. [Inventory.Reach] is the only judge
// of what can be recovered from it.
type Inventory struct {
	archive.Identity
	Lines   []Line             // one for each timeline of which there is anything, ascending
	Backups []*backup.Manifest // in the order of their ends: timeline, then LSN
	// Unfinished are the directories of backups without a manifest, such as backups/20261123T004501Z/: one that is being
	// taken, or what is left of one.
	Unfinished []string
	Streamed   []storage.Entry // what partial/ holds: the segment that is being written, as far as it was streamed
	Streams    []notes.Stream
	Shippings  []notes.Shipping // what ship has noted of repositories
	Server     *notes.Server    // what the production server said last; nil if it was never asked
	Leases     []notes.Lease
	Standbys   []notes.Standby
	Removals   []notes.Removal // what cleanup has marked for removal
	Damages    []Damaged       // segments that were archived with broken records, or were found damaged
	// Records are what verify and drill have found of backups, by their ids. Flaws are what is known to make backups ones
	// that cannot be restored: see [Inventory.Unsound].
	Records map[string]notes.Record
	Flaws   map[string]error
	Faults  []notes.Fault // what could not be read

	a    reader           // nil if this was made up
	then *archive.Archive // as it was listed
}

// Then returns the archive as it was listed for the inventory: it lists the same again, without asking a repository. It is nil if
// the inventory was made up.
func (inv *Inventory) Then() *archive.Archive { return inv.then }

// A Line is what the archive holds of one timeline.
type Line struct {
	Timeline wal.Timeline
	// History is empty for timeline 1. If it could not be read, HistoryErr says why, and where the timeline comes from is
	// not known.
	History    wal.History
	HistoryErr error
	Segments   []Span // complete segments, ascending, with holes between them
	Partials   []wal.Name
	// Evidence shows that the timeline's WAL has gone on, wherever it is now.
	Evidence []Evidence
	// Waiting are the complete segments that a stream is about to store.
	Waiting map[uint64]bool
	Bytes   int64 // stored, of all its files
}

// A Span is a number of segments without a hole, by their numbers (LSN / segment size).
type Span struct{ First, Last uint64 }

// A reader reads an archive for an inventory.
type reader struct{ *archive.Archive }

// ReadInventory reads an archive's inventory. It fails if the archive cannot be reached, or belongs to no cluster yet;
// what is damaged in it is listed in Faults.
func ReadInventory(ctx context.Context, of *archive.Archive) (*Inventory, error) {
	return readInventory(ctx, of, true)
}

// ReadInventoryKept is ReadInventory with what this host has kept of listings, for reports alone: it can show objects that another
// program has removed from a repository in the last 24 hours. See package listing.
func ReadInventoryKept(ctx context.Context, of *archive.Archive) (*Inventory, error) {
	return readInventory(ctx, of, false)
}

func readInventory(ctx context.Context, of *archive.Archive, anew bool) (*Inventory, error) {
	id, err := of.Identity(ctx)
	if err != nil {
		return nil, err
	}
	if err := of.CheckWAL(ctx); err != nil {
		return nil, err
	}
	then, err := of.Snapshot(ctx, anew)
	if err != nil {
		return nil, err
	}
	a, inv := reader{then}, &Inventory{Identity: id, a: reader{of}, then: then}
	for _, take := range []func(context.Context, *Inventory) error{
		a.takeNotes, a.takeServer, a.takeEvidence, a.takeWAL, a.takeDamages, a.takeVerified, // evidence before WAL: see there
	} {
		if err := take(ctx, inv); err != nil {
			return nil, err
		}
	}
	return inv, nil
}

// Reread reads leases, standbys, removals and backups again. It takes the WAL over from inv.
func (inv *Inventory) Reread(ctx context.Context) (*Inventory, error) {
	a := inv.a
	again := &Inventory{a: a, Identity: inv.Identity, Lines: inv.Lines, Streams: inv.Streams, Shippings: inv.Shippings, Streamed: inv.Streamed, Server: inv.Server}
	for _, take := range []func(context.Context, *Inventory) error{a.takeNotes, a.takeBackups, a.takeVerified} {
		if err := take(ctx, again); err != nil {
			return nil, err
		}
	}
	again.Damages = inv.Damages
	return again, nil
}

// takeNotes reads the notes of leases, standbys and removals.
func (a reader) takeNotes(ctx context.Context, inv *Inventory) error {
	var leases, standbys, removals []notes.Fault
	var err error
	if inv.Leases, leases, err = a.Notes().Leases(ctx); err != nil {
		return err
	}
	if inv.Standbys, standbys, err = a.Notes().Standbys(ctx); err != nil {
		return err
	}
	inv.Removals, removals, err = a.Notes().Removals(ctx)
	inv.Faults = slices.Concat(inv.Faults, leases, standbys, removals)
	return err
}

// takeShippings reads the notes of what was shipped.
func (a reader) takeShippings(ctx context.Context, inv *Inventory) (err error) {
	var faults []notes.Fault
	inv.Shippings, faults, err = a.Notes().Shippings(ctx)
	inv.Faults = append(inv.Faults, faults...)
	return err
}

// takeStreams reads the notes of streams.
func (a reader) takeStreams(ctx context.Context, inv *Inventory) (err error) {
	var faults []notes.Fault
	inv.Streams, faults, err = a.Notes().Streams(ctx)
	inv.Faults = append(inv.Faults, faults...)
	return err
}

func (inv *Inventory) fault(object string, err error) {
	inv.Faults = append(inv.Faults, notes.Fault{Object: object, Err: err})
}

func (a reader) takeBackups(ctx context.Context, inv *Inventory) error {
	dirs, err := a.List(ctx, archive.BackupsDir)
	if err != nil {
		return err
	}
	for _, d := range dirs {
		id := path.Base(d.Name)
		switch {
		case backup.CheckID(id) != nil:
			continue
		case d.Err != nil:
			return fmt.Errorf("%s: %w", d.Name, d.Err)
		case !d.IsDir():
			continue
		}
		m, err := a.Manifest(ctx, id)
		switch {
		case errors.Is(err, storage.ErrNotExist):
			files, err := a.List(ctx, d.Name)
			if err != nil {
				return err
			}
			if len(files) > 0 { // what was removed may leave a directory
				inv.Unfinished = append(inv.Unfinished, d.Name)
			}
		case errors.Is(err, archive.ErrDamaged) || errors.Is(err, backup.ErrFormat):
			inv.fault(d.Name+backup.ManifestName, err)
		case err != nil:
			return err
		case m.SystemID != inv.SystemID || m.SegmentSize != inv.SegmentSize:
			inv.fault(d.Name+backup.ManifestName, fmt.Errorf("%w: its system identifier is %s, that of the archive %s", archive.ErrForeign, m.SystemID, inv.SystemID))
		default:
			inv.Backups = append(inv.Backups, m)
		}
	}
	slices.SortFunc(inv.Backups, CompareBackups)
	return nil
}

// CompareBackups orders backups by where they end.
func CompareBackups(a, b *backup.Manifest) int {
	return cmp.Or(cmp.Compare(a.Timeline, b.Timeline), cmp.Compare(a.Stop, b.Stop), cmp.Compare(a.ID, b.ID))
}

func (a reader) takeWAL(ctx context.Context, inv *Inventory) error {
	entries, err := a.List(ctx, archive.WALDir)
	if err != nil {
		return err
	}
	dirs, err := a.LogDirs(ctx, 0)
	if err != nil {
		return err
	}
	t := &stock{inv: inv, lines: make(map[wal.Timeline]*stockLine)}
	for _, e := range entries {
		if o, ok := archive.ParseObject(e); ok && o.WAL.Kind == wal.KindHistory {
			t.take(o)
		}
	}
	for _, d := range dirs {
		if err := a.takeLog(ctx, t, d.Name); err != nil {
			return err
		}
	}
	for _, e := range inv.evidence() {
		// A part is not sure to be what its name says, and no server looks for a timeline behind one that is not there.
		if t.lines[e.Timeline] == nil && (e.Shipped || e.Streamed && t.lines[e.Timeline-1] == nil) {
			continue
		}
		l := t.line(e.Timeline)
		l.Evidence = append(l.Evidence, e)
	}
	for tli, l := range t.lines {
		l.Waiting = inv.waiting(tli)
	}
	// A listing can miss a file that is archived meanwhile, and yet show a later one, so what seems to be
	// missing is looked for again.
	for _, dir := range t.holes() {
		if err := inv.a.takeLog(ctx, t, dir); err != nil {
			return err
		}
	}
	for _, l := range t.lines {
		l.Segments = spans(l.numbers)
		if err := a.takeHistory(ctx, inv, &l.Line); err != nil {
			return err
		}
	}
	streamed, err := a.StreamedHistories(ctx)
	if err != nil {
		return err
	}
	t.left(streamed)
	for _, l := range t.lines {
		inv.Lines = append(inv.Lines, l.Line)
	}
	slices.SortFunc(inv.Lines, func(a, b Line) int { return cmp.Compare(a.Timeline, b.Timeline) })
	return nil
}

// A stock is the WAL that was listed so far.
type stock struct {
	inv   *Inventory
	lines map[wal.Timeline]*stockLine
	seen  map[string]bool // directories that were listed
}

type stockLine struct {
	Line
	numbers []uint64 // of complete segments, in any order
}

func (t *stock) line(tli wal.Timeline) *stockLine {
	if t.lines[tli] == nil {
		t.lines[tli] = &stockLine{Line: Line{Timeline: tli}}
	}
	return t.lines[tli]
}

// takeLog lists a directory of a timeline and log number. What an earlier listing had is not taken twice.
func (a reader) takeLog(ctx context.Context, t *stock, dir string) error {
	files, err := a.List(ctx, dir)
	if err != nil {
		return err
	}
	if t.seen == nil {
		t.seen = make(map[string]bool)
	}
	again := t.seen[dir]
	t.seen[dir] = true
	var known map[uint64]bool
	for _, f := range files {
		o, ok := archive.ParseObject(f)
		if !ok {
			continue
		}
		n := o.WAL
		if !again {
			t.take(o)
			continue
		}
		if n.Kind != wal.KindSegment || o.Bad != nil {
			continue
		}
		l := t.line(n.Timeline)
		if known == nil {
			known = make(map[uint64]bool)
			for _, number := range l.numbers {
				known[number] = true
			}
		}
		if number, err := n.Number(t.inv.SegmentSize); err == nil && !known[number] {
			t.take(o)
		}
	}
	return nil
}

// take adds an object to its timeline. One from which nothing can be read shows that there was a file all the same.
func (t *stock) take(o archive.Object) {
	n := o.WAL
	l := t.line(n.Timeline)
	if !o.IsDir() {
		l.Bytes += o.Size
	}
	if o.Bad != nil {
		t.inv.fault(o.Name, o.Bad)
	}
	if n.Kind == wal.KindHistory {
		return
	}
	number, err := n.Number(t.inv.SegmentSize)
	if err != nil {
		t.inv.fault(o.Name, err)
		return
	}
	next := number
	if archive.Completes(n) {
		next++
	}
	switch {
	case n.Kind == wal.KindSegment && o.Bad == nil:
		l.numbers = append(l.numbers, number)
		return
	case n.Kind == wal.KindPartial && o.Bad == nil && !slices.Contains(l.Partials, n):
		l.Partials = append(l.Partials, n)
	}
	l.Evidence = append(l.Evidence, Evidence{Timeline: n.Timeline, Next: next, Why: o.Name + " is there"})
}

// left adds the evidence of histories: a timeline was there up to where another one has left it.
func (t *stock) left(histories []wal.History) {
	for _, l := range t.lines {
		histories = append(histories, l.History)
		if l.HistoryErr == nil || errors.Is(l.HistoryErr, archive.ErrNotStored) {
			continue
		}
		for tli, earlier := range t.lines { // it may have left any of them behind the last segment that is there
			if n := len(earlier.Segments); n > 0 && tli < l.Timeline {
				why := fmt.Sprintf("where timeline %d comes from is not known", l.Timeline)
				earlier.Evidence = append(earlier.Evidence, Evidence{Timeline: tli, Next: earlier.Segments[n-1].Last + 2, Why: why})
			}
		}
	}
	for _, h := range histories {
		for _, e := range h.Entries {
			if l := t.lines[e.Timeline]; l != nil {
				why := fmt.Sprintf("timeline %d comes from it at %s", h.Timeline, e.End)
				l.Evidence = append(l.Evidence, Evidence{Timeline: e.Timeline, Next: uint64(e.End) / uint64(t.inv.SegmentSize), Why: why})
			}
		}
	}
}

// holes lists the directories at whose segments something seems to be missing.
func (t *stock) holes() []string {
	var dirs []string
	for tli, l := range t.lines {
		has := spans(l.numbers)
		look := func(number uint64) {
			n := wal.SegmentAt(tli, wal.LSN(number*uint64(t.inv.SegmentSize)), t.inv.SegmentSize)
			if dir := archive.Directory(n); !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
		for i := 1; i < len(has); i++ {
			look(has[i-1].Last + 1)
			look(has[i].First - 1)
		}
		if next := l.next().Next; len(has) > 0 && next > has[len(has)-1].Last+1 {
			look(has[len(has)-1].Last + 1)
			look(next - 1)
		}
	}
	return dirs
}

// next is the evidence of how far the timeline has gone.
func (l *Line) next() Evidence {
	var most Evidence
	for _, e := range l.Evidence {
		if e.Next > most.Next {
			most = e
		}
	}
	return most
}

// spans puts numbers together that follow each other.
func spans(numbers []uint64) []Span {
	slices.Sort(numbers)
	var found []Span
	for _, n := range numbers {
		if last := len(found) - 1; last >= 0 && n <= found[last].Last+1 {
			found[last].Last = n
			continue
		}
		found = append(found, Span{n, n})
	}
	return found
}

func (a reader) takeHistory(ctx context.Context, inv *Inventory, l *Line) error {
	if l.Timeline == 1 {
		l.History.Timeline = 1
		return nil
	}
	l.History, l.HistoryErr = a.History(ctx, l.Timeline)
	switch err := l.HistoryErr; {
	case err == nil:
	case errors.Is(err, archive.ErrNotStored), errors.Is(err, archive.ErrDamaged), errors.Is(err, archive.ErrConflict), errors.Is(err, archive.ErrNoFormat):
		inv.fault(archive.Location(wal.Name{Kind: wal.KindHistory, Timeline: l.Timeline}), err)
	default:
		return err
	}
	return nil
}

func (a reader) takeStreamed(ctx context.Context, inv *Inventory) (err error) {
	inv.Streamed, err = a.List(ctx, archive.PartialDir)
	return err
}

// Line finds a timeline; nil if there is nothing of it.
func (inv *Inventory) Line(tli wal.Timeline) *Line {
	i, ok := slices.BinarySearchFunc(inv.Lines, tli, func(l Line, t wal.Timeline) int { return cmp.Compare(l.Timeline, t) })
	if !ok {
		return nil
	}
	return &inv.Lines[i]
}

// Has reports whether a complete segment is there.
func (inv *Inventory) Has(n wal.Name) bool {
	l := inv.Line(n.Timeline)
	number, err := n.Number(inv.SegmentSize)
	return err == nil && n.Kind == wal.KindSegment && l != nil && l.has(number)
}

// Newest returns the timeline with the highest number, which is that of the latest promotion of any server; 0 if the
// archive holds no timeline. [Inventory.Production] is the production server's.
func (inv *Inventory) Newest() wal.Timeline {
	if len(inv.Lines) == 0 {
		return 0
	}
	return inv.Lines[len(inv.Lines)-1].Timeline
}

// Backup finds a backup by its id; nil if there is none.
func (inv *Inventory) Backup(id string) *backup.Manifest {
	for _, b := range inv.Backups {
		if b.ID == id {
			return b
		}
	}
	return nil
}

// has reports whether the complete segment with this number is there.
func (l *Line) has(number uint64) bool {
	_, ok := l.span(number)
	return ok
}

func (l *Line) span(number uint64) (Span, bool) {
	i, ok := slices.BinarySearchFunc(l.Segments, number, func(s Span, n uint64) int {
		switch {
		case s.Last < n:
			return -1
		case s.First > n:
			return 1
		}
		return 0
	})
	if !ok {
		return Span{}, false
	}
	return l.Segments[i], true
}
