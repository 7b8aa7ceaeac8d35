package restore

import (
	"context"
	"fmt"
	"io"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"walkeep/common/backup"
	"walkeep/common/codec"
)

// An extraction reads the chunks in which there is something to be restored, each once, on several cores. What a chunk
// holds of a file goes from it to the file when its hash has been compared. A block that lies in two chunks waits for the
// second of them.
type extraction struct {
	*restorer
	dry bool // what is read is compared with its hashes, and not written

	mu     sync.Mutex // guards what follows
	files  []*item    // those of volumes that are still to come
	volume *volume    // of which chunks are given out
	seams  map[seam]*half

	written atomic.Int64
	differ  atomic.Int64
}

// A volume is open while its chunks are read.
type volume struct {
	number int
	name   string
	files  []*item // with content, in the order of their offsets
	object *codec.Object
	closer io.Closer
	size   int64 // of chunks
	wanted []int // chunks that are still to be given out
	users  int   // workers that have one, and one more for the extraction while there are wanted ones
}

// A seam is the boundary before a chunk.
type seam struct {
	volume *volume
	chunk  int64
}

// A half is a block of which one part has been read.
type half struct{ block []byte }

// extract writes all that is needed of all files.
func (r *restorer) extract(ctx context.Context) error {
	x := &extraction{restorer: r, seams: make(map[seam]*half)}
	var bytes int64
	for _, it := range r.files {
		needed := it.needed()
		it.left.Store(needed)
		bytes += needed
		if needed > 0 {
			x.files = append(x.files, it)
			continue
		}
		if err := r.adjust(it); err != nil {
			return err
		}
	}
	r.Begin("restore", bytes)
	err := x.run(ctx)
	r.done.Written += x.written.Load()
	r.done.Differed = x.differ.Load()
	for _, it := range r.files {
		r.done.Files++
		r.done.Bytes += it.Size
	}
	return err
}

// checkNeeded reads all that extract will need, and writes nothing.
func (r *restorer) checkNeeded(ctx context.Context) error {
	x := &extraction{restorer: r, dry: true, seams: make(map[seam]*half)}
	var bytes int64
	for _, it := range r.files {
		if needed := it.needed(); needed > 0 {
			x.files = append(x.files, it)
			bytes += needed
		}
	}
	r.Begin("check", bytes)
	return x.run(ctx)
}

// run has the workers read all chunks that are wanted.
func (x *extraction) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for range x.Jobs {
		w := &worker{extraction: x}
		group.Go(func() error {
			err := w.work(ctx)
			w.dir.close()
			return err
		})
	}
	err := group.Wait()
	if x.volume != nil {
		x.volume.closer.Close()
	}
	return err
}

// needed is the number of bytes that must come from the archive.
func (it *item) needed() int64 {
	if it.need == nil {
		return it.Size
	}
	var n int64
	for k, need := range it.need {
		if need {
			n += min(backup.BlockSize, it.Size-int64(k)*backup.BlockSize)
		}
	}
	return n
}

// next gives out a chunk; no volume when there is none left. The caller gives the volume back with done.
func (x *extraction) next(ctx context.Context) (*volume, int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.volume == nil {
		if len(x.files) == 0 {
			return nil, 0, nil
		}
		v, err := x.openVolume(ctx)
		if err != nil {
			return nil, 0, err
		}
		x.volume = v
	}
	v := x.volume
	chunk := v.wanted[0]
	v.users++
	if v.wanted = v.wanted[1:]; len(v.wanted) == 0 {
		v.users--
		x.volume = nil
	}
	return v, chunk, nil
}

// done gives back what next gave out.
func (x *extraction) done(v *volume) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if v.users--; v.users == 0 {
		v.closer.Close()
	}
}

// openVolume opens the volume of the first file that is left, and finds which of its chunks are wanted.
func (x *extraction) openVolume(ctx context.Context) (*volume, error) {
	n := 1
	for n < len(x.files) && x.files[n].Volume == x.files[0].Volume {
		n++
	}
	v := &volume{number: x.files[0].Volume, files: x.files[:n], users: 1}
	x.files = x.files[n:]
	stored := x.m.Volumes[v.number-1]
	v.name = backup.Dir(x.m.ID) + stored.Name
	var err error
	if v.object, v.closer, err = x.m.Open(ctx, x.b, stored); err != nil {
		return nil, err
	}
	v.size = int64(v.object.Trailer.ChunkSize)
	if v.size < backup.BlockSize {
		v.closer.Close()
		return nil, fmt.Errorf("%s: %w: chunks of %d bytes", v.name, codec.ErrDamaged, v.size)
	}
	last := -1
	for _, it := range v.files {
		for k := range it.Blocks() {
			if !it.needs(k) {
				continue
			}
			begin := it.Offset + int64(k)*backup.BlockSize
			end := min(begin+backup.BlockSize, it.Offset+it.Size)
			for c := max(last+1, int(begin/v.size)); c <= int((end-1)/v.size); c++ {
				v.wanted = append(v.wanted, c)
				last = c
			}
		}
	}
	return v, nil
}

// A worker reads chunks, one after the other.
type worker struct {
	*extraction
	volume *volume
	reader *codec.ChunkReader
	plain  []byte
	old    []byte
	dir    dirCache
}

func (w *worker) work(ctx context.Context) error {
	for ctx.Err() == nil {
		v, chunk, err := w.next(ctx)
		if v == nil || err != nil {
			return err
		}
		err = w.take(v, int64(chunk))
		w.done(v)
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// take reads one chunk and brings to their files what it holds.
func (w *worker) take(v *volume, chunk int64) error {
	if w.volume != v {
		var err error
		if w.reader, err = v.object.NewChunkReader(); err != nil {
			return err
		}
		w.volume = v
		if int64(cap(w.plain)) < v.size {
			w.plain = make([]byte, v.size)
		}
	}
	plain, err := w.reader.Read(int(chunk), w.plain[:v.size])
	if err != nil {
		return fmt.Errorf("%s: %w", v.name, err)
	}
	begin := chunk * v.size
	end := begin + int64(len(plain))
	first := sort.Search(len(v.files), func(i int) bool { return v.files[i].Offset+v.files[i].Size > begin })
	for _, it := range v.files[first:] {
		if it.Offset >= end {
			break
		}
		if err := w.takeFile(v, it, begin, plain); err != nil {
			return err
		}
	}
	return nil
}

// takeFile brings to a file what the chunk that begins there holds of it. Whole blocks side by side are written at once.
func (w *worker) takeFile(v *volume, it *item, begin int64, plain []byte) error {
	end := begin + int64(len(plain))
	from := max(0, begin-it.Offset) / backup.BlockSize
	to := (min(end, it.Offset+it.Size) - it.Offset - 1) / backup.BlockSize
	var run, runEnd int64 // of the file; empty where they are equal
	flush := func() error {
		if run == runEnd {
			return nil
		}
		at := it.Offset + run - begin
		err := w.write(it, run, plain[at:at+runEnd-run])
		run = runEnd
		return err
	}
	for k := from; k <= to; k++ {
		if !it.needs(int(k)) {
			continue
		}
		blockBegin := k * backup.BlockSize
		blockEnd := min(blockBegin+backup.BlockSize, it.Size)
		a, b := max(it.Offset+blockBegin, begin), min(it.Offset+blockEnd, end)
		part := plain[a-begin : b-begin]
		if b-a < blockEnd-blockBegin {
			boundary := begin / v.size
			if a > begin {
				boundary++
			}
			whole := w.join(seam{v, boundary}, part, int(a-it.Offset-blockBegin), int(blockEnd-blockBegin))
			if whole == nil {
				continue
			}
			if err := w.verify(v, it, int(k), whole); err != nil {
				return err
			}
			if err := w.write(it, blockBegin, whole); err != nil {
				return err
			}
			blocks.Put(&whole)
			continue
		}
		if err := w.verify(v, it, int(k), part); err != nil {
			return err
		}
		if runEnd != blockBegin {
			if err := flush(); err != nil {
				return err
			}
			run = blockBegin
		}
		runEnd = blockEnd
	}
	return flush()
}

// blocks are buffers for blocks that lie in two chunks.
var blocks = sync.Pool{New: func() any { b := make([]byte, 0, backup.BlockSize); return &b }}

// join puts a block of two parts together; nil if the other part is still to come.
func (x *extraction) join(s seam, part []byte, at, size int) []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.seams[s]
	if h == nil {
		b := *blocks.Get().(*[]byte)
		h = &half{b[:size]}
		copy(h.block[at:], part)
		x.seams[s] = h
		return nil
	}
	delete(x.seams, s)
	copy(h.block[at:], part)
	return h.block
}

func (w *worker) verify(v *volume, it *item, block int, plain []byte) error {
	if xxh3.Hash128(plain).Bytes() != it.Hash(block) {
		return fmt.Errorf("%s: %w: %q is not what was backed up, at byte %d", v.name, codec.ErrDamaged, it.Path, block*backup.BlockSize)
	}
	return nil
}
