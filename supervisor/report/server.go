package report

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"walkeep/common/archive"
	"walkeep/common/notes"
	"walkeep/common/pgdata"
	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/pgserver"
)

// A Server is the state of the archive's server, by its own answers.
type Server struct {
	Version          string     `json:"server_version"`
	Standby          bool       `json:"in_recovery"`
	Timeline         uint32     `json:"timeline"`
	LSN              string     `json:"lsn"` // written, or on a standby replayed; empty if there is none yet
	ArchiveMode      string     `json:"archive_mode"`
	Archived         int64      `json:"archived_count"`
	Failed           int64      `json:"failed_count"`
	LastArchived     string     `json:"last_archived"`
	LastArchivedTime *time.Time `json:"last_archived_time"`
	LastFailed       string     `json:"last_failed"`
	LastFailedTime   *time.Time `json:"last_failed_time"`
	Failing          bool       `json:"failing"` // the last attempt to archive failed, and archive_mode is not off
	// Lag is the WAL that the server has written and the archive lacks; null on a standby, and if unknown.
	Lag *Lag `json:"lag"`
	// Replay is the state of a standby's replay; null on a primary.
	Replay *Replay `json:"replay"`
	// ArchiverProblem is why files that the server archives do not reach this archive; empty if no problem is known.
	ArchiverProblem string `json:"archiver_problem"`
	Slots           []Slot `json:"slots"` // replication slots
	// Advice is a possible setting of the server, if its WAL is streamed. It is not a finding.
	Advice string `json:"advice"`
	// Awaited reports whether synchronous_standby_names names walkeep's streams and none of them is connected.
	Awaited bool `json:"awaits_stream"`
	// Ready is how many files wait to be archived; null if unknown, or if archive_mode is off.
	Ready *int64 `json:"ready"`

	succeeded string // that it is an old primary; empty if that is not known
}

// A Lag is how far the archive is behind a primary.
type Lag struct {
	Bytes    int64 `json:"bytes"`    // with those of the segment that is being written
	Segments int64 `json:"segments"` // complete ones
	// Seconds is how long complete segments have waited: since the oldest of them was first seen missing or, if that
	// is longer, since the server archived its last one, or finished that oldest one later; 0 if none waits.
	Seconds float64 `json:"seconds"`
	First   string  `json:"first"` // the oldest missing complete segment; empty if there is none
}

// errForeign reports that the server belongs to another cluster, so that the archive has nothing of it.
var errForeign = errors.New("the server is another cluster than the archive's")

// askTimeout is how long the server may take to answer.
const askTimeout = 10 * time.Second

func ask(ctx context.Context, a *archive.Archive, inv *recovery.Inventory, windows []Window, o Options) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := pgserver.Connect(ctx, o.Conninfo)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	info, err := conn.Info(ctx)
	if err != nil {
		return nil, err
	}
	if info.SystemID != inv.SystemID {
		return nil, fmt.Errorf("%w: its system identifier is %s", errForeign, info.SystemID)
	}
	stat, err := conn.ArchiverStat(ctx)
	if err != nil {
		return nil, err
	}
	s := &Server{
		Version: info.Version, Standby: info.InRecovery, Timeline: uint32(info.Timeline), ArchiveMode: info.ArchiveMode,
		Archived: stat.Archived, Failed: stat.Failed, LastArchived: stat.LastArchived, LastFailed: stat.LastFailed,
		LastArchivedTime: known(stat.LastArchivedTime), LastFailedTime: known(stat.LastFailedTime),
		// The statistics outlive the archiver.
		Failing: info.ArchiveMode != "off" && stat.LastFailedTime.After(stat.LastArchivedTime),
	}
	if s.Standby {
		if err := s.readReplay(ctx, conn, info.Major, inv, windows); err != nil && !errors.Is(err, pgserver.ErrNoRecovery) {
			return nil, err
		}
	} else if err := s.takeLag(ctx, conn, a, o.Notes.Notes(), inv, stat.LastArchivedTime); err != nil {
		return nil, err
	} else if left, yes := inv.Succeeded(wal.Timeline(s.Timeline)); yes {
		s.succeeded = fmt.Sprintf("this server is open for writing on timeline %d, at %s, and a standby was promoted in its place, to timeline %d", s.Timeline, s.LSN, inv.Server.Timeline)
		if left != 0 {
			s.succeeded += ", which left its timeline at " + left.String()
		}
	} else if at, err := wal.ParseLSN(s.LSN); err == nil {
		inv.Server = &notes.Server{SystemID: inv.SystemID, Timeline: wal.Timeline(s.Timeline), LSN: at, Newest: inv.Newest()}
		_ = o.Notes.Notes().NoteServer(ctx, *inv.Server) // a read-only archive is reported on, too
	}
	if err := s.readSlots(ctx, conn, o); err != nil {
		return nil, err
	}
	if err := s.checkArchiver(ctx, conn, a, inv); err != nil {
		return nil, err
	}
	if info.ArchiveMode != "off" { // otherwise no file waits
		s.countReady(ctx, conn, o.PGData)
	}
	if slices.ContainsFunc(inv.Streams, func(one notes.Stream) bool { return !one.Ended }) {
		if s.Advice, err = conn.ShutdownAdvice(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (s *Server) takeLag(ctx context.Context, conn *pgserver.Conn, a *archive.Archive, to notes.Notes, inv *recovery.Inventory, archived time.Time) error {
	var file string
	var now time.Time
	err := conn.QueryRow(ctx, `SELECT lsn::text, pg_walfile_name(lsn), clock_timestamp() FROM pg_current_wal_lsn() AS lsn`).Scan(&s.LSN, &file, &now)
	if err != nil {
		return fmt.Errorf("ask the server for its position: %w", err)
	}
	at, err := wal.ParseLSN(s.LSN)
	if err != nil {
		return err
	}
	s.LSN = at.String() // 19 writes it in another form
	n, err := wal.ParseName(file)
	if err != nil {
		return err
	}
	s.Timeline = uint32(n.Timeline)
	have := inv.Line(n.Timeline)
	if have == nil || have.HistoryErr != nil {
		return nil
	}
	size := uint64(inv.SegmentSize)
	end := uint64(have.History.Begin()) / size
	if last := len(have.Segments) - 1; last >= 0 {
		end = have.Segments[last].Last + 1
	}
	s.Lag = &Lag{Bytes: max(0, int64(uint64(at)-end*size))}
	s.Lag.Segments = s.Lag.Bytes / int64(size)
	var first wal.Name
	if s.Lag.Segments > 0 {
		first = wal.SegmentAt(n.Timeline, wal.LSN(end*size), inv.SegmentSize)
		s.Lag.First = first.String()
	}
	if s.Lag.Segments > 0 {
		if archived = waits(ctx, conn, first, archived); !archived.IsZero() {
			if there, err := a.HasName(ctx, first); err == nil && there {
				archived = time.Time{} // it was archived after the listing
			}
		}
	}
	since, err := to.NoteLacking(ctx, first, now)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.Lag.Segments > 0 {
		// A read-only archive keeps no note.
		if !archived.IsZero() && archived.Before(since) || err != nil && !archived.IsZero() {
			since = archived
		}
		s.Lag.Seconds = max(0, now.Sub(since).Seconds())
	}
	return nil
}

// waits returns the earliest time since which a segment can have waited, if the server archived its last one at the
// given time: a server that wrote little may have finished the segment only just now. From 12 on servers report when
// that was to roles that may monitor them.
func waits(ctx context.Context, conn *pgserver.Conn, segment wal.Name, archived time.Time) time.Time {
	var ready time.Time
	err := conn.QueryRow(ctx, `SELECT modification FROM pg_ls_archive_statusdir() WHERE name = $1`, segment.String()+".ready").Scan(&ready)
	if err == nil && !archived.IsZero() && ready.After(archived) {
		return ready
	}
	return archived
}

// countReady counts the waiting files, in the data directory or by asking the server, which reports them from 12 on
// to roles that may monitor it.
func (s *Server) countReady(ctx context.Context, conn *pgserver.Conn, pgData string) {
	if pgData != "" {
		if ready, err := pgdata.Ready(filepath.Join(pgData, "pg_wal")); err == nil {
			n := int64(len(ready))
			s.Ready = &n
			return
		}
	}
	var n int64
	if conn.QueryRow(ctx, `SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'`).Scan(&n) == nil {
		s.Ready = &n
	}
}
