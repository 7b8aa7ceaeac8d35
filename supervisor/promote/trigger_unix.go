//go:build unix

package promote

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"walkeep/common/pgdata"
)

// mayTrigger fails with ErrRights unless trigger can do its work. It changes nothing.
func (p *promoter) mayTrigger(ctx context.Context) error {
	if p.info.Major >= 12 {
		return p.mayCall(ctx)
	}
	if p.PGData == "" {
		return fmt.Errorf("%w: up to version 11 its data directory must be known", ErrRights)
	}
	m, err := pgdata.ReadPostmaster(p.PGData)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRights, err)
	}
	if err := unix.Access(p.PGData, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("%w: the trigger file cannot be written into %s: %w", ErrRights, p.PGData, err)
	}
	if err := syscall.Kill(m.PID, 0); err != nil {
		return fmt.Errorf("%w: signal the server: %w", ErrRights, err)
	}
	return nil
}

// trigger requests the server's promotion. Servers up to version 11 need a file in their data directory and a signal (do_promote in
// src/bin/pg_ctl/pg_ctl.c).
func (p *promoter) trigger(ctx context.Context) error {
	if p.info.Major >= 12 {
		return p.c.Promote(ctx)
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
