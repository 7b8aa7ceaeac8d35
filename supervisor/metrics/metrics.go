// Package metrics tells Prometheus how the archive and the supervisor's tasks stand. docs/metrics.md explains each metric.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// stopLimit is how long requests have to end when the server is stopped.
const stopLimit = 2 * time.Second

// Metrics are what is told.
type Metrics struct {
	registry *prometheus.Registry
	runs     *prometheus.CounterVec
	success  *prometheus.GaugeVec
	took     *prometheus.GaugeVec
	looks    *looks
}

// New makes metrics that know nothing yet but the program's version and the tasks' names.
func New(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "walkeep_task_runs_total", Help: "Runs of a task since the supervisor was started.",
		}, []string{"task", "result"}),
		success: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "walkeep_task_last_success_timestamp_seconds", Help: "When the last successful run of a task ended.",
		}, []string{"task"}),
		took: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "walkeep_task_duration_seconds", Help: "How long the last run of a task took.",
		}, []string{"task"}),
		looks: newLooks(),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "walkeep_build_info", Help: "Always 1."}, []string{"version"})
	build.WithLabelValues(version).Set(1)
	m.registry.MustRegister(build, m.runs, m.success, m.took, m.looks)
	return m
}

// Done takes note of a run of a task.
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

// Look takes note of how the archive stands.
func (m *Metrics) Look(l Look) { m.looks.take(l) }

// Handler answers requests.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "walkeep supervisor: the metrics are at /metrics")
	})
	return mux
}

// Serve answers at an address until the context ends.
func (m *Metrics) Serve(ctx context.Context, address string, log *slog.Logger) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	log.Info("serving metrics", "address", listener.Addr().String())
	s := &http.Server{
		Handler: m.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
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
