// Package promote brings a standby online with the least possible loss, and reports what was lost.
//
// A promotion takes these steps, in this order:
//
//  1. Run checks that the old primary does not answer as a server that accepts writes.
//  2. The standby replays all WAL that the archive holds and that it has received by streaming.
//  3. Run offers the standby the segment that the primary was writing when it was lost, as far as that was streamed into
//     the archive. restore-cmd delivers it to this standby alone, with zeros behind the last whole record; replay ends there.
//  4. Run stores in the archive the WAL that only the standby has.
//  5. Run makes the server open.
//
// Each step can be repeated: the next call completes a promotion that was interrupted anywhere.
package promote

import (
	"context"
	"errors"
	"fmt"
	"time"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/pgserver"
	"walkeep/supervisor/spool"
)

// Errors of Run, for errors.Is. After any of them but ErrNotOpen, the server was not told to open.
var (
	// ErrPrimaryLives reports that the old primary answers. A promotion would make two primaries.
	ErrPrimaryLives = cli.NewError("the old primary still answers",
		"stop it, and make sure that it stays down; --force promotes beside it, and makes two primaries")
	// ErrUnchecked reports that Run could not determine whether the old primary answers.
	ErrUnchecked = cli.NewError("whether the old primary still runs cannot be checked",
		"name its address with --primary-conninfo, or make sure that it is down, and repeat this; --force promotes without this check")
	// ErrWarm reports that Run cannot ask the standby for its position.
	ErrWarm = cli.NewError("the standby accepts no connections before it is promoted (hot_standby = off)",
		"set hot_standby = on and restart the standby, which loses nothing, or promote it with pg_ctl promote, without what was streamed")
	// ErrNotConsistent reports that the standby has not accepted a connection within Options.Timeout.
	ErrNotConsistent = cli.NewError("the standby has not accepted connections in time",
		"see its log: it may need WAL that is missing, or more time (--timeout), or accept no connections (hot_standby = off)")
	// ErrBehind reports that the standby does not reach the end of the WAL that the archive holds or that it has received.
	ErrBehind = cli.NewError("the standby has not replayed all WAL that it has or that the archive holds",
		"see the standby's log for what stops it; --force promotes it without that WAL, --timeout gives it longer")
	// ErrDelayed reports that the standby is configured to replay with a delay. It is an ErrBehind.
	ErrDelayed = cli.Hinted(fmt.Errorf("%w, because it delays its replay (recovery_min_apply_delay)", ErrBehind),
		"to let it replay everything first, set recovery_min_apply_delay = 0 there and reload it (up to version 11: remove it from recovery.conf, and restart it); --force opens it now, and it replays what it has received while it opens")
	// ErrNoOffer reports that Run cannot give the standby the WAL that was streamed.
	ErrNoOffer = cli.NewError("the standby cannot get what was streamed",
		"let its restore_command call restore-cmd with this spool (restart it up to version 13), and set archive_mode to another value than always (restart it), or promote with --force, without what was streamed")
	// ErrNotStored reports that Run cannot archive the WAL that only the standby has.
	ErrNotStored = cli.NewError("the WAL that only the standby has received cannot be archived, and the archive would never have it",
		"check that the spool can be written to and has room, and repeat this; --force promotes without it, and the archive cannot be recovered past that until a new base backup is taken")
	// ErrRights reports that the role lacks a right that a promotion needs.
	ErrRights = cli.NewError("the role may not promote the server",
		"connect as a superuser: repeat this on the standby's host, as the server's user, with --conninfo 'user=postgres' (and its port, if that is not 5432)")
	// ErrNotOpen reports that the server did not open in time after Run told it to.
	ErrNotOpen = cli.NewError("the server has not opened for writing in time",
		"the server was told to open: see its log, and repeat the promotion")
)

// Options are the parameters of [Run].
type Options struct {
	Conninfo string // of the standby
	// Primary is the conninfo of the old primary. Empty: Run uses the standby's primary_conninfo, if the role may read it.
	Primary string
	PGData  string // the standby's data directory, for a server that does not name it
	// Spool is that of the standby's restore-cmd, and Archive is what holds the WAL for the standby: the spool and repositories, or
	// the spool alone if it is nil.
	Spool   *spool.Spool
	Archive *archive.Archive
	// WholeOnly keeps no part of a segment in partial/, where nothing is encrypted.
	WholeOnly bool
	Force     bool // promote although the old primary answers or WAL would be lost
	// Timeout bounds all steps before the server's promotion, and, separately, the time until it has opened.
	Timeout time.Duration
	// Run calls Step with a message about each step, and Warn with each warning. Both are optional.
	Step func(message string)
	Warn func(hint, message string)
}

// A Result describes a promotion.
type Result struct {
	Already    bool // the server was open before
	Timeline   wal.Timeline
	End        wal.LSN   // where replay ended: the last position of the old timeline
	LastCommit time.Time // of the last transaction that was replayed; zero if there was none
	Offered    int64     // bytes that came from the segment that was being written
	Torn       int64     // bytes that were streamed behind the last whole record; they cannot be replayed
	Took       time.Duration
	Loss       Loss
	Down       []string // the places of the old primary at which nothing listens
}

// A promoter is the state of one promotion.
type promoter struct {
	Options
	a     *archive.Archive
	c     *pgserver.Conn
	info  pgserver.Info
	begun time.Time
	// servers is the conninfo that the caller gave. It may name several servers; connect sets Conninfo to the standby's own.
	servers string
	done    Result
	// kept is the end of the last whole record that the archive or partial/ has of the timeline that the standby goes to,
	// whether the standby got it or not.
	kept wal.LSN
	// inv was read after all complete segments had been stored and before the standby was asked for its position. Its
	// streams describe the old timeline; they may have moved to the new one since.
	inv   *recovery.Inventory
	trace trace
}

// poll is the interval between two questions to the server.
const poll = 20 * time.Millisecond

// Run promotes the standby. If the server is open already, Run completes an earlier promotion that was interrupted. It
// returns a Result in every case; with an error, the Result holds what was found until then. Two calls for one standby
// must not run at the same time.
func Run(ctx context.Context, o Options) (*Result, error) {
	p := &promoter{Options: o, a: o.Archive, begun: time.Now(), servers: o.Conninfo}
	if p.a == nil {
		p.a = o.Spool.Archive
	}
	if p.Step == nil {
		p.Step = func(string) {}
	}
	if p.Warn == nil {
		p.Warn = func(string, string) {}
	}
	err := p.run(ctx)
	if p.c != nil {
		p.c.Close(context.WithoutCancel(ctx))
	}
	p.done.Took = time.Since(p.begun)
	if err != nil && pgserver.Denied(err) {
		err = fmt.Errorf("%w: %w", ErrRights, err)
	}
	return &p.done, err
}

func (p *promoter) run(ctx context.Context) (err error) {
	limited, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	if p.c, err = p.connect(limited); err != nil {
		return err
	}
	if p.info, err = p.c.Info(limited); err != nil {
		return err
	}
	if p.info.DataDir != "" { // the configured directory may be the lost primary's
		p.PGData = p.info.DataDir
	}
	id, err := p.a.Identity(limited)
	if err != nil {
		return err
	}
	if id.SystemID != p.info.SystemID {
		return fmt.Errorf("the server is %w: its system identifier is %s, that of the archive %s", archive.ErrForeign, p.info.SystemID, id.SystemID)
	}
	_, err = p.replayed(limited)
	standby := err == nil
	if err != nil && !errors.Is(err, pgserver.ErrNoRecovery) {
		return err
	}
	if standby {
		if err := p.mayTrigger(limited); err != nil {
			return err
		}
		if err = p.prepare(limited); err == nil {
			err = p.open(ctx)
		}
		if errors.Is(err, pgserver.ErrNoRecovery) { // an earlier promotion, which was interrupted, has told it to open
			standby, err = false, nil
		}
		if err != nil && !errors.Is(err, ErrNotOpen) {
			p.withdraw(context.WithoutCancel(ctx)) // it stays a standby
		}
		if err != nil {
			return err
		}
	}
	p.done.Already = !standby
	return p.conclude(ctx)
}

// replayed returns how far the standby has replayed. It returns [pgserver.ErrNoRecovery] if the server is no standby any
// longer, and [pgserver.ErrDemand] if a setting of the standby prevents it from replaying further and from opening.
func (p *promoter) replayed(ctx context.Context) (pgserver.Replay, error) {
	r, err := p.c.Replay(ctx, p.info.Major)
	if err == nil {
		err = r.MayGoOn()
	}
	return r, err
}

// mayCall fails with ErrRights unless the role may call pg_promote.
func (p *promoter) mayCall(ctx context.Context) error {
	may, err := p.c.MayPromote(ctx)
	if err == nil && !may {
		err = fmt.Errorf("%w: role %q may not call pg_promote", ErrRights, p.c.Config().User)
	}
	return err
}

// prepare takes all steps before Run makes the server open.
func (p *promoter) prepare(ctx context.Context) error {
	if err := p.takeTrace(ctx); err != nil {
		return err
	}
	if err := p.fence(ctx); err != nil {
		return err
	}
	p.trace.end = max(p.trace.end, p.streamedTo(ctx)) // a stream may have received this before the promotion began
	s, err := p.replayed(ctx)
	if err != nil {
		return err
	}
	if s.Pausing {
		p.Step("replay was paused: resuming it")
		if err := p.c.ContinueReplay(ctx); err != nil {
			return err
		}
	}
	if err := p.storeComplete(ctx); err != nil {
		return err
	}
	if p.inv, err = recovery.ReadInventory(ctx, p.a); err != nil {
		return err
	}
	if s, err = p.replayed(ctx); err != nil {
		return err
	}
	goal, err := p.goal(ctx, s)
	if err != nil {
		return err
	}
	p.findKept(ctx, goal)
	if err := p.catchUp(ctx, goal); err != nil {
		if !p.Force || !errors.Is(err, ErrBehind) {
			return err
		}
		p.Warn("", err.Error()+"; the server is promoted all the same, because of --force")
		return p.storeOwn(ctx) // the standby cannot replay streamed WAL behind the hole
	}
	if err := p.offer(ctx); err != nil {
		return err
	}
	if !p.Force {
		if err := p.checkTrace(ctx); err != nil {
			return err
		}
	}
	return p.storeOwn(ctx)
}

// open makes the server open, and waits until it has.
func (p *promoter) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout) // a promotion cannot be undone, so it gets the whole time
	defer cancel()
	if p.c.IsClosed() { // the time limit interrupted a query
		c, err := pgserver.Connect(ctx, p.Conninfo)
		if err != nil {
			return err
		}
		p.c = c
	}
	p.Step("promoting")
	if err := p.trigger(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	for {
		_, err := p.replayed(ctx)
		switch {
		case errors.Is(err, pgserver.ErrNoRecovery):
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%w (%s)", ErrNotOpen, p.Timeout)
		case err != nil:
			return cli.Hinted(fmt.Errorf("%w: %w", ErrNotOpen, err), cli.Hint(err))
		}
		if err := sleep(ctx); err != nil {
			return fmt.Errorf("%w (%s)", ErrNotOpen, p.Timeout)
		}
	}
}

// conclude completes the result and withdraws the offer.
func (p *promoter) conclude(ctx context.Context) (err error) {
	if p.inv == nil { // there was nothing to prepare
		if p.inv, err = recovery.ReadInventory(ctx, p.a); err != nil {
			return err
		}
	}
	s, err := p.replayed(ctx)
	if err != nil && !errors.Is(err, pgserver.ErrNoRecovery) {
		return err
	}
	p.done.End = s.Replayed
	if !s.Committed.IsZero() {
		p.done.LastCommit = s.Committed.UTC()
	}
	var at wal.LSN
	if p.done.Timeline, at, err = p.c.WritesTo(ctx); err != nil {
		return err
	}
	if err := p.withdraw(ctx); err != nil {
		return err
	}
	if why := p.misplaced(ctx); why != "" {
		p.Warn("if this is the old primary, stop it and let it rejoin; if it crashed while it was promoted, stop it, start it as a standby of its own timeline (standby.signal and recovery_target_timeline = current; up to 11 recovery.conf without that setting), promote it, and take a base backup",
			fmt.Sprintf("the server writes to timeline %d, %s", p.done.Timeline, why))
	} else if err := p.succeed(ctx, at); err != nil {
		p.Warn(cli.Call("cleanup")+" --forget-standby ends this", fmt.Sprintf("the archive still keeps WAL for the standby that this server was: %v", err))
	}
	p.done.Loss = p.loss()
	p.warnArchiving()
	return nil
}

// warnArchiving warns if the server archives nothing.
func (p *promoter) warnArchiving() {
	if p.info.ArchiveMode == "off" {
		p.Warn("set archive_mode and archive_command, which "+cli.Call("setup")+" does, and restart the server, or let "+cli.Call("sync")+" follow it; then take a base backup",
			"archive_mode is off, so the server archives nothing: unless a stream follows it, what is written from here on is not in the archive")
	}
}

// misplaced returns why an open server should not write to its timeline; empty if there is no reason. A server gets
// into this state if it crashes after it has stopped being a standby and before its new timeline is on disk.
func (p *promoter) misplaced(ctx context.Context) string {
	if !p.done.Already {
		return ""
	}
	if newest := p.inv.Followed(); newest > p.done.Timeline {
		return fmt.Sprintf("and the archive has timeline %d, which is not this server's", newest)
	}
	id, err := p.standbyID(ctx)
	if err != nil {
		return ""
	}
	for _, s := range p.inv.Standbys {
		if n, err := wal.ParseName(s.Restartpoint); err == nil && s.ID == id && n.Timeline == p.done.Timeline {
			return "which is that of its primary"
		}
	}
	return ""
}

// withdraw removes the offer, and the copy that was made for it.
func (p *promoter) withdraw(ctx context.Context) error {
	id, err := p.standbyID(ctx)
	if err != nil {
		return nil // none was made
	}
	offers, _, err := p.Spool.Archive.Notes().Offers(ctx)
	if err := errors.Join(err, p.Spool.Archive.Notes().WithdrawOffer(ctx, id)); err != nil {
		return err
	}
	for _, o := range offers {
		if o.ID == id {
			err = errors.Join(err, p.Spool.DropOffered(o.Source))
		}
	}
	return err
}

// succeed notes in the archive that the server is the production server, and removes its note as a standby.
func (p *promoter) succeed(ctx context.Context, at wal.LSN) error {
	s := notes.Server{SystemID: p.info.SystemID, Timeline: p.done.Timeline, LSN: at, Newest: p.inv.Newest(), Promoted: !p.done.Already}
	if err := p.a.Notes().NoteServer(ctx, s); err != nil {
		p.Warn(cli.Call("check")+" stores it in the archive", fmt.Sprintf("the archive does not know yet that timeline %d is the one to follow: %v", s.Timeline, err))
	}
	return p.forget(ctx)
}

// forget removes the server's note as a standby, so that cleanup can remove the WAL that it needed.
func (p *promoter) forget(ctx context.Context) error {
	id, err := p.standbyID(ctx)
	if err != nil {
		return nil // the server has no note here, or its data directory is unknown
	}
	if err := p.a.Notes().ForgetStandby(ctx, id); err != nil && !errors.Is(err, notes.ErrAbsent) {
		return err
	}
	return nil
}

func sleep(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(poll):
		return nil
	}
}
