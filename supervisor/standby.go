package main

import (
	"errors"
	"fmt"
	"os"

	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/conninfo"
	"walkeep/common/recovery"
	"walkeep/supervisor/restore"
)

// checkStandby fails for options that contradict --standby.
func (o *restoreOptions) checkStandby(t target) error {
	switch {
	case t.Kind != recovery.ToLatest:
		return errors.New("--standby has no target: a standby replays all that is archived")
	case o.Action != "":
		return errors.New("--standby has no target, so --target-action does not apply")
	}
	return nil
}

// asStandby makes r the restore of a standby that replays from the spool, and streams from its primary if there is one.
func (call *invocation) asStandby(r *restore.Options, command, slot string) (feed, error) {
	switch err := conninfo.CheckPrimary(call.PrimaryConninfo); {
	case errors.Is(err, conninfo.ErrSecret):
		return feed{}, cli.Fail(exitUsage, fmt.Errorf("primary-conninfo is refused: %w, and the standby's configuration would show it", err),
			"put the password into the password file of the server's user (~/.pgpass), or into another one that passfile=FILE in primary-conninfo names")
	case err != nil:
		return feed{}, fmt.Errorf("primary-conninfo: %w", err)
	case slot != "" && !config.IsSlot(slot):
		return feed{}, fmt.Errorf("--primary-slot: %q is not the name of a replication slot", slot)
	case slot != "" && call.PrimaryConninfo == "":
		return feed{}, errors.New("--primary-slot needs --primary-conninfo")
	}
	s := &restore.Standby{Primary: call.PrimaryConninfo, Slot: slot}
	if host, err := os.Hostname(); err == nil && s.Primary != "" {
		s.Primary = conninfo.WithApplication(s.Primary, host)
	}
	r.Recovery.Standby = s
	return call.fromSpool(r, command)
}

// reportStandby prints what a restored standby will do.
func (call *invocation) reportStandby(r restore.Options, id string) error {
	s := r.Recovery.Standby
	along := "the newest timeline"
	if s.Pinned {
		along = fmt.Sprintf("timeline %d", r.Plan.Timeline)
	}
	from := "the archive"
	if s.Primary != "" {
		from += ", and streams from its primary"
	}
	_, err := fmt.Fprintf(call.out, "it is a standby, follows %s from %s, and needs WAL from %s on (%s when it is gone for good)\n",
		along, from, r.Plan.Backup.FirstSegment(), cli.Call("cleanup", "--forget-standby", id))
	return err
}
