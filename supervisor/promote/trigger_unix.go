//go:build unix

package promote

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"walkeep/common/pgdata"
)

// trigger tells the server to open. Up to 11 that takes a file in its data directory and a signal (do_promote in
// src/bin/pg_ctl/pg_ctl.c).
func (p *promoter) trigger(ctx context.Context) error {
	if p.info.Major >= 12 {
		return p.c.Promote(ctx)
	}
	if p.PGData == "" {
		return fmt.Errorf("%w: up to version 11 its data directory must be known", ErrRights)
	}
	m, err := pgdata.ReadPostmaster(p.PGData)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(p.PGData, "promote"), nil, 0o600); err != nil {
		return fmt.Errorf("%w: %w", ErrRights, err)
	}
	if err := syscall.Kill(m.PID, syscall.SIGUSR1); err != nil {
		return fmt.Errorf("%w: signal the server: %w", ErrRights, err)
	}
	return nil
}
