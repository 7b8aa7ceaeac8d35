package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/codec"
	"walkeep/common/pgdata"
	"walkeep/common/sealed"
	"walkeep/common/storage/local"
	"walkeep/common/wal"
)

// push archives the requested file and, at the same time, those that PostgreSQL will request next.
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
		return failure(fmt.Errorf("read the system identifier: %w", err))
	}
	a := archive.New(b)
	options := archive.PushOptions{
		Codec: co, Level: o.Level, Verify: archive.Verify(o.Verify), SystemID: cluster, Tool: cli.Version,
	}
	if o.RecipientsFile != "" {
		if err := encrypt(o.RecipientsFile, &options); err != nil {
			return failure(err)
		}
	}
	ctx := context.Background()
	further, stop := context.WithCancel(ctx)
	defer stop()
	var others sync.WaitGroup
	pushed := make(chan struct{})
	file, err := a.NewPusher(options).Open(ctx, o.path)
	// If look-ahead has archived this file, it has archived the next ones, too. The call for the first that it has not begins it again.
	if err != nil || !file.Taken() {
		ahead := &lookahead{dir: filepath.Dir(o.path), after: filepath.Base(o.path), most: o.Lookahead, last: pushed}
		for range runtime.GOMAXPROCS(0) + 1 { // more than cores, because some always wait for the disk
			others.Go(func() { ahead.work(further, a.NewPusher(options), msg) })
		}
	}
	var done archive.Pushed
	if err == nil {
		defer file.Close()
		done, err = file.Push(ctx)
	}
	if errors.Is(err, archive.ErrConflict) {
		stop() // another server writes this timeline into the archive, and what comes after would be mixed with its WAL
	}
	close(pushed)
	others.Wait()
	if err != nil {
		return failure(fmt.Errorf("archive %s: %w", filepath.Base(o.path), err))
	}
	report(done, msg)
	return nil
}

// encrypt has files encrypted for the recipients in a list.
func encrypt(list string, options *archive.PushOptions) (err error) {
	if options.Recipients, err = sealed.ReadRecipients(list); err != nil {
		return err
	}
	options.CompareKey, err = sealed.MakeCompareKey(list)
	return err
}

func report(done archive.Pushed, msg *cli.Messages) {
	if done.Damage != nil {
		msg.Warn("the archived copy is as broken as the original; take a new base backup after it",
			"%s is archived with broken WAL records: %v", done.Name, done.Damage)
	}
	if done.Newer != "" && !done.Duplicate {
		checked := "it is archived, and checked as far as that version's WAL is like that of this one"
		if done.Unchecked != nil {
			checked += "; the first that is not is the " + done.Unchecked.Error()
		}
		msg.Warn(cli.NewerHint, "%s %s: %s", done.Name, done.Newer, checked)
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

// A lookahead hands out the files that wait after the requested one. Workers compress them concurrently, but name them in
// this order: a server that is lost with its WAL then leaves no hole in the archive, behind which nothing could be
// recovered.
type lookahead struct {
	dir   string // pg_wal
	after string
	most  int

	once  sync.Once
	mu    sync.Mutex
	names []wal.Name
	last  <-chan struct{} // closed when the file before names[0] is finished, stored or not
}

// work archives files until none is left. A file whose name is taken, or that fails, is left to the call that
// PostgreSQL will make for it: that call compares the contents, or reports the error.
func (l *lookahead) work(ctx context.Context, p *archive.Pusher, msg *cli.Messages) {
	l.once.Do(l.find)
	for {
		name, before, end := l.next()
		if end == nil {
			return
		}
		if err := archiveAfter(ctx, p, filepath.Join(l.dir, name.String()), before, msg); err != nil {
			msg.Detail("look-ahead could not archive %s yet: %v", name, err)
		}
		<-before
		close(end)
	}
}

// archiveAfter archives a file whose name is not taken. It gives the file its name after before is closed.
func archiveAfter(ctx context.Context, p *archive.Pusher, path string, before <-chan struct{}, msg *cli.Messages) error {
	file, err := p.Open(ctx, path)
	if err != nil {
		return err
	}
	defer file.Close()
	if file.Taken() {
		return nil
	}
	if err := file.Write(ctx); err != nil {
		return err
	}
	<-before
	if err := file.Commit(ctx); err != nil {
		return err
	}
	report(file.Pushed(), msg)
	return nil
}

// next hands out a file, with the channel that is closed when those before it are finished, and the one to be closed
// after it; nil when none is left.
func (l *lookahead) next() (name wal.Name, before <-chan struct{}, end chan<- struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.names) == 0 {
		return name, nil, nil
	}
	ended := make(chan struct{})
	name, before = l.names[0], l.last
	l.names, l.last = l.names[1:], ended
	return name, before, ended
}

// find lists the files that wait. PostgreSQL may request them in another order.
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
