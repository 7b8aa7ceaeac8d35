package promote

import (
	"context"
	"fmt"
)

// trigger tells the server to open. There are no servers before 12 that could be told from here.
func (p *promoter) trigger(ctx context.Context) error {
	if p.info.Major < 12 {
		return fmt.Errorf("%w: on Windows a server of version %d is promoted with pg_ctl promote", ErrRights, p.info.Major)
	}
	return p.c.Promote(ctx)
}
