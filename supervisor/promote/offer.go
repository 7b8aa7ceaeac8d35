package promote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"walkeep/common/archive"
	"walkeep/common/notes"
	"walkeep/common/pgdata"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/wal"
	"walkeep/supervisor/pgserver"
)

// offer gives the standby the streamed part of the segment that it needs next, if that part reaches farther than the standby's
// WAL, and waits until the standby has replayed it.
func (p *promoter) offer(ctx context.Context) error {
	s, err := p.replayed(ctx)
	if err != nil {
		return err
	}
	name, err := p.wanted(ctx, s)
	if err != nil {
		return err
	}
	number, err := name.Number(p.info.SegmentSize)
	if err != nil {
		return err
	}
	found, err := p.inv.StreamedOn(ctx, name.Timeline, number)
	switch {
	case errors.Is(err, archive.ErrNotWAL), errors.Is(err, archive.ErrForeign):
		p.Warn("", fmt.Sprintf("the standby does not get the streamed part of %s, which stays in %s: it cannot be used: %v", name, archive.StreamedObject(name), err))
		return nil
	case errors.Is(err, storage.ErrNotExist), err == nil && found.End <= s.Replayed:
		p.Step("the standby has all WAL that was streamed")
		return nil
	case err != nil:
		return err
	}
	p.done.Torn = max(0, found.Length-int64(found.End-found.Start))
	err = p.mayOffer(ctx)
	if err == nil {
		err = p.makeOffer(ctx, name, found)
	}
	if err == nil {
		p.Step(fmt.Sprintf("the standby gets what was streamed of %s, up to %s", name, found.End))
		// The last record is known to be replayed when its beginning is passed, which may lie in the segment before.
		err = p.replay(ctx, s, max(found.Last, s.Replayed)+1)
	}
	if err != nil && p.Force {
		p.Warn("", fmt.Sprintf("the standby does not get what was streamed from %s to %s: %v", s.Replayed, found.End, err))
		return nil
	}
	p.done.Offered = int64(found.End - s.Replayed)
	return err
}

// wanted returns the segment that the standby needs next: the one behind those in the archive, because the record at
// which replay stopped may continue there. It can be of a later timeline than the standby's.
func (p *promoter) wanted(ctx context.Context, s pgserver.Replay) (wal.Name, error) {
	goal, err := p.goal(ctx, s)
	if err != nil {
		return wal.Name{}, err
	}
	size := p.info.SegmentSize
	for number := uint64(s.Replayed) / uint64(size); ; number++ {
		n := wal.SegmentAt(goal, wal.LSN(number*uint64(size)), size)
		if p.inv.Line(goal) != nil { // else nothing of it is archived yet
			if n, err = p.inv.NameOn(goal, number); err != nil {
				return n, err
			}
		}
		if there, err := p.a.HasName(ctx, n); err != nil || !there {
			return n, err
		}
	}
}

// mayOffer reports whether the standby asks restore-cmd for WAL.
func (p *promoter) mayOffer(ctx context.Context) error {
	command, err := p.c.RecoverySetting(ctx, p.info.Major, "restore_command")
	if err != nil {
		return err
	}
	if !strings.Contains(command, "restore-cmd") {
		return fmt.Errorf("%w: its restore_command is %q", ErrNoOffer, command)
	}
	if p.info.ArchiveMode == "always" {
		return fmt.Errorf("%w: with archive_mode = always it would archive that as a complete segment", ErrNoOffer)
	}
	return nil
}

func (p *promoter) makeOffer(ctx context.Context, name wal.Name, found recovery.Part) error {
	id, err := p.standbyID(ctx)
	if err != nil {
		return err
	}
	switch system, err := pgdata.SystemID(p.PGData); {
	case errors.Is(err, fs.ErrPermission): // it may not be read
	case err != nil || system != p.info.SystemID:
		return fmt.Errorf("%w: its data directory %s is not on this host, from where restore-cmd would get it", ErrNoOffer, p.PGData)
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	// The spool may have held only what was fetched.
	if err := p.Spool.Archive.Bind(ctx, archive.Identity{SystemID: p.info.SystemID, SegmentSize: p.info.SegmentSize}); err != nil {
		return err
	}
	length := int64(found.End - found.Start)
	source, err := p.Spool.KeepStreamed(ctx, p.a, found.Source, length) // restore-cmd reads the spool alone
	if err != nil {
		return err
	}
	return p.Spool.Archive.MakeOffer(ctx, notes.Offer{
		ID: id, Host: host, Data: p.PGData, Segment: name.String(), Source: source, Length: length,
	})
}

// standbyID names what the archive keeps for this standby: its note and what it is offered.
func (p *promoter) standbyID(ctx context.Context) (string, error) {
	if p.PGData == "" {
		return "", fmt.Errorf("%w: its data directory is not known", ErrNoOffer)
	}
	dir := p.PGData
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real // as restore-cmd finds it
	}
	return p.a.Notes().StandbyHere(ctx, dir)
}
