package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"walkeep/common/backup"
	"walkeep/common/codec"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// An Inventory is what an archive holds, as its listing, its histories, its backups' manifests and its notes say. No
// other object is read, but for segments that were found damaged. Whatever walkeep says about what can be recovered comes from [Inventory.Reach].
type Inventory struct {
	Identity
	Lines   []Line             // one for each timeline of which there is anything, ascending
	Backups []*backup.Manifest // in the order of their ends: timeline, then LSN
	// Unfinished are the directories of backups without a manifest, such as backups/20261123T004501Z/: one that is being
	// taken, or what is left of one.
	Unfinished []string
	Streamed   []storage.Entry // what partial/ holds: the segment that is being written, as far as it was streamed
	Streams    []Stream
	Server     *Server // what the production server said last; nil if it was never asked
	Leases     []Lease
	Standbys   []Standby
	Damages    []Damaged // segments that were archived with broken records, or were found damaged
	// Records are what verify and drill have found of backups, by their ids. Flaws are what is known to make backups ones
	// that cannot be restored: see [Inventory.Unsound].
	Records map[string]Record
	Flaws   map[string]error
	Faults  []Fault // what could not be read
}

// A Line is what there is of one timeline.
type Line struct {
	Timeline wal.Timeline
	// History is empty for timeline 1. If it could not be read, HistoryErr says why, and where the timeline comes from is
	// not known.
	History    wal.History
	HistoryErr error
	Segments   []Span // complete segments, ascending, with holes between them
	Partials   []wal.Name
	Bytes      int64 // stored, of all its files
}

// A Span is a number of segments without a hole, by their numbers (LSN / segment size).
type Span struct{ First, Last uint64 }

// A Fault is an object that could not be read, or is not what it should be.
type Fault struct {
	Object string
	Err    error
}

func (f Fault) Error() string { return f.Object + ": " + f.Err.Error() }

// Inventory takes stock of the archive. It fails where the archive cannot be reached or belongs to nobody; what is
// damaged in it is among the Faults.
func (a *Archive) Inventory(ctx context.Context) (*Inventory, error) {
	id, err := a.Identity(ctx)
	if err != nil {
		return nil, err
	}
	inv := &Inventory{Identity: id}
	for _, take := range []func(context.Context, *Inventory) error{
		a.takeLeases, a.takeStandbys, a.takeBackups, a.takeServer, a.takeWAL, a.takeStreamed, a.takeStreams, a.takeDamages, a.takeVerified,
	} {
		if err := take(ctx, inv); err != nil {
			return nil, err
		}
	}
	return inv, nil
}

// Retake reads leases, standbys and backups anew. The WAL is what inv has of it.
func (a *Archive) Retake(ctx context.Context, inv *Inventory) (*Inventory, error) {
	again := &Inventory{Identity: inv.Identity, Lines: inv.Lines, Streamed: inv.Streamed, Server: inv.Server}
	for _, take := range []func(context.Context, *Inventory) error{a.takeLeases, a.takeStandbys, a.takeBackups, a.takeVerified} {
		if err := take(ctx, again); err != nil {
			return nil, err
		}
	}
	again.Damages = inv.Damages
	return again, nil
}

func (inv *Inventory) fault(object string, err error) {
	inv.Faults = append(inv.Faults, Fault{object, err})
}

func (a *Archive) takeBackups(ctx context.Context, inv *Inventory) error {
	dirs, err := a.b.List(ctx, "backups/")
	if err != nil {
		return err
	}
	for _, d := range dirs {
		id := path.Base(d.Name)
		if !d.IsDir() || backup.CheckID(id) != nil {
			continue
		}
		m, err := backup.ReadManifest(ctx, a.b, id)
		switch {
		case errors.Is(err, storage.ErrNotExist):
			files, err := a.b.List(ctx, d.Name)
			if err != nil {
				return err
			}
			if len(files) > 0 { // what was removed may leave a directory
				inv.Unfinished = append(inv.Unfinished, d.Name)
			}
		case errors.Is(err, ErrDamaged) || errors.Is(err, backup.ErrFormat):
			inv.fault(d.Name+backup.ManifestName, err)
		case err != nil:
			return err
		case m.SystemID != inv.SystemID || m.SegmentSize != inv.SegmentSize:
			inv.fault(d.Name+backup.ManifestName, fmt.Errorf("%w: its system identifier is %s, that of the archive %s", ErrForeign, m.SystemID, inv.SystemID))
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

func (a *Archive) takeWAL(ctx context.Context, inv *Inventory) error {
	entries, err := a.b.List(ctx, "wal/")
	if err != nil {
		return err
	}
	lines := make(map[wal.Timeline]*Line)
	line := func(tli wal.Timeline) *Line {
		if lines[tli] == nil {
			lines[tli] = &Line{Timeline: tli}
		}
		return lines[tli]
	}
	for _, e := range entries {
		base := path.Base(e.Name)
		tli, err := wal.ParseTimeline(base[:min(8, len(base))])
		switch {
		case err != nil:
		case !e.IsDir():
			if strings.HasPrefix(base[8:], ".history") {
				line(tli).Bytes += e.Size
			}
		default:
			files, err := a.b.List(ctx, e.Name)
			if err != nil {
				return err
			}
			for _, f := range files {
				if n, ok := nameOf(f); ok {
					l := line(tli)
					l.Bytes += f.Size
					inv.take(l, n)
				}
			}
		}
	}
	for _, l := range lines {
		if err := a.takeHistory(ctx, inv, l); err != nil {
			return err
		}
		inv.Lines = append(inv.Lines, *l)
	}
	slices.SortFunc(inv.Lines, func(a, b Line) int { return cmp.Compare(a.Timeline, b.Timeline) })
	return nil
}

// take adds a file to its timeline. Listings are in the order of names, so numbers ascend.
func (inv *Inventory) take(l *Line, n wal.Name) {
	switch n.Kind {
	case wal.KindPartial:
		if !slices.Contains(l.Partials, n) {
			l.Partials = append(l.Partials, n)
		}
	case wal.KindSegment:
		number, err := n.Number(inv.SegmentSize)
		if err != nil {
			inv.fault(directory(n)+n.String(), err)
			return
		}
		if last := len(l.Segments) - 1; last >= 0 && number <= l.Segments[last].Last+1 {
			l.Segments[last].Last = max(l.Segments[last].Last, number)
			return
		}
		l.Segments = append(l.Segments, Span{number, number})
	}
}

func (a *Archive) takeHistory(ctx context.Context, inv *Inventory, l *Line) error {
	if l.Timeline == 1 {
		l.History.Timeline = 1
		return nil
	}
	l.History, l.HistoryErr = a.History(ctx, l.Timeline)
	switch err := l.HistoryErr; {
	case err == nil:
	case errors.Is(err, ErrAbsent), errors.Is(err, ErrDamaged), errors.Is(err, ErrConflict), errors.Is(err, ErrNoFormat):
		inv.fault(location(wal.Name{Kind: wal.KindHistory, Timeline: l.Timeline}), err)
	default:
		return err
	}
	return nil
}

// nameOf gives the WAL file that an object holds: one that is where Fetch looks for it, and in a form that can be read
// here.
func nameOf(e storage.Entry) (wal.Name, bool) {
	base := path.Base(e.Name)
	if e.IsDir() || len(base) < 24 {
		return wal.Name{}, false
	}
	for end := len(base); end > 0; end = strings.LastIndexByte(base[:end], '.') {
		n, err := wal.ParseName(base[:end])
		if err != nil {
			continue
		}
		rest := base[end:]
		if n.Kind == wal.KindPartial && isVariant(rest) {
			rest = rest[variantLength:]
		}
		_, known := codec.ByExt(rest)
		return n, known && location(n)+base[end:] == e.Name
	}
	return wal.Name{}, false
}

func (a *Archive) takeStreamed(ctx context.Context, inv *Inventory) (err error) {
	inv.Streamed, err = a.b.List(ctx, partialDir)
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

// Has tells whether a complete segment is there.
func (inv *Inventory) Has(n wal.Name) bool {
	l := inv.Line(n.Timeline)
	number, err := n.Number(inv.SegmentSize)
	return err == nil && n.Kind == wal.KindSegment && l != nil && l.has(number)
}

// Newest is the timeline with the highest number, which is that of the last promotion, of whichever server; 0 if there is
// none. [Inventory.Production] is the production server's.
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

// has tells whether the complete segment with this number is there.
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
