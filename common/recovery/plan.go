package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"walkeep/common/backup"
	"walkeep/common/wal"
)

// A TargetKind is the kind of a recovery's target.
type TargetKind string

// The kinds of targets, as PostgreSQL has them.
const (
	ToLatest    TargetKind = "latest"    // the end of the WAL
	ToImmediate TargetKind = "immediate" // where the backup is consistent
	ToTime      TargetKind = "time"
	ToXID       TargetKind = "xid"
	ToLSN       TargetKind = "lsn"
	ToName      TargetKind = "name" // a restore point
	// ToAvailable is the last record before what is missing; a plan for it has another kind, which PostgreSQL knows.
	ToAvailable TargetKind = "available"
)

// A Target is a point to which a cluster is to be recovered.
type Target struct {
	Kind      TargetKind
	Time      time.Time    // for ToTime
	XID       uint32       // for ToXID
	LSN       wal.LSN      // for ToLSN
	Name      string       // for ToName
	Exclusive bool         // stop before it (recovery_target_inclusive = off)
	Timeline  wal.Timeline // along which recovery goes; 0: the production server's, see [Inventory.Production]
	// Follow is set for a standby, which also replays what is archived later. A timeline then suffices of which the
	// archive holds only the history.
	Follow bool
}

// String describes the target in messages.
func (t Target) String() string {
	switch t.Kind {
	case ToLatest:
		return "the end of the WAL"
	case ToAvailable:
		return "what there is"
	case ToTime:
		return "time " + wal.FormatTime(t.Time)
	case ToXID:
		return fmt.Sprintf("transaction %d", t.XID)
	case ToLSN:
		return "position " + t.LSN.String()
	case ToName:
		return fmt.Sprintf("restore point %q", t.Name)
	}
	return "a consistent state"
}

// A Plan is how a target is reached.
type Plan struct {
	Reach
	Target Target // its Timeline is that of Reach
	// At is where in the WAL recovery will end; 0 where that is the end of all WAL, or the backup's own. For a position it
	// is that position, which may lie within a record. For a time it supposes that the server's clock was not set back.
	At wal.LSN
	// Until is the last segment that is replayed.
	Until wal.Name
	// Passed are newer backups that would have been chosen if they were sound, newest first, and why they are not.
	Passed []error
	// Said is so where recovery goes along the production server's timeline, as that has said, and another one is newer.
	Said bool
	// Beside are the branches that reach the time of the target as well, with other transactions, ascending. They are looked
	// for where no timeline was named.
	Beside []Branch
	// Again are the restore points of the target's name that come after the one at which recovery ends, ascending: where
	// their records begin.
	Again []wal.LSN
}

// ErrUnreachable says that a target cannot be reached. Its text names what can be reached instead. It is final until
// more WAL is archived.
var ErrUnreachable = errors.New("cannot be recovered")

// Plan finds the backup from which a target is reached with the least WAL, or uses the one with this id, and proves
// that the target is in the archive: nothing is copied before it is known where recovery will end. It reads WAL if only
// the WAL can prove that.
//
// It looks for a transaction or a restore point after the newest backup first, then after the one before it, and so on.
// Recovery stops at the first one that it meets.
func (inv *Inventory) Plan(ctx context.Context, t Target, id string) (Plan, error) {
	p := planner{inv: inv, target: t, named: t.Timeline != 0}
	found, err := p.run(ctx, id)
	if errors.Is(err, ErrUnreachable) {
		err = fmt.Errorf("%w; %s", err, p.possible(ctx))
	}
	return found, err
}

func (p *planner) run(ctx context.Context, id string) (Plan, error) {
	t, inv := p.target, p.inv
	if id != "" {
		if p.given = inv.Backup(id); p.given == nil {
			return Plan{}, p.refuse("there is no backup %s", id)
		}
	}
	if t.Kind == ToImmediate && t.Timeline == 0 {
		return p.immediate()
	}
	if err := p.choose(); err != nil {
		return Plan{}, err
	}
	switch t.Kind {
	case ToLatest:
		return p.latest()
	case ToImmediate:
		return p.immediate()
	case ToAvailable:
		return p.available(ctx)
	case ToLSN:
		return p.lsn(ctx)
	case ToTime:
		return p.time(ctx)
	case ToXID, ToName:
		return p.event(ctx)
	}
	return Plan{}, fmt.Errorf("unknown kind of target %q", t.Kind)
}

// A planner makes one plan.
type planner struct {
	inv     *Inventory
	target  Target
	named   bool               // whether the target names a timeline
	given   *backup.Manifest   // nil if none was named
	unsound []*backup.Manifest // on the way, and passed over
	way     way
	backups []*backup.Manifest // on the way, by where they end; or the one that was named
	unread  *wal.Damage        // the first thing that is not known in WAL of a newer version; nil if all could be searched
}

// refuse returns the error of a target that cannot be reached.
func (p *planner) refuse(format string, args ...any) error {
	if p.unread != nil {
		format += "; but the WAL is of a newer PostgreSQL than this program knows, and was not searched from the " + strings.ReplaceAll(p.unread.Error(), "%", "%%") + " on"
	}
	return fmt.Errorf("%s %w: %w", p.target, ErrUnreachable, fmt.Errorf(format, args...))
}

// possible describes what can be reached instead.
func (p *planner) possible(ctx context.Context) string {
	windows := p.inv.windowsOf(p.target.Timeline)
	if len(windows) == 0 {
		windows = p.inv.Windows()
	}
	const most = 4
	var possible []string
	for _, w := range windows[max(0, len(windows)-most):] {
		if end, err := p.inv.EndOfRecords(ctx, w); err == nil {
			w.To = end
		}
		possible = append(possible, w.String())
	}
	if len(possible) == 0 {
		return "no backup can be restored"
	}
	return "possible is " + strings.Join(possible, ", or ")
}

// choose finds the way along which recovery goes, and the backups on it.
func (p *planner) choose() error {
	if tli := p.target.Timeline; tli != 0 {
		return p.along(tli)
	}
	newest := p.inv.Newest()
	if production := p.inv.Production(); production.Said {
		switch w, err := p.inv.way(production.Timeline); {
		case err == nil && len(p.inv.onWay(w)) > 0:
			return p.along(production.Timeline)
		case p.target.Kind == ToLatest && !p.target.Follow:
			if err == nil {
				err = fmt.Errorf("no backup leads to timeline %d", production.Timeline)
			}
			return p.refuse("the production server has said that it is on timeline %d: %w; name the timeline that is meant with --target-timeline", production.Timeline, err)
		}
	}
	for _, l := range slices.Backward(p.inv.Lines) {
		w, err := p.inv.way(l.Timeline)
		if err == nil && len(p.inv.onWay(w)) > 0 {
			return p.along(l.Timeline)
		}
		if p.target.Kind == ToLatest {
			if err == nil {
				err = fmt.Errorf("no backup leads to timeline %d, the newest", newest)
			}
			return p.refuse("%w; name the timeline that is meant with --target-timeline", err)
		}
	}
	return p.refuse("the archive holds no backup")
}

// along takes the way to a timeline.
func (p *planner) along(tli wal.Timeline) (err error) {
	p.target.Timeline = tli
	if p.way, err = p.inv.way(tli); err != nil {
		return p.refuse("%w", err)
	}
	p.backups = p.inv.onWay(p.way)
	if p.given == nil {
		p.passUnsound()
	}
	switch {
	case p.given != nil && !slices.Contains(p.backups, p.given):
		return p.refuse("backup %s, of timeline %d up to %s, %w (%d)", p.given.ID, p.given.Timeline, p.given.Stop, ErrNotOnLine, tli)
	case p.given != nil:
		p.backups = []*backup.Manifest{p.given}
	case len(p.backups) == 0 && len(p.unsound) > 0:
		return p.refuse("%w", p.inv.Unsound(p.unsound[len(p.unsound)-1].ID))
	case len(p.backups) == 0:
		return p.refuse("no backup leads to timeline %d", tli)
	}
	return nil
}

// passUnsound leaves out the backups that are known to be unsound.
func (p *planner) passUnsound() {
	is := func(b *backup.Manifest) bool { return p.inv.Unsound(b.ID) != nil }
	for _, b := range p.backups {
		if is(b) {
			p.unsound = append(p.unsound, b)
		}
	}
	p.backups = slices.DeleteFunc(p.backups, is)
}

// plan completes a plan that ends in the segment that holds the byte before end.
func (p *planner) plan(r Reach, at, end wal.LSN) Plan {
	production := p.inv.Production()
	said := production.Said && production.Timeline == r.Timeline && r.Timeline < p.inv.Newest()
	found := Plan{Reach: r, Target: p.target, At: at, Until: p.way.name(uint64(end-1) / p.way.size), Said: said}
	for _, b := range slices.Backward(p.unsound) {
		if b.Stop > r.From && (at == 0 || b.Stop <= at) {
			found.Passed = append(found.Passed, p.inv.Unsound(b.ID))
		}
	}
	return found
}

// latest refuses what only seems to be the end of the WAL.
func (p *planner) latest() (Plan, error) {
	b := p.backups[len(p.backups)-1]
	r, err := p.inv.Reach(b, p.target.Timeline)
	if err != nil {
		return Plan{}, p.refuse("%w", err)
	}
	if r.Gap != nil {
		return Plan{}, p.refuse("%s", r.Gap)
	}
	if r.To < p.way.begin() && !p.target.Follow {
		return Plan{}, p.refuse("timeline %d begins at %s, and none of its WAL is in the archive", p.target.Timeline, p.way.begin())
	}
	for _, later := range p.inv.onWay(p.way) {
		if later.Stop > r.To {
			return Plan{}, p.refuse("there was WAL up to %s, where backup %s ended", later.Stop, later.ID)
		}
	}
	return p.plan(r, 0, r.To), nil
}

// immediate uses the newest backup that can be restored. If no timeline is named, the backup's own suffices.
func (p *planner) immediate() (Plan, error) {
	backups := p.backups
	switch {
	case p.target.Timeline == 0 && p.given != nil:
		backups = []*backup.Manifest{p.given}
	case p.target.Timeline == 0: // the newest on the way to the timeline that counts, or else the newest
		backups = slices.Clone(p.inv.Backups)
		if w, err := p.inv.way(p.inv.Followed()); err == nil {
			slices.SortStableFunc(backups, func(a, b *backup.Manifest) int { return rank(w, a) - rank(w, b) })
		}
	}
	err := errors.New("the archive holds no backup")
	for _, b := range slices.Backward(backups) {
		var r Reach
		if p.target.Timeline != 0 {
			r, err = p.inv.Reach(b, p.target.Timeline)
		} else if r, err = p.inv.Restorable(b); err == nil {
			p.target.Timeline = r.Timeline
			p.way, err = p.inv.way(r.Timeline)
		}
		if err == nil {
			return p.plan(r, 0, r.From), nil
		}
		if unsound := p.inv.Unsound(b.ID); unsound != nil {
			p.unsound = append([]*backup.Manifest{b}, p.unsound...)
		}
	}
	return Plan{}, p.refuse("%w", err)
}

// newest is the Reach of the newest backup for which before holds. An older one could not reach what this one cannot.
func (p *planner) newest(before func(*backup.Manifest) bool) (Reach, error) {
	for _, b := range slices.Backward(p.backups) {
		if before(b) {
			r, err := p.inv.Reach(b, p.target.Timeline)
			if err != nil {
				err = p.refuse("%w", err)
			}
			return r, err
		}
	}
	return Reach{}, p.refuse("no backup was complete by then")
}

// rank puts the backups on a way behind the others.
func rank(w way, b *backup.Manifest) int {
	if w.holds(b) {
		return 1
	}
	return 0
}
