package filebackup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"

	"walkeep/common/backup"
	"walkeep/common/durable"
	"walkeep/common/pgdata"
	"walkeep/common/wal"
)

// Options describe what to read.
type Options struct {
	Dir       string  // the data directory
	Major     int     // of the server
	Start     wal.LSN // where the backup began
	Checksums bool    // pages have checksums, which are checked
	PageSize  int     // bytes
	FilePages uint32  // pages of a relation's file that is full
	StatsDir  string  // stats_temp_directory, up to version 14
	Readers   int     // files, or parts of a large one, that are read at the same time
	MaxRate   int64   // bytes per second that all readers together read at most; 0: no limit
	// Notice is called with a warning about a file that is left out. BadPage is called with a message about a page with a wrong
	// checksum, from several goroutines.
	Notice, BadPage func(message string)
}

// A Source yields the files of a data directory, by its lanes. Close must be called.
type Source struct {
	tree
	ctx    context.Context
	cancel context.CancelFunc
	rate   *limiter
	files  chan *file // for any lane
	walked error      // why the walk ended; valid when files is closed
	ended  sync.WaitGroup

	// pause waits before a wrong page is read again.
	pause func()

	mu     sync.Mutex
	listed list
	unlist func() // ends the rendering of the manifest
}

// A Lane yields a part of the files, as a [volume.Source]. Lanes may be used concurrently, the methods of one must not be.
//
// [volume.Source]: walkeep/common/backup/volume
type Lane struct {
	s       *Source
	spare   chan *part
	order   chan *part // in the order of the backup
	todo    chan *part // the same parts of files, for any reader
	current *file      // whose content is being handed out
	last    *part      // whose bytes were handed out; nil: none
}

// A file is an entry while it is read.
type file struct {
	entry
	opened sync.Once
	f      *os.File
	err    error
	gone   bool         // it vanished before it was opened
	unread atomic.Int32 // parts
	bad    atomic.Int32 // pages with wrong checksums
	crc    uint32       // of what was handed out
	next   int64        // offset of the next part that is handed out
}

// A part is a block of a file on its way through a reader.
type part struct {
	file *file
	at   int64  // offset in the file, in bytes
	n    int    // bytes
	data []byte // has room for a block
	hash [backup.HashSize]byte
	err  error
	done chan struct{} // has one element when the part was read
}

// Open begins to read a data directory. The backup must have begun on the server.
func Open(ctx context.Context, o Options) (*Source, error) {
	control, err := pgdata.ReadWholeControl(o.Dir)
	if err != nil {
		return nil, err
	}
	o.StatsDir = statsDir(o.Dir, o.StatsDir)
	s := &Source{tree: tree{Options: o, version: fmt.Sprintf("PG_%d_%d", o.Major, pgdata.CatalogVersion(control))}, rate: &limiter{rate: o.MaxRate}}
	if err := s.readTablespaces(); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.files = make(chan *file)
	s.unlist = func() {}
	s.pause = func() { time.Sleep(patience) }
	return s, nil
}

// Close ends the reading, when no lane is being used any more.
func (s *Source) Close() {
	s.cancel()
	s.ended.Wait()
	s.unlist()
}

// Lanes begins to read, and returns n lanes among which the files are divided. It must be called once.
func (s *Source) Lanes(n int) []*Lane {
	lanes := make([]*Lane, n)
	readers := (s.Readers + n - 1) / n
	depth := 4*readers + 4
	for i := range lanes {
		l := &Lane{s: s, spare: make(chan *part, depth), order: make(chan *part, depth), todo: make(chan *part, depth)}
		for range depth {
			l.spare <- &part{done: make(chan struct{}, 1)}
		}
		for range readers {
			s.ended.Go(func() {
				for p := range l.todo {
					s.read(p)
				}
			})
		}
		s.ended.Go(l.list)
		lanes[i] = l
	}
	s.ended.Go(func() {
		defer close(s.files)
		s.walked = s.walk(func(e *entry) error {
			select {
			case s.files <- &file{entry: *e}:
				return nil
			case <-s.ctx.Done():
				return s.ctx.Err()
			}
		})
	})
	return lanes
}

// Tablespaces returns those beside pg_default and pg_global.
func (s *Source) Tablespaces() []backup.Tablespace { return s.tablespaces }

// Size returns about how many bytes there are to read.
func (s *Source) Size() (int64, error) {
	var bytes int64
	notice := s.Notice
	s.Notice = func(string) {} // the walk that reads says the same
	defer func() { s.Notice = notice }()
	err := s.walk(func(e *entry) error {
		bytes += e.Size
		return s.ctx.Err()
	})
	return bytes, err
}

// list divides files into parts for the lane's readers.
func (l *Lane) list() {
	defer close(l.order)
	defer close(l.todo)
	for f := range l.s.files {
		parts := 1
		if !f.Dir {
			parts = max(1, f.Blocks())
			f.unread.Store(int32(parts))
		}
		for i := range parts {
			p, err := l.take()
			if err != nil {
				f.release(parts - i)
				return
			}
			p.file, p.at = f, int64(i)*backup.BlockSize
			p.n = int(min(f.Size-p.at, backup.BlockSize))
			l.order <- p // these have room for all parts
			if f.Dir {
				p.done <- struct{}{}
			} else {
				l.todo <- p
			}
		}
	}
}

// take waits for a part that is not in use.
func (l *Lane) take() (*part, error) {
	select {
	case p := <-l.spare:
		p.err = nil
		return p, l.s.ctx.Err()
	case <-l.s.ctx.Done():
		return nil, l.s.ctx.Err()
	}
}

// release counts parts that were read, or never will be, and closes the file behind the last one.
func (f *file) release(parts int) {
	if f.unread.Add(int32(-parts)) == 0 && f.f != nil {
		f.f.Close()
	}
}

// open opens the file. It has vanished if there is none of its name.
func (f *file) open() {
	f.f, f.err = durable.Open(f.at)
	if errors.Is(f.err, fs.ErrNotExist) {
		f.gone, f.err = true, nil
	}
	if f.f == nil || f.Size > backup.BlockSize {
		return
	}
	// A small file, such as one of settings, may have been replaced by another one since it was listed.
	info, err := f.f.Stat()
	if err != nil {
		f.err = err
	} else if info.Mode().IsRegular() && info.Size() <= backup.BlockSize {
		f.describe(info)
	}
}

// read reads a part.
func (s *Source) read(p *part) {
	f := p.file
	f.opened.Do(f.open)
	if p.err = f.err; p.err == nil && !f.gone {
		if f.Size <= backup.BlockSize {
			p.n = int(f.Size)
		}
		p.err = s.fill(p)
	}
	f.release(1)
	p.done <- struct{}{}
}

// fill reads a part's bytes, and zeros behind the end of the file.
func (s *Source) fill(p *part) error {
	if err := s.rate.wait(s.ctx, p.n); err != nil {
		return err
	}
	if p.data == nil {
		p.data = make([]byte, backup.BlockSize)
	}
	b := p.data[:p.n]
	n, err := readAt(p.file.f, b, p.at)
	if err != nil {
		return err
	}
	if p.file.pages {
		if n, err = s.checkPages(p, n); err != nil {
			return err
		}
	}
	clear(b[n:])
	p.hash = xxh3.Hash128(b).Bytes()
	return nil
}

// readAt reads up to the end of b or of the file.
func readAt(f *os.File, b []byte, at int64) (int, error) {
	n := 0
	for n < len(b) {
		more, err := f.ReadAt(b[n:], at+int64(n))
		n += more
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

const (
	// patience is how long to wait until a page that is wrong is read again: the server needs microseconds to write one, unless
	// it is interrupted.
	patience = 5 * time.Millisecond
	// patient is the number of wrong pages of a file from which on they are read again at once.
	patient = 5
	// retries is how often a wrong page is read again.
	retries = 3
)

// checkPages checks the checksums of the first n bytes of a part. It returns how many bytes the file still has there.
func (s *Source) checkPages(p *part, n int) (int, error) {
	f := p.file
	for off := 0; off+s.PageSize <= n; off += s.PageSize {
		page := p.data[off : off+s.PageSize]
		inFile := uint32((p.at + int64(off)) / int64(s.PageSize))
		right, computed, stored := pageIsRight(page, f.first+inFile, s.Start)
		for again := 0; !right && again < retries; again++ {
			if f.bad.Load() < patient {
				s.pause()
			}
			m, err := readAt(f.f, page, p.at+int64(off))
			if err != nil {
				return n, err
			}
			if m < len(page) {
				return off + m, nil // it was cut off meanwhile
			}
			right, computed, stored = pageIsRight(page, f.first+inFile, s.Start)
		}
		if !right {
			switch bad := f.bad.Add(1); {
			case bad <= patient:
				s.BadPage(fmt.Sprintf("checksum verification failed in file \"%s\", block %d: calculated %X but expected %X", f.Path, inFile, computed, stored))
			case bad == patient+1:
				s.BadPage(fmt.Sprintf("further checksum verification failures in file \"%s\" are not reported", f.Path))
			}
		}
	}
	return n, nil
}

// Next yields the next file. It returns [io.EOF] when no file is left for the lane; all that it has yielded was read then.
func (l *Lane) Next() (backup.File, io.Reader, error) {
	l.finish()
	for p := range l.order {
		if err := l.wait(p); err != nil {
			return backup.File{}, nil, err
		}
		f := p.file
		switch {
		case p.err != nil:
			return f.File, nil, fmt.Errorf("read %s: %w", f.at, p.err)
		case f.Dir:
			l.spare <- p
			return f.File, nil, nil
		case f.gone:
			l.spare <- p
			continue
		}
		l.current = f
		if f.Size == 0 {
			l.spare <- p
			p = nil
		}
		return f.File, &content{l: l, file: f, first: p}, nil
	}
	if err := l.s.ctx.Err(); err != nil {
		return backup.File{}, nil, err
	}
	<-l.s.files // is closed
	if l.s.walked != nil {
		return backup.File{}, nil, l.s.walked
	}
	return backup.File{}, nil, io.EOF
}

// wait waits until a part was read.
func (l *Lane) wait(p *part) error {
	select {
	case <-p.done:
		return nil
	case <-l.s.ctx.Done():
		return l.s.ctx.Err()
	}
}

// finish lists the file that was handed out, and takes back what is left of it.
func (l *Lane) finish() {
	if f := l.current; f != nil {
		l.s.add(f.File, f.crc)
	}
	l.giveBack()
	l.current = nil
}

func (l *Lane) giveBack() {
	if l.last != nil {
		l.spare <- l.last
		l.last = nil
	}
}

// add lists a file for PostgreSQL's manifest.
func (s *Source) add(f backup.File, crc uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed.add(listed{f.Path, f.Size, f.ModTime.Unix(), crc})
}

// Control yields global/pg_control. It must be called when all lanes have returned [io.EOF], so that it is the last file that is read.
func (s *Source) Control() (backup.File, io.Reader, error) {
	const name = "global/pg_control"
	at := filepath.Join(s.Dir, filepath.FromSlash(name))
	e := entry{File: backup.File{Path: name}, at: at}
	info, err := os.Stat(at)
	if err != nil {
		return e.File, nil, err
	}
	b, err := pgdata.ReadWholeControl(s.Dir)
	if err != nil {
		return e.File, nil, err
	}
	e.describe(info)
	e.Size = int64(len(b))
	return e.File, s.Content(e.File, b), nil
}

// Content lists a file that does not come from a lane, and returns a reader of its content.
func (s *Source) Content(f backup.File, b []byte) io.Reader {
	s.add(f, crc32.Checksum(b, castagnoli))
	return bytes.NewReader(b)
}

// content reads a file by its parts, as [volume.Blocks].
//
// [volume.Blocks]: walkeep/common/backup/volume
type content struct {
	l     *Lane
	file  *file
	first *part
	rest  []byte // for Read
}

// NextBlock returns the next block of the file and its hash. The block is valid until the next call of any method of the lane.
func (c *content) NextBlock() (b []byte, hash [backup.HashSize]byte, err error) {
	l, f := c.l, c.file
	l.giveBack()
	if f.next >= f.Size {
		return nil, hash, io.EOF
	}
	p := c.first
	if c.first = nil; p == nil {
		var more bool
		if p, more = <-l.order; !more {
			return nil, hash, l.s.ctx.Err()
		}
		if err := l.wait(p); err != nil {
			return nil, hash, err
		}
	}
	l.last = p
	if p.err != nil {
		return nil, hash, fmt.Errorf("read %s: %w", f.at, p.err)
	}
	b = p.data[:p.n]
	f.crc = crc32.Update(f.crc, castagnoli, b)
	f.next += int64(p.n)
	return b, p.hash, nil
}

// Read implements [io.Reader].
func (c *content) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		var err error
		if c.rest, _, err = c.NextBlock(); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A limiter spreads the reading over time.
type limiter struct {
	rate int64 // bytes per second; 0: no limit
	mu   sync.Mutex
	free time.Time // when what was asked for has been read at that rate
}

// wait waits until n more bytes may be read.
func (l *limiter) wait(ctx context.Context, n int) error {
	if l.rate == 0 {
		return ctx.Err()
	}
	l.mu.Lock()
	begin := time.Now()
	if l.free.After(begin) {
		begin = l.free
	}
	l.free = begin.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	l.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(begin)):
		return nil
	}
}
