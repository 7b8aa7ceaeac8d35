package metrics_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"walkeep/supervisor/metrics"
	"walkeep/supervisor/report"
)

// exported returns the names of all metrics, and the labels of each.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	m := metrics.New("1")
	m.Done("backup", began, time.Second, nil)
	m.Record(metrics.Snapshot{At: began, Report: found()})
	names := make(map[string][]string)
	label := regexp.MustCompile(`(\w+)="`)
	for _, line := range scrape(t, m) {
		name := regexp.MustCompile(`^\w+`).FindString(line)
		names[name] = nil
		for _, l := range label.FindAllStringSubmatch(line, -1) {
			names[name] = append(names[name], l[1])
		}
	}
	return names
}

var (
	metric = regexp.MustCompile(`walkeep_\w+`)
	// used matches the labels in texts of alerts and in legends of the board.
	used = regexp.MustCompile(`\{\{ ?(?:\$labels\.)?(\w+) ?\}\}`)
)

// judge holds that all metrics of an expression are exported, and that they have the labels of a text.
func judge(t *testing.T, names map[string][]string, what, expr, text string) {
	t.Helper()
	all := metric.FindAllString(expr, -1)
	if len(all) == 0 {
		t.Errorf("%s: %s has no metric", what, expr)
	}
	for _, name := range all {
		labels, ok := names[name]
		if !ok {
			t.Errorf("%s: nothing exports %s", what, name)
		}
		for _, l := range used.FindAllStringSubmatch(text, -1) {
			if l[1] != "instance" && !slices.Contains(labels, l[1]) {
				t.Errorf("%s: %s has no label %s", what, name, l[1])
			}
		}
	}
}

const alerts = "../../docs/alerts.yml"

// TestAlerts holds that the alert rules use metrics and labels that exist.
func TestAlerts(t *testing.T) {
	text, err := os.ReadFile(alerts)
	if err != nil {
		t.Fatal(err)
	}
	names := exported(t)
	rules := strings.Split(string(text), "- alert: ")[1:]
	for _, one := range rules {
		name, rest, _ := strings.Cut(one, "\n")
		expr, notes, ok := strings.Cut(rest, "labels:")
		if !ok || !strings.Contains(expr, "expr:") || !strings.Contains(notes, "summary:") || !strings.Contains(notes, "description:") {
			t.Errorf("%s is not a whole rule", name)
		}
		judge(t, names, name, expr, notes)
	}
	if len(rules) < 15 {
		t.Errorf("got %d rules", len(rules))
	}
}

// TestBoard holds that Grafana's board is whole and uses metrics and labels that exist, and all metrics but those that say nothing over
// time.
func TestBoard(t *testing.T) {
	text, err := os.ReadFile("../../docs/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	type place struct{ X, Y, W, H int }
	var board struct {
		Panels []struct {
			ID          int
			Title, Type string
			GridPos     place
			Targets     []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	names := exported(t)
	shown := make(map[string]bool)
	for i, p := range board.Panels {
		for _, q := range board.Panels[:i] {
			a, b := p.GridPos, q.GridPos
			if p.ID == q.ID || a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("the panels %q and %q have one id, or overlap", p.Title, q.Title)
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("the panel %q shows nothing", p.Title)
		}
		for _, one := range p.Targets {
			judge(t, names, p.Title, one.Expr, one.LegendFormat)
			for _, name := range metric.FindAllString(one.Expr, -1) {
				shown[name] = true
			}
		}
	}
	unshown := []string{ // labels, positions, which grow with each segment, and what others show as well
		"walkeep_build_info", "walkeep_archive_up", "walkeep_archive_look_timestamp_seconds", "walkeep_backups_unfinished", "walkeep_wal_segments",
		"walkeep_window_begin_timestamp_seconds", "walkeep_window_begin_lsn_bytes", "walkeep_window_end_lsn_bytes", "walkeep_leases", "walkeep_stream_flushed_lsn_bytes",
		"walkeep_ship_waiting_objects", "walkeep_ship_lsn_bytes", "walkeep_server_up", "walkeep_archiver_last_archived_timestamp_seconds", "walkeep_standby_streaming",
		"walkeep_standby_received_lsn_bytes", "walkeep_standby_replayed_lsn_bytes",
	}
	for name := range names {
		if shown[name] == slices.Contains(unshown, name) {
			t.Errorf("%s: on the board: %v", name, shown[name])
		}
	}
}

// TestPromtool lets Prometheus' own tool judge the rules, and hold that each one fires for what it is for, and none when all is well.
func TestPromtool(t *testing.T) {
	if os.Getenv("WALKEEP_PROMTOOL") == "" {
		t.Skip("make test-page runs this: it needs promtool")
	}
	rules, err := filepath.Abs(alerts)
	if err != nil {
		t.Fatal(err)
	}
	promtool := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	promtool("check", "rules", rules)

	const minutes = 3 * 24 * 60
	end := time.Unix(minutes*60, 0) // the tool's clock begins at 0
	series := func(m *metrics.Metrics) string {
		var all strings.Builder
		for _, line := range scrape(t, m) {
			name, value, _ := strings.Cut(line, " ")
			if i := strings.LastIndex(line, "} "); i >= 0 {
				name, value = line[:i+1], line[i+2:]
			}
			step := 0
			if strings.Contains(name, "failed_total") || strings.Contains(name, `result="failure"`) {
				step = 1
			}
			fmt.Fprintf(&all, "      - series: '%s'\n        values: '%s+%dx%d'\n", name, value, step, minutes)
		}
		return all.String()
	}
	test := func(name, input string, firing []string) string {
		slices.Sort(firing)
		var want strings.Builder
		for _, one := range firing {
			fmt.Fprintf(&want, "          - labels: '{alertname=\"%s\"}'\n            value: 1\n", one)
		}
		if len(firing) == 0 {
			want.WriteString("          []\n")
		}
		if input == "" {
			input = "      []\n"
		}
		return fmt.Sprintf("  - name: %s\n    interval: 1m\n    input_series:\n%s    promql_expr_test:\n      - expr: count by (alertname) (ALERTS{alertstate=\"firing\"}) > bool 0\n        eval_time: %dm\n        exp_samples:\n%s", name, input, minutes, want.String())
	}

	text, err := os.ReadFile(alerts)
	if err != nil {
		t.Fatal(err)
	}
	var every []string
	for _, one := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(text), -1) {
		every = append(every, one[1])
	}
	but := func(not ...string) []string {
		return slices.DeleteFunc(slices.Clone(every), func(one string) bool { return slices.Contains(not, one) })
	}

	bad := metrics.New("1")
	bad.Done("drill", time.Unix(0, 0), time.Second, errors.New("bad"))
	r := found()
	ready, late := int64(100), 7200.0
	for i := range r.Backups {
		r.Backups[i].Ended = time.Unix(0, 0)
	}
	r.Server.Lag.Bytes, r.Server.Ready, r.Server.Replay.Lag.Seconds = 5e9, &ready, &late
	r.Streams[0].Running, r.Shipping[0].Lag, r.Shipping[0].Error = false, 1200, "bad"
	r.Windows[1].Gap = &report.Gap{}
	bad.Record(metrics.Snapshot{At: time.Unix(0, 0), Report: r, Check: report.Critical})
	firing := but("WalkeepAbsent", "WalkeepArchiveUnreadable", "WalkeepCheckWarning", "WalkeepNoBackup")

	none := metrics.New("1")
	none.Record(metrics.Snapshot{At: end, Report: &report.Report{}, Check: report.Warning})
	unread := metrics.New("1")
	unread.Record(metrics.Snapshot{At: end, Check: report.Critical})

	well := metrics.New("1")
	well.Done("backup", end, time.Second, nil)
	r = found()
	r.Backups[1].Ended = end
	few, now := int64(0), 0.0
	r.Server.Ready, r.Server.Replay.Lag.Seconds, r.Server.Failed = &few, &now, 0
	r.Faults, r.Damaged, r.Windows = nil, nil, r.Windows[1:2]
	r.Shipping = r.Shipping[:1]
	r.Shipping[0].Stuck = nil
	well.Record(metrics.Snapshot{At: end, Report: r})
	wellSeries := regexp.MustCompile(`(failed_total'\n\s+values: '\d+)\+1`).ReplaceAllString(series(well), "$1+0")

	// A task whose counter appears with its first failure.
	first := wellSeries + fmt.Sprintf("      - series: 'walkeep_task_runs_total{task=\"drill\",result=\"failure\"}'\n        values: '_x%d 1x60'\n", minutes-60)

	file := filepath.Join(t.TempDir(), "test.yml")
	content := fmt.Sprintf("rule_files: ['%s']\nevaluation_interval: 5m\ntests:\n", rules) +
		test("bad", series(bad), firing) + test("no backup", series(none), []string{"WalkeepNoBackup", "WalkeepCheckWarning"}) +
		test("unread", series(unread), []string{"WalkeepArchiveUnreadable", "WalkeepCheckCritical"}) +
		test("absent", "", []string{"WalkeepAbsent"}) + test("well", wellSeries, nil) + test("first failure", first, []string{"WalkeepTaskFails"})
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool("test", "rules", file)
}
