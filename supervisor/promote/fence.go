package promote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"walkeep/supervisor/pgserver"
)

// fenceTimeout is how long each server that may be the old primary has to answer.
const fenceTimeout = 3 * time.Second

// seeThatItIsDown is the hint of a warning that the old primary could not be checked.
const seeThatItIsDown = "make sure that it is down, and stays down, before clients are sent here"

// fence makes sure that the old primary is no longer a primary.
//
// A standby that streams proves that a server lives at the other end, whatever else is known of where the primary is. A
// server is down if connections are refused at the place that the standby or the user names. A server that accepts a
// connection and does not answer hangs and can resume at any moment, so it counts as living. If nothing comes back at
// all, the host is off or cannot be reached. That looks like a lost host, so it is a warning and no reason to refuse. A
// stream of the archive may still hear a server to which none of these places leads.
func (p *promoter) fence(ctx context.Context) error {
	err := p.checkPrimary(ctx)
	if err != nil && p.Force {
		p.Warn("stop it now: what it writes from now on is on another timeline", err.Error()+"; it is not stopped, because of --force")
		return nil
	}
	return err
}

func (p *promoter) checkPrimary(ctx context.Context) error {
	// A conninfo of several servers names the primary, too.
	all, err := pgserver.Places(p.servers)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnchecked, err)
	}
	several := len(all) > 1
	named := several || p.Primary != ""
	if several {
		if err := p.checkDown(ctx, all, named); err != nil {
			return err
		}
	}
	// A setting that the standby does not show to this role counts as not set.
	own, _ := p.c.RecoverySetting(ctx, p.info.Major, "primary_conninfo")
	if p.Primary != "" {
		places, err := pgserver.Places(p.Primary)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnchecked, err)
		}
		if err := p.checkDown(ctx, places, named); err != nil {
			return err
		}
	}
	if own != "" {
		switch places, err := p.c.PrimaryPlaces(own, p.PGData); {
		case err != nil && p.Primary == "":
			return fmt.Errorf("%w: its primary_conninfo: %w", ErrUnchecked, err)
		case err != nil:
			p.Warn("", fmt.Sprintf("the server that the standby's primary_conninfo names cannot be checked from this host: %v", err))
		default:
			if err := p.checkDown(ctx, places, named); err != nil {
				return err
			}
		}
	}
	if _, err := p.checkReceiver(ctx, p.c, "the standby", 0); err != nil {
		return err
	}
	if own == "" && !named {
		p.Warn(seeThatItIsDown+"; with --primary-conninfo it is checked",
			"the address of the old primary is not known, so it was not checked whether it still runs")
	}
	return p.checkStreams(ctx)
}

// checkDown fails if one of the servers can be written to, or may be soon. Where the user named the primary, the places
// that are down are part of the result. Otherwise they are where the standby streamed from, which need not be the
// primary, so checkDown warns.
func (p *promoter) checkDown(ctx context.Context, places []pgserver.Place, named bool) error {
	recovering := 0
	for _, place := range places {
		state, err := p.checkPlace(ctx, place, 0)
		if err != nil {
			return err
		}
		switch {
		case state == recovers:
			recovering++
		case state == down && named:
			if !slices.Contains(p.done.Down, place.String()) {
				p.done.Down = append(p.done.Down, place.String())
			}
		case state == down:
			p.Warn("", fmt.Sprintf("took %s for down: nothing listens there; the standby streamed from there, and if that server was a standby itself, its primary was not checked (--primary-conninfo names the primary)", place))
		}
	}
	if recovering == len(places) {
		p.Warn(seeThatItIsDown+"; --primary-conninfo names the primary",
			"the server that was named as the old primary is itself in recovery, so it is not known whether a primary still runs")
	}
	return nil
}

// A state is the state of a server that may be the old primary and does not live as one.
type state int

const (
	down state = iota
	silent
	recovers
)

// longestChain is the largest number of standbys between the one that is promoted and the primary that Run follows.
const longestChain = 8

// checkReceiver fails if a standby streams from a server that is, or may be, a primary: it may be a standby of another one.
// It reports whether the standby streams from another standby.
func (p *promoter) checkReceiver(ctx context.Context, c *pgserver.Conn, who string, depth int) (chained bool, err error) {
	first, err := c.Receiver(ctx)
	if err != nil || !first.Streaming {
		return false, err
	}
	place, unreached := c.Sender(first)
	var found state
	if unreached == nil && depth < longestChain {
		if found, err = p.checkPlace(ctx, place, depth+1); err != nil || found == recovers {
			return found == recovers, err
		}
	}
	begun, said := time.Now(), false
	for r := first; ; {
		switch {
		case !r.Streaming:
			return false, nil
		case unreached != nil && depth > 0:
			return false, fmt.Errorf("%w: %s streams, and its source %w", ErrUnchecked, who, unreached)
		case unreached == nil && found == silent && !r.Heard.After(first.Heard):
			// A host that was lost a moment ago looks so, until the standby's question stays without an answer.
			unheard := r.Now.Sub(r.Heard)
			if r.Patience > 0 && unheard > r.Patience/2+fenceTimeout {
				p.Warn(seeThatItIsDown, fmt.Sprintf("%s has received nothing from %s for %s, and no answer when it asked", who, place, unheard.Round(time.Second)))
				return false, nil
			}
			if !said {
				p.Step(fmt.Sprintf("%s streams from %s, which does not answer this host: waiting until the stream ends or the server answers", who, place))
				said = true
			}
		case time.Since(begun) > fenceTimeout || r.Heard.After(first.Heard):
			return false, p.streams(who, r)
		}
		if sleep(ctx) != nil {
			return false, p.streams(who, r)
		}
		if r, err = c.Receiver(ctx); err != nil {
			if ctx.Err() != nil {
				return false, p.streams(who, first)
			}
			return false, err
		}
	}
}

func (p *promoter) streams(who string, r pgserver.Receiver) error {
	from := "it"
	if r.Host != "" {
		from = r.String()
	}
	return fmt.Errorf("%w: %s streams from %s", ErrPrimaryLives, who, from)
}

// checkPlace fails if a server can be written to, or may be soon. Otherwise it returns the server's state.
func (p *promoter) checkPlace(ctx context.Context, place pgserver.Place, depth int) (state, error) {
	limited, cancel := context.WithTimeout(ctx, fenceTimeout)
	defer cancel()
	c, contact, err := place.Connect(limited)
	if err != nil {
		switch {
		case contact == pgserver.Refused:
			p.Step(fmt.Sprintf("nothing listens at %s", place))
			return down, nil
		case contact == pgserver.Silent:
			p.Warn(seeThatItIsDown, fmt.Sprintf("the old primary's host (%s) does not answer: it is off or cannot be reached, so it is not known whether the server runs", place))
			return silent, nil
		case pgserver.Answered(err):
			return down, fmt.Errorf("%w, and it is not known whether it is open for writing: %w", ErrPrimaryLives, err)
		case errors.Is(err, context.DeadlineExceeded):
			return down, p.hangs(place)
		}
		return down, fmt.Errorf("%w: it accepts connections, and it is not known whether it is open for writing: %w", ErrPrimaryLives, err)
	}
	defer c.Close(context.WithoutCancel(ctx))
	info, err := c.Info(limited)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return down, p.hangs(place)
	case err != nil:
		return down, fmt.Errorf("%w, and it is not known whether it is open for writing: %w", ErrPrimaryLives, err)
	case info.SystemID != p.info.SystemID:
		return down, fmt.Errorf("the server that was named as the old primary (%s) belongs to another cluster: its system identifier is %s", place, info.SystemID)
	case info.InRecovery:
		p.Step(fmt.Sprintf("the server at %s is in recovery itself", place))
		_, err := p.checkReceiver(ctx, c, "the standby at "+place.String(), depth+1)
		return recovers, err
	}
	return down, fmt.Errorf("%w, and is open for writing", ErrPrimaryLives)
}

// hangs returns the error of a server that hangs and may resume.
func (p *promoter) hangs(place pgserver.Place) error {
	return fmt.Errorf("%w: it accepts connections at %s and does not answer; a server that hangs can resume at any moment", ErrPrimaryLives, place)
}
