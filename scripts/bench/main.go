//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

type options struct {
	rounds   int
	segments int
	only     string
	part     string
	keep     bool
	clean    bool
	bindir   string
	pgBindir string
	dir      string
	user     string
}

func parseOptions(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 3, "how often each contestant runs")
	flags.IntVar(&o.segments, "segments", 72, "length of the backlog; at least 10")
	flags.StringVar(&o.only, "only", "", "run only these, comma-separated: "+strings.Join(union(union(contestantNames(), takerNames()), streamNames()), ", "))
	flags.StringVar(&o.part, "part", partAll, "what to measure: "+partArchive+" (WAL, both ways), "+partBackup+" (base backups and restores), "+partStream+" (WAL while it is written), "+partShip+" (WAL to an S3 server) or "+partAll)
	flags.BoolVar(&o.keep, "keep", false, "keep each contestant's last archive, data directories and server logs")
	flags.BoolVar(&o.clean, "clean", false, "remove the prepared clusters and all else this program keeps, and end")
	flags.StringVar(&o.bindir, "bindir", "", "directory of walkeep's programs (default: build them)")
	flags.StringVar(&o.pgBindir, "pg-bindir", "/usr/lib/postgresql/15/bin", "directory of PostgreSQL's programs")
	flags.StringVar(&o.dir, "dir", "", "directory to work in (default: /var/tmp/walkeep-bench as root, else in the user's cache)")
	flags.StringVar(&o.user, "user", "postgres", "as root: the user that servers run as")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.rounds < 1:
		return o, errors.New("--rounds must be at least 1")
	case o.segments < 10:
		return o, errors.New("--segments must be at least 10")
	case o.part != partArchive && o.part != partBackup && o.part != partStream && o.part != partShip && o.part != partAll:
		return o, fmt.Errorf("--part is %s, %s, %s, %s or %s, not %q", partArchive, partBackup, partStream, partShip, partAll, o.part)
	}
	_, _, err := o.wanted()
	return o, err
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == reapArgument {
		os.Exit(reapMain())
	}
	o, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, o); err != nil {
		stop()
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	p, err := openPlace(o)
	if err != nil {
		return err
	}
	defer p.close()
	if o.clean {
		return p.clean()
	}
	b, err := newBench(ctx, p, o)
	if err == nil {
		err = b.run(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case b == nil:
		return err
	}
	writeReport(os.Stdout, b, describeMachine(ctx, p))
	return err
}

// progress prints the current step to stderr; stdout is for the report.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
