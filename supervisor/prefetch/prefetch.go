package prefetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/codec"
	"walkeep/common/durable"
	"walkeep/common/fetched"
	"walkeep/common/recovery"
	"walkeep/common/storage/local"
	"walkeep/common/storage/union"
	"walkeep/common/wal"
)

// A Repository is an archive from which WAL is fetched.
type Repository struct {
	Name    string           // as messages have it
	Archive *archive.Archive // nil if Err is not
	Err     error            // why it cannot be reached
}

// A Fetcher fetches files into a spool. Its methods may be called concurrently.
type Fetcher struct {
	Spool string // directory
	// Open returns the repositories, the nearest first. It is called for each question, because one that was lost may answer again.
	Open func(ctx context.Context) ([]Repository, error)
	// Warn, unless nil, receives what a delivery succeeds in spite of.
	Warn func(err error)
	// Workers is how many cores expand one file; 0: all.
	Workers int
}

// A Request asks for a file.
type Request struct {
	Name    wal.Name
	Cluster wal.SystemID // to which the file must belong; 0 if it is not known
	// Server is the data directory of the server that asks, which recovers as Follower says; nil if no server does that must not leave
	// its way.
	Server   string
	Follower *recovery.Follower
}

// Ready is a file that restore-cmd can deliver.
type Ready struct {
	// Object is the stored object, relative to the spool and with slashes: see fetched.BranchOf.
	Object string
	// More reports whether the segment behind it can be fetched, too. It is determined for a Follower alone.
	More bool
}

// ErrNoRepository says that no repository is configured.
var ErrNoRepository = cli.NewError("no repository is configured", "add a section [repository NAME] with its url to the configuration file, or give --repo-url")

// Fetch makes a file ready. The error is recovery.ErrAbsent if the spool and all repositories have answered and none has it,
// recovery.ErrGap if it must have existed, recovery.ErrLeft if it does not lie on the server's way, and archive.ErrForeign if an archive
// is of another cluster. With any other error it is not known whether the file exists.
func (f *Fetcher) Fetch(ctx context.Context, r Request) (Ready, error) {
	v, err := f.survey(ctx, r.Cluster, r.Name)
	if err != nil {
		return Ready{}, err
	}
	branch, follows := fetched.OnceBranch, r.Follower != nil && r.Name.Kind == wal.KindSegment
	if follows {
		if branch, err = v.branch(ctx, r.Name); err != nil {
			return Ready{}, err
		}
		id, err := fetched.ServerID(r.Server)
		if err != nil {
			return Ready{}, err
		}
		s, want := v.cluster().Server(id), fetched.Want{Segment: r.Name.String(), Data: r.Server, Follower: *r.Follower}
		if err := s.PutWant(want); err != nil { // before the segment comes, or it could be removed at once
			return Ready{}, err
		}
		if err := v.judge(ctx, s, want, branch); err != nil {
			return Ready{}, err
		}
	}
	object, err := v.fetch(ctx, r.Name, branch)
	if err != nil {
		return Ready{}, err
	}
	if v.lost != nil && f.Warn != nil {
		f.Warn(v.lost)
	}
	ready := Ready{Object: object}
	if follows {
		ready.More = v.hasFar(ctx, r.Name.Next(v.id.SegmentSize))
	}
	return ready, nil
}

// A view is the spool and the repositories as they answered a moment ago.
type view struct {
	*Fetcher
	id   archive.Identity
	near *archive.Archive // the spool's
	far  []Repository     // that answer and hold an archive of the cluster
	all  *archive.Archive // near and far as one
	lost error            // why other repositories do not count; nil if there are none
}

// How long a repository may take to say whose archive it is. A file that the spool has does not wait for long.
const (
	patience     = 30 * time.Second
	nearPatience = 5 * time.Second
)

// survey asks each place whose archive it is.
func (f *Fetcher) survey(ctx context.Context, cluster wal.SystemID, n wal.Name) (*view, error) {
	near, err := local.Open(f.Spool)
	if err != nil {
		return nil, err
	}
	v := &view{Fetcher: f, near: archive.New(near), id: archive.Identity{SystemID: cluster}}
	v.near.Workers = f.Workers
	of := "the data directory"
	take := func(name string, id archive.Identity) error {
		switch {
		case v.id.SystemID != 0 && id.SystemID != v.id.SystemID:
			return fmt.Errorf("%s is %w: its system identifier is %s, that of %s is %s", name, archive.ErrForeign, id.SystemID, of, v.id.SystemID)
		case v.id.SegmentSize != 0 && id.SegmentSize != v.id.SegmentSize:
			return fmt.Errorf("%s is %w: its segments have %d bytes, those of %s %d", name, archive.ErrForeign, id.SegmentSize, of, v.id.SegmentSize)
		}
		v.id, of = id, name
		return nil
	}
	id, err := v.near.Identity(ctx)
	if err == nil {
		err = take("the spool "+f.Spool, id)
	}
	if err != nil && !errors.Is(err, archive.ErrUnbound) {
		return nil, err
	}
	long := patience
	if there, err := v.near.HasName(ctx, n); err == nil && there {
		long = nearPatience
	}
	all, ids, err := f.ask(ctx, long)
	if err != nil {
		return nil, err
	}
	members := []union.Member{{Backend: near}}
	for i, r := range all {
		if r.Err == nil {
			if err := take(r.Name, ids[i]); err != nil {
				return nil, err
			}
			r.Archive = r.Archive.Assume(ids[i])
			v.far = append(v.far, r)
			members = append(members, union.Member{Backend: r.Archive.Backend()})
			continue
		}
		v.lost = errors.Join(v.lost, fmt.Errorf("%s does not answer: %w", r.Name, r.Err))
	}
	if len(v.far) == 0 && v.id.SegmentSize == 0 {
		return nil, v.lost
	}
	v.all = archive.New(union.New(archive.IdentityName, members...)).Assume(v.id)
	return v, nil
}

// ask opens the repositories and asks them, at the same time, whose archives they are. One that does not answer gets an Err.
func (f *Fetcher) ask(ctx context.Context, long time.Duration) ([]Repository, []archive.Identity, error) {
	short, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	all, err := f.Open(short)
	if err == nil && len(all) == 0 {
		err = ErrNoRepository
	}
	if err != nil {
		return nil, nil, err
	}
	ids := make([]archive.Identity, len(all))
	var asking sync.WaitGroup
	for i := range all {
		r := &all[i]
		if r.Err != nil {
			continue
		}
		a := archive.New(r.Archive.Backend()).WithKeys(r.Archive.Keys())
		a.Workers = f.Workers
		r.Archive = a
		asking.Go(func() { ids[i], r.Err = a.Identity(short) })
	}
	asking.Wait()
	return all, ids, ctx.Err()
}

func (v *view) cluster() fetched.Cluster { return fetched.Of(v.Spool, v.id.SystemID) }

// branch returns the branch on which a segment is kept. It reads the history of the segment's timeline.
func (v *view) branch(ctx context.Context, n wal.Name) (string, error) {
	if n.Timeline == 1 {
		return fetched.FirstBranch, nil
	}
	text := codec.Memory{Limit: wal.MaxHistorySize}
	_, err := v.deliverAny(ctx, wal.Name{Kind: wal.KindHistory, Timeline: n.Timeline}, &text)
	switch {
	case errors.Is(err, archive.ErrNotStored):
		return fetched.FirstBranch, nil
	case err != nil:
		return "", fmt.Errorf("%s: determine the way to its timeline: %w", n, err)
	}
	return fetched.Branch(text.Bytes()), nil
}

// deliverAny delivers a file from the nearest place that has a sound copy.
func (v *view) deliverAny(ctx context.Context, n wal.Name, w io.WriterAt) (got archive.Fetched, err error) {
	places := []*archive.Archive{v.near}
	for _, r := range v.far {
		places = append(places, r.Archive)
	}
	var failed error
	for _, a := range places {
		if got, err = a.Deliver(ctx, n, v.id.SystemID, w); err == nil {
			return got, nil
		}
		if !errors.Is(err, archive.ErrNotStored) && !errors.Is(err, archive.ErrUnbound) {
			failed = errors.Join(failed, err)
		}
	}
	if failed == nil {
		failed = fmt.Errorf("%s is %w", n, archive.ErrNotStored)
	}
	return got, failed
}

// judge determines how far the server should get the timeline's WAL, and leaves that for restore-cmd.
func (v *view) judge(ctx context.Context, s fetched.Server, want fetched.Want, branch string) error {
	asked := time.Now()
	n, err := wal.ParseName(want.Segment)
	if err != nil {
		return err
	}
	way, err := v.way(ctx, n, want)
	if err != nil {
		return err
	}
	number, err := n.Number(v.id.SegmentSize)
	if err != nil {
		return err
	}
	if err := way.Check(n, number); err != nil {
		return err
	}
	return s.PutWay(fetched.Way{
		Judged: asked, Timeline: n.Timeline, Follower: want.Follower, Below: way.Below, Branch: branch, SegmentSize: v.id.SegmentSize,
	})
}

// way asks all places at once. If one of them fails meanwhile, it asks each repository together with the spool, and takes the
// shortest way that one knows. If no repository answers, it asks the spool, and adds the histories that the server itself has.
func (v *view) way(ctx context.Context, n wal.Name, want fetched.Want) (recovery.Way, error) {
	if len(v.far) == 0 {
		return recovery.ReadWay(ctx, v.near, n, want.Follower, histories(want.Data)...)
	}
	way, err := recovery.ReadWay(ctx, v.all, n, want.Follower)
	if err == nil || len(v.far) == 1 || ctx.Err() != nil {
		return way, err
	}
	failed, known := err, false
	for _, r := range v.far {
		both := archive.New(union.New(archive.IdentityName, union.Member{Backend: v.near.Backend()}, union.Member{Backend: r.Archive.Backend()}))
		one, err := recovery.ReadWay(ctx, both, n, want.Follower)
		if err == nil && (!known || one.Below < way.Below) {
			way, known = one, true
		}
	}
	if !known {
		return way, failed
	}
	return way, nil
}

// histories reads the histories that a server has in its pg_wal, which it has got from an archive or a primary.
func histories(data string) (all []wal.History) {
	files, err := filepath.Glob(filepath.Join(data, "pg_wal", "*.history"))
	if err != nil {
		return nil
	}
	for _, file := range files {
		n, err := wal.ParseName(filepath.Base(file))
		if err != nil {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if h, err := wal.ParseHistory(n.Timeline, text); err == nil {
			all = append(all, h)
		}
	}
	return all
}

// fetch makes a file ready, and returns the object.
func (v *view) fetch(ctx context.Context, n wal.Name, branch string) (object string, err error) {
	if object, ok := v.ready(ctx, n, branch); ok {
		return object, nil
	}
	claim, err := v.claim(ctx, n)
	if err != nil {
		return "", err
	}
	defer claim.Close()
	if object, ok := v.ready(ctx, n, branch); ok { // another process has fetched it
		return object, nil
	}
	err = recovery.Try(ctx, v.all, n, func() error {
		object, err = v.copyAny(ctx, n, branch)
		return err
	})
	if v.lost != nil && (errors.Is(err, recovery.ErrAbsent) || errors.Is(err, recovery.ErrGap)) {
		return "", &unknown{n, v.lost}
	}
	return object, err
}

// unknown says that a file was found nowhere, and that not all places were asked.
type unknown struct {
	n    wal.Name
	lost error
}

func (u *unknown) Error() string {
	return fmt.Sprintf("it is not known whether %s exists: %v", u.n, u.lost)
}

func (u *unknown) Unwrap() error { return u.lost }

// ready returns the object of a segment that was fetched before.
func (v *view) ready(ctx context.Context, n wal.Name, branch string) (string, bool) {
	if branch == fetched.OnceBranch {
		return "", false
	}
	dir := v.cluster().BranchPath(branch)
	b, err := local.Open(filepath.Join(v.Spool, filepath.FromSlash(dir)))
	if err != nil {
		return "", false
	}
	entries, err := archive.New(b).List(ctx, archive.Location(n))
	if err != nil {
		return "", false
	}
	for _, e := range entries {
		if o, ok := archive.ParseObject(e); ok && o.WAL == n && o.Bad == nil {
			return dir + "/" + o.Name, true
		}
	}
	return "", false
}

// claim waits until no other process fetches the file. The claim ends when what it returns is closed, or the process ends.
func (v *view) claim(ctx context.Context, n wal.Name) (io.Closer, error) {
	for {
		claim, err := v.cluster().Claim(n)
		if claim != nil || err != nil {
			return claim, err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// copyAny finds the nearest sound copy of a file: that of the spool serves as it is, one of a repository is copied. The error is
// archive.ErrNotStored if all have answered that they do not have it.
func (v *view) copyAny(ctx context.Context, n wal.Name, branch string) (object string, err error) {
	got, failed := v.near.Check(ctx, n, v.id.SystemID)
	switch {
	case failed == nil:
		return got.Object, nil
	case errors.Is(failed, archive.ErrNotStored), errors.Is(failed, archive.ErrUnbound):
		failed = nil
	}
	for _, r := range v.far {
		object, err := v.copy(ctx, r.Archive, n, branch)
		if err == nil {
			return object, nil
		}
		if !errors.Is(err, archive.ErrNotStored) {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", r.Name, err))
		}
	}
	if failed == nil {
		failed = fmt.Errorf("%s is %w", n, archive.ErrNotStored)
	}
	return "", failed
}

// copy fetches a file from one repository.
func (v *view) copy(ctx context.Context, from *archive.Archive, n wal.Name, branch string) (string, error) {
	dir, err := v.makeBranch(ctx, branch)
	if err != nil {
		return "", err
	}
	var file *durable.File
	name := ""
	_, err = from.Expand(ctx, n, v.id.SystemID, func(object string) (io.Writer, error) {
		name = object
		if err := durable.MkdirAll(dir, path.Dir(object)); err != nil {
			return nil, err
		}
		if file, err = durable.Create(filepath.Join(dir, filepath.FromSlash(object))); err != nil {
			return nil, err
		}
		return durable.Pieces{File: file.File}, nil
	})
	if file != nil {
		defer file.Discard()
	}
	if err != nil {
		return "", err
	}
	return v.cluster().BranchPath(branch) + "/" + name, file.Put()
}

// makeBranch makes the archive of a branch where it is missing, and returns its directory.
func (v *view) makeBranch(ctx context.Context, branch string) (string, error) {
	dir, err := v.cluster().MakeBranch(branch)
	if err != nil {
		return "", err
	}
	b, err := local.Open(dir)
	if err == nil {
		err = archive.New(b).Bind(ctx, v.id)
	}
	return dir, err
}

// hasFar reports whether a repository has a file, and the spool has not. A place that fails has none.
func (v *view) hasFar(ctx context.Context, n wal.Name) bool {
	if there, err := v.near.HasName(ctx, n); err != nil || there {
		return false
	}
	for _, r := range v.far {
		if there, err := r.Archive.HasName(ctx, n); err == nil && there {
			return true
		}
	}
	return false
}
