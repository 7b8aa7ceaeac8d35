package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/durable"
	"walkeep/common/fetched"
	"walkeep/common/recovery"
	"walkeep/common/sealed"
	"walkeep/common/storage/local"
	"walkeep/common/wal"
)

// A question is a server's question for one file.
type question struct {
	options
	name     wal.Name
	cluster  wal.SystemID // 0 if it is not known
	follower *recovery.Follower
	spool    *archive.Archive
	msg      *cli.Messages
}

// deliver delivers the file from the spool, or, where repositories are configured, from what was fetched of them.
func (q *question) deliver(ctx context.Context, w durable.Pieces) (got archive.Fetched, err error) {
	if len(q.List) == 0 {
		if q.follower != nil {
			if err := recovery.OnWay(ctx, q.spool, q.name, *q.follower); err != nil {
				return got, err
			}
		}
		got, err = recovery.Fetch(ctx, q.spool, q.name, q.cluster, w)
		if q.Unread != nil && errors.Is(err, recovery.ErrAbsent) {
			err = fmt.Errorf("%s is not in the spool, and whether there are repositories is not known: %w", q.name, q.Unread)
		}
		return got, err
	}
	got, err = q.ready(ctx, w)
	if !errors.Is(err, errAsk) {
		return got, err
	}
	for try := 1; ; try++ {
		object, err := q.ask(ctx)
		if err != nil {
			return got, err
		}
		got, err = q.from(ctx, object, w)
		if err == nil || try == maxAsked || ctx.Err() != nil || errors.Is(err, sealed.ErrNoKey) {
			return got, err
		}
	}
}

// maxAsked is how often a file is asked for: what was fetched can be found damaged, or be removed by another call.
const maxAsked = 3

// errAsk says that supervisor must be asked.
var errAsk = errors.New("supervisor must be asked")

// ready delivers what is there, if it is known that the server may have it; else the error is errAsk.
func (q *question) ready(ctx context.Context, w durable.Pieces) (got archive.Fetched, err error) {
	if q.follower != nil && q.cluster != 0 {
		s, err := q.server()
		if err != nil {
			return got, err
		}
		if way, err := s.Way(); err == nil && way.Leads(q.name, *q.follower, time.Now()) {
			cluster := fetched.Of(q.Spool, q.cluster)
			got, err = q.fromBranch(ctx, cluster.BranchPath(way.Branch), w)
			if err != nil {
				got, err = q.fromSpool(ctx, w)
			}
			if err != nil && q.await(cluster) {
				got, err = q.fromBranch(ctx, cluster.BranchPath(way.Branch), w)
			}
			if err == nil {
				q.tell(s)
			}
			return got, q.orAsk(err)
		}
	}
	if q.follower != nil && q.follower.Along != q.name.Timeline {
		return got, errAsk
	}
	got, err = q.fromSpool(ctx, w)
	return got, q.orAsk(err)
}

// longestWait is how long a call waits for a segment that is being fetched ahead, before it asks. To ask takes another process.
const longestWait = 2 * time.Second

// await waits while the segment is being fetched, and reports whether it was.
func (q *question) await(c fetched.Cluster) (was bool) {
	for end := time.Now().Add(longestWait); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		claim, err := c.Claim(q.name)
		if err != nil {
			return false
		}
		if claim != nil {
			claim.Close()
			return was
		}
		was = true
	}
	return false
}

// orAsk returns errAsk in place of an error that another copy of the file may not give.
func (q *question) orAsk(err error) error {
	if err == nil || errors.Is(err, archive.ErrForeign) || errors.Is(err, sealed.ErrNoKey) {
		return err
	}
	q.msg.Detail("%s is asked for: %v", q.name, err)
	return errAsk
}

// tell leaves which segment the server has got, so that the next ones are fetched.
func (q *question) tell(s fetched.Server) {
	dir, err := filepath.Abs(dataDir)
	if err == nil {
		err = s.PutWant(fetched.Want{Segment: q.name.String(), Data: dir, Follower: *q.follower})
	}
	if err != nil {
		q.msg.Detail("the next segments are not fetched ahead: %v", err)
	}
}

func (q *question) server() (fetched.Server, error) {
	id, err := fetched.ServerID(dataDir)
	return fetched.Of(q.Spool, q.cluster).Server(id), err
}

// from delivers an object that supervisor has named.
func (q *question) from(ctx context.Context, object string, w durable.Pieces) (got archive.Fetched, err error) {
	dir, _, ok := fetched.BranchOf(object)
	if !ok {
		return got, fmt.Errorf("%s: supervisor fetch has printed %q, which is no object in the spool", q.name, object)
	}
	if dir == "." {
		return q.fromSpool(ctx, w)
	}
	got, err = q.fromBranch(ctx, dir, w)
	if err == nil && strings.HasSuffix(dir, "/"+fetched.OnceBranch) {
		q.remove(got.Object)
	}
	return got, err
}

func (q *question) fromSpool(ctx context.Context, w durable.Pieces) (got archive.Fetched, err error) {
	if err := w.Truncate(0); err != nil { // what an unsound copy has left
		return got, err
	}
	return q.spool.Deliver(ctx, q.name, q.cluster, w)
}

// fromBranch delivers from an archive in fetched/. It removes what it finds there and cannot deliver.
func (q *question) fromBranch(ctx context.Context, dir string, w durable.Pieces) (got archive.Fetched, err error) {
	b, err := local.Open(filepath.Join(q.Spool, filepath.FromSlash(dir)))
	if err == nil {
		err = w.Truncate(0)
	}
	if err != nil {
		return got, err
	}
	a := archive.New(b).WithKeys(q.spool.Keys())
	a.PlainOnly = true
	got, err = a.Deliver(ctx, q.name, q.cluster, w)
	got.Object = path.Join(dir, got.Object)
	if err == nil || errors.Is(err, archive.ErrNotStored) || errors.Is(err, sealed.ErrNoKey) || ctx.Err() != nil {
		return got, err
	}
	q.msg.Warn("", "%s is not delivered from %s, and is fetched again: %v", q.name, dir, err)
	entries, bad := a.List(ctx, archive.Location(q.name))
	if bad != nil {
		return got, err
	}
	for _, e := range entries {
		if o, ok := archive.ParseObject(e); ok && o.WAL == q.name {
			q.remove(path.Join(dir, o.Name))
		}
	}
	q.remove(path.Join(dir, archive.IdentityName)) // it can be what is wrong; supervisor makes it again
	return got, err
}

// remove removes what lies in fetched/; object is relative to the spool.
func (q *question) remove(object string) {
	if err := os.RemoveAll(filepath.Join(q.Spool, filepath.FromSlash(object))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		q.msg.Detail("%v", err)
	}
}

// segmentSize returns the size of the cluster's segments.
func (q *question) segmentSize(ctx context.Context) (wal.SegmentSize, error) {
	id, err := q.spool.Identity(ctx)
	if err == nil || q.follower == nil {
		return id.SegmentSize, err
	}
	s, err := q.server()
	if err != nil {
		return 0, err
	}
	way, err := s.Way()
	return way.SegmentSize, err
}

// longestFetch is how long supervisor may take for a file. It ends sooner if a repository does not answer.
const longestFetch = 10 * time.Minute

// ask has supervisor fetch the file, and returns the object that it has made ready.
func (q *question) ask(ctx context.Context) (object string, err error) {
	program, err := cli.Sibling("supervisor")
	if err != nil {
		return "", cli.Hinted(fmt.Errorf("%s is not in the spool, and cannot be fetched: %w", q.name, err), "install supervisor beside restore-cmd")
	}
	ctx, cancel := context.WithTimeout(ctx, longestFetch)
	defer cancel()
	args, err := q.fetchArgs()
	if err != nil {
		return "", err
	}
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	if err == nil {
		q.pass(said.String())
		return strings.TrimSpace(out.String()), nil
	}
	if ctx.Err() != nil {
		return "", fmt.Errorf("fetch %s: it took more than %s", q.name, longestFetch)
	}
	reason, hint := failure(said.String())
	var exit *exec.ExitError
	if !errors.As(err, &exit) || reason == "" {
		return "", fmt.Errorf("fetch %s: %w", q.name, err)
	}
	failed := error(&told{reason, fetched.ExitError(exit.ExitCode())})
	if hint != "" {
		failed = cli.Hinted(failed, hint)
	}
	return "", failed
}

// A told error is what supervisor has said, and what its exit code means.
type told struct {
	text string
	err  error // nil if the code says nothing more
}

func (t *told) Error() string { return t.text }
func (t *told) Unwrap() error { return t.err }

// fetchArgs are the arguments of supervisor.
func (q *question) fetchArgs() ([]string, error) {
	args := []string{"fetch", q.name.String(), "--spool", q.Spool}
	if q.File != "" {
		args = append(args, "--config", q.File)
	}
	if q.cluster != 0 {
		args = append(args, "--cluster", q.cluster.String())
	}
	if f := q.follower; f != nil {
		dir, err := filepath.Abs(dataDir)
		if err != nil {
			return nil, err
		}
		args = append(args, "--server", dir,
			"--along", strconv.FormatUint(uint64(f.Along), 10), "--on", strconv.FormatUint(uint64(f.On), 10), "--at", f.At.String())
	}
	return args, nil
}

const (
	warningMark = "warning: "
	hintMark    = "hint: "
)

// pass prints the warnings of supervisor.
func (q *question) pass(said string) {
	for line := range strings.Lines(said) {
		if text, ok := strings.CutPrefix(spoken(line), warningMark); ok && !strings.HasPrefix(text, "configuration: ") { // which this program has printed
			q.msg.Warn("", "%s", text)
		}
	}
}

// failure finds the reason of a failure in what supervisor has said, and its hint.
func failure(said string) (reason, hint string) {
	for line := range strings.Lines(said) {
		text := spoken(line)
		switch {
		case strings.HasPrefix(text, hintMark):
			hint = strings.TrimPrefix(text, hintMark)
		case !strings.HasPrefix(text, warningMark) && text != "":
			reason, hint = text, ""
		}
	}
	return reason, hint
}

// spoken is a message without the program's name.
func spoken(line string) string {
	_, text, _ := strings.Cut(strings.TrimSpace(line), ": ")
	return text
}
