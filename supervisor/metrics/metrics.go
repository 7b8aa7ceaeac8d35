// Package metrics serves the state of the archive and of the supervisor's tasks to Prometheus. docs/metrics.md
// explains each metric.
package metrics

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// stopLimit is how long requests may take to end when the server is stopped.
const stopLimit = 2 * time.Second

// Metrics are the served metrics. The methods may be called concurrently.
type Metrics struct {
	collectors *prometheus.Registry
	runs       *prometheus.CounterVec
	success    *prometheus.GaugeVec
	took       *prometheus.GaugeVec
	snapshots  *snapshots
}

// New returns metrics with the program's version alone.
func New(version string) *Metrics {
	m := &Metrics{
		collectors: prometheus.NewRegistry(),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "walkeep_task_runs_total", Help: "Runs of a task since the supervisor was started.",
		}, []string{"task", "result"}),
		success: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "walkeep_task_last_success_timestamp_seconds", Help: "When the last successful run of a task ended.",
		}, []string{"task"}),
		took: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "walkeep_task_duration_seconds", Help: "How long the last run of a task took.",
		}, []string{"task"}),
		snapshots: newSnapshots(),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "walkeep_build_info", Help: "Always 1."}, []string{"version"})
	build.WithLabelValues(version).Set(1)
	m.collectors.MustRegister(build, m.runs, m.success, m.took, m.snapshots)
	return m
}

// Done records a run of a task.
func (m *Metrics) Done(task string, ended time.Time, took time.Duration, err error) {
	result := "success"
	if err != nil {
		result = "failure"
	} else {
		m.success.WithLabelValues(task).Set(seconds(ended))
	}
	m.runs.WithLabelValues(task, result).Inc()
	m.took.WithLabelValues(task).Set(took.Seconds())
}

// Record records a snapshot, in place of the previous one.
func (m *Metrics) Record(s Snapshot) { m.snapshots.record(s) }

// Handler returns the handler for /metrics, and for / that of a page for people.
func (m *Metrics) Handler(page http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.collectors, promhttp.HandlerOpts{}))
	mux.Handle("GET /{$}", page)
	return mux
}

// Serve serves the metrics, and the page, at an address until the context ends.
func (m *Metrics) Serve(ctx context.Context, address string, page http.Handler, log *slog.Logger) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	log.Info("serving metrics and the page", "address", listener.Addr().String())
	s := &http.Server{
		Handler: m.Handler(page), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	if err := s.Shutdown(limit); err != nil {
		s.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
