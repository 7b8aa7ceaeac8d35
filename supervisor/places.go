package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"walkeep/common/archive"
	"walkeep/common/config"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/storage/local"
	"walkeep/common/storage/union"
	"walkeep/supervisor/report"
)

// A place holds an archive: the spool, or a repository.
type place struct {
	name    string // of the repository; spoolName for the spool
	url     string // of the repository; the directory of the spool
	spool   bool
	archive *archive.Archive // nil if err is not
	stored  *archive.Archive // archive without what this host has kept of it
	err     error            // why it cannot be reached
}

// spoolName is the name of the spool beside those of repositories.
const spoolName = "spool"

func (p place) String() string {
	if p.spool {
		return "the spool " + p.url
	}
	if p.url == "" {
		return "repository " + p.name
	}
	return fmt.Sprintf("repository %s (%s)", p.name, p.url)
}

// lost returns the error of a place that cannot be reached.
func (p place) lost() error { return fmt.Errorf("%s cannot be reached: %w", p, p.err) }

// places are the archives that the command works on, the nearest first: the repository that --repo or --repo-url chooses; or else
// the spool, if one is given, and all repositories of the configuration. One that cannot be reached has an err. places opens them
// at the same time.
func (call *invocation) places(ctx context.Context) ([]place, error) {
	var all []place
	used := call.Used()
	if call.Chosen() == nil && (call.Spool != "" || len(used) == 0) {
		p := place{name: spoolName, url: call.Spool, spool: true}
		p.archive, p.err = call.openSpoolArchive()
		p.stored = p.archive
		all = append(all, p)
	}
	first := len(all)
	for _, r := range used {
		all = append(all, place{name: r.Name, url: r.URL})
	}
	var opening sync.WaitGroup
	for i, r := range used {
		opening.Go(func() {
			one, err := call.repositories.Get(ctx, r)
			if p := &all[first+i]; err == nil {
				p.archive, p.stored = one.Archive, one.Stored
			} else {
				p.err = err
			}
		})
	}
	opening.Wait()
	for i := range all {
		if p := &all[i]; p.archive != nil && call.keys != nil {
			p.archive, p.stored = p.archive.WithKeys(call.keys), p.stored.WithKeys(call.keys)
		}
	}
	return all, ctx.Err()
}

// An opened is the archive that a command reads and writes notes in: one place, or several as one archive.
type opened struct {
	*archive.Archive
	places []place
}

// open opens the archive that the command works on. Of several places some may be unreachable; warnLost warns of them. The error
// is archive.ErrForeign if places are of different clusters.
func (call *invocation) open(ctx context.Context) (*opened, error) {
	all, err := call.places(ctx)
	if err != nil {
		return nil, err
	}
	if len(all) == 1 {
		return &opened{all[0].archive, all}, all[0].err
	}
	var members []union.Member
	var failed error
	var cluster archive.Identity
	var of place
	for i := range all {
		p := &all[i]
		if p.err == nil {
			id, err := p.archive.Identity(ctx)
			switch {
			case errors.Is(err, archive.ErrUnbound): // nothing is in it yet
			case err != nil:
				p.archive, p.err = nil, err
			case of.archive == nil:
				cluster, of = id, *p
			case id != cluster:
				return nil, fmt.Errorf("%s is %w: its system identifier is %s, that of %s is %s", *p, archive.ErrForeign, id.SystemID, of, cluster.SystemID)
			}
		}
		if p.err == nil {
			members = append(members, union.Member{Backend: p.archive.Backend()})
		}
		if p.err != nil {
			failed = errors.Join(failed, p.lost())
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(members) == 0 {
		return nil, failed
	}
	return &opened{archive.New(joined{union.New(archive.IdentityName, members...), all}).WithKeys(call.keys), all}, nil
}

// A joined backend is the union of places. What the production server has said is taken from where it was noted last, by the clocks
// of those who asked: a promotion on another host notes it in the repository, and this host's spool still has what was before.
type joined struct {
	*union.Backend
	places []place
}

// Open implements [storage.Backend].
func (j joined) Open(ctx context.Context, name string) (storage.Object, error) {
	if name != notes.ServerName {
		return j.Backend.Open(ctx, name)
	}
	var last *notes.Server
	var at storage.Backend = j.Backend
	for _, p := range j.places {
		if p.err != nil {
			continue
		}
		if s, err := p.archive.Notes().Server(ctx); err == nil && s != nil && (last == nil || s.Asked.After(last.Asked)) {
			last, at = s, p.archive.Backend()
		}
	}
	return at.Open(ctx, name)
}

// Snapshot implements [storage.Snapshotter].
func (j joined) Snapshot(ctx context.Context, anew bool) (storage.Backend, error) {
	then, err := j.Backend.Snapshot(ctx, anew)
	if err != nil {
		return nil, err
	}
	return joined{then.(*union.Backend), j.places}, nil
}

// giveUpSpool makes a recovery work with the repositories alone where the spool is not there.
func (call *invocation) giveUpSpool() {
	if call.Spool == "" || len(call.List) == 0 {
		return
	}
	if _, err := local.Open(call.Spool); errors.Is(err, storage.ErrUnavailable) {
		call.msg.Warn("", "the spool %s cannot be reached: %v; the repositories are used without it", call.Spool, err)
		call.Spool = ""
	}
}

// lost returns the errors of the places that cannot be reached.
func (o *opened) lost() (all []error) {
	for _, p := range o.places {
		if p.err != nil {
			all = append(all, p.lost())
		}
	}
	return all
}

// complete adds to an error that says that something is missing what could hold it and cannot be reached.
func (o *opened) complete(err error) error {
	missing := errors.Is(err, recovery.ErrUnreachable) || errors.Is(err, archive.ErrUnbound)
	if lost := errors.Join(o.lost()...); lost != nil && missing {
		return fmt.Errorf("%w; what is missing may be elsewhere: %w", err, lost)
	}
	return err
}

// warnLost warns of the places that cannot be reached. doing is what the command does without them.
func (call *invocation) warnLost(o *opened, doing string) {
	for _, p := range o.places {
		if p.err == nil {
			continue
		}
		hint := ""
		if !p.spool {
			hint = "if it is gone for good, take its section out of the configuration file"
		}
		call.msg.Warn(hint, "%v; %s", p.lost(), doing)
	}
}

// notes returns where it is noted what the server says: the spool, if it is part of the archive. It is nil otherwise.
func (o *opened) notes(ctx context.Context) *archive.Archive {
	for _, p := range o.places {
		if p.spool && p.err == nil {
			if _, err := p.archive.Identity(ctx); err == nil {
				return p.archive
			}
		}
	}
	return nil
}

// describe describes the places for a report; nil where there is only the spool, which is the archive then.
func (o *opened) describe() (all []report.Place) {
	if len(o.places) == 1 && o.places[0].spool {
		return nil
	}
	for _, p := range o.places {
		all = append(all, report.Place{Name: p.name, URL: p.url, Spool: p.spool, Archive: p.archive, Err: p.err})
	}
	return all
}

// target returns the place into which backups are stored: the chosen repository, or the first one, or else the spool.
func (call *invocation) target(ctx context.Context) (place, error) {
	used := call.Used()
	if len(used) == 0 {
		a, err := call.openSpoolArchive()
		return place{name: spoolName, url: call.Spool, spool: true, archive: a}, err
	}
	r := used[0]
	one, err := call.repositories.Get(ctx, r)
	if err != nil {
		return place{}, err
	}
	return place{name: r.Name, url: r.URL, archive: one.Archive}, nil
}

// openSpoolArchive opens the archive that the spool is.
func (call *invocation) openSpoolArchive() (*archive.Archive, error) {
	if call.Spool == "" {
		return nil, usage(config.ErrNoSpool)
	}
	b, err := local.Open(call.Spool)
	if err != nil {
		return nil, err
	}
	return archive.New(b), nil
}
