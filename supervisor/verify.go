package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/supervisor/progress"
	"walkeep/supervisor/verify"
)

const aboutVerify = `Looks for gaps in the WAL, and for backups, histories and notes that are
missing, damaged or left behind. With --deep it reads every stored byte: it
expands each object and checks its hashes, follows the WAL record by record,
and compares each file of each backup with the backup's index.

It writes nothing but notes of what it has found. check, list, cleanup and
restore use these until a later run finds the object intact again. The exit code
is 1 if anything is wrong. It also lists what interrupted backups have left,
which does no harm.`

type verifyOptions struct {
	Deep bool `long:"deep" description:"read and check every stored byte"`
	JSON bool `long:"json" description:"print the outcome as JSON"`
}

func verifyCommand() command {
	var o verifyOptions
	return command{
		Subcommand: config.Subcommand{
			Name: "verify", Short: "read the archive again and report what is wrong", About: aboutVerify,
			Options: &o, Parts: func(c *config.Config) []any { return []any{&c.Effort} },
		},
		run: func(ctx context.Context, call *invocation) error { return verifyArchive(ctx, call, o) },
	}
}

func verifyArchive(ctx context.Context, call *invocation, o verifyOptions) error {
	a, err := call.open(ctx)
	if err != nil {
		return err
	}
	var bar *progress.Bar
	r, err := verify.Run(ctx, a, verify.Options{
		Deep: o.Deep, Jobs: call.jobs(),
		Begin: func(bytes int64) {
			bar = call.bar("verify", bytes)
		},
		Progress: func(bytes int64) { bar.Add(bytes) },
	})
	bar.Done()
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if r.Unkept != nil {
		call.msg.Warn("check, list, cleanup and restore do not know of it", "the findings cannot be stored in the archive: %v", r.Unkept)
	}
	if o.JSON {
		err = call.printJSON(r)
	} else {
		err = printVerified(call, r)
	}
	if n := r.Wrong(); err == nil && n > 0 {
		err = cli.Fail(exitFailed, errors.New(count(n, "problem")+" found"), verifyHint(r))
	}
	return err
}

func printVerified(call *invocation, r *verify.Result) error {
	for _, p := range r.Problems {
		fmt.Fprintf(call.out, "%s: %s\n", p.Severity, p)
	}
	took := time.Duration(r.Seconds * float64(time.Second))
	read := "looked at"
	if r.Deep {
		read = fmt.Sprintf("read %s of", progress.Bytes(r.Bytes))
	}
	_, err := fmt.Fprintf(call.out, "%s %s in %s", read, count(r.Objects, "object"), took.Round(time.Millisecond))
	if r.Deep && r.Seconds > 0 {
		fmt.Fprintf(call.out, " (%s/s)", progress.Bytes(int64(float64(r.Bytes)/r.Seconds)))
	}
	fmt.Fprintf(call.out, ": %s\n", outcome(r))
	return err
}

func outcome(r *verify.Result) string {
	switch n := r.Wrong(); {
	case n > 0:
		return count(n, "problem")
	case len(r.Problems) > 0 && r.Problems[0].Severity == verify.Unchecked:
		return "nothing that could be checked is wrong"
	case len(r.Problems) > 0:
		return "all is well; cleanup removes what was left behind"
	}
	return "all is well"
}

// verifyHint returns what to do about the worst problem.
func verifyHint(r *verify.Result) string {
	switch r.Problems[0].Severity {
	case verify.Damage:
		return "take a new backup, and check the disk; a damaged segment that the server still has in pg_wal can be removed here and archived again"
	case verify.Missing:
		return "take a new backup: recovery cannot go past what is missing"
	case verify.Database:
		return "take a new backup: recovery cannot go past broken records; then look for their cause on the server"
	}
	return ""
}
