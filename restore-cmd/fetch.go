package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/durable"
	"walkeep/common/notes"
	"walkeep/common/pgdata"
	"walkeep/common/recovery"
	"walkeep/common/sealed"
	"walkeep/common/storage/local"
	"walkeep/common/wal"
)

// dataDir is where PostgreSQL runs restore_command.
const dataDir = "."

// tempSuffix marks a file that is being delivered. The suffix is fixed, so that the next call overwrites the file that a
// killed call left behind.
const tempSuffix = ".walkeep"

// fetch delivers the file, or returns the reason with the exit code that PostgreSQL understands.
func fetch(o options, standby bool, msg *cli.Messages) error {
	name, err := wal.ParseName(o.name)
	if err != nil {
		return fail(standby, err, "restore_command must pass %f and %p, in this order")
	}
	ctx := context.Background()
	var got archive.Fetched
	err = retry(o.RetryTime, standby, func() (err error) {
		got, err = deliver(ctx, o, name, standby, msg)
		return err
	})
	switch {
	case err == nil:
		report(got, name, msg)
		return nil
	case errors.Is(err, recovery.ErrAbsent):
		return cli.Fail(exitAbsent, err, "")
	case errors.Is(err, errAhead):
		return cli.Fail(exitAbsent, err, "")
	}
	return fail(standby, err, hint(err))
}

// retry calls try until it succeeds, most has passed, or its error is final. A standby would shut down on a failure, so
// for it every error is retried except one that says that the file is absent or not needed. For other servers only
// [recovery.ErrGap] is retried: archive-cmd may close the gap, because it archives on several cores.
func retry(most time.Duration, standby bool, try func() error) error {
	policy := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMaxInterval(time.Second), backoff.WithMaxElapsedTime(most))
	return backoff.Retry(func() error {
		err := try()
		if err == nil || errors.Is(err, recovery.ErrAbsent) || errors.Is(err, recovery.ErrLeft) || errors.Is(err, errAhead) || most == 0 || !standby && !errors.Is(err, recovery.ErrGap) {
			return permanent(err)
		}
		return err
	}, policy)
}

// errAhead says that the server does not need the missing segment.
var errAhead = errors.New("the server asks ahead, and stops before it")

// readsAhead reports whether a server asks for a segment behind the position to which it recovers. Since 15 a server
// reads ahead, and would stop before it reaches the last record in front of a hole. "Absent" does not make it open the
// database then: since 13 it fails if its target was not reached.
func (q *question) readsAhead(ctx context.Context) bool {
	if filepath.Base(q.path) != recoveryPath || q.name.Kind != wal.KindSegment {
		return false
	}
	version, err := os.ReadFile(filepath.Join(dataDir, "PG_VERSION"))
	if err != nil {
		return false
	}
	if major, err := strconv.Atoi(strings.TrimSpace(string(version))); err != nil || major < 15 {
		return false
	}
	r, recovers, err := pgdata.ReadRecovery(dataDir)
	if err != nil || !recovers || r.Standby {
		return false
	}
	target, err := wal.ParseLSN(r.TargetLSN)
	if err != nil {
		return false
	}
	size, err := q.segmentSize(ctx)
	if err != nil {
		return false
	}
	start, err := q.name.Start(size)
	return err == nil && target < start
}

func permanent(err error) error {
	if err == nil {
		return nil
	}
	return backoff.Permanent(err)
}

// deliver verifies the file and renames it to its path. The file need not be durable: after a crash PostgreSQL asks for
// it again.
func deliver(ctx context.Context, o options, name wal.Name, standby bool, msg *cli.Messages) (archive.Fetched, error) {
	var none archive.Fetched
	cluster, err := pgdata.SystemID(dataDir)
	if err != nil {
		return none, fmt.Errorf("read the cluster's system identifier: %w", err)
	}
	b, err := local.Open(o.Spool)
	if err != nil {
		return none, err
	}
	a := archive.New(b)
	if o.IdentityFile != "" {
		a = a.WithKeys(sealed.NewIdentities(o.IdentityFile, o.IdentityPassphraseFile, nil))
	}
	if standby && o.redo != "" {
		note(ctx, a, o.redo, msg)
	}
	temp := o.path + tempSuffix
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, durable.FileMode)
	if err != nil {
		return none, err
	}
	defer durable.Remove(temp)
	// A cluster with group access lets its group read all of its files, for backups.
	if dir, err := os.Stat(dataDir); err == nil && dir.Mode().Perm() == 0o750 {
		if err := f.Chmod(durable.FileMode | 0o040); err != nil {
			f.Close()
			return none, err
		}
	}
	q := question{options: o, name: name, cluster: cluster, spool: a, msg: msg}
	if q.follower, err = follower(name, o.path); err != nil {
		f.Close()
		return none, err
	}
	got, err := q.deliver(ctx, durable.Pieces{File: f})
	if errors.Is(err, recovery.ErrGap) && q.readsAhead(ctx) {
		err = fmt.Errorf("%w: %w", errAhead, err)
	}
	if standby && (errors.Is(err, recovery.ErrLeft) || errors.Is(err, recovery.ErrAbsent)) {
		if offered, bad := a.Offered(ctx, name, dataDir, durable.Pieces{File: f}); !errors.Is(bad, archive.ErrNotStored) {
			got, err = offered, bad
		}
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return none, err
	}
	warnNewer(temp, name, msg)
	return got, durable.Replace(temp, o.path)
}

// warnNewer warns of WAL of a PostgreSQL version that this program does not know. The WAL is delivered nevertheless.
func warnNewer(file string, name wal.Name, msg *cli.Messages) {
	f, err := durable.Open(file)
	if err != nil {
		return
	}
	defer f.Close()
	var b [wal.HeaderSize]byte
	if _, err := io.ReadFull(f, b[:]); err != nil || name.Kind != wal.KindSegment && name.Kind != wal.KindPartial {
		return
	}
	if h, err := wal.ParseHeader(b[:]); err == nil && h.Newer() {
		msg.Warn(cli.NewerHint, "%s %s: it is delivered as it was archived", name, h.NewerText())
	}
}

// recoveryPath is the file name to which a server in recovery has a segment restored (RestoreArchivedFile in
// src/backend/access/transam/xlogarchive.c). pg_rewind and people use the segment's own name.
const recoveryPath = "RECOVERYXLOG"

// follower returns how a server recovers that asks for a segment; nil if no server does that must not leave its way.
func follower(name wal.Name, path string) (*recovery.Follower, error) {
	if filepath.Base(path) != recoveryPath || name.Kind != wal.KindSegment {
		return nil, nil
	}
	r, recovers, err := pgdata.ReadRecovery(dataDir)
	if err != nil {
		return nil, fmt.Errorf("determine the timeline along which the server recovers: %w", err)
	}
	if !recovers {
		return nil, nil
	}
	var f recovery.Follower
	c, err := pgdata.ReadControl(dataDir)
	known := err == nil // otherwise the server's position is unknown
	if known {
		f.At, f.On = c.End()
	}
	switch tli, err := strconv.ParseUint(r.Timeline, 10, 32); {
	case err == nil:
		f.Along = wal.Timeline(tli)
	case r.Timeline == pgdata.Latest:
	case known:
		f.Along = max(c.Timeline, c.MinTimeline)
	default:
		return nil, nil
	}
	return &f, nil
}

func report(got archive.Fetched, name wal.Name, msg *cli.Messages) {
	if got.DamageLSN != 0 {
		msg.Warn("recovery ends there; restore a base backup that was taken after it to get later data",
			"%s was archived with broken WAL records at %s", name, got.DamageLSN)
	}
	if got.Foreign {
		msg.Detail("%s comes from %s, which another archiver made; its records were checked", name, got.Object)
		return
	}
	msg.Detail("%s is delivered from %s", name, got.Object)
}

// noteAlone notes the standby's restartpoint, for archive_cleanup_command. It does nothing on a server that is no standby.
func noteAlone(o options, standby bool) error {
	if !standby {
		return nil
	}
	b, err := local.Open(o.Spool)
	if err == nil {
		err = noteStandby(context.Background(), archive.New(b), o.name)
	}
	if err != nil {
		return cli.Fail(exitAbsent, fmt.Errorf("note the standby's restartpoint: %w", err), "let the server's user write to the spool; until then the archive keeps more WAL than this standby needs")
	}
	return nil
}

// note notes the standby's restartpoint in the archive, for walkeep cleanup. A failure does not stop the delivery: this
// host may have only read access to the spool.
func note(ctx context.Context, a *archive.Archive, redo string, msg *cli.Messages) {
	if err := noteStandby(ctx, a, redo); err != nil {
		msg.Detail("cannot note the standby's restartpoint: %v", err)
	}
}

func noteStandby(ctx context.Context, a *archive.Archive, redo string) error {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	return a.Notes().NoteStandby(ctx, notes.Standby{Host: host, Data: dir, Restartpoint: redo, Noted: time.Now().UTC()})
}
