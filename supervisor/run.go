package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/basebackup"
	"walkeep/supervisor/metrics"
	"walkeep/supervisor/page"
	"walkeep/supervisor/repository"
	"walkeep/supervisor/service"
	"walkeep/supervisor/spool"
)

const aboutRun = `Runs in the foreground what the configuration asks for: streams the segment that
is being written (stream), ships what the spool holds to the repositories, takes
backups, cleans up, verifies and runs drills on schedule, and serves a page for
people (/) and metrics (/metrics) at metrics-listen. It takes a backup at once if one
was due while it did not run, if the archive has none, or if WAL was archived
with broken records since the last one.

It repeats a task that fails, first after 30 seconds, until the task is due
again. It does not repeat verification and drills, whose failure is a finding.
SIGHUP makes it read the configuration again, SIGTERM ends it. Only one
supervisor of a host can run with a spool. The command service install makes it
a service.`

// A scheduled command is a command that run calls at the times of a schedule.
type scheduled struct {
	name     string
	key      string // of the configuration
	schedule string
	group    string
	final    bool
	run      func(ctx context.Context, call *invocation) error
	repo     string // the repository that it works on alone; empty: what the configuration chooses
}

// scheduled returns the commands that the configuration can schedule.
func (r *runner) scheduled(c *config.Config) []scheduled {
	return append(r.backups(c), []scheduled{
		{name: "cleanup", key: "cleanup-schedule", schedule: c.CleanupSchedule, run: func(ctx context.Context, call *invocation) error {
			return cleanup(ctx, call, cleanupOptions{})
		}},
		{name: "verify", key: "verify-schedule", schedule: c.VerifySchedule, group: reading, final: true, run: func(ctx context.Context, call *invocation) error {
			return verifyArchive(ctx, call, verifyOptions{})
		}},
		{name: "deep-verify", key: "deep-verify-schedule", schedule: c.DeepVerifySchedule, group: reading, final: true, run: func(ctx context.Context, call *invocation) error {
			return verifyArchive(ctx, call, verifyOptions{Deep: true})
		}},
		{name: "drill", key: "drill-schedule", schedule: c.DrillSchedule, group: reading, final: true, run: func(ctx context.Context, call *invocation) error {
			return runDrill(ctx, call, &drillOptions{})
		}},
	}...)
}

// backups returns the schedules of backups: that of the section [walkeep], whose backups go into the first repository or else into
// the spool, and those of repositories. Only one backup is taken at a time.
func (r *runner) backups(c *config.Config) []scheduled {
	all := []scheduled{{name: "backup", key: "backup-schedule", schedule: c.BackupSchedule, group: backingUp, run: r.backUp}}
	for _, repo := range c.List {
		all = append(all, scheduled{name: "backup-" + repo.Name, key: "backup-schedule of repository " + repo.Name, schedule: repo.BackupSchedule, group: backingUp,
			run: r.backUp, repo: repo.Name})
	}
	return all
}

// backupTasks returns the names of the scheduled backups.
func (r *runner) backupTasks(c *config.Config) (names []string) {
	for _, s := range r.backups(c) {
		if s.schedule != "" {
			names = append(names, s.name)
		}
	}
	return names
}

// backingUp is the group of the tasks that take backups.
const backingUp = "backups"

// reading is the group of the tasks that read much of the archive.
const reading = "reading"

func runCommand() command {
	return command{
		Subcommand: config.Subcommand{
			Name: "run", Short: "run all that is configured, in the foreground", About: aboutRun,
			Parts: func(c *config.Config) []any {
				return []any{&c.Schedule, &c.Stream, &c.Ship, &c.Backup, &c.Compression, &c.Encryption, &c.Decryption, &c.Effort, &c.Retention, &c.Prefetch}
			},
		},
		run: func(ctx context.Context, call *invocation) error { return keepRunning(ctx, call, os.Stderr, nil) },
	}
}

// keepRunning runs what is configured until ctx ends. It reads the configuration again on SIGHUP and when reload receives a signal.
func keepRunning(ctx context.Context, call *invocation, log io.Writer, reload chan os.Signal) error {
	r := &runner{args: call.args, spool: call.Spool, log: newLog(call.Config, log), metrics: metrics.New(cli.Version), page: page.Live{Version: cli.Version}}
	plan, err := r.plan(call.Config)
	if err != nil {
		return err
	}
	defer r.repositories.Close()
	if call.Spool != "" { // a host without one can look after repositories
		here := spool.Spool{Dir: call.Spool} // it may not exist yet
		lock, err := here.Lock()
		switch {
		case errors.Is(err, spool.ErrLocked):
			return err
		case err != nil:
			r.log.Warn("cannot determine whether another supervisor runs with this spool", "error", err.Error())
		default:
			defer lock.Close()
		}
	}
	if reload == nil {
		reload = make(chan os.Signal, 1)
	}
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	r.loop = service.New(plan, r.log)
	r.loop.Notify, r.loop.Reload, r.loop.Load, r.loop.Done = service.NewNotifier(), reload, r.load, r.done
	return r.loop.Run(ctx)
}

// newLog returns the service's log.
func newLog(c config.Config, w io.Writer) *slog.Logger {
	level := slog.LevelInfo
	switch {
	case c.Quiet:
		level = slog.LevelError
	case c.Verbose:
		level = slog.LevelDebug
	}
	f, ok := w.(*os.File)
	return service.NewLog(shortLSNs{w}, level, ok && service.IsJournal(f))
}

// shortLSNs writes log records, one with each call, and shortens the LSNs of servers in them.
type shortLSNs struct{ w io.Writer }

func (s shortLSNs) Write(line []byte) (int, error) {
	_, err := io.WriteString(s.w, wal.ShortLSNs(string(line)))
	return len(line), err
}

// A runner gives the loop its tasks and parts.
type runner struct {
	args    []string // of the program
	spool   string
	log     *slog.Logger
	loop    *service.Loop
	metrics *metrics.Metrics
	page    page.Live

	repositories repository.Set // open from one task to the next

	// The segment with broken records for which a backup was requested last, and when. Only the part watch uses them.
	repaired   string
	repairedAt time.Time

	// unarchived is set if the last backup failed because its WAL was not archived. Only backups use it, one at a time.
	unarchived atomic.Bool
}

func (r *runner) done(x service.Result) { r.metrics.Done(x.Task, x.Began.Add(x.Took), x.Took, x.Err) }

// load reads the configuration again.
func (r *runner) load(context.Context) (service.Plan, error) {
	c, _, err := program(commands()).ParseCommand(r.args, io.Discard)
	if err != nil {
		return service.Plan{}, err
	}
	if c.Spool != r.spool {
		return service.Plan{}, cli.Fail(exitUsage, fmt.Errorf("spool is now %s", c.Spool), "restart the service to change it")
	}
	return r.plan(c)
}

// plan returns the tasks and parts that are configured.
func (r *runner) plan(c config.Config) (service.Plan, error) {
	var p service.Plan
	if c.Streaming {
		if err := mayStream(&c); err != nil {
			return p, err
		}
	}
	var keys []string
	for _, s := range r.scheduled(&c) {
		if s.repo == "" {
			keys = append(keys, s.key)
		}
		if s.schedule == "" {
			continue
		}
		if _, err := service.ParseSchedule(s.schedule); err != nil {
			return p, cli.Fail(exitUsage, fmt.Errorf("%s: %w", s.key, err), "five fields, for minute, hour, day, month and weekday, as in '0 2 * * *'; or @daily and the like")
		}
		own := c
		if s.repo != "" {
			own.Repo, own.BackupSchedule = s.repo, s.schedule
		}
		t := service.Task{Name: s.name, Schedule: s.schedule, Group: s.group, Final: s.final, Run: func(ctx context.Context, log *slog.Logger) error {
			call, flush := logged(own, &r.repositories, log)
			defer flush()
			return explain(ctx, s.run(ctx, call), "")
		}}
		if s.group == backingUp {
			t.Last = func(ctx context.Context) (time.Time, error) { return r.lastBackup(ctx, own) }
		}
		p.Tasks = append(p.Tasks, t)
	}
	if c.MetricsListen != "" {
		if _, _, err := net.SplitHostPort(c.MetricsListen); err != nil {
			return p, cli.Fail(exitUsage, fmt.Errorf("metrics-listen: %w", err), "an address and a port, such as 127.0.0.1:9187")
		}
		p.Parts = append(p.Parts, service.Part{Name: "metrics", Settings: c.MetricsListen, Run: func(ctx context.Context, log *slog.Logger) error {
			return r.metrics.Serve(ctx, c.MetricsListen, &r.page, log)
		}})
	}
	if c.MetricsListen != "" || len(r.backupTasks(&c)) > 0 {
		p.Parts = append(p.Parts, r.watch(c))
	}
	if c.Streaming {
		p.Parts = append(p.Parts, service.Part{Name: "stream", Settings: fmt.Sprint(c.Server, c.Stream, c.Compression), Run: func(ctx context.Context, log *slog.Logger) error {
			call, flush := logged(c, &r.repositories, log)
			defer flush()
			return explain(ctx, call.stream(ctx, log), "")
		}})
	}
	if len(c.List) > 0 && c.Spool != "" {
		p.Parts = append(p.Parts, r.shipping(c))
	}
	if len(c.List) > 0 && c.Spool != "" && c.Ahead > 0 {
		p.Parts = append(p.Parts, r.prefetching(c))
	}
	if len(p.Tasks)+len(p.Parts) == 0 {
		return p, cli.Fail(exitUsage, errors.New("there is nothing to do: nothing is scheduled"),
			"set one of "+strings.Join(keys, ", ")+", or stream, or metrics-listen, or a section [repository NAME]")
	}
	return p, nil
}

// backUp takes a backup unless the server reports that it cannot archive: all files would be copied for nothing.
func (r *runner) backUp(ctx context.Context, call *invocation) error {
	a, err := call.open(ctx)
	if err == nil {
		err = basebackup.CheckArchiving(ctx, a.Archive, call.Conninfo, r.unarchived.Load())
	}
	if err != nil {
		return backupRemedies.explain(err)
	}
	err = takeBackup(ctx, call)
	r.unarchived.Store(errors.Is(err, basebackup.ErrNotArchived))
	return err
}

// lastBackup returns the time at which the newest backup ended, as far as that is not in the future; the zero time without one.
func (r *runner) lastBackup(ctx context.Context, c config.Config) (time.Time, error) {
	call, flush := logged(c, &r.repositories, r.log)
	defer flush()
	to, err := call.target(ctx)
	if err != nil {
		return time.Time{}, explain(ctx, err, "")
	}
	inv, err := recovery.ReadInventoryKept(ctx, to.archive)
	if errors.Is(err, archive.ErrUnbound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, explain(ctx, err, "")
	}
	var last time.Time
	for _, b := range inv.Backups {
		if b.Ended.After(last) && b.Ended.Before(time.Now().Add(time.Hour)) { // a clock that was ahead must not stop backups
			last = b.Ended
		}
	}
	return last, nil
}
