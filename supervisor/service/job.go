package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/robfig/cron/v3"

	"walkeep/common/cli"
)

// A job is a task and its state. Only the loop's own goroutine reads and writes it.
type job struct {
	Task
	schedule cron.Schedule
	next     time.Time // the time at which it is due
	past     time.Time // the last time at which it was due; zero if there was none
	retry    time.Time // the time of the next retry; zero if there is none
	retries  *backoff.ExponentialBackOff
	due      string // the reason to begin; empty if there is none
	waits    bool   // for another job of its group
	running  bool
	failed   bool // the last run failed
	dropped  bool // no longer in the plan
}

// look determines whether a job is due.
func (l *Loop) look(j *job, at time.Time) {
	if j.dropped {
		return
	}
	t := j.schedule.Next(at)
	if t.Equal(j.past) { // the clock was set back a little, and this run was done
		t = j.schedule.Next(t)
	}
	if t.Before(j.next) {
		j.next = t // the clock was set back
	}
	if !at.Before(j.next) {
		j.past, j.next = j.next, j.schedule.Next(at)
		j.retry = time.Time{}
		j.retries.Reset()
		if j.running {
			l.Log.Warn("skipped: the last run is still running", "task", j.Name, "next", clock(j.next))
		} else if j.due == "" {
			j.due = "scheduled"
		}
	}
	if !j.retry.IsZero() && !at.Before(j.retry) {
		j.retry, j.due = time.Time{}, "trying again"
	}
}

// begin runs a job, or makes it wait if another job of its group is running.
func (l *Loop) begin(ctx context.Context, j *job) {
	log := l.Log.With("task", j.Name)
	for _, other := range l.jobs {
		if other != j && other.running && j.Group != "" && other.Group == j.Group {
			if !j.waits {
				log.Info("waiting for the end of " + other.Name)
			}
			j.waits = true
			return
		}
	}
	log.Info("begins", "reason", j.due)
	j.due, j.waits, j.running = "", false, true
	task, began := j.Task, time.Now()
	go func() {
		err := safely(func() error { return task.Run(ctx, log) })
		l.report(func() {
			l.finish(ctx, j, Result{Task: task.Name, Began: began.Round(0), Took: time.Since(began), Err: err})
		})
	}()
}

// finish records the result of a run, and schedules a retry if there is to be one.
func (l *Loop) finish(ctx context.Context, j *job, r Result) {
	log := l.Log.With("task", r.Task, "took", r.Took.Round(time.Millisecond))
	j.running = false
	if j.dropped {
		l.jobs = without(l.jobs, j)
	}
	if r.Err != nil && ctx.Err() != nil {
		log.Info("interrupted")
		return
	}
	if l.Done != nil {
		l.Done(r)
	}
	j.failed = r.Err != nil
	if r.Err == nil {
		j.retries.Reset()
		log.Info("done")
		return
	}
	if !j.dropped && !j.Final {
		at := now().Add(j.retries.NextBackOff())
		if at.Before(j.next) {
			j.retry = at
			log = log.With("next_try", clock(at))
		}
	}
	if j.retry.IsZero() && !j.dropped {
		log = log.With("next", clock(j.next))
	}
	logError(log, "failed", r.Err)
}

// request begins a task that somebody asked for.
func (l *Loop) request(r request) {
	j := l.job(r.task)
	if j == nil || j.dropped || j.running || j.due != "" || !j.retry.IsZero() {
		return
	}
	j.due = r.reason
}

// makeUp determines whether a run was missed before the loop began.
func (l *Loop) makeUp(ctx context.Context, j *job) {
	t := j.Task
	go func() {
		var last time.Time
		look := func() error {
			return safely(func() (err error) {
				last, err = t.Last(ctx)
				return err
			})
		}
		complain := func(err error, pause time.Duration) {
			logError(l.Log.With("task", t.Name, "next_try", clock(now().Add(pause))), "cannot determine when it was last done", err)
		}
		if backoff.RetryNotify(look, backoff.WithContext(retries(), ctx), complain) != nil {
			return // the loop has ended
		}
		l.report(func() {
			if due := j.schedule.Next(last.Local()); !due.After(now()) && !j.dropped {
				reason := "it was never done"
				if !last.IsZero() {
					reason = "missed: it was due at " + clock(due) + ", and last done at " + clock(last.Local())
				}
				l.request(request{t.Name, reason})
			}
		})
	}()
}

// safely turns a panic into an error.
func safely(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = cli.Fail(1, &panicked{fmt.Sprintf("internal error: %v", v), debug.Stack()}, "this is a bug in walkeep; please report it with what led to it")
		}
	}()
	return f()
}

type panicked struct {
	text  string
	stack []byte
}

func (p *panicked) Error() string { return p.text }

// logError logs an error with its hint.
func logError(log *slog.Logger, message string, err error) {
	attributes := []any{"error", err.Error()}
	if hint := cli.Hint(err); hint != "" {
		attributes = append(attributes, "hint", hint)
	}
	var p *panicked
	if errors.As(err, &p) {
		attributes = append(attributes, "stack", string(p.stack))
	}
	log.Error(message, attributes...)
}
