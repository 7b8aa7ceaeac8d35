package metrics

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"walkeep/common/archive"
	"walkeep/common/wal"
)

// A Look is what was found when the archive and its server were looked at.
type Look struct {
	At   time.Time
	Took time.Duration
	// Inventory is nil if the archive could not be read: then there is nothing to tell of it, least of all old figures.
	Inventory *archive.Inventory
	Server    *Server // nil if the server could not be asked
}

// A Server is how archiving goes, as the server sees it.
type Server struct {
	Archived, Failed int64     // files since its statistics were reset
	LastArchived     time.Time // zero if never
	Lag              int64     // bytes of WAL that were written and are not in the archive; negative if that is not known
	Ready            int64     // files that wait to be archived; negative if that is not known
}

// looks tells Prometheus what the last look has found.
type looks struct {
	mu   sync.Mutex
	last []prometheus.Metric

	up, at, took                                         *prometheus.Desc
	backups, restorable, unfinished                      *prometheus.Desc
	lastEnd, lastDuration, lastBytes, lastStored         *prometheus.Desc
	segments, bytes, holes                               *prometheus.Desc
	windowFrom, windowBegin, windowEnd, windowBroken     *prometheus.Desc
	damaged, faults, leases                              *prometheus.Desc
	serverUp, archived, failed, lastArchived, lag, ready *prometheus.Desc
}

func newLooks() *looks {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("walkeep_"+name, help, labels, nil)
	}
	return &looks{
		up:   d("archive_up", "Whether the archive could be read when it was last looked at."),
		at:   d("archive_look_timestamp_seconds", "When the archive was last looked at."),
		took: d("archive_look_duration_seconds", "How long that took."),

		backups:      d("backups", "Backups in the archive."),
		restorable:   d("backups_restorable", "Backups that can be restored: all WAL that they need is there."),
		unfinished:   d("backups_unfinished", "Directories of backups without a manifest: being taken, or left over."),
		lastEnd:      d("backup_last_end_timestamp_seconds", "When the newest backup that can be restored ended."),
		lastDuration: d("backup_last_duration_seconds", "How long that backup took."),
		lastBytes:    d("backup_last_bytes", "Size of that backup's files."),
		lastStored:   d("backup_last_stored_bytes", "Size of that backup in the archive."),

		segments: d("wal_segments", "Complete WAL segments in the archive.", "timeline"),
		bytes:    d("wal_stored_bytes", "Size of all WAL files in the archive.", "timeline"),
		holes:    d("gaps", "Holes between the first and the last segment of a timeline.", "timeline"),

		windowFrom:   d("window_begin_timestamp_seconds", "Earliest time to which the cluster can be recovered, in the newest window of a timeline.", "timeline"),
		windowBegin:  d("window_begin_lsn_bytes", "The same as a position in the WAL.", "timeline"),
		windowEnd:    d("window_end_lsn_bytes", "Up to where in the WAL it can be recovered.", "timeline"),
		windowBroken: d("window_broken", "Whether the window is ended by a hole or by broken records, although WAL went on.", "timeline"),

		damaged: d("damaged_segments", "Segments that were archived with broken records."),
		faults:  d("faults", "Objects of the archive that cannot be read, or are not what they should be."),
		leases:  d("leases", "Running backups, restores and drills that hold something of the archive."),

		serverUp:     d("server_up", "Whether the server could be asked."),
		archived:     d("archiver_archived_total", "Files that the server has archived."),
		failed:       d("archiver_failed_total", "Attempts of the server to archive that failed."),
		lastArchived: d("archiver_last_archived_timestamp_seconds", "When the server last archived a file."),
		lag:          d("archiver_lag_bytes", "WAL that the server has written and that is not in the archive."),
		ready:        d("ready_files", "Files that wait to be archived."),
	}
}

// Describe implements [prometheus.Collector]. What there is to collect depends on what is found.
func (l *looks) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (l *looks) Collect(to chan<- prometheus.Metric) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.last {
		to <- m
	}
}

// take makes metrics of a look, once for however many requests.
func (l *looks) take(look Look) {
	s := new(figures)
	s.gauge(l.up, truth(look.Inventory != nil))
	s.gauge(l.at, seconds(look.At))
	s.gauge(l.took, look.Took.Seconds())
	if look.Inventory != nil {
		l.sendBackups(s, look.Inventory)
		l.sendWAL(s, look.Inventory)
	}
	s.gauge(l.serverUp, truth(look.Server != nil))
	if v := look.Server; v != nil {
		s.counter(l.archived, float64(v.Archived))
		s.counter(l.failed, float64(v.Failed))
		if !v.LastArchived.IsZero() {
			s.gauge(l.lastArchived, seconds(v.LastArchived))
		}
		if v.Lag >= 0 {
			s.gauge(l.lag, float64(v.Lag))
		}
		if v.Ready >= 0 {
			s.gauge(l.ready, float64(v.Ready))
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = *s
}

func (l *looks) sendBackups(s *figures, inv *archive.Inventory) {
	restorable := 0
	for i := len(inv.Backups) - 1; i >= 0; i-- {
		b := inv.Backups[i]
		if _, err := inv.Restorable(b); err != nil {
			continue
		}
		if restorable++; restorable == 1 {
			s.gauge(l.lastEnd, seconds(b.Ended))
			s.gauge(l.lastDuration, b.Ended.Sub(b.Began).Seconds())
			s.gauge(l.lastBytes, float64(b.Bytes))
			s.gauge(l.lastStored, float64(b.StoredBytes()))
		}
	}
	s.gauge(l.backups, float64(len(inv.Backups)))
	s.gauge(l.restorable, float64(restorable))
	s.gauge(l.unfinished, float64(len(inv.Unfinished)))
	s.gauge(l.damaged, float64(len(inv.Damages)))
	s.gauge(l.faults, float64(len(inv.Faults)))
	s.gauge(l.leases, float64(len(inv.Leases)))
}

func (l *looks) sendWAL(s *figures, inv *archive.Inventory) {
	for _, line := range inv.Lines {
		var segments uint64
		for _, span := range line.Segments {
			segments += span.Last - span.First + 1
		}
		s.gauge(l.segments, float64(segments), timeline(line.Timeline))
		s.gauge(l.bytes, float64(line.Bytes), timeline(line.Timeline))
		s.gauge(l.holes, float64(max(0, len(line.Segments)-1)), timeline(line.Timeline))
	}
	newest := make(map[string]archive.Window)
	for _, w := range inv.Windows() {
		newest[timeline(w.Timeline)] = w // they ascend
	}
	for label, w := range newest {
		s.gauge(l.windowFrom, seconds(w.FromTime), label)
		s.gauge(l.windowBegin, float64(w.From), label)
		s.gauge(l.windowEnd, float64(w.To), label)
		s.gauge(l.windowBroken, truth(w.Gap != nil), label)
	}
}

type figures []prometheus.Metric

func (s *figures) gauge(d *prometheus.Desc, value float64, labels ...string) {
	*s = append(*s, prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...))
}

func (s *figures) counter(d *prometheus.Desc, value float64) {
	*s = append(*s, prometheus.MustNewConstMetric(d, prometheus.CounterValue, value))
}

// timeline is a timeline as the server's functions say it.
func timeline(t wal.Timeline) string { return strconv.FormatUint(uint64(t), 10) }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
