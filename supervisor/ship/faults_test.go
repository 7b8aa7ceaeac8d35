package ship_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/notes"
	"walkeep/common/storage"
	"walkeep/common/storage/flaky"
	"walkeep/common/storage/local"
	"walkeep/common/storage/mem"
	"walkeep/common/storage/retry"
	"walkeep/common/wal"
	"walkeep/supervisor/ship"
	"walkeep/supervisor/spool"
)

// A store that fails each third request, loses each fourth answer, and says late that a name is taken, gets everything once, and in
// order.
func TestFlaky(t *testing.T) {
	r := newRig(t)
	r.keep = 0
	const last = 60
	b := &ordered{Backend: &flaky.Backend{Manners: flaky.Manners{
		NoReadBack: true, LateExist: true, SilentRemove: true, Page: 70, Busy: 3, LostAnswers: 4,
	}}}
	p := newPlace("a", retry.New(b, time.Millisecond, time.Second))
	stop := r.follow(p)
	defer stop()
	r.segments(1, last)
	r.wait("everything is shipped and has left the spool", func() bool {
		return r.note("a").Mark(1) == wal.LSN(last*segmentSize) && !r.inSpool(object(last-1))
	})
	b.Busy, b.LostAnswers = 0, 0
	p.holds(t, 1, last)
	if b.fault != "" {
		t.Error(b.fault)
	}
}

// An ordered backend notices a segment that becomes visible before the one before it.
type ordered struct {
	*flaky.Backend
	mu    sync.Mutex
	last  string
	fault string
}

func (o *ordered) Create(ctx context.Context, name string, c storage.CreateOptions) (storage.Writer, error) {
	w, err := o.Backend.Create(ctx, name, c)
	if err != nil {
		return nil, err
	}
	return &orderedWriter{w, o, name}, nil
}

type orderedWriter struct {
	storage.Writer
	o    *ordered
	name string
}

func (w *orderedWriter) Commit(ctx context.Context) error {
	w.o.mu.Lock()
	if strings.HasPrefix(w.name, archive.WALDir) {
		if w.name < w.o.last {
			w.o.fault = fmt.Sprintf("%s came after %s", w.name, w.o.last)
		}
		w.o.last = w.name
	}
	w.o.mu.Unlock()
	return w.Writer.Commit(ctx)
}

// A repository that never answers, whatever its caller's deadline, delays no other one, and is reported.
func TestHungStore(t *testing.T) {
	r := newRig(t)
	r.segments(1, 20)
	good, hung := newPlace("good", new(mem.Backend)), newPlace("hung", new(mem.Backend))
	release := make(chan struct{})
	var calls atomic.Int32
	hung.down = func() error {
		calls.Add(1)
		<-release
		return errDown
	}
	o := r.options(true, good, hung)
	o.Repositories[1].Timeout = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ship.Run(ctx, o)
	}()
	r.wait("the other one has everything", func() bool { return r.note("good").Mark(1) == wal.LSN(20*segmentSize) })
	r.wait("it is reported", func() bool { return strings.Contains(r.note("hung").Error, "no answer") })
	time.Sleep(200 * time.Millisecond)
	if n := calls.Load(); n > 4 {
		t.Errorf("%d calls hang at the same time", n)
	}
	cancel()
	<-done
	close(release)
}

// Two hosts ship the same segments to one repository, into which each may come first.
func TestTwoHosts(t *testing.T) {
	p := newPlace("a", new(mem.Backend))
	var hosts []*rig
	var stops []func()
	for range 2 {
		r := newRig(t)
		r.keep = 0
		hosts = append(hosts, r)
		stops = append(stops, r.follow(p))
	}
	const last = 40
	var group sync.WaitGroup
	for _, r := range hosts {
		group.Go(func() { r.segments(1, last) })
	}
	group.Wait()
	for _, r := range hosts {
		r.wait("all is shipped and has left the spool", func() bool {
			return r.note("a").Mark(1) == wal.LSN(last*segmentSize) && !r.inSpool(object(last-1)) && !r.inSpool(object(1))
		})
	}
	for _, stop := range stops {
		stop()
	}
	p.holds(t, 1, last)
	for _, r := range hosts {
		if n := r.note("a"); len(n.Stuck) > 0 {
			t.Errorf("stuck: %+v", n.Stuck)
		}
	}
}

// What archive-cmd stores at the same time can come in any order. A segment waits for the one before it, but not for ever.
func TestWaitsForTheSegmentBefore(t *testing.T) {
	r := newRig(t)
	b := &ordered{Backend: &flaky.Backend{}}
	p := newPlace("a", b)
	o := r.options(true, p)
	o.Pace.Hole = 300 * time.Millisecond
	r.segments(1, 2)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ship.Run(ctx, o)
	}()
	r.wait("the first is there", func() bool { return exists(t, b, object(1)) })
	r.segments(3, 4)
	time.Sleep(50 * time.Millisecond)
	if exists(t, b, object(3)) {
		t.Error("a segment does not wait for the one before it")
	}
	r.segments(2, 3)
	r.wait("both are there", func() bool { return exists(t, b, object(3)) })
	r.segments(5, 6)
	r.wait("one is there although the one before it never came", func() bool { return exists(t, b, object(5)) })
	cancel()
	<-done
	if b.fault != "" {
		t.Error(b.fault)
	}
}

// An outage of an idle repository is noticed, and so is its end.
func TestIdleOutage(t *testing.T) {
	r := newRig(t)
	r.segments(1, 2)
	b := &broken{Backend: new(mem.Backend)}
	p := newPlace("a", b)
	o := r.options(true, p)
	o.Pace.Ping = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ship.Run(ctx, o)
	}()
	r.wait("all is shipped", func() bool { return r.note("a").Mark(1) != 0 })
	b.down.Store(true)
	r.wait("the outage is noted", func() bool { return r.note("a").Error != "" })
	b.down.Store(false)
	r.wait("its end is noted", func() bool { return r.note("a").Error == "" })
	cancel()
	<-done
}

// A broken backend fails while it is down.
type broken struct {
	storage.Backend
	down atomic.Bool
}

func (b *broken) List(ctx context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	if b.down.Load() {
		return func(yield func(storage.Entry, error) bool) { yield(storage.Entry{}, errDown) }
	}
	return b.Backend.List(ctx, prefix, o)
}

// A repository that was emptied gets again what the spool still has.
func TestEmptiedRepository(t *testing.T) {
	r := newRig(t)
	r.segments(1, 5)
	p := newPlace("a", new(mem.Backend))
	o := r.options(true, p)
	o.Pace.Ping = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ship.Run(ctx, o)
	}()
	r.wait("all is shipped", func() bool { return r.note("a").Mark(1) == wal.LSN(5*segmentSize) })
	names := p.names(t)
	r.must(p.Remove(t.Context(), names...))
	r.wait("all is there again", func() bool { return len(p.names(t)) == len(names) })
	cancel()
	<-done
	p.holds(t, 1, 5)
}

// One process ships to a repository.
func TestOneShipper(t *testing.T) {
	r := newRig(t)
	p := newPlace("a", new(mem.Backend))
	lock, err := r.spool.LockShipping("a")
	r.must(err)
	if results := r.once(p); !errors.Is(results[0].Err, spool.ErrShipping) {
		t.Errorf("got %+v", results)
	}
	stop := r.follow(p)
	r.segments(1, 2)
	time.Sleep(20 * time.Millisecond)
	if exists(t, p, object(1)) {
		t.Error("two ship")
	}
	lock.Close()
	r.wait("the other one takes over", func() bool { return exists(t, p, object(1)) })
	stop()
}

// Who waits for the process that ships ends when that has shipped what was there, or has failed since then, and else ships when that
// has ended.
func TestWait(t *testing.T) {
	for name, test := range map[string]struct {
		note      notes.Shipping // of the other process
		backup    bool           // finished backups are in the spool
		elsewhere bool
		err       string
	}{
		"an error from before":     {note: notes.Shipping{Error: "refused", Failed: time.Now().Add(-time.Hour), Objects: 2}},
		"an error of long ago":     {note: notes.Shipping{Error: "refused", Objects: 2}},
		"an error since then":      {note: notes.Shipping{Error: "refused", Failed: time.Now().Add(time.Hour), Objects: 2}, err: "refused"},
		"what cannot be shipped":   {note: notes.Shipping{Stuck: []notes.Problem{{Object: object(1), Text: "another content"}}}, err: object(1) + ": another content; the process that ships tries it again every 10m0s"},
		"nothing was noted":        {},
		"nothing waited":           {note: notes.Shipping{Updated: time.Now()}},
		"all is there":             {note: notes.Shipping{Recoverable: time.Now().Add(time.Hour)}, elsewhere: true},
		"a backup is not there":    {note: notes.Shipping{Recoverable: time.Now().Add(time.Hour)}, backup: true},
		"the backup is there":      {note: notes.Shipping{Recoverable: time.Now().Add(time.Hour), Looked: time.Now().Add(time.Hour)}, backup: true, elsewhere: true},
		"the marks are behind all": {note: notes.Shipping{Updated: time.Now(), Marks: []notes.Mark{{Timeline: 1, LSN: wal.LSN(3 * segmentSize)}}}, elsewhere: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.segments(1, 3)
			if test.backup {
				r = openSite(t)
			}
			p := newPlace("a", new(mem.Backend))
			lock, err := r.spool.LockShipping("a")
			r.must(err)
			defer lock.Close()
			test.note.Repository, test.note.URL = "a", "file:///a"
			r.must(r.spool.Archive.Notes().NoteShipping(t.Context(), test.note))
			o := r.options(false, p)
			waits := make(chan struct{}, 1)
			o.Wait, o.Log = true, slog.New(slog.NewTextHandler(writer(func(line []byte) {
				if bytes.Contains(line, []byte("waiting:")) {
					waits <- struct{}{}
				}
			}), nil))
			done := make(chan ship.Result)
			go func() {
				results, err := ship.Run(t.Context(), o)
				if err != nil {
					t.Error(err)
				}
				done <- results[0]
			}()
			select {
			case <-waits:
				if test.elsewhere || test.err != "" {
					t.Error("it waits")
				}
				lock.Close()
				if got := <-done; got.Err != nil || got.Elsewhere || got.Objects < 2 {
					t.Errorf("when the other process has ended: got %+v", got)
				}
			case got := <-done:
				if got.Elsewhere != test.elsewhere || got.Elsewhere == (got.Err != nil) || got.Err != nil && got.Err.Error() != test.err {
					t.Errorf("got %+v, want %+v", got, test)
				}
			}
		})
	}
}

// A writer calls itself for what is written.
type writer func([]byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

// Notes of the server and of standbys follow, and notes of damage come before their segments.
func TestNotes(t *testing.T) {
	r := newRig(t)
	r.segments(1, 2)
	n := r.spool.Archive.Notes()
	r.must(n.NoteDamage(t.Context(), name(1), &wal.Damage{LSN: 5, Reason: "broken"}))
	r.must(n.NoteServer(t.Context(), notes.Server{SystemID: 4711, Timeline: 1, LSN: 7}))
	r.must(n.NoteStandby(t.Context(), notes.Standby{Host: "h", Data: "/d", Restartpoint: name(1).String()}))
	p := newPlace("a", new(mem.Backend))
	for _, result := range r.once(p) {
		if result.Err != nil {
			t.Error(result.Err)
		}
	}
	for _, object := range []string{notes.DamageName(name(1)), notes.ServerName, notes.StandbyName(notes.StandbyID("h", "/d"))} {
		if !bytes.Equal(read(t, p, object), read(t, r.spool.Archive.Backend(), object)) {
			t.Errorf("%s is not what it is in the spool", object)
		}
	}
	r.must(n.NoteServer(t.Context(), notes.Server{SystemID: 4711, Timeline: 1, LSN: 7})) // at another time, the same
	if got := p.counted.Counts().Replace; got != 2 {
		t.Errorf("two notes were replaced %d times", got)
	}
}

// A shipper that is killed again and again loses nothing, and ships nothing twice under another name.
func TestKilled(t *testing.T) {
	if dir := os.Getenv("SHIP_SPOOL"); dir != "" {
		shipUntilKilled(dir, os.Getenv("SHIP_TO"))
		return
	}
	r := newRig(t)
	to := t.TempDir()
	b, err := local.Open(to)
	r.must(err)
	p := newPlace("a", b)
	const last = 160
	go r.segments(1, last)
	kills := 0
	for !exists(t, p, object(last-1)) || kills < 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), "SHIP_SPOOL="+r.spool.Dir, "SHIP_TO="+to)
		r.must(cmd.Start())
		time.Sleep(time.Duration(30+kills%7*10+kills*5) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		if kills++; kills > 200 {
			t.Fatal("it makes no progress")
		}
	}
	t.Logf("killed %d times", kills)
	r.keep = 0
	for _, result := range r.once(p) {
		if result.Err != nil || result.Waiting > 0 {
			t.Errorf("got %+v", result)
		}
	}
	p.holds(t, 1, last)
	for n := uint64(1); n < last; n++ {
		if r.inSpool(object(n)) {
			t.Errorf("%s has not left the spool", object(n))
		}
	}
	if got := len(p.names(t)); got != last {
		t.Errorf("the repository holds %d objects instead of %d: %q", got, last, p.names(t))
	}
}

// shipUntilKilled ships to a directory and removes at once what is there.
func shipUntilKilled(dir, to string) {
	s, err := spool.Open(dir)
	if err != nil {
		panic(err)
	}
	b, err := local.Open(to)
	if err != nil {
		panic(err)
	}
	r := &rig{spool: s}
	o := r.options(true, newPlace("a", b))
	o.Keep, o.Log = 0, slog.New(slog.DiscardHandler)
	ship.Run(context.Background(), o)
}

// An object that a repository has lost since it was shipped there does not leave the spool.
func TestLostBeforeLeaving(t *testing.T) {
	r := newRig(t)
	p := newPlace("a", new(mem.Backend))
	size := int64(len(pack(t, name(1).String(), 1, int(segmentSize), "zstd")))
	r.keep = 6 * size
	r.segments(1, 6)
	stop := r.follow(p)
	defer stop()
	r.wait("all is shipped", func() bool { return r.note("a").Mark(1) == wal.LSN(6*segmentSize) })
	half := read(t, p, object(3))[:size/2]
	r.must(p.Remove(t.Context(), object(2), object(3)))
	put(t, p.archive(), object(3), half)
	r.segments(6, 20)
	r.wait("what is there leaves the spool", func() bool { return !exists(t, r.spool.Archive.Backend(), object(5)) })
	r.wait("what was lost is there again, and leaves", func() bool { return exists(t, p, object(2)) && !exists(t, r.spool.Archive.Backend(), object(2)) })
	r.wait("what is cut off is reported", func() bool { return len(r.note("a").Stuck) == 1 })
	if !exists(t, r.spool.Archive.Backend(), object(3)) {
		t.Error("the only whole copy has left the spool")
	}
	p.holds(t, 1, 3)
}
