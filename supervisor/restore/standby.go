package restore

import (
	"context"
	"errors"
	"strconv"

	"walkeep/common/pgdata"
	"walkeep/common/wal"
	"walkeep/supervisor/pgserver"
)

// A Standby is a server that goes on replaying what is archived, until it is promoted.
type Standby struct {
	Timeline wal.Timeline // along which it goes; 0: the newest, whichever that will be
	Primary  string       // primary_conninfo; empty: it is fed from the archive alone
	Slot     string       // primary_slot_name, if any
	Note     string       // archive_cleanup_command, which says how far it has come; empty: none
}

// Follows are the outcomes of [Start] for a standby.
const (
	Hot  = "hot"  // it is consistent, and accepts connections
	Warm = "warm" // it replays, and lets nobody look (hot_standby = off)
)

// standbySettings are what a standby needs to know. The user's own targets are none of it.
func (r *restorer) standbySettings(elsewhere map[string]bool) []setting {
	s := r.Recovery.Standby
	all := []setting{{"restore_command", r.Recovery.Command}}
	for _, name := range targetNames {
		if elsewhere[name] {
			all = append(all, setting{name, ""})
		}
	}
	timeline := "latest"
	if s.Timeline != 0 {
		timeline = strconv.FormatUint(uint64(s.Timeline), 10)
	}
	all = append(all, setting{"recovery_target_timeline", timeline})
	if s.Primary != "" {
		all = append(all, setting{"primary_conninfo", s.Primary})
	}
	if s.Slot != "" {
		all = append(all, setting{"primary_slot_name", s.Slot})
	}
	if s.Note != "" {
		all = append(all, setting{"archive_cleanup_command", s.Note})
	}
	return all
}

// signals are the files that say how a server of 12 or newer recovers. Of an earlier life of the directory none may stay.
var signals = map[bool]string{false: "recovery.signal", true: "standby.signal"}

// following says how a standby, of which pg_ctl says that it runs, goes on, and reports how far it has replayed.
func (s *Starting) following(ctx context.Context, p pgdata.Postmaster) (string, error) {
	outcome := Hot
	if s.isWarm() {
		outcome = Warm
	} else if c, err := pgserver.ConnectAt(ctx, s.Conninfo, p.Host, p.Port); err == nil {
		defer c.Close(context.WithoutCancel(ctx))
		var text string
		if err := c.QueryRow(ctx, "SELECT coalesce(pg_last_wal_replay_lsn()::text, '')").Scan(&text); err == nil {
			if lsn, err := wal.ParseLSN(text); err == nil {
				s.replayed(lsn)
				return outcome, nil
			}
		}
	} else if ctx.Err() != nil {
		return "", ctx.Err()
	}
	// The control file knows a position that is not far behind.
	c, err := pgdata.ReadControl(s.Dir)
	if errors.Is(err, pgdata.ErrControlVersion) {
		return outcome, nil // the server of a version to come runs, and that is all that can be said
	}
	if err != nil {
		return "", errors.Join(ErrStopped, err)
	}
	lsn, _ := c.End()
	s.replayed(lsn)
	return outcome, nil
}

func (s *Starting) replayed(lsn wal.LSN) {
	if s.Replayed != nil {
		s.Replayed(lsn)
	}
}
