package promote

import (
	"context"
	"errors"
	"fmt"
	"time"

	"walkeep/supervisor/pgserver"
)

// fenceTimeout is how long the old primary has to answer.
const fenceTimeout = 3 * time.Second

// fence makes sure that the old primary is no primary any more.
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
		if !p.Force {
			return fmt.Errorf("%w: the standby streams from it", ErrPrimaryLives)
		}
	} else if primary == "" {
		p.Warn("make sure that it is down before clients are sent here; --primary-conninfo makes this a check",
			"nothing says where the old primary is, so nobody has looked whether it still runs")
		return nil
	}
	err = p.checkDown(ctx, primary)
	if err != nil && p.Force {
		p.Warn("stop it now: what is written there from here on is on another timeline", err.Error()+"; it is left alone, because of --force")
		return nil
	}
	return err
}

// checkDown fails if the server at primary can be written to, or may be soon.
func (p *promoter) checkDown(ctx context.Context, primary string) error {
	ctx, cancel := context.WithTimeout(ctx, fenceTimeout)
	defer cancel()
	c, err := pgserver.Connect(ctx, primary)
	if err != nil {
		if ctx.Err() == nil && pgserver.Answered(err) {
			return fmt.Errorf("%w, although it could not be asked whether it is open: %w", ErrPrimaryLives, err)
		}
		p.Step("the old primary does not answer")
		return nil
	}
	defer c.Close(context.WithoutCancel(ctx))
	info, err := c.Info(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w, although it could not be asked whether it is open: it accepts connections, and says nothing", ErrPrimaryLives)
	case err != nil:
		return fmt.Errorf("%w, although it could not be asked whether it is open: %w", ErrPrimaryLives, err)
	case info.SystemID != p.info.SystemID:
		return fmt.Errorf("the server that is said to be the old primary is another cluster: its system identifier is %s", info.SystemID)
	case info.InRecovery:
		p.Step("the server that is said to be the old primary is in recovery itself")
		return nil
	}
	return fmt.Errorf("%w, and is open for writing", ErrPrimaryLives)
}
