package service_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"walkeep/common/cli"
	"walkeep/supervisor/service"
)

// The tests run in bubbles, whose clock begins at midnight, 1 January 2000 UTC, and advances when all goroutines
// wait.
func at(clock string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05", clock)
	if err != nil {
		panic(err)
	}
	return t
}

// A recorder keeps events with their times.
type recorder struct {
	mu    sync.Mutex
	notes []string
}

func (r *recorder) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, time.Now().UTC().Format("02 15:04:05 ")+fmt.Sprintf(format, args...))
}

func (r *recorder) Write(line []byte) (int, error) {
	_, message, _ := strings.Cut(strings.TrimSpace(string(line)), "msg=")
	r.note("%s", message)
	return len(line), nil
}

// take returns the recorded events, and forgets them.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	notes := r.notes
	r.notes = nil
	return notes
}

func (r *recorder) expect(t *testing.T, want ...string) {
	t.Helper()
	got := r.take()
	slices.Sort(got) // events at the same time have no order
	slices.Sort(want)
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("missing: %q", want[i])
		case i >= len(want):
			t.Errorf("got %q too many", got[i])
		case got[i] != want[i]:
			t.Errorf("got %q, want %q", got[i], want[i])
		}
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// begin runs a loop, which is stopped and must end without an error when its test ends.
func begin(t *testing.T, l *service.Loop) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the loop ended with: %v", err)
		}
	})
	synctest.Wait()
}

// until lets the clock of the bubble advance to a time.
func until(clock string) {
	time.Sleep(time.Until(at(clock)))
	synctest.Wait()
}

// lasting returns a run that lasts for a time, or less if it is interrupted, and ends with an error.
func lasting(r *recorder, name string, took time.Duration, err error) func(context.Context, *slog.Logger) error {
	return func(ctx context.Context, _ *slog.Logger) error {
		r.note("%s", name)
		select {
		case <-time.After(took):
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		begin(t, service.New(service.Plan{Tasks: []service.Task{
			{Name: "a", Schedule: "0 2 * * *", Run: lasting(&r, "a", time.Minute, nil)},
			{Name: "b", Schedule: "@hourly", Run: lasting(&r, "b", time.Minute, nil)},
		}}, quiet()))
		until("2000-01-01 00:59:59")
		r.expect(t)
		until("2000-01-01 03:30:00")
		r.expect(t, "01 01:00:00 b", "01 02:00:00 a", "01 02:00:00 b", "01 03:00:00 b")
	})
}

// A run that is due while the last one is still running is skipped; other tasks are not affected.
func TestOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		begin(t, service.New(service.Plan{Tasks: []service.Task{
			{Name: "long", Schedule: "@hourly", Run: lasting(&r, "long", 90*time.Minute, nil)},
			{Name: "short", Schedule: "@hourly", Run: lasting(&r, "short", time.Minute, nil)},
		}}, slog.New(slog.NewTextHandler(&r, &slog.HandlerOptions{Level: slog.LevelWarn}))))
		until("2000-01-01 03:30:00")
		r.expect(t, "01 01:00:00 long", "01 01:00:00 short",
			`01 02:00:00 "skipped: the last run is still running" task=long next="2000-01-01 03:00:00 UTC"`, "01 02:00:00 short",
			"01 03:00:00 long", "01 03:00:00 short")
	})
}

// Tasks of one group wait for each other, and all of them run.
func TestGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		begin(t, service.New(service.Plan{Tasks: []service.Task{
			{Name: "a", Schedule: "0 1 * * *", Group: "g", Run: lasting(&r, "a", 30*time.Minute, nil)},
			{Name: "b", Schedule: "0 1 * * *", Group: "g", Run: lasting(&r, "b", 30*time.Minute, errors.New("bad"))},
			{Name: "c", Schedule: "0 1 * * *", Group: "g", Run: lasting(&r, "c", time.Minute, nil)},
			{Name: "d", Schedule: "0 1 * * *", Run: lasting(&r, "d", time.Minute, nil)},
		}}, quiet()))
		until("2000-01-01 02:00:00")
		r.expect(t, "01 01:00:00 a", "01 01:00:00 d", "01 01:30:00 b", "01 02:00:00 c")
	})
}

// A task that fails is run again after pauses that grow from half a minute to a quarter of an hour, until it is due
// again. A Final task is not. A panic is a failure.
func TestRetries(t *testing.T) {
	fail := func(_ context.Context, _ *slog.Logger) error { return cli.Fail(1, errors.New("full"), "make room") }
	for name, c := range map[string]struct {
		task   service.Task
		least  int // runs in three hours
		most   int
		errors string
	}{
		"failure":     {service.Task{Schedule: "@hourly", Run: fail}, 15, 18, "full"},
		"panic":       {service.Task{Schedule: "@hourly", Run: func(context.Context, *slog.Logger) error { panic("ouch") }}, 15, 18, "internal error: ouch"},
		"only once":   {service.Task{Schedule: "@hourly", Run: fail, Final: true}, 2, 2, "full"},
		"due soon":    {service.Task{Schedule: "* * * * *", Run: fail}, 350, 359, "full"},
		"long pauses": {service.Task{Schedule: "0 1 * * *", Run: fail}, 10, 13, "full"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.task.Name = "x"
				var log recorder
				l := service.New(service.Plan{Tasks: []service.Task{c.task}},
					slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError})))
				var began []time.Time
				l.Done = func(r service.Result) {
					began = append(began, r.Began)
					if r.Err == nil || r.Err.Error() != c.errors {
						t.Errorf("got error %v, want %s", r.Err, c.errors)
					}
				}
				begin(t, l)
				until("2000-01-01 02:59:59")
				if len(began) < c.least || len(began) > c.most {
					t.Errorf("got %d runs, want %d to %d: %s", len(began), c.least, c.most, began)
				}
				notes := log.take()
				if len(notes) != len(began) {
					t.Errorf("got %d messages for %d runs", len(notes), len(began))
				}
				if c.errors == "full" && !strings.Contains(notes[0], `error=full hint="make room"`) {
					t.Errorf("got %s, want the error and the hint", notes[0])
				}
				if name != "long pauses" {
					return
				}
				want := 30 * time.Second
				for i := 1; i < len(began); i++ {
					if pause := began[i].Sub(began[i-1]); pause < want*89/100 || pause > want*111/100 {
						t.Errorf("pause %d is %s, want about %s", i, pause, want)
					}
					want = min(2*want, 15*time.Minute)
				}
			})
		})
	}
}

// A missed run is made up for at once. If the loop cannot determine whether one was missed, it asks again.
func TestMissed(t *testing.T) {
	for name, c := range map[string]struct {
		last     string // of the task; "" for never
		failures int
		want     []string
	}{
		"never done":     {"", 0, []string{"01 00:00:00 x", "01 02:00:00 x"}},
		"missed":         {"1999-12-31 01:59:59", 0, []string{"01 00:00:00 x", "01 02:00:00 x"}},
		"done":           {"1999-12-31 02:00:10", 0, []string{"01 02:00:00 x"}},
		"done otherwise": {"1999-12-31 23:59:00", 0, []string{"01 02:00:00 x"}},
		"in the future":  {"2000-01-03 00:00:00", 0, []string{"01 02:00:00 x"}},
		"unknown":        {"", 1000, []string{"01 02:00:00 x"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r recorder
				begin(t, service.New(service.Plan{Tasks: []service.Task{{
					Name: "x", Schedule: "0 2 * * *", Run: lasting(&r, "x", time.Minute, nil),
					Last: func(context.Context) (time.Time, error) {
						if c.failures > 0 {
							c.failures--
							return time.Time{}, errors.New("not mounted")
						}
						if c.last == "" {
							return time.Time{}, nil
						}
						return at(c.last), nil
					},
				}}}, quiet()))
				until("2000-01-01 03:00:00")
				r.expect(t, c.want...)
			})
		})
	}
}

func TestStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		failing := errors.New("bad")
		l := service.New(service.Plan{Tasks: []service.Task{
			{Name: "x", Schedule: "0 2 * * *", Run: lasting(&r, "x", 10*time.Minute, nil)},
			{Name: "y", Schedule: "0 2 * * *", Run: lasting(&r, "y", 0, failing)},
		}}, quiet())
		begin(t, l)
		until("2000-01-01 00:30:00")
		// A task that is running, or waits for a retry, is not begun again.
		for _, task := range []string{"x", "y", "x", "y", "z"} {
			l.Start(t.Context(), task, "asked for")
			synctest.Wait()
		}
		r.expect(t, "01 00:30:00 x", "01 00:30:00 y")
		failing = nil
		until("2000-01-01 00:45:00")
		l.Start(t.Context(), "x", "asked for")
		synctest.Wait()
		if notes := r.take(); notes[len(notes)-1] != "01 00:45:00 x" {
			t.Errorf("got %q, want x at 00:45", notes)
		}
	})
}

func TestParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		begin(t, service.New(service.Plan{Parts: []service.Part{
			{Name: "steady", Run: lasting(&r, "steady", 30*24*time.Hour, nil)},
			{Name: "failing", Run: lasting(&r, "failing", 0, errors.New("bad"))},
			{Name: "panicking", Run: func(context.Context, *slog.Logger) error { r.note("panicking"); panic("ouch") }},
		}}, quiet()))
		until("2000-01-01 01:00:00")
		count := make(map[string]int)
		for _, n := range r.take() {
			count[n[12:]]++
		}
		if count["steady"] != 1 || count["failing"] < 55 || count["failing"] > 75 || count["panicking"] < 55 || count["panicking"] > 75 {
			t.Errorf("got %v", count)
		}
	})
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		part := func(name, settings string) service.Part {
			return service.Part{Name: name, Settings: settings, Run: func(ctx context.Context, _ *slog.Logger) error {
				r.note("%s %s begins", name, settings)
				<-ctx.Done()
				time.Sleep(time.Second)
				r.note("%s %s ends", name, settings)
				return ctx.Err()
			}}
		}
		task := func(name, schedule string) service.Task {
			return service.Task{Name: name, Schedule: schedule, Run: lasting(&r, name+" "+schedule, 30*time.Minute, nil)}
		}
		plans := []service.Plan{
			{Tasks: []service.Task{task("a", "0 * * * *"), task("b", "0 * * * *")}, Parts: []service.Part{part("p", "1"), part("q", "1")}},
			{Tasks: []service.Task{task("a", "20 * * * *"), task("c", "40 1 * * *")}, Parts: []service.Part{part("p", "1"), part("q", "2")}},
			{Tasks: []service.Task{task("a", "wrong"), task("d", "* * * * *")}},
			{Tasks: []service.Task{task("b", "0 3 * * *")}},
		}
		hangup := make(chan os.Signal, 1)
		l := service.New(plans[0], quiet())
		l.Reload = hangup
		next := 1
		l.Load = func(context.Context) (service.Plan, error) {
			next++
			if next == 4 {
				return service.Plan{}, errors.New("unknown option")
			}
			return plans[min(next-1, 3)], nil
		}
		reload := func(clock string) {
			until(clock)
			hangup <- syscall.SIGHUP
			synctest.Wait()
		}
		begin(t, l)
		r.take()                      // two parts begin side by side
		reload("2000-01-01 01:10:00") // both tasks are running, and continue
		until("2000-01-01 01:15:00")
		r.expect(t, "01 01:00:00 a 0 * * * *", "01 01:00:00 b 0 * * * *", "01 01:10:01 q 1 ends", "01 01:10:01 q 2 begins")
		until("2000-01-01 01:35:00")
		r.expect(t) // a was due while it was running
		until("2000-01-01 02:15:00")
		r.expect(t, "01 01:40:00 c 40 1 * * *")
		reload("2000-01-01 02:15:00") // a schedule is wrong
		reload("2000-01-01 02:16:00") // the file is wrong
		until("2000-01-01 02:21:00")
		r.expect(t, "01 02:20:00 a 20 * * * *")
		reload("2000-01-01 02:22:00")
		until("2000-01-01 02:30:00")
		for _, n := range r.take() {
			if !strings.HasPrefix(n, "01 02:22:01") || !strings.HasSuffix(n, "ends") {
				t.Errorf("got %q, want the end of two parts", n)
			}
		}
		until("2000-01-01 04:00:00")
		r.expect(t, "01 03:00:00 b 0 3 * * *")
	})
}

// The end of the loop interrupts all tasks and parts. The error names those that do not end in time.
func TestStop(t *testing.T) {
	stubborn := func(context.Context, *slog.Logger) error { time.Sleep(time.Minute); return nil }
	for name, c := range map[string]struct {
		run  func(context.Context, *slog.Logger) error
		want string
		took time.Duration
	}{
		"at once":  {func(ctx context.Context, _ *slog.Logger) error { <-ctx.Done(); return ctx.Err() }, "", 0},
		"slowly":   {func(ctx context.Context, _ *slog.Logger) error { <-ctx.Done(); time.Sleep(9 * time.Second); return nil }, "", 9 * time.Second},
		"too late": {stubborn, "not stopped within 10s: x, p", 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := service.New(service.Plan{
					Tasks: []service.Task{{Name: "x", Schedule: "* * * * *", Run: c.run}, {Name: "idle", Schedule: "@hourly", Run: stubborn}},
					Parts: []service.Part{{Name: "p", Run: c.run}},
				}, quiet())
				l.Done = func(r service.Result) {
					if r.Err != nil {
						t.Errorf("a run that was interrupted is reported: %+v", r)
					}
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- l.Run(ctx) }()
				until("2000-01-01 00:01:30")
				cancel()
				err, got := <-ended, ""
				if err != nil {
					got = err.Error()
				}
				if took := time.Since(at("2000-01-01 00:01:30")); got != c.want || took != c.took {
					t.Errorf("got %q after %s, want %q after %s", got, took, c.want, c.took)
				}
				l.Start(t.Context(), "idle", "too late") // must not block
				time.Sleep(time.Minute)                  // for the stubborn ones
			})
		})
	}
}

func TestParseSchedule(t *testing.T) {
	for text, ok := range map[string]bool{
		"0 2 * * *": true, "@daily": true, "@every 90m": true, "*/5 1-3 * * mon": true, "TZ=Europe/Berlin 0 2 * * *": true,
		"": false, "0 2 * *": false, "0 0 2 * * *": false, "61 * * * *": false, "0 0 30 2 *": false, "daily": false,
	} {
		if _, err := service.ParseSchedule(text); (err == nil) != ok {
			t.Errorf("%q: got error %v, want %v", text, err, ok)
		} else if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("%q", text)) {
			t.Errorf("%q: the error does not contain the schedule: %v", text, err)
		}
	}
}
