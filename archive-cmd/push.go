package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/codec"
	"walkeep/common/pgdata"
	"walkeep/common/storage/local"
	"walkeep/common/wal"
)

// push archives the file that it was asked for and, beside it, those that PostgreSQL will ask for next.
func push(o options, msg *cli.Messages) error {
	b, err := local.Open(o.Spool)
	if err != nil {
		return failure(err)
	}
	if o.SpoolLimit > 0 {
		b.SetLimit(int64(o.SpoolLimit))
	}
	co, err := codec.ByName(o.Codec)
	if err != nil {
		return err
	}
	cluster, err := pgdata.SystemID(pgdata.Of(o.path))
	if err != nil {
		return failure(fmt.Errorf("tell the cluster: %w", err))
	}
	a := archive.New(b)
	options := archive.PushOptions{
		Codec: co, Level: o.Level, Verify: archive.Verify(o.Verify), SystemID: cluster, Tool: cli.Version,
	}
	ctx := context.Background()
	pusher := a.NewPusher(options)
	there, _ := a.Has(ctx, o.path)
	ahead := &lookahead{dir: filepath.Dir(o.path), after: filepath.Base(o.path), most: o.Lookahead}
	var others sync.WaitGroup
	if !there { // or look-ahead has been here: the next calls return at once, and one of them goes on
		for range runtime.GOMAXPROCS(0) {
			others.Go(func() { ahead.work(ctx, a.NewPusher(options), msg) })
		}
	}
	done, err := pusher.Push(ctx, o.path)
	others.Wait()
	if err != nil {
		return failure(fmt.Errorf("archive %s: %w", filepath.Base(o.path), err))
	}
	report(done, msg)
	return nil
}

func report(done archive.Pushed, msg *cli.Messages) {
	if done.Damage != nil {
		msg.Warn("the archived copy is as broken as the original; take a new base backup after it",
			"%s is archived with broken WAL records: %v", done.Name, done.Damage)
	}
	switch {
	case done.Variant && !done.Duplicate:
		msg.Warn("two servers were promoted from this segment; recovery uses neither by itself",
			"another %s is archived already; this one is kept beside it as %s", done.Name, done.Object)
	case done.Duplicate:
		msg.Detail("%s was archived before, as %s, and is the same", done.Name, done.Object)
	default:
		msg.Detail("%s is archived as %s, %d bytes for %d", done.Name, done.Object, done.Stored, done.Plain)
	}
}

// A lookahead hands out the files that wait after the one in hand.
type lookahead struct {
	dir   string // pg_wal
	after string
	most  int

	once  sync.Once
	mu    sync.Mutex
	names []wal.Name
}

// work archives files until there are no more. What fails is left for the call that will ask for it, and say why.
func (l *lookahead) work(ctx context.Context, p *archive.Pusher, msg *cli.Messages) {
	l.once.Do(l.find)
	for {
		l.mu.Lock()
		if len(l.names) == 0 {
			l.mu.Unlock()
			return
		}
		name := l.names[0]
		l.names = l.names[1:]
		l.mu.Unlock()
		done, err := p.PushNew(ctx, filepath.Join(l.dir, name.String()))
		if err != nil {
			msg.Detail("looked ahead, in vain for now: archive %s: %v", name, err)
			continue
		}
		if !done.Duplicate {
			report(done, msg)
		}
	}
}

// find lists the files that wait. It does not count on PostgreSQL's asking for them in this order.
func (l *lookahead) find() {
	own, err := wal.ParseName(l.after)
	if err != nil || l.most == 0 {
		return
	}
	ready, err := pgdata.Ready(l.dir)
	if err != nil {
		return // called by hand, on a file elsewhere
	}
	for i, name := range ready {
		if name == own {
			ready = ready[i+1:]
			break
		}
	}
	l.names = ready[:min(len(ready), l.most)]
}
