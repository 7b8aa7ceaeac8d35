package metrics

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"walkeep/common/wal"
	"walkeep/supervisor/report"
)

// A Snapshot is the state of the archive and its server at one time.
type Snapshot struct {
	At   time.Time
	Took time.Duration
	// Report is nil if the archive could not be read. Then no metrics of the archive are served, not even old ones.
	Report *report.Report
	Check  report.State // the result of the command check
}

// snapshots serves the metrics of the last snapshot.
type snapshots struct {
	mu   sync.Mutex
	last []prometheus.Metric

	up, at, took, check                                  *prometheus.Desc
	backups, restorable, unfinished                      *prometheus.Desc
	lastEnd, lastDuration, lastBytes, lastStored         *prometheus.Desc
	segments, bytes, holes                               *prometheus.Desc
	windowFrom, windowTo, windowBegin, windowEnd         *prometheus.Desc
	windowBroken                                         *prometheus.Desc
	damaged, faults, leases                              *prometheus.Desc
	restartpoint                                         *prometheus.Desc
	streamUp, streamBehind, streamFlushed, streamHeard   *prometheus.Desc
	shipUp, shipObjects, shipBytes, shipLag, shipStuck   *prometheus.Desc
	shipLSN, shipRecoverable, shipRequests, shipSent     *prometheus.Desc
	paused, streaming, received, replayed                *prometheus.Desc
	standbyBytes, standbySeconds                         *prometheus.Desc
	serverUp, archived, failed, lastArchived, lag, ready *prometheus.Desc
}

func newSnapshots() *snapshots {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("walkeep_"+name, help, labels, nil)
	}
	return &snapshots{
		up:   d("archive_up", "Whether the archive could be read the last time."),
		at:   d("archive_look_timestamp_seconds", "When the archive was last read."),
		took: d("archive_look_duration_seconds", "How long reading the archive took."),

		check: d("check_status", "Result of the command check: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN."),

		backups:      d("backups", "Backups in the archive."),
		restorable:   d("backups_restorable", "Backups that can be restored: the archive has all WAL that they need, and their objects are whole as far as is known."),
		unfinished:   d("backups_unfinished", "Directories of backups without a manifest: being taken, or left over."),
		lastEnd:      d("backup_last_end_timestamp_seconds", "When the newest backup that can be restored ended."),
		lastDuration: d("backup_last_duration_seconds", "How long that backup took."),
		lastBytes:    d("backup_last_bytes", "Size of that backup's files."),
		lastStored:   d("backup_last_stored_bytes", "Size of that backup in the archive."),

		segments: d("wal_segments", "Complete WAL segments in the archive.", "timeline"),
		bytes:    d("wal_stored_bytes", "Size of all WAL files in the archive.", "timeline"),
		holes:    d("gaps", "Holes between the first and the last segment of a timeline.", "timeline"),

		windowFrom:   d("window_begin_timestamp_seconds", "Earliest time to which the cluster can be recovered, in the newest window of a timeline.", "timeline"),
		windowTo:     d("window_end_timestamp_seconds", "Time of the last transaction to which it can be recovered.", "timeline"),
		windowBegin:  d("window_begin_lsn_bytes", "The same beginning as a position in the WAL.", "timeline"),
		windowEnd:    d("window_end_lsn_bytes", "Position in the WAL up to which it can be recovered.", "timeline"),
		windowBroken: d("window_broken", "Whether a hole or broken records end the window, although there is later WAL.", "timeline"),

		damaged: d("damaged_segments", "Segments that were archived with broken records."),
		faults:  d("faults", "Objects of the archive that cannot be read, or are not of the expected form."),
		leases:  d("leases", "Leases of running backups, restores and drills."),

		restartpoint: d("standby_restartpoint_segments", "How many segments the restartpoint of a standby is behind the end of the WAL.", "standby", "host"),

		streamUp:      d("stream_up", "Whether the segment that is being written is streamed.", "slot", "host"),
		streamBehind:  d("stream_behind_bytes", "WAL that the server had written and that was not durable in the archive.", "slot", "host"),
		streamFlushed: d("stream_flushed_lsn_bytes", "Position up to which streamed WAL is durable in the archive.", "slot", "host"),
		streamHeard:   d("stream_heard_timestamp_seconds", "When the streaming server last answered.", "slot", "host"),

		shipUp:          d("ship_up", "Whether a process ships to the repository, and its last request did not fail.", "repository"),
		shipObjects:     d("ship_waiting_objects", "Objects of the spool that the repository lacks.", "repository"),
		shipBytes:       d("ship_waiting_bytes", "Size of these objects.", "repository"),
		shipLag:         d("ship_lag_seconds", "How long the oldest of them has waited.", "repository"),
		shipStuck:       d("ship_stuck_objects", "Objects that cannot be shipped, such as those under whose name the repository holds another content.", "repository"),
		shipLSN:         d("ship_lsn_bytes", "Position up to which the repository holds the WAL of a timeline without a gap.", "repository", "timeline"),
		shipRecoverable: d("ship_recoverable_timestamp_seconds", "Time up to which all that the spool had is in the repository.", "repository"),
		shipRequests:    d("ship_requests_total", "Requests to the repository since the process that ships began.", "repository"),
		shipSent:        d("ship_sent_bytes_total", "Bytes written to the repository since the process that ships began.", "repository"),

		paused:         d("standby_replay_paused", "Whether the server, which is a standby, has paused its replay."),
		streaming:      d("standby_streaming", "Whether it streams from its primary."),
		received:       d("standby_received_lsn_bytes", "Position up to which it has received WAL by streaming."),
		replayed:       d("standby_replayed_lsn_bytes", "Position up to which it has replayed."),
		standbyBytes:   d("standby_lag_bytes", "WAL that the archive holds and the standby has not replayed."),
		standbySeconds: d("standby_lag_seconds", "Time since the end of the last transaction that it has replayed, while there is more to replay; else 0."),

		serverUp:     d("server_up", "Whether the server answered."),
		archived:     d("archiver_archived_total", "Files that the server has archived."),
		failed:       d("archiver_failed_total", "Attempts of the server to archive that failed."),
		lastArchived: d("archiver_last_archived_timestamp_seconds", "When the server last archived a file."),
		lag:          d("archiver_lag_bytes", "WAL that the server has written and that is not in the archive."),
		ready:        d("ready_files", "Files that wait to be archived."),
	}
}

// Describe implements [prometheus.Collector]. It describes nothing, because the metrics depend on the snapshot.
func (l *snapshots) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (l *snapshots) Collect(to chan<- prometheus.Metric) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.last {
		to <- m
	}
}

// record makes metrics of a snapshot, once for all requests.
func (l *snapshots) record(found Snapshot) {
	s := new(figures)
	s.gauge(l.up, truth(found.Report != nil))
	s.gauge(l.at, seconds(found.At))
	s.gauge(l.took, found.Took.Seconds())
	s.gauge(l.check, float64(found.Check))
	if r := found.Report; r != nil {
		l.takeBackups(s, r)
		l.takeWAL(s, r)
		l.takeServer(s, r.Server)
		s.gauge(l.damaged, float64(len(r.Damaged)))
		s.gauge(l.faults, float64(len(r.Faults)))
		s.gauge(l.leases, float64(len(r.Leases)))
		for _, one := range r.Streams {
			if one.Gone != "" {
				continue
			}
			s.gauge(l.streamUp, truth(one.Running), one.Slot, one.Host)
			s.gauge(l.streamBehind, float64(one.Behind), one.Slot, one.Host)
			s.position(l.streamFlushed, one.FlushedLSN, one.Slot, one.Host)
			s.gauge(l.streamHeard, seconds(one.Heard), one.Slot, one.Host)
		}
		l.takeShipping(s, r.Shipping)
		for _, one := range r.Standbys {
			if one.Behind != nil {
				s.gauge(l.restartpoint, float64(*one.Behind), one.ID, one.Host)
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = *s
}

func (l *snapshots) takeBackups(s *figures, r *report.Report) {
	restorable := 0
	for _, b := range r.Backups {
		if b.Restorable {
			restorable++
		}
	}
	s.gauge(l.backups, float64(len(r.Backups)))
	s.gauge(l.restorable, float64(restorable))
	s.gauge(l.unfinished, float64(len(r.Unfinished)))
	if last := r.Newest(); last != nil {
		s.gauge(l.lastEnd, seconds(last.Ended))
		s.gauge(l.lastDuration, last.Seconds)
		s.gauge(l.lastBytes, float64(last.Bytes))
		s.gauge(l.lastStored, float64(last.StoredBytes))
	}
}

func (l *snapshots) takeWAL(s *figures, r *report.Report) {
	for _, t := range r.Timelines {
		var segments uint64
		for _, one := range t.Ranges {
			segments += one.Segments
		}
		s.gauge(l.segments, float64(segments), timeline(t.Timeline))
		s.gauge(l.bytes, float64(t.StoredBytes), timeline(t.Timeline))
		s.gauge(l.holes, float64(len(t.Gaps)), timeline(t.Timeline))
	}
	newest := make(map[string]report.Window)
	for _, w := range r.Windows {
		newest[timeline(w.Timeline)] = w // they ascend
	}
	for label, w := range newest {
		s.gauge(l.windowFrom, seconds(w.FromTime), label)
		if w.ToTime != nil {
			s.gauge(l.windowTo, seconds(*w.ToTime), label)
		}
		s.position(l.windowBegin, w.FromLSN, label)
		s.position(l.windowEnd, w.ToLSN, label)
		s.gauge(l.windowBroken, truth(w.Gap != nil), label)
	}
}

func (l *snapshots) takeShipping(s *figures, all []report.Shipping) {
	for _, one := range all {
		to := one.Repository
		s.gauge(l.shipUp, truth(one.Running && one.Error == ""), to)
		if one.Noted == nil {
			continue
		}
		s.gauge(l.shipObjects, float64(one.Objects), to)
		s.gauge(l.shipBytes, float64(one.Bytes), to)
		s.gauge(l.shipLag, one.Lag, to)
		s.gauge(l.shipStuck, float64(len(one.Stuck)), to)
		for _, at := range one.Positions {
			s.position(l.shipLSN, at.LSN, to, timeline(at.Timeline))
		}
		if one.Recoverable != nil {
			s.gauge(l.shipRecoverable, seconds(*one.Recoverable), to)
		}
		s.counter(l.shipRequests, float64(one.Requests), to)
		s.counter(l.shipSent, float64(one.Sent), to)
	}
}

func (l *snapshots) takeServer(s *figures, v *report.Server) {
	s.gauge(l.serverUp, truth(v != nil))
	if v == nil {
		return
	}
	s.counter(l.archived, float64(v.Archived))
	s.counter(l.failed, float64(v.Failed))
	if v.LastArchivedTime != nil {
		s.gauge(l.lastArchived, seconds(*v.LastArchivedTime))
	}
	if v.Lag != nil {
		s.gauge(l.lag, float64(v.Lag.Bytes))
	}
	if v.Ready != nil {
		s.gauge(l.ready, float64(*v.Ready))
	}
	l.takeReplay(s, v.Replay)
}

func (l *snapshots) takeReplay(s *figures, r *report.Replay) {
	if r == nil {
		return
	}
	s.gauge(l.paused, truth(r.Paused))
	if r.Streaming != nil {
		s.gauge(l.streaming, truth(*r.Streaming))
	}
	s.position(l.received, r.Received)
	s.position(l.replayed, r.Replayed)
	if r.Lag != nil {
		s.gauge(l.standbyBytes, float64(r.Lag.Bytes))
		if r.Lag.Seconds != nil {
			s.gauge(l.standbySeconds, *r.Lag.Seconds)
		}
	}
}

type figures []prometheus.Metric

func (s *figures) gauge(d *prometheus.Desc, value float64, labels ...string) {
	*s = append(*s, prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...))
}

func (s *figures) counter(d *prometheus.Desc, value float64, labels ...string) {
	*s = append(*s, prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...))
}

// position adds an LSN in bytes.
func (s *figures) position(d *prometheus.Desc, text string, labels ...string) {
	if lsn, err := wal.ParseLSN(text); err == nil {
		s.gauge(d, float64(lsn), labels...)
	}
}

// timeline formats a timeline as the server's functions do.
func timeline(t uint32) string { return strconv.FormatUint(uint64(t), 10) }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
