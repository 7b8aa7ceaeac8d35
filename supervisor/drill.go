package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/drill"
	"walkeep/supervisor/launch"
	"walkeep/supervisor/progress"
	"walkeep/supervisor/restore"
)

const aboutDrill = `Tests whether the backup BACKUP, or the newest, can be recovered: restores it
into a scratch directory, starts a server there, replays the WAL to the end or
to a target, and reads every row of every table. It also runs pg_verifybackup
and pg_amcheck where the server's programs have them.

The server of a drill accepts connections from the drill alone, archives
nothing, and touches no other server and no tablespace of one: it replays up to
where a tablespace is created elsewhere, and the drill reports what was not
tested. The drill removes the scratch directory at its end; the next one removes
that of a drill that was killed.

Exit codes: 0 all is well, 1 something failed, 2 wrong usage or configuration.`

// drillOptions are those of the command drill.
type drillOptions struct {
	targetOptions
	Dir            string `long:"drill-dir" value-name:"DIR" description:"where to make the scratch directory (else the configuration's drill-dir, else TMPDIR, or the user's home directory)"`
	RestoreCommand string `long:"restore-command" value-name:"COMMAND" description:"restore_command for the server (else restore-cmd beside this program, with this spool)"`
	JSON           bool   `long:"json" description:"report as JSON"`
	Args           struct {
		Backup string `positional-arg-name:"BACKUP" description:"the backup to test, as list names it"`
	} `positional-args:"yes"`
}

func drillCommand() command {
	var o drillOptions
	return command{
		Subcommand: config.Subcommand{
			Name: "drill", Short: "test whether a backup can be recovered", About: aboutDrill, Options: &o,
			Parts: func(c *config.Config) []any { return []any{&c.Effort, &c.Decryption} },
		},
		run: func(ctx context.Context, call *invocation) error { return runDrill(ctx, call, &o) },
	}
}

// drillReport is the output of --json.
type drillReport struct {
	OK      bool    `json:"ok"`
	Backup  string  `json:"backup"`
	Target  string  `json:"target"`
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error,omitempty"`
	// UntriedFrom is the position before the target at which replay ended, and Untried the reason; empty if it reached the target.
	UntriedFrom string      `json:"untried_from,omitempty"`
	Untried     string      `json:"untried,omitempty"`
	Steps       []drillStep `json:"steps"`
}

type drillStep struct {
	Name    string  `json:"name"`
	OK      bool    `json:"ok"`
	Skipped bool    `json:"skipped"`
	Seconds float64 `json:"seconds"`
	Detail  string  `json:"detail,omitempty"`
	Error   string  `json:"error,omitempty"`
}

func runDrill(ctx context.Context, call *invocation, o *drillOptions) (err error) {
	call.giveUpSpool()
	t, err := o.parse()
	if err != nil {
		return cli.Fail(exitUsage, err, "")
	}
	parent := o.Dir
	if parent == "" {
		parent = call.DrillDir
	}
	if parent == "" {
		home, _ := os.UserHomeDir()
		var private bool
		if parent, private = drill.Place(home); !private {
			call.msg.Warn("name a directory of the server's user with drill-dir or --drill-dir", "the cluster is restored below %s, which all users share", parent)
		}
	}
	r := restore.Options{Jobs: call.jobs(), Recovery: restore.Recovery{Command: o.RestoreCommand}}
	r.Notice = func(hint, message string) { call.msg.Warn(hint, "%s", message) }
	if parent, err = filepath.Abs(parent); err != nil {
		return err
	}
	if r.Recovery.Command == "" { // a spool is missing, or a program, before anything is restored
		f, err := call.feedIn(parent, parent, true)
		if err == nil {
			_, err = f.restoreCommand()
		}
		if err != nil {
			return usage(err)
		}
	}
	f := feed{}
	if call.Spool != "" {
		if f.spool, err = filepath.Abs(call.Spool); err != nil {
			return err
		}
	}
	r.Avoid = call.avoid(f)
	if err := call.unlock(); err != nil {
		return err
	}
	a, err := call.open(ctx)
	if err != nil {
		return err
	}
	call.warnLost(a, "the drill is made without it")
	p, err := call.plan(ctx, a, "drill", t, o.Args.Backup, func(inv *recovery.Inventory) {
		if t.latest() {
			call.askProduction(ctx, a.Archive, inv)
		}
	})
	if err != nil {
		return explainRestore(err)
	}
	defer func() { err = errors.Join(err, call.release(p.held)) }()
	call.warnPassed(p)
	r.Plan = p.plan
	if r.Changes, err = call.changes(ctx, p); err != nil {
		return explainRestore(err)
	}
	call.warnDropped(p.plan, r.Changes)
	bar := call.showDrill(&r)
	begun := time.Now()
	steps, failed := drill.Run(ctx, a.Archive, p.inv, drill.Options{
		Prepare: call.feedDrill(o.RestoreCommand),
		Restore: r, Parent: parent, Bindir: call.Bindir, Conninfo: call.Conninfo, Replayed: bar.replayed,
		Step: func(s drill.Step) {
			bar.done()
			if !o.JSON {
				fmt.Fprintln(call.out, describeStep(s))
			}
		},
	})
	bar.done()
	call.noteDrill(ctx, a.Archive, p.plan.Backup.ID, time.Since(begun), failed)
	if err := call.reportDrill(o, r, steps, time.Since(begun), failed); err != nil {
		return err
	}
	return explainDrill(failed)
}

// feedDrill returns the function that makes what the restore-cmd of a drill's server reads, in the scratch directory, and returns
// the server's restore_command; nil if that is given.
func (call *invocation) feedDrill(given string) func(scratch, data string) (string, error) {
	if given != "" {
		return nil
	}
	return func(scratch, data string) (string, error) {
		f, err := call.feedIn(filepath.Join(scratch, "walkeep"), data, true)
		if err == nil {
			err = f.build()
		}
		if err != nil {
			return "", err
		}
		return f.restoreCommand()
	}
}

// noteDrill stores the outcome of a drill in the archive. A failure that this host has caused is not one of the backup, and not
// stored.
func (call *invocation) noteDrill(ctx context.Context, a *archive.Archive, id string, took time.Duration, failed error) {
	d := notes.Drilled{At: time.Now().UTC().Truncate(time.Second), OK: failed == nil, Seconds: took.Round(100 * time.Millisecond).Seconds()}
	if failed != nil {
		here := slices.ContainsFunc([]error{launch.ErrRoot, restore.ErrSpace, restore.ErrOwner, restore.ErrPlace}, func(e error) bool { return errors.Is(failed, e) })
		if !errors.Is(failed, drill.ErrFailed) || here || ctx.Err() != nil {
			return
		}
		d.Error, d.Damaged = strings.TrimPrefix(wal.ShortLSNs(failed.Error()), drill.ErrFailed.Error()+" "), errors.Is(failed, archive.ErrDamaged)
	}
	if err := a.Notes().NoteDrill(ctx, id, d); err != nil {
		call.msg.Warn("", "the outcome of this drill cannot be stored in the archive: %v", err)
	}
}

// A drillBar shows the progress of a drill's step.
type drillBar struct {
	call *invocation
	bar  *progress.Bar
	at   wal.LSN
}

// showDrill shows the progress of the restore, and later of the replay.
func (call *invocation) showDrill(r *restore.Options) *drillBar {
	d := &drillBar{call: call, at: r.Plan.Backup.Start}
	r.Begin = func(what string, bytes int64) { d.begin(what, bytes) }
	r.Progress = func(bytes int64) { d.bar.Add(bytes) }
	return d
}

func (d *drillBar) begin(what string, bytes int64) {
	d.done()
	d.bar = d.call.bar(what, bytes)
}

func (d *drillBar) replayed(lsn wal.LSN) {
	if d.bar == nil {
		d.begin("replay", 0)
	}
	if lsn > d.at {
		d.bar.Add(int64(lsn - d.at))
		d.at = lsn
	}
}

func (d *drillBar) done() {
	d.bar.Done()
	d.bar = nil
}

func describeStep(s drill.Step) string {
	took := s.Took.Round(10 * time.Millisecond)
	switch {
	case s.Err != nil:
		return fmt.Sprintf("%-16s FAILED  %8s  %s", s.Name, took, wal.ShortLSNs(s.Err.Error()))
	case s.Skipped:
		return fmt.Sprintf("%-16s skipped %8s  %s", s.Name, took, s.Detail)
	}
	return fmt.Sprintf("%-16s ok      %8s  %s", s.Name, took, s.Detail)
}

// reportDrill prints the outcome of a drill.
func (call *invocation) reportDrill(o *drillOptions, r restore.Options, steps []drill.Step, took time.Duration, failed error) error {
	r.Recovery.Action = "promote"
	report := drillReport{OK: failed == nil, Backup: r.Plan.Backup.ID, Target: describeTarget(r), Seconds: took.Seconds(), Steps: []drillStep{}}
	if failed != nil {
		report.Error = wal.ShortLSNs(failed.Error())
	}
	if _, before, err := drill.Until(r.Plan, r.Changes); err == nil && before != nil && failed == nil {
		report.UntriedFrom = before.Start.String()
		report.Untried = fmt.Sprintf("tablespace %d is created there in %s, which a drill must not touch", before.Tablespace.OID, before.Tablespace.Location)
		report.Target = "the position " + report.UntriedFrom
		call.msg.Warn("take a new backup, and run a drill of it", "the WAL from %s on was not tested: %s", report.UntriedFrom, report.Untried)
	}
	if !o.JSON {
		if failed != nil {
			return nil
		}
		_, err := fmt.Fprintf(call.out, "backup %s can be recovered to %s; tested in %s\n", report.Backup, report.Target, took.Round(100*time.Millisecond))
		return err
	}
	for _, s := range steps {
		step := drillStep{Name: s.Name, OK: s.Err == nil && !s.Skipped, Skipped: s.Skipped, Seconds: s.Took.Seconds(), Detail: s.Detail}
		if s.Err != nil {
			step.Error = wal.ShortLSNs(s.Err.Error())
		}
		report.Steps = append(report.Steps, step)
	}
	return call.printJSON(report)
}

// drillRemedies replace the hints of the packages: the directory that was restored is gone.
var drillRemedies = remedies{
	{launch.ErrRoot, "run the drill as the server's user"},
	{restore.ErrSpace, "name a directory with room for the cluster with --drill-dir"},
	{archive.ErrDamaged, "take a new backup now, then find out what has damaged this one"},
	{restore.ErrLayout, "take a new backup now, then find out what has damaged this one"},
	{launch.ErrStopped, "something that the server needs to start a copy of the cluster may be missing on this host; {verify --deep} examines the archive alone"},
	{drill.ErrFailed, "take a new backup, and run a drill of it"},
}

// explainDrill adds the exit code and the hint.
func explainDrill(err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, drill.ErrOutside):
		return err
	case errors.Is(err, drill.ErrLong):
		return cli.Fail(exitUsage, err, "")
	}
	return drillRemedies.override(err)
}
