package report

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"walkeep/common/archive"
	"walkeep/common/durable"
	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/pgserver"
	"walkeep/supervisor/progress"
)

// A Slot is a replication slot of the server, and the WAL that it keeps.
type Slot struct {
	Name      string `json:"name"`
	Physical  bool   `json:"physical"`
	Active    bool   `json:"active"`
	Held      int64  `json:"held_bytes"`  // WAL that the server keeps for it
	WALStatus string `json:"wal_status"`  // as in pg_replication_slots; empty before 13
	Lost      bool   `json:"lost"`        // the server has invalidated it
	Reason    string `json:"lost_reason"` // the server's reason, from 17 on
	// Room is the free space on the file system of pg_wal, in bytes; null if unknown.
	Room *int64 `json:"room_bytes"`
}

// readSlots reads the slots, and whether a commit waits for a stream that is not connected.
func (s *Server) readSlots(ctx context.Context, conn *pgserver.Conn, o Options) error {
	slots, err := conn.Slots(ctx)
	if err != nil {
		return err
	}
	var room *int64
	if o.PGData != "" {
		if free, _, err := durable.FreeSpace(filepath.Join(o.PGData, "pg_wal")); err == nil {
			room = &free
		}
	}
	at := s.LSN
	if s.Replay != nil && s.Replay.Received != "" {
		at = s.Replay.Received
	}
	now, _ := wal.ParseLSN(at) // 0 if unknown
	s.Slots = []Slot{}
	for _, one := range slots {
		if one.Temporary {
			continue
		}
		v := Slot{Name: one.Name, Physical: one.Physical, Active: one.Active, WALStatus: one.Status, Lost: one.Lost, Reason: one.Reason, Room: room}
		if one.RestartLSN != 0 && !one.Lost {
			v.Held = int64(max(now, one.RestartLSN) - one.RestartLSN)
		}
		s.Slots = append(s.Slots, v)
	}
	if s.Standby {
		return nil
	}
	var names string
	var connected int
	err = conn.QueryRow(ctx, `SELECT current_setting('synchronous_standby_names'), (SELECT count(*)::int FROM pg_stat_replication WHERE application_name = 'walkeep')`).
		Scan(&names, &connected)
	if err != nil {
		return fmt.Errorf("ask for whom commits wait: %w", err)
	}
	s.Awaited = connected == 0 && strings.Contains(names, "walkeep")
	return nil
}

// checkArchiver determines whether files that the server archives reach this archive.
func (s *Server) checkArchiver(ctx context.Context, conn *pgserver.Conn, a *archive.Archive, inv *recovery.Inventory) error {
	if s.ArchiveMode == "off" || s.Standby {
		return nil
	}
	var command, library string
	err := conn.QueryRow(ctx, `SELECT current_setting('archive_command'), coalesce(current_setting('archive_library', true), '')`).Scan(&command, &library)
	if err != nil {
		return nil // the role may not see them
	}
	words := strings.Fields(command)
	by := "an archive_command that is not archive-cmd with this spool"
	switch {
	case library != "":
		by = "the module " + library + " (archive_library)"
	case len(words) == 0:
		s.ArchiverProblem = "archive_command is empty: the server archives nothing and keeps all WAL"
		return nil
	}
	if n, err := wal.ParseName(s.LastArchived); err == nil {
		// It may have been archived after the listing.
		if there, err := a.HasName(ctx, n); err == nil && !there {
			s.ArchiverProblem = fmt.Sprintf("the server has reported %s as archived, and the archive does not have it: it archives by %s", n, by)
		}
		return nil
	}
	// The statistics are reset by a crash, although the archive has earlier files.
	line := inv.Line(wal.Timeline(s.Timeline))
	come := line != nil && len(line.Segments) > 0 && s.Lag != nil && s.Lag.Segments == 0
	if !come && (library != "" || !strings.Contains(command, "archive-cmd")) {
		s.ArchiverProblem = "nothing has come from the server yet, which archives by " + by
	}
	return nil
}

// slots judges the slots of the server.
func (f *findings) slots(l Limits) {
	for _, s := range f.r.Server.Slots {
		own := f.r.stream(s.Name)
		bad := Warning
		if own != nil && !own.Running {
			bad = Critical
		}
		switch {
		case s.Lost:
			why := ""
			if s.Reason != "" {
				why = " (" + s.Reason + ")"
			}
			f.add(bad, "replication slot %s is lost%s: the server has removed WAL that it had not sent", s.Name, why).dropSlot(s.Name)
		case s.WALStatus == "unreserved":
			f.add(Critical, "replication slot %s is about to be lost: the server will remove WAL that it has not sent", s.Name).
				help("Let its user catch up at once, or raise max_slot_wal_keep_size on the server")
		case s.Active || s.Held <= f.lagSize(l):
		case s.Room != nil && *s.Room < s.Held:
			f.add(Critical, "replication slot %s is not in use, and the server keeps %s of WAL for it, with room for %s more", s.Name, progress.Bytes(s.Held), progress.Bytes(*s.Room)).dropSlot(s.Name)
		default:
			f.add(Warning, "replication slot %s is not in use, and the server keeps %s of WAL for it%s", s.Name, progress.Bytes(s.Held), own.hint()).dropSlot(s.Name)
		}
	}
}

// slotName matches what servers allow as a name.
var slotName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9_]+$`) })

// dropSlot says how to do without a slot.
func (f *Finding) dropSlot(name string) {
	f.Help = "Start the program that uses the slot again. If that is gone for good, drop the slot on the server"
	if slotName().MatchString(name) {
		f.Command = `psql -c "SELECT pg_drop_replication_slot('` + name + `')"`
	}
}

// hint returns what to do about the slot of a stream that does not run.
func (s *Stream) hint() string {
	if s == nil || s.Running {
		return ""
	}
	return ", because its stream does not run: start it again, or drop the slot"
}

func (s Slot) text() string {
	state := "not in use"
	switch {
	case s.Lost:
		state = "LOST"
	case s.Active:
		state = "in use"
	}
	return fmt.Sprintf("%s, %s of WAL is kept for it", state, progress.Bytes(s.Held))
}
