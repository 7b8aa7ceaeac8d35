package metrics_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/supervisor/metrics"
	"walkeep/supervisor/report"
)

// nowhere is in place of the page.
var nowhere = http.NotFoundHandler()

// scrape requests the metrics and returns their lines without comments.
func scrape(t *testing.T, m *metrics.Metrics) []string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler(nowhere).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("got %d: %s", w.Code, w.Body)
	}
	var lines []string
	for line := range strings.Lines(w.Body.String()) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	slices.Sort(want)
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("missing: %s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("got %s, which is not wanted", line)
		}
	}
}

var began = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// found returns a report on an archive with three backups, of which the last cannot be restored.
func found() *report.Report {
	b := func(after time.Duration, restorable bool) report.Backup {
		return report.Backup{
			Began: began.Add(after), Ended: began.Add(after + 90*time.Second), Seconds: 90, Bytes: 1000, StoredBytes: 333, Restorable: restorable,
		}
	}
	end := began.Add(3 * time.Hour)
	ready, behind := int64(3), int64(9)
	streaming, late := true, 2.5
	return &report.Report{
		Backups:    []report.Backup{b(0, true), b(time.Hour, true), b(2*time.Hour, false)},
		Unfinished: []report.Unfinished{{}},
		Timelines: []report.Timeline{
			{Timeline: 1, StoredBytes: 7000, Ranges: []report.Range{{Segments: 4}, {Segments: 3}}, Gaps: []report.Gap{{}}},
			{Timeline: 2, StoredBytes: 50, Ranges: []report.Range{{Segments: 1}}},
		},
		Windows: []report.Window{
			{Timeline: 1, FromTime: began, FromLSN: "0/10", ToLSN: "0/20", Gap: &report.Gap{}},
			{Timeline: 1, FromTime: began.Add(time.Hour), FromLSN: "0/800000", ToLSN: "1/A00000", ToTime: &end},
			{Timeline: 2, FromTime: began, FromLSN: "0/10", ToLSN: "0/20", Gap: &report.Gap{}},
		},
		Faults: []report.Fault{{}}, Damaged: []report.Damaged{{}, {}}, Leases: []report.Lease{{}},
		Streams: []report.Stream{{Slot: "w", Host: "h", Running: true, Behind: 4, FlushedLSN: "0/30", Heard: began}},
		Shipping: []report.Shipping{
			{Repository: "far", Running: true, Noted: &began, Objects: 2, Bytes: 300, Lag: 4.5, Recoverable: &began, Requests: 9, Sent: 700,
				Positions: []report.Position{{Timeline: 2, LSN: "0/40"}}, Stuck: []report.Fault{{}}},
			{Repository: "new"},
		},
		Standbys: []report.Standby{{ID: "s1", Host: "h", Behind: &behind}, {ID: "s2"}},
		Server: &report.Server{Archived: 5, Failed: 2, LastArchivedTime: &began, Lag: &report.Lag{Bytes: 12345}, Ready: &ready,
			Replay: &report.Replay{Received: "0/20", Replayed: "0/10", Paused: true, Streaming: &streaming, Lag: &report.ReplayLag{Bytes: 77, Seconds: &late}}},
	}
}

func TestMetrics(t *testing.T) {
	m := metrics.New("1.2.3")
	build := `walkeep_build_info{version="1.2.3"} 1`
	expect(t, scrape(t, m), build)

	m.Done("backup", began, 3*time.Second, nil)
	m.Done("backup", began.Add(time.Hour), time.Second, errors.New("bad"))
	tasks := []string{
		build, `walkeep_task_runs_total{result="success",task="backup"} 1`, `walkeep_task_runs_total{result="failure",task="backup"} 1`,
		`walkeep_task_last_success_timestamp_seconds{task="backup"} 1.772600767e+09`, `walkeep_task_duration_seconds{task="backup"} 1`,
	}
	expect(t, scrape(t, m), tasks...)

	m.Record(metrics.Snapshot{At: began, Took: time.Second, Report: found(), Check: report.Warning})
	looked := append(slices.Clone(tasks), "walkeep_archive_look_timestamp_seconds 1.772600767e+09", "walkeep_archive_look_duration_seconds 1")
	figures := append(slices.Clone(looked), "walkeep_archive_up 1", "walkeep_check_status 1",
		"walkeep_backups 3", "walkeep_backups_restorable 2", "walkeep_backups_unfinished 1",
		"walkeep_backup_last_end_timestamp_seconds 1.772604457e+09", "walkeep_backup_last_duration_seconds 90",
		"walkeep_backup_last_bytes 1000", "walkeep_backup_last_stored_bytes 333",
		`walkeep_wal_segments{timeline="1"} 7`, `walkeep_wal_stored_bytes{timeline="1"} 7000`, `walkeep_gaps{timeline="1"} 1`,
		`walkeep_wal_segments{timeline="2"} 1`, `walkeep_wal_stored_bytes{timeline="2"} 50`, `walkeep_gaps{timeline="2"} 0`,
		`walkeep_window_begin_timestamp_seconds{timeline="1"} 1.772604367e+09`, `walkeep_window_end_timestamp_seconds{timeline="1"} 1.772611567e+09`,
		`walkeep_window_begin_lsn_bytes{timeline="1"} 8.388608e+06`, `walkeep_window_end_lsn_bytes{timeline="1"} 4.305453056e+09`,
		`walkeep_window_broken{timeline="1"} 0`,
		`walkeep_window_begin_timestamp_seconds{timeline="2"} 1.772600767e+09`, `walkeep_window_begin_lsn_bytes{timeline="2"} 16`,
		`walkeep_window_end_lsn_bytes{timeline="2"} 32`, `walkeep_window_broken{timeline="2"} 1`,
		"walkeep_damaged_segments 2", "walkeep_faults 1", "walkeep_leases 1",
		`walkeep_stream_up{host="h",slot="w"} 1`, `walkeep_stream_behind_bytes{host="h",slot="w"} 4`,
		`walkeep_stream_flushed_lsn_bytes{host="h",slot="w"} 48`, `walkeep_stream_heard_timestamp_seconds{host="h",slot="w"} 1.772600767e+09`,
		`walkeep_ship_up{repository="far"} 1`, `walkeep_ship_up{repository="new"} 0`, `walkeep_ship_waiting_objects{repository="far"} 2`,
		`walkeep_ship_waiting_bytes{repository="far"} 300`, `walkeep_ship_lag_seconds{repository="far"} 4.5`, `walkeep_ship_stuck_objects{repository="far"} 1`,
		`walkeep_ship_lsn_bytes{repository="far",timeline="2"} 64`, `walkeep_ship_recoverable_timestamp_seconds{repository="far"} 1.772600767e+09`,
		`walkeep_ship_requests_total{repository="far"} 9`, `walkeep_ship_sent_bytes_total{repository="far"} 700`,
		`walkeep_standby_restartpoint_segments{host="h",standby="s1"} 9`)
	expect(t, scrape(t, m), append(slices.Clone(figures),
		"walkeep_server_up 1", "walkeep_archiver_archived_total 5", "walkeep_archiver_failed_total 2",
		"walkeep_archiver_last_archived_timestamp_seconds 1.772600767e+09", "walkeep_archiver_lag_bytes 12345", "walkeep_ready_files 3",
		"walkeep_standby_replay_paused 1", "walkeep_standby_streaming 1", "walkeep_standby_received_lsn_bytes 32",
		"walkeep_standby_replayed_lsn_bytes 16", "walkeep_standby_lag_bytes 77", "walkeep_standby_lag_seconds 2.5",
	)...)

	// Without a report no figures of the archive are served, not even old ones.
	r := found()
	r.Server = nil
	m.Record(metrics.Snapshot{At: began, Took: time.Second, Report: r, Check: report.Warning})
	expect(t, scrape(t, m), append(figures, "walkeep_server_up 0")...)
	m.Record(metrics.Snapshot{At: began, Took: time.Second, Check: report.Critical})
	expect(t, scrape(t, m), append(looked, "walkeep_archive_up 0", "walkeep_check_status 2")...)
}

// Each metric is explained in the documentation, and the documentation explains no other.
func TestDocumentation(t *testing.T) {
	m := metrics.New("1")
	m.Done("backup", began, time.Second, nil)
	m.Record(metrics.Snapshot{At: began, Report: found()})
	var served []string
	for _, line := range scrape(t, m) {
		served = append(served, regexp.MustCompile(`^\w+`).FindString(line))
	}
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(walkeep_\\w+)").FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, m[1])
	}
	for _, list := range []*[]string{&served, &documented} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	if got, want := strings.Join(documented, "\n"), strings.Join(served, "\n"); got != want {
		t.Errorf("docs/metrics.md explains\n%s\nwanted\n%s", got, want)
	}
}

func TestServe(t *testing.T) {
	m := metrics.New("1")
	log := slog.New(slog.DiscardHandler)
	if err := m.Serve(t.Context(), "127.0.0.1:99999", nowhere, log); err == nil {
		t.Error("a port that cannot be is accepted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Serve(ctx, "127.0.0.1:0", nowhere, log); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

// TestGolden compares the whole text that is served, with types and explanations, with a golden file.
func TestGolden(t *testing.T) {
	m := metrics.New("1.2.3")
	m.Done("backup", began, 3*time.Second, nil)
	m.Done("cleanup", began, time.Second, errors.New("bad"))
	m.Record(metrics.Snapshot{At: began, Took: time.Second, Report: found(), Check: report.Warning})
	w := httptest.NewRecorder()
	m.Handler(nowhere).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	cmdtest.Golden(t, "testdata/metrics.golden", w.Body.String())
}
