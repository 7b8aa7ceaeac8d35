package promote

import (
	"context"
	"fmt"
)

// mayTrigger fails with ErrRights unless trigger can do its work. A server before version 12 cannot be promoted from here.
func (p *promoter) mayTrigger(ctx context.Context) error {
	if p.info.Major < 12 {
		return fmt.Errorf("%w: on Windows a server of version %d is promoted with pg_ctl promote", ErrRights, p.info.Major)
	}
	return p.mayCall(ctx)
}

// trigger requests the server's promotion.
func (p *promoter) trigger(ctx context.Context) error { return p.c.Promote(ctx) }
