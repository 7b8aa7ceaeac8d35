package restore

import (
	"errors"
	"fmt"
	"strconv"

	"walkeep/common/recovery"
	"walkeep/supervisor/launch"
	"walkeep/supervisor/pgconf"
)

// A Recovery describes what the server does when it is started.
type Recovery struct {
	Command string // restore_command
	Action  string // at the target: pause, promote or shutdown
	// Standby makes it a standby; nil for a server that opens the database, or stops at a target.
	Standby *Standby
	// Until replaces the plan's target, and the server opens the database there; nil: the plan's target.
	Until *recovery.Target
}

// Server returns the server of the restored directory, to be started.
func (o Options) Server() launch.Server {
	return launch.Server{Plan: o.Plan, Dir: o.Dir, Standby: o.Recovery.Standby != nil, Action: o.Recovery.Action}
}

func (c Recovery) check() error {
	switch {
	case c.Command == "":
		return errors.New("no restore_command is given")
	case c.Standby != nil:
		return nil
	case c.Action != "pause" && c.Action != "promote" && c.Action != "shutdown":
		return fmt.Errorf("the action at the target is pause, promote or shutdown, not %q", c.Action)
	}
	return nil
}

// targetNames are settings; only one of them may have a value.
var targetNames = []string{"recovery_target", "recovery_target_lsn", "recovery_target_name", "recovery_target_time", "recovery_target_xid"}

// timeForm is unambiguous for all time zones and date styles of the server.
const timeForm = "2006-01-02 15:04:05.999999-07:00"

// target returns the setting for the target; without a name for the end of the WAL.
func target(t recovery.Target) pgconf.Setting {
	switch t.Kind {
	case recovery.ToImmediate:
		return pgconf.Set("recovery_target", "immediate")
	case recovery.ToLSN:
		return pgconf.Set("recovery_target_lsn", t.LSN.String())
	case recovery.ToName:
		return pgconf.Set("recovery_target_name", t.Name)
	case recovery.ToTime:
		return pgconf.Set("recovery_target_time", t.Time.UTC().Format(timeForm))
	case recovery.ToXID:
		return pgconf.Set("recovery_target_xid", strconv.FormatUint(uint64(t.XID), 10))
	}
	return pgconf.Setting{}
}

// settings returns the settings for the planned recovery. elsewhere has the names that have a value in the user's own
// configuration, which must have no effect.
func (r *restorer) settings(elsewhere map[string]bool) []pgconf.Setting {
	if r.Recovery.Standby != nil {
		return r.standbySettings(elsewhere)
	}
	to, action := r.Plan.Target, r.Recovery.Action
	if r.Recovery.Until != nil {
		to, action = *r.Recovery.Until, "promote"
	}
	t := target(to)
	all := []pgconf.Setting{pgconf.Set("restore_command", r.Recovery.Command)}
	// The setting of the target comes last, because setting another one after it is an error, even to nothing.
	for _, name := range targetNames {
		if elsewhere[name] && name != t.Name {
			all = append(all, pgconf.Set(name, ""))
		}
	}
	all = append(all, pgconf.Set("recovery_target_timeline", strconv.FormatUint(uint64(r.Plan.Timeline), 10)))
	if t.Name == "" {
		return all
	}
	inclusive := "on"
	if to.Exclusive {
		inclusive = "off"
	}
	return append(all, t, pgconf.Set("recovery_target_inclusive", inclusive), pgconf.Set("recovery_target_action", action))
}
