package prefetch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"walkeep/common/archive"
	"walkeep/common/durable"
	"walkeep/common/fetched"
	"walkeep/common/storage/local"
	"walkeep/common/wal"
)

const (
	pollActive = 20 * time.Millisecond  // between two looks at what servers ask for
	pollIdle   = 500 * time.Millisecond // the same, while none does
	idleAfter  = 10 * time.Second       // after its last question a server gets nothing more fetched
	forgetAt   = 30 * time.Second       // after its last question what was fetched for a server is removed
	judgeAgain = fetched.Fresh / 3      // a way is judged again while it holds
	tidyEvery  = time.Second
	failWait   = 5 * time.Second // after a fetch ahead has failed
	onceAge    = 10 * time.Minute
	parallel   = 4 // segments that are fetched at the same time
)

// ErrTaken says that another process fetches ahead into the spool. It lasts until that ends.
var ErrTaken = errors.New("another process fetches ahead into this spool")

// A Keeper keeps the next segments ready for the servers that ask for WAL.
type Keeper struct {
	*Fetcher
	Ahead int64 // plain bytes that are kept ready for each server
	Log   *slog.Logger
	// For is the data directory of the server that asks when Run begins; Run ends when it and all others have not asked for a while. Run does not
	// end by itself if For is empty.
	For string

	mutex   sync.Mutex
	servers map[string]*served
	views   map[wal.SystemID]surveyed
	work    sync.WaitGroup
	slots   chan struct{}
}

// A surveyed is a view, and when it was taken.
type surveyed struct {
	*view
	at time.Time
}

// recent returns a view of the places that is used for several segments.
func (k *Keeper) recent(ctx context.Context, cluster wal.SystemID, n wal.Name) (*view, error) {
	k.mutex.Lock()
	known := k.views[cluster]
	k.mutex.Unlock()
	if known.view != nil && time.Since(known.at) < judgeAgain {
		return known.view, nil
	}
	now := time.Now()
	v, err := k.survey(ctx, cluster, n)
	if err != nil {
		return nil, err
	}
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.views[cluster] = surveyed{v, now}
	return v, nil
}

// A served is a server that asks.
type served struct {
	cluster fetched.Cluster
	seen    fetched.Seen
	asked   time.Time // when its last question was noticed
	quiet   bool      // it has not asked since Run began

	have    map[uint64]bool // segments behind the last question that are ready (true) or being fetched (false)
	end     uint64          // the first segment that was not there at the last question; math.MaxUint64 if none is known
	pause   time.Time       // no fetch begins before
	judging bool
}

// Run fetches ahead until ctx ends. It returns ErrTaken if another process does that already.
func (k *Keeper) Run(ctx context.Context) error {
	if k.For == "" {
		if err := k.await(ctx); err != nil {
			return err
		}
	}
	lock, err := k.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	k.servers, k.views, k.slots = make(map[string]*served), make(map[wal.SystemID]surveyed), make(chan struct{}, parallel)
	defer k.work.Wait()
	began, tidied := time.Now(), time.Time{}
	for first := true; ctx.Err() == nil; first = false {
		now := time.Now()
		k.look(now, first)
		active := k.serve(ctx, now)
		if now.Sub(tidied) >= tidyEvery && (active || k.forget(now)) {
			k.tidy(now)
			tidied = now
		}
		if k.For != "" && k.done() && now.Sub(began) > pollIdle {
			return nil
		}
		wait := pollIdle
		if active {
			wait = pollActive
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// await waits until something was fetched: on most hosts that never happens.
func (k *Keeper) await(ctx context.Context) error {
	for {
		if _, err := os.Stat(filepath.Join(k.Spool, fetched.Dir)); err == nil {
			return nil
		}
		select {
		case <-time.After(pollIdle):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Busy reports whether a process fetches ahead into a spool.
func Busy(spool string) bool {
	k := Keeper{Fetcher: &Fetcher{Spool: spool}}
	lock, err := k.lock()
	if err == nil {
		lock.Close()
	}
	return errors.Is(err, ErrTaken)
}

func (k *Keeper) lock() (*os.File, error) {
	if err := durable.MkdirAll(k.Spool, fetched.Dir); err != nil {
		return nil, fmt.Errorf("make a directory for fetched WAL in the spool: %w", err)
	}
	f, err := durable.OpenFile(filepath.Join(k.Spool, fetched.Dir, ".prefetch.lock"), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	locked, err := durable.Lock(f)
	if err == nil && !locked {
		err = fmt.Errorf("%s: %w", k.Spool, ErrTaken)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// look notices the questions of servers.
func (k *Keeper) look(now time.Time, first bool) {
	clusters, err := fetched.Clusters(k.Spool)
	if err != nil {
		return
	}
	k.mutex.Lock()
	defer k.mutex.Unlock()
	for _, c := range clusters {
		for _, seen := range c.Wants() {
			key := c.Path() + "/" + seen.ID
			s := k.servers[key]
			switch {
			case s == nil:
				s = &served{cluster: c, asked: now, quiet: first && seen.Want.Data != k.For}
				k.servers[key] = s
			case s.seen.Changed.Equal(seen.Changed) && s.seen.Want == seen.Want:
				continue
			default:
				s.asked, s.quiet = now, false
			}
			if s.have == nil || !goesOn(s.seen.Want.Segment, seen.Want.Segment) {
				s.have = make(map[uint64]bool)
			}
			s.seen, s.end = seen, math.MaxUint64
		}
	}
}

// goesOn reports whether a segment is the same as the one before, or a later one of its timeline.
func goesOn(before, segment string) bool {
	return len(before) == len(segment) && len(segment) > 8 && before[:8] == segment[:8] && before <= segment
}

// serve begins what the servers need, and reports whether any of them asks.
func (k *Keeper) serve(ctx context.Context, now time.Time) (active bool) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	for _, s := range k.servers {
		if s.quiet || now.Sub(s.asked) >= idleAfter {
			continue
		}
		active = true
		n, err := wal.ParseName(s.seen.Want.Segment)
		if err != nil || n.Kind != wal.KindSegment {
			continue
		}
		way, err := s.seen.Way()
		if err != nil || way.Timeline != n.Timeline || !way.SegmentSize.Valid() {
			continue // supervisor fetch is to judge it first
		}
		number, err := n.Number(way.SegmentSize)
		if err != nil {
			continue
		}
		if age := now.Sub(way.Judged); (age < 0 || age > judgeAgain) && s.have[number+1] && !s.judging && now.After(s.pause) {
			k.judge(ctx, s, n)
		}
		if !way.Leads(n, s.seen.Want.Follower, now) {
			continue
		}
		k.ahead(ctx, s, n, number, way, now)
	}
	return active
}

// ahead begins to fetch the segments that are to be ready behind the one that the server has.
func (k *Keeper) ahead(ctx context.Context, s *served, n wal.Name, number uint64, way fetched.Way, now time.Time) {
	if now.Before(s.pause) {
		return
	}
	for old := range s.have {
		if old <= number {
			delete(s.have, old)
		}
	}
	count := uint64(k.Ahead) / uint64(way.SegmentSize)
	for i, next := uint64(1), n.Next(way.SegmentSize); i <= count; i, next = i+1, next.Next(way.SegmentSize) {
		if number+i >= min(way.Below, s.end) {
			return
		}
		if _, busy := s.have[number+i]; busy {
			continue
		}
		select {
		case k.slots <- struct{}{}:
		default:
			return
		}
		have := s.have
		have[number+i] = false
		k.work.Go(func() {
			err := k.fetchAhead(ctx, s.cluster.ID(), next, way.Branch)
			<-k.slots
			k.mutex.Lock()
			defer k.mutex.Unlock()
			if err == nil {
				have[number+i] = true
				return
			}
			delete(have, number+i)
			if errors.Is(err, archive.ErrNotStored) {
				s.end = min(s.end, number+i) // until the server asks for more
			} else if ctx.Err() == nil {
				s.pause = time.Now().Add(failWait)
				k.Log.Warn("cannot fetch ahead", "segment", next.String(), "error", err.Error())
			}
		})
	}
}

// fetchAhead makes a segment ready, unless the spool has it.
func (k *Keeper) fetchAhead(ctx context.Context, cluster wal.SystemID, n wal.Name, branch string) error {
	v, err := k.recent(ctx, cluster, n)
	if err != nil {
		return err
	}
	if _, ok := v.ready(ctx, n, branch); ok {
		return nil
	}
	if there, err := v.near.HasName(ctx, n); err != nil || there {
		return err
	}
	claim, err := v.claim(ctx, n)
	if err != nil {
		return err
	}
	defer claim.Close()
	if _, ok := v.ready(ctx, n, branch); ok {
		return nil
	}
	_, err = v.copyAny(ctx, n, branch)
	return err
}

// judge judges the way of a server again.
func (k *Keeper) judge(ctx context.Context, s *served, n wal.Name) {
	s.judging = true
	want := s.seen.Want
	k.work.Go(func() {
		err := k.judgeNow(ctx, s, n, want)
		k.mutex.Lock()
		defer k.mutex.Unlock()
		if s.judging = false; err != nil && ctx.Err() == nil {
			s.pause = time.Now().Add(failWait)
			k.Log.Warn("cannot determine how far the server should get the WAL", "segment", n.String(), "error", err.Error())
		}
	})
}

func (k *Keeper) judgeNow(ctx context.Context, s *served, n wal.Name, want fetched.Want) error {
	v, err := k.survey(ctx, s.cluster.ID(), n)
	if err != nil {
		return err
	}
	branch, err := v.branch(ctx, n)
	if err != nil {
		return err
	}
	return v.judge(ctx, s.seen.Server, want, branch)
}

// forget forgets servers that have not asked for long, and reports whether there was one.
func (k *Keeper) forget(now time.Time) (any bool) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	for key, s := range k.servers {
		if now.Sub(s.asked) >= forgetAt {
			s.seen.Forget()
			delete(k.servers, key)
			any = true
		}
	}
	return any
}

// done reports whether there is no server left.
func (k *Keeper) done() bool {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return len(k.servers) == 0
}

// tidy removes what no server needs: what it has replayed, what it is not on the way to, and what it has not asked for in long.
func (k *Keeper) tidy(now time.Time) {
	clusters, err := fetched.Clusters(k.Spool)
	if err != nil {
		return
	}
	for _, c := range clusters {
		branches, err := c.Branches()
		if err != nil {
			continue
		}
		for _, branch := range branches {
			k.tidyBranch(c, branch, now)
		}
	}
}

// A span is what a server needs of a timeline.
type span struct {
	timeline    wal.Timeline
	first, last uint64 // numbers of segments
	size        wal.SegmentSize
}

// needed returns what the servers of a cluster need of a branch.
func (k *Keeper) needed(c fetched.Cluster, branch string) (all []span) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	for _, s := range k.servers {
		if s.cluster != c {
			continue
		}
		n, err := wal.ParseName(s.seen.Want.Segment)
		way, bad := s.seen.Way()
		if err != nil || bad != nil || way.Branch != branch || !way.SegmentSize.Valid() {
			continue
		}
		if number, err := n.Number(way.SegmentSize); err == nil {
			// The one before the last can still be in use, and the server asks for the last again when it ends recovery.
			all = append(all, span{n.Timeline, max(number, 1) - 1, number + uint64(k.Ahead)/uint64(way.SegmentSize), way.SegmentSize})
		}
	}
	return all
}

// tidyBranch lists what is there before it looks at what servers ask for: they ask before it is fetched.
func (k *Keeper) tidyBranch(c fetched.Cluster, branch string, now time.Time) {
	dir := filepath.Join(k.Spool, filepath.FromSlash(c.BranchPath(branch)))
	b, err := local.Open(dir)
	if err != nil {
		return
	}
	a := archive.New(b)
	var there []archive.Object
	for o, err := range a.Objects(context.Background()) {
		if err != nil {
			return
		}
		there = append(there, o)
	}
	if branch == fetched.OnceBranch {
		removeOld(dir, now)
	} else {
		k.look(now, false)
		needed := k.needed(c, branch)
		for _, o := range there {
			if !covers(needed, o.WAL) {
				durable.Remove(filepath.Join(dir, filepath.FromSlash(o.Name)))
			}
		}
	}
	logs, err := a.LogDirs(context.Background(), 0)
	if err != nil {
		return
	}
	for _, l := range logs {
		durable.Sweep(filepath.Join(dir, filepath.FromSlash(l.Name))) // what killed processes have left
	}
}

// removeOld removes files that restore-cmd would have removed long ago if it had not been killed.
func removeOld(dir string, now time.Time) {
	filepath.WalkDir(filepath.Join(dir, "wal"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil && now.Sub(info.ModTime()) > onceAge {
			durable.Remove(path)
		}
		return nil
	})
}

// covers reports whether a server needs the file.
func covers(needed []span, n wal.Name) bool {
	for _, s := range needed {
		number, err := n.Number(s.size)
		if err == nil && n.Timeline == s.timeline && s.first <= number && number <= s.last {
			return true
		}
	}
	return false
}
