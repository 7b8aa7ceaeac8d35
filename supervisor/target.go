package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"walkeep/common/recovery"
	"walkeep/common/wal"
)

// targetOptions are the options that say where recovery ends.
type targetOptions struct {
	Time      string `long:"target-time" value-name:"TIME" description:"recover to this time, such as '2026-11-22 21:44:00+00'; without a zone it is in this host's own"`
	XID       string `long:"target-xid" value-name:"XID" description:"recover to the commit of this transaction"`
	LSN       string `long:"target-lsn" value-name:"LSN" description:"recover to this position in the WAL"`
	Name      string `long:"target-name" value-name:"NAME" description:"recover to this restore point (pg_create_restore_point)"`
	Immediate bool   `long:"target-immediate" description:"stop as soon as the backup is consistent"`
	Available bool   `long:"target-available" description:"recover as far as the archive goes without a hole, to its last record"`
	Exclusive bool   `long:"target-exclusive" description:"stop just before the time, transaction or position"`
	BadPages  bool   `long:"accept-page-errors" description:"also use a backup that holds pages which were damaged on the server"`
	Timeline  string `long:"target-timeline" value-name:"TIMELINE" default:"latest" description:"timeline to recover along: a number, latest for the production server's or else the newest, or current for the backup's own"`
}

// maxName is the length in bytes of a restore point's name (MAXFNAMELEN in PostgreSQL).
const maxName = 63

// A target is where recovery ends. Its Timeline is the number that was named, or 0 for latest and for current.
type target struct {
	recovery.Target
	current  bool // along the backup's own timeline
	badPages bool // also from a backup with damaged pages
}

// latest reports whether no timeline was chosen.
func (t target) latest() bool { return t.Timeline == 0 && !t.current }

// parse reads the options. Its errors are wrong usage.
func (o *targetOptions) parse() (target, error) {
	t := target{Target: recovery.Target{Kind: recovery.ToLatest, Exclusive: o.Exclusive}, badPages: o.BadPages}
	var given []string
	var err error
	for _, kind := range []struct {
		option, value string
		read          func(string) error
	}{
		{"--target-time", o.Time, func(s string) (err error) { t.Kind = recovery.ToTime; t.Time, err = parseTime(s, time.Local); return }},
		{"--target-xid", o.XID, func(s string) (err error) { t.Kind = recovery.ToXID; t.XID, err = parseXID(s); return }},
		{"--target-lsn", o.LSN, func(s string) (err error) {
			t.Kind = recovery.ToLSN
			t.LSN, err = wal.ParseLSN(s)
			return
		}},
		{"--target-name", o.Name, func(s string) error { t.Kind, t.Name = recovery.ToName, s; return checkName(s) }},
	} {
		if kind.value == "" {
			continue
		}
		given = append(given, kind.option)
		if e := kind.read(kind.value); e != nil && err == nil {
			err = fmt.Errorf("%s: %w", kind.option, e)
		}
	}
	if o.Immediate {
		given = append(given, "--target-immediate")
		t.Kind = recovery.ToImmediate
	}
	if o.Available {
		given = append(given, "--target-available")
		t.Kind = recovery.ToAvailable
	}
	switch {
	case err != nil:
		return t, err
	case len(given) > 1:
		return t, fmt.Errorf("only one target can be given, not %s", strings.Join(given, " and "))
	case o.Exclusive && t.Kind != recovery.ToTime && t.Kind != recovery.ToXID && t.Kind != recovery.ToLSN:
		return t, errors.New("--target-exclusive needs a time, a transaction or a position to stop before")
	}
	return t, t.along(o.Timeline)
}

// along chooses the timeline that an option names; empty is latest.
func (t *target) along(option string) error {
	switch option {
	case "", "latest":
		return nil
	case "current":
		t.current = true
		return nil
	}
	n, err := strconv.ParseUint(option, 10, 32)
	if err != nil || n == 0 {
		return fmt.Errorf("--target-timeline: %q is not a timeline's number, latest or current", option)
	}
	t.Timeline = wal.Timeline(n)
	return nil
}

// in returns the target in an archive, where current is the timeline of the named backup, or of the newest one if id is empty.
// The plan reports a backup that does not exist.
func (t target) in(inv *recovery.Inventory, id string) recovery.Target {
	if !t.current || len(inv.Backups) == 0 {
		return t.Target
	}
	if id == "" {
		t.Timeline = ownTimeline(inv)
	} else if b := inv.Backup(id); b != nil {
		t.Timeline = b.Timeline
	}
	return t.Target
}

// ownTimeline returns the timeline of the newest backup from which recovery leads to the followed timeline, or else of the newest
// backup.
func ownTimeline(inv *recovery.Inventory) wal.Timeline {
	for _, w := range slices.Backward(inv.Windows()) {
		if w.Timeline == inv.Followed() {
			return w.Backups[len(w.Backups)-1].Timeline
		}
	}
	return inv.Backups[len(inv.Backups)-1].Timeline
}

func parseXID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	// Newer servers print an epoch above the 32 bits that the WAL has.
	if err != nil || uint32(n) < 3 {
		return 0, fmt.Errorf("%q is not the number of a transaction", s)
	}
	return uint32(n), nil
}

func checkName(s string) error {
	if len(s) > maxName || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%q is not the name of a restore point", s)
	}
	return nil
}

// parseTime reads a time as ISO 8601 and PostgreSQL write it; one without an offset is in the given zone. It fails for a
// time that the clocks of the zone showed twice or never.
func parseTime(s string, zone *time.Location) (time.Time, error) {
	text := strings.TrimSpace(s)
	for _, utc := range []string{" UTC", " GMT", "UTC", "z"} {
		if rest, ok := strings.CutSuffix(text, utc); ok {
			text = rest + "Z"
			break
		}
	}
	if at := strings.IndexByte(text, 'T'); at == len("2006-01-02") {
		text = text[:at] + " " + text[at+1:]
	}
	for _, clock := range []string{" 15:04:05", " 15:04", ""} { // a fraction of the seconds is accepted as well
		if t, err := time.Parse("2006-01-02"+clock, text); err == nil {
			return onClock(s, t, zone)
		}
		for _, offset := range []string{"Z07:00", "Z0700", "Z07", " Z07:00", " Z0700", " Z07"} {
			if t, err := time.Parse("2006-01-02"+clock+offset, text); err == nil && clock != "" {
				return t, nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time such as '2026-11-22 21:44:00+00'", s)
}

// onClock returns the time at which the clocks of a zone showed the date and time of day that reading has in UTC. It fails if they
// showed it twice or never. s is the user's text, for the error.
func onClock(s string, reading time.Time, zone *time.Location) (time.Time, error) {
	at := func(around time.Time) time.Time {
		_, offset := around.In(zone).Zone()
		return reading.Add(-time.Duration(offset) * time.Second).In(zone)
	}
	shows := func(t time.Time) bool { return at(t).Equal(t) }
	before, after := at(reading.AddDate(0, 0, -1)), at(reading.AddDate(0, 0, 1))
	why := ""
	switch {
	case before.Equal(after) || shows(before) && !shows(after):
		return before, nil
	case !shows(before) && shows(after):
		return after, nil
	case shows(before):
		why = "is twice on the clocks of this host, which were set back"
	default:
		why = "is not on the clocks of this host, which were set forward"
	}
	if after.Before(before) {
		before, after = after, before
	}
	return time.Time{}, fmt.Errorf("%q %s: give the offset, such as '%s' or '%s'", s, why, before.Format(inputTime), after.Format(inputTime))
}
