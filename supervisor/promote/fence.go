package promote

import (
	"context"
	"errors"
	"fmt"
	"time"

	"walkeep/supervisor/pgserver"
)

// fenceTimeout is how long each server that may be the old primary has to answer.
const fenceTimeout = 3 * time.Second

// What a warning says to do where nobody could look.
const seeThatItIsDown = "make sure that it is down, and stays down, before clients are sent here"

// fence makes sure that the old primary is no primary any more.
//
// Down is what refuses connections. A server that accepts them and says nothing hangs, and may go on at any moment, so it
// lives. From where nothing comes back at all, the host is off or cannot be reached: that cannot be told from here, and is no
// reason to refuse, because it is what a lost host looks like; it is said.
func (p *promoter) fence(ctx context.Context) error {
	primary := p.Primary
	if primary == "" {
		// What the standby does not say, or not to this role, is as if nothing said it.
		primary, _ = p.c.RecoverySetting(ctx, p.info.Major, "primary_conninfo")
	}
	s, err := p.replayed(ctx)
	if err != nil {
		return err
	}
	if primary == "" && s.Streaming != nil && *s.Streaming {
		err = fmt.Errorf("%w: the standby streams from it", ErrPrimaryLives)
	} else if primary == "" {
		p.Warn(seeThatItIsDown+"; --primary-conninfo makes this a check",
			"nothing says where the old primary is, so nobody has looked whether it still runs")
		return nil
	} else {
		err = p.checkDown(ctx, primary)
	}
	if err != nil && p.Force {
		p.Warn("stop it now: what is written there from here on is on another timeline", err.Error()+"; it is left alone, because of --force")
		return nil
	}
	return err
}

// checkDown fails if one of the servers at primary can be written to, or may be soon.
func (p *promoter) checkDown(ctx context.Context, primary string) error {
	places, err := pgserver.Places(primary)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnchecked, err)
	}
	recovering := 0
	for _, place := range places {
		inRecovery, err := p.checkPlace(ctx, place)
		if err != nil {
			return err
		}
		if inRecovery {
			recovering++
		}
	}
	if recovering == len(places) {
		p.Warn(seeThatItIsDown+"; --primary-conninfo says where the primary is",
			"the server that is said to be the old primary is in recovery itself, so nobody has looked whether there is a primary that still runs")
	}
	return nil
}

// checkPlace fails if a server can be written to, or may be soon, and tells whether it is a standby.
func (p *promoter) checkPlace(ctx context.Context, place pgserver.Place) (inRecovery bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, fenceTimeout)
	defer cancel()
	c, contact, err := place.Connect(ctx)
	if err != nil {
		switch {
		case contact == pgserver.Refused:
			p.Step(fmt.Sprintf("nothing listens at %s any more", place))
		case contact == pgserver.Silent:
			p.Warn(seeThatItIsDown, fmt.Sprintf("nothing comes back from the old primary's host (%s), which is off or cannot be reached: whether the server runs is not known", place))
		case pgserver.Answered(err):
			return false, fmt.Errorf("%w, although it could not be asked whether it is open: %w", ErrPrimaryLives, err)
		case errors.Is(err, context.DeadlineExceeded):
			return false, p.hangs(place)
		default:
			return false, fmt.Errorf("%w, although it could not be asked whether it is open: it accepts connections: %w", ErrPrimaryLives, err)
		}
		return false, nil
	}
	defer c.Close(context.WithoutCancel(ctx))
	info, err := c.Info(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return false, p.hangs(place)
	case err != nil:
		return false, fmt.Errorf("%w, although it could not be asked whether it is open: %w", ErrPrimaryLives, err)
	case info.SystemID != p.info.SystemID:
		return false, fmt.Errorf("the server that is said to be the old primary (%s) is another cluster: its system identifier is %s", place, info.SystemID)
	case info.InRecovery:
		p.Step(fmt.Sprintf("the server at %s is in recovery itself", place))
		return true, nil
	}
	return false, fmt.Errorf("%w, and is open for writing", ErrPrimaryLives)
}

// hangs is what is said of a server that may go on.
func (p *promoter) hangs(place pgserver.Place) error {
	return fmt.Errorf("%w: it accepts connections at %s, and says nothing; a server that hangs may go on at any moment", ErrPrimaryLives, place)
}
