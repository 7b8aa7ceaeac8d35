// Package service runs the supervisor's tasks at scheduled times and its permanent parts, in one loop that the
// service manager can watch, reload and stop. It also installs the service.
package service

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/robfig/cron/v3"
)

const (
	// stopLimit is how long tasks and parts may take to end when the loop stops.
	stopLimit = 10 * time.Second
	// longestSleep limits how late a task is after the clock was set, or the host was suspended.
	longestSleep = time.Minute
)

// A Task runs at scheduled times, once at a time.
type Task struct {
	Name     string
	Schedule string // a cron expression of five fields or @daily and the like, in local time
	// Tasks with the same Group wait for each other, because they would only slow each other down; "" is no group.
	Group string
	// Final disables retries: a failure is a finding, and the task next runs when it is due again.
	Final bool
	Run   func(ctx context.Context, log *slog.Logger) error
	// Last returns when the task was last done, by any process; the zero time if never. If it was due since then, it
	// runs when the loop begins. If Last is nil, missed runs are not made up for.
	Last func(ctx context.Context) (time.Time, error)
}

// A Part runs all the time. It is started again when it ends.
type Part struct {
	Name string
	// Settings identify the part's configuration. If a reload changes them, the part is stopped and started again.
	Settings string
	Run      func(ctx context.Context, log *slog.Logger) error
}

// A Plan lists what a loop runs.
type Plan struct {
	Tasks []Task
	Parts []Part
}

// A Result describes how a run of a task ended.
type Result struct {
	Task  string
	Began time.Time
	Took  time.Duration
	Err   error
}

// A Loop runs its plan until its context ends. Its fields are set before Run; only Start may be called concurrently
// with Run.
type Loop struct {
	Plan   Plan
	Log    *slog.Logger
	Notify *Notifier // the service manager; may be nil
	// Reload makes the loop replace its plan by the result of Load. If Load fails, the old plan stays.
	Reload <-chan os.Signal
	Load   func(ctx context.Context) (Plan, error)
	// Done is called after each run of a task that the loop's end did not interrupt. It may be nil.
	Done func(Result)

	jobs     []*job
	parts    []*part
	events   chan func() // events of other goroutines, for the loop to handle
	requests chan request
	ended    chan struct{} // closed when the loop no longer receives from events
}

type request struct{ task, reason string }

// New returns a loop for a plan.
func New(plan Plan, log *slog.Logger) *Loop {
	return &Loop{
		Plan: plan, Log: log,
		events: make(chan func()), requests: make(chan request), ended: make(chan struct{}),
	}
}

// Start asks for a task to be done now; the log gives the reason. It does nothing if the plan has no such task, or if
// the task is running or waits for a retry.
func (l *Loop) Start(ctx context.Context, task, reason string) {
	select {
	case l.requests <- request{task, reason}:
	case <-l.ended:
	case <-ctx.Done():
	}
}

// Run runs the plan until the context ends. Then it ends all tasks and parts. It fails if one of them does not end
// within 10 seconds.
func (l *Loop) Run(ctx context.Context) error {
	defer close(l.ended)
	if err := l.adopt(ctx, l.Plan); err != nil {
		return err
	}
	watchdog, stop := l.Notify.watchdog()
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	l.Log.Info("ready", l.plan()...)
	l.Notify.send("READY=1\nSTATUS=" + l.status())
	for {
		select {
		case <-ctx.Done():
			return l.stop()
		case <-timer.C:
		case event := <-l.events:
			event()
		case r := <-l.requests:
			l.request(r)
		case <-l.Reload:
			l.reload(ctx)
		case <-watchdog:
			// The loop itself sends it, so that a loop that hangs sends none.
			l.Notify.send("WATCHDOG=1")
		}
		timer.Reset(l.step(ctx))
		l.Notify.status(l.status())
	}
}

// now is the time without its monotonic reading: schedules follow the wall clock.
func now() time.Time { return time.Now().Round(0) }

// step begins the jobs that are due, and returns the time until the next one.
func (l *Loop) step(ctx context.Context) time.Duration {
	at, sleep := now(), longestSleep
	for _, j := range l.jobs {
		l.look(j, at)
	}
	for _, j := range l.jobs {
		if j.due != "" && !j.running {
			l.begin(ctx, j)
		}
		for _, t := range []time.Time{j.next, j.retry} {
			if !t.IsZero() {
				sleep = min(sleep, t.Sub(at))
			}
		}
	}
	return max(sleep, 0)
}

// report passes an event from a goroutine to the loop.
func (l *Loop) report(event func()) {
	select {
	case l.events <- event:
	case <-l.ended:
	}
}

// adopt replaces the loop's plan. Runs in progress continue unchanged.
func (l *Loop) adopt(ctx context.Context, plan Plan) error {
	schedules := make([]cron.Schedule, len(plan.Tasks))
	for i, t := range plan.Tasks {
		var err error
		if schedules[i], err = ParseSchedule(t.Schedule); err != nil {
			return fmt.Errorf("schedule of %s: %w", t.Name, err)
		}
	}
	var jobs []*job
	for i, t := range plan.Tasks {
		j := l.job(t.Name)
		isNew := j == nil
		if isNew {
			j = &job{retries: retries()}
		}
		if t.Schedule != j.Schedule || j.next.IsZero() {
			j.next = schedules[i].Next(now())
		}
		j.Task, j.schedule, j.dropped = t, schedules[i], false
		if isNew && t.Last != nil {
			l.makeUp(ctx, j)
		}
		jobs = append(jobs, j)
	}
	for _, j := range l.jobs {
		if j.running && !slices.Contains(jobs, j) { // the loop waits for its end
			j.dropped, j.due, j.next, j.retry = true, "", time.Time{}, time.Time{}
			jobs = append(jobs, j)
		}
	}
	l.jobs, l.Plan = jobs, plan
	l.adoptParts(ctx, plan.Parts)
	return nil
}

func (l *Loop) job(name string) *job {
	for _, j := range l.jobs {
		if j.Name == name {
			return j
		}
	}
	return nil
}

func (l *Loop) reload(ctx context.Context) {
	l.Notify.reloading()
	plan, err := l.Load(ctx)
	if err == nil {
		err = l.adopt(ctx, plan)
	}
	if err != nil {
		logError(l.Log, "configuration not reloaded; the old one stays in use", err)
	} else {
		l.Log.Info("configuration reloaded", l.plan()...)
	}
	l.Notify.send("READY=1")
}

// stop waits until all tasks and parts have ended.
func (l *Loop) stop() error {
	l.Log.Info("stopping")
	l.Notify.send("STOPPING=1\nSTATUS=stopping")
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	for {
		alive := l.alive()
		if len(alive) == 0 {
			l.Log.Info("stopped")
			return nil
		}
		select {
		case event := <-l.events:
			event()
		case <-limit.C:
			return fmt.Errorf("not stopped within %s: %s", stopLimit, strings.Join(alive, ", "))
		}
	}
}

func (l *Loop) alive() []string {
	var names []string
	for _, j := range l.jobs {
		if j.running {
			names = append(names, j.Name)
		}
	}
	for _, p := range l.parts {
		names = append(names, p.Name)
	}
	return names
}

// plan lists, for a log, the tasks with the times at which they are due, and the parts.
func (l *Loop) plan() (attributes []any) {
	var tasks, parts []string
	for _, j := range l.jobs {
		if !j.next.IsZero() {
			tasks = append(tasks, j.Name+" at "+clock(j.next))
		}
	}
	for _, p := range l.parts {
		parts = append(parts, p.Name)
	}
	if len(tasks) > 0 {
		attributes = append(attributes, "tasks", strings.Join(tasks, ", "))
	}
	if len(parts) > 0 {
		attributes = append(attributes, "permanent", strings.Join(parts, ", "))
	}
	return attributes
}

// status describes the loop's state in one line.
func (l *Loop) status() string {
	var running, failed []string
	var next *job
	for _, j := range l.jobs {
		if j.running {
			running = append(running, j.Name)
		}
		if j.failed {
			failed = append(failed, j.Name)
		}
		if !j.next.IsZero() && (next == nil || j.next.Before(next.next)) {
			next = j
		}
	}
	var text []string
	if len(running) > 0 {
		text = append(text, strings.Join(running, ", ")+" running")
	}
	if len(failed) > 0 {
		text = append(text, strings.Join(failed, ", ")+" failed")
	}
	if next != nil {
		text = append(text, fmt.Sprintf("next: %s at %s", next.Name, clock(next.next)))
	}
	if len(text) == 0 {
		return "nothing is scheduled"
	}
	return strings.Join(text, "; ")
}

func clock(t time.Time) string { return t.Format("2006-01-02 15:04:05 MST") }

// retries returns the pauses after failed runs.
func retries() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(30*time.Second), backoff.WithMaxInterval(15*time.Minute),
		backoff.WithMultiplier(2), backoff.WithRandomizationFactor(0.1), backoff.WithMaxElapsedTime(0))
}
