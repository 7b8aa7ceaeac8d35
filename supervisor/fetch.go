package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"time"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/fetched"
	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/prefetch"
	"walkeep/supervisor/service"
)

const aboutFetch = `Fetches the WAL file NAME from the repositories into fetched/ in the spool, unless
the spool has it, and prints where it is. restore-cmd runs it when a server asks
for a file that the spool lacks. For a server that recovers, fetch leaves a
process that fetches the next segments (prefetch) until the server has not asked
for 30 seconds, unless the command run does that.

Exit codes:
0  the file is ready
3  proven absent: the spool and all repositories answered, and none has it
4  missing, although it must have existed
5  not on the way to the timeline that the server follows
other: cannot be determined`

type fetchOptions struct {
	Cluster string `long:"cluster" value-name:"ID" description:"system identifier of the cluster to which the file must belong"`
	Server  string `long:"server" value-name:"DIR" hidden:"true"`
	Along   uint32 `long:"along" value-name:"N" hidden:"true"`
	At      string `long:"at" value-name:"LSN" hidden:"true"`
	On      uint32 `long:"on" value-name:"N" hidden:"true"`
	Keep    bool   `long:"keep" hidden:"true"`
	Args    struct {
		Name string `positional-arg-name:"NAME" description:"the file's name, such as 000000010000000000000028"`
	} `positional-args:"yes"`
}

func fetchCommand() command {
	var o fetchOptions
	return command{
		Subcommand: config.Subcommand{
			Name: "fetch", Short: "fetch a WAL file from the repositories into the spool", About: aboutFetch, Options: &o,
			Parts:    func(c *config.Config) []any { return []any{&c.Prefetch} },
			Tolerant: true, // as restore-cmd is, which calls it
		},
		run: func(ctx context.Context, call *invocation) error {
			if o.Keep {
				return call.keepFetching(ctx, slog.New(slog.DiscardHandler), o.Server)
			}
			return fetchFailure(call.fetch(ctx, &o))
		},
	}
}

// fetchFailure returns the error with the exit code that says what it means.
func fetchFailure(err error) error {
	if code, ok := fetched.ExitCode(err); ok {
		return cli.Fail(code, err, "")
	}
	return farCommand.explain(fetchRemedies.explain(err))
}

// fetchRemedies are for errors of other packages than prefetch.
var fetchRemedies = remedies{
	{archive.ErrForeign, "check --spool and the repositories: they are of two different clusters"},
}

func (call *invocation) fetch(ctx context.Context, o *fetchOptions) error {
	r, err := o.request()
	if err != nil {
		return usage(err)
	}
	f, err := call.fetcher()
	if err != nil {
		return err
	}
	ready, err := f.Fetch(ctx, r)
	if err != nil {
		return call.partly(r.Name, err)
	}
	if ready.More && call.Ahead > 0 && !prefetch.Busy(call.Spool) {
		if err := call.leaveKeeper(r.Server); err != nil {
			call.msg.Warn("", "the segments behind %s are not fetched ahead: %v", r.Name, err)
		}
	}
	_, err = fmt.Fprintln(call.out, ready.Object)
	return err
}

// partly returns the error of a question that not all repositories of the configuration were asked: what they do not have may be
// elsewhere.
func (call *invocation) partly(n wal.Name, err error) error {
	if call.Repo != "" && len(call.List) > 1 && errors.Is(err, recovery.ErrAbsent) {
		return fmt.Errorf("%s is neither in the spool nor in repository %s; the other repositories were not asked", n, call.Repo)
	}
	return err
}

// request reads the arguments.
func (o *fetchOptions) request() (r prefetch.Request, err error) {
	if r.Name, err = wal.ParseName(o.Args.Name); err != nil {
		return r, err
	}
	if o.Cluster != "" {
		id, err := strconv.ParseUint(o.Cluster, 10, 64)
		if err != nil {
			return r, fmt.Errorf("--cluster: %q is not a system identifier", o.Cluster)
		}
		r.Cluster = wal.SystemID(id)
	}
	if o.Server == "" {
		return r, nil
	}
	r.Server = o.Server
	r.Follower = &recovery.Follower{Along: wal.Timeline(o.Along), On: wal.Timeline(o.On)}
	if o.At != "" {
		r.Follower.At, err = wal.ParseLSN(o.At)
	}
	return r, err
}

// fetcher fetches from the chosen repository, or from all of the configuration.
func (call *invocation) fetcher() (*prefetch.Fetcher, error) {
	if call.Spool == "" {
		return nil, usage(config.ErrNoSpool)
	}
	return &prefetch.Fetcher{
		Spool: call.Spool,
		Open: func(ctx context.Context) (all []prefetch.Repository, err error) {
			places, err := call.places(ctx)
			for _, p := range places {
				if !p.spool {
					all = append(all, prefetch.Repository{Name: p.String(), Archive: p.archive, Err: p.err})
				}
			}
			if call.Unread != nil {
				all = append(all, prefetch.Repository{Name: "a repository of the configuration file", Err: call.Unread})
			}
			return all, err
		},
		Warn: func(err error) { call.msg.Warn("", "%v", err) },
	}, nil
}

// keepFetching fetches ahead for the servers that ask, until they do so no more if one is named, or else until ctx ends.
func (call *invocation) keepFetching(ctx context.Context, log *slog.Logger, server string) error {
	f, err := call.fetcher()
	if err != nil {
		return err
	}
	f.Workers = 1 // several segments are fetched at the same time, beside the server's replay
	if server != "" {
		beside, stop := context.WithCancel(ctx)
		defer stop()
		go call.carryStandbys(beside, log)
	}
	k := &prefetch.Keeper{Fetcher: f, Ahead: int64(call.Ahead), Log: log, For: server}
	for {
		err := k.Run(ctx)
		if !errors.Is(err, prefetch.ErrTaken) {
			return err
		}
		if server != "" {
			return nil
		}
		select {
		case <-time.After(time.Second): // one that fetch has left ends soon
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// leaveKeeper starts a process that fetches ahead, and lives on when this one ends.
func (call *invocation) leaveKeeper(server string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"fetch", "--keep", "--server", server, "--spool", call.Spool, "--prefetch", strconv.FormatInt(int64(call.Ahead), 10)}
	for option, value := range map[string]string{"--config": call.File, "--repo": call.Repo, "--repo-url": call.RepoURL} {
		if value != "" {
			args = append(args, option, value)
		}
	}
	cmd := exec.Command(self, args...)
	prefetch.Detach(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// prefetching is the part of run that fetches ahead.
func (r *runner) prefetching(c config.Config) service.Part {
	return service.Part{Name: "prefetch", Settings: fmt.Sprint(c.Repos, c.Prefetch), Run: func(ctx context.Context, log *slog.Logger) error {
		call, flush := logged(c, &r.repositories, log)
		defer flush()
		return explain(ctx, call.keepFetching(ctx, log, ""), "")
	}}
}
