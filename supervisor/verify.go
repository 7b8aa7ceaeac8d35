package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/supervisor/progress"
	"walkeep/supervisor/verify"
)

const aboutVerify = `Looks for gaps in the WAL, and for backups, histories and notes that are
missing, damaged or left behind. With --deep it reads every stored byte: it
expands each object and checks its hashes, follows the WAL record by record,
and compares each file of each backup with the backup's index. Of what is encrypted, without the private key
(--identity-file), it compares every stored byte with its hash, and nothing more. The spool and each repository are
verified one after the other; --repo chooses one.

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
			Options: &o, Parts: func(c *config.Config) []any { return []any{&c.Effort, &c.Decryption} },
		},
		run: func(ctx context.Context, call *invocation) error { return verifyArchive(ctx, call, o) },
	}
}

// verifyArchive verifies each place by itself: what one has does not repair another.
func verifyArchive(ctx context.Context, call *invocation, o verifyOptions) error {
	if err := call.unlock(); err != nil {
		return err
	}
	places, err := call.places(ctx)
	if err != nil {
		return err
	}
	if len(places) == 1 {
		if places[0].err != nil {
			return places[0].err
		}
		r, err := call.verifyOne(ctx, places[0].stored, o)
		if err == nil {
			err = call.printVerified(r, o)
		}
		if err == nil {
			err = problemsFound(r)
		}
		return err
	}
	all := verify.Result{Deep: o.Deep, Problems: []verify.Problem{}}
	var failed error
	for _, p := range places {
		if !o.JSON {
			fmt.Fprintf(call.out, "%s\n", p)
		}
		var r *verify.Result
		err := p.lost()
		if p.err == nil {
			r, err = call.verifyOne(ctx, p.stored, o)
		}
		if p.spool && errors.Is(err, archive.ErrUnbound) { // that of a host which only reads from repositories
			if !o.JSON {
				fmt.Fprintln(call.out, "nothing is archived in it")
			}
			continue
		}
		one := verify.Place{Name: p.name, URL: p.url}
		if err != nil && ctx.Err() != nil {
			return err
		}
		if err != nil {
			one.Error = err.Error()
			failed = errors.Join(failed, fmt.Errorf("%s: %w", p, err))
		} else {
			one.Objects, one.Problems = r.Objects, len(r.Problems)
			all.Add(r, p.name)
			if !o.JSON {
				err = call.printVerified(r, o)
			}
			if err != nil {
				return err
			}
		}
		all.Places = append(all.Places, one)
	}
	if o.JSON {
		if err := call.printJSON(&all); err != nil {
			return err
		}
	}
	if failed != nil {
		return failed
	}
	return problemsFound(&all)
}

// verifyOne verifies one archive.
func (call *invocation) verifyOne(ctx context.Context, a *archive.Archive, o verifyOptions) (*verify.Result, error) {
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
		return nil, fmt.Errorf("verify: %w", err)
	}
	if r.Unkept != nil {
		call.msg.Warn("check, list, cleanup and restore do not know of it", "the findings cannot be stored in the archive: %v", r.Unkept)
	}
	return r, nil
}

func problemsFound(r *verify.Result) error {
	if n := r.Wrong(); n > 0 {
		return cli.Fail(exitFailed, errors.New(count(n, "problem")+" found"), verifyHint(r))
	}
	return nil
}

func (call *invocation) printVerified(r *verify.Result, o verifyOptions) error {
	if o.JSON {
		return call.printJSON(r)
	}
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
	if r.Locked > 0 {
		fmt.Fprintf(call.out, "%s: without the private key only the stored bytes were compared\n", count(r.Locked, "encrypted object"))
	}
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
