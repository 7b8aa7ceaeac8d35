package report

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"walkeep/common/archive"
	"walkeep/common/pgdata"
	"walkeep/common/wal"
	"walkeep/supervisor/pgserver"
)

// A Server is how the archive's server is doing, as it says itself.
type Server struct {
	Version          string     `json:"server_version"`
	Standby          bool       `json:"in_recovery"`
	Timeline         uint32     `json:"timeline"`
	LSN              string     `json:"lsn"` // written, or on a standby replayed; empty if that is nothing yet
	ArchiveMode      string     `json:"archive_mode"`
	Archived         int64      `json:"archived_count"`
	Failed           int64      `json:"failed_count"`
	LastArchived     string     `json:"last_archived"`
	LastArchivedTime *time.Time `json:"last_archived_time"`
	LastFailed       string     `json:"last_failed"`
	LastFailedTime   *time.Time `json:"last_failed_time"`
	Failing          bool       `json:"failing"` // the last attempt to archive failed, and archive_mode is not off
	// Lag is what the archive lacks of what the server has written; null on a standby, and where it is not known.
	Lag *Lag `json:"lag"`
	// Replay is how far a standby has come; null on a primary.
	Replay *Replay `json:"replay"`
	// ArchiverProblem says why what the server archives does not come here; empty if nothing is known to be wrong.
	ArchiverProblem string `json:"archiver_problem"`
	Slots           []Slot `json:"slots"` // replication slots
	// Advice is what the server could be set to, where its WAL is streamed. Nothing is wrong without it, so check does not mind.
	Advice string `json:"advice"`
	// Awaited says that synchronous_standby_names names walkeep's streams and that none of them is connected.
	Awaited bool `json:"awaits_stream"`
	// Ready is how many files wait to be archived; null if it is not known, or archive_mode is off.
	Ready *int64 `json:"ready"`

	succeeded string // that it is an old primary; empty if that is not known
}

// A Lag is how far the archive is behind a primary.
type Lag struct {
	Bytes    int64 `json:"bytes"`    // with those of the segment that is being written
	Segments int64 `json:"segments"` // complete ones
	// Seconds are those for which complete ones wait: since the oldest of them was first seen missing or, if that is longer,
	// since the server archived its last one, or finished that oldest one later; 0 if none waits.
	Seconds float64 `json:"seconds"`
	First   string  `json:"first"` // the oldest complete segment that is missing; empty if none is
}

// errForeign says that the server has nothing to do with the archive, which therefore holds nothing of it.
var errForeign = errors.New("the server is another cluster than the archive's")

// askTimeout is how long the server has to answer.
const askTimeout = 10 * time.Second

func ask(ctx context.Context, a *archive.Archive, inv *archive.Inventory, windows []Window, o Options) (*Server, error) {
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
		if err := s.takeReplay(ctx, conn, info.Major, inv, windows); err != nil && !errors.Is(err, pgserver.ErrNoRecovery) {
			return nil, err
		}
	} else if err := s.takeLag(ctx, conn, a, inv, stat.LastArchivedTime); err != nil {
		return nil, err
	} else if left, yes := inv.Succeeded(wal.Timeline(s.Timeline)); yes {
		s.succeeded = fmt.Sprintf("this server is open for writing on timeline %d, at %s, and a standby was promoted in its place, to timeline %d", s.Timeline, s.LSN, inv.Server.Timeline)
		if left != 0 {
			s.succeeded += ", which left its timeline at " + left.String()
		}
	} else if at, err := wal.ParseLSN(s.LSN); err == nil {
		inv.Server = &archive.Server{SystemID: inv.SystemID, Timeline: wal.Timeline(s.Timeline), LSN: at, Newest: inv.Newest()}
		_ = a.NoteServer(ctx, *inv.Server) // an archive that can only be read is judged all the same
	}
	if err := s.takeSlots(ctx, conn, o); err != nil {
		return nil, err
	}
	if err := s.takeArchiver(ctx, conn, a, inv); err != nil {
		return nil, err
	}
	if info.ArchiveMode != "off" { // else nothing waits for anybody
		s.takeReady(ctx, conn, o.PGData)
	}
	if slices.ContainsFunc(inv.Streams, func(one archive.Stream) bool { return !one.Ended }) {
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

func (s *Server) takeLag(ctx context.Context, conn *pgserver.Conn, a *archive.Archive, inv *archive.Inventory, archived time.Time) error {
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
	s.LSN = at.String() // 19 writes it otherwise
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
				archived = time.Time{} // it has come since the archive was listed
			}
		}
	}
	since, err := a.NoteLacking(ctx, first, now)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.Lag.Segments > 0 {
		if !archived.IsZero() && archived.Before(since) || err != nil && !archived.IsZero() { // an archive that can only be read keeps no note
			since = archived
		}
		s.Lag.Seconds = max(0, now.Sub(since).Seconds())
	}
	return nil
}

// waits gives since when a segment can have waited at most, if the server archived its last one at this time: a server that
// wrote little before has just finished it. Servers from 12 on know when that was, and tell those who may monitor them.
func waits(ctx context.Context, conn *pgserver.Conn, segment wal.Name, archived time.Time) time.Time {
	var ready time.Time
	err := conn.QueryRow(ctx, `SELECT modification FROM pg_ls_archive_statusdir() WHERE name = $1`, segment.String()+".ready").Scan(&ready)
	if err == nil && !archived.IsZero() && ready.After(archived) {
		return ready
	}
	return archived
}

// takeReady counts the files that wait, in the data directory or by asking the server, which knows from 12 on and tells
// those who may monitor it.
func (s *Server) takeReady(ctx context.Context, conn *pgserver.Conn, pgData string) {
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
