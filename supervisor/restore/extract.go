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

// An extraction reads the chunks of the volumes that contain needed blocks, each once, on several cores. It writes
// each block to its file after comparing the block's hash. A block that spans two chunks waits until both have been
// read.
type extraction struct {
	*restorer
	dry bool // blocks are compared with their hashes, and not written

	mu     sync.Mutex // guards the following fields
	files  []*entry   // those of later volumes
	volume *volume    // whose chunks are being read
	edges  map[chunkEdge]*splitBlock

	written atomic.Int64
	differ  atomic.Int64
}

// A volume is open while its chunks are read.
type volume struct {
	number int
	name   string
	files  []*entry // with content, in the order of their offsets
	object *codec.Object
	closer io.Closer
	size   int64 // of chunks
	wanted []int // chunks that no worker has yet
	bytes  int64 // of the wanted chunks, as they are stored
	users  int   // workers that have chunks, and one more for the extraction while there are wanted ones
}

// A chunkEdge is the boundary before a chunk.
type chunkEdge struct {
	volume *volume
	chunk  int64
}

// A splitBlock is a block whose other part has not been read yet.
type splitBlock struct{ block []byte }

// extract writes all needed blocks of all files.
func (r *restorer) extract(ctx context.Context) error {
	x := &extraction{restorer: r, edges: make(map[chunkEdge]*splitBlock)}
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

// checkNeeded reads everything that extract will need, and writes nothing.
func (r *restorer) checkNeeded(ctx context.Context) error {
	x := &extraction{restorer: r, dry: true, edges: make(map[chunkEdge]*splitBlock)}
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

// run makes the workers read all wanted chunks.
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

// needed returns the number of bytes that must come from the archive.
func (it *entry) needed() int64 {
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

// largestRun is the most stored bytes of neighbouring chunks that a worker reads at once. It is a request to a remote store, which
// takes longer to send this than to answer.
const largestRun = 8 << 20

// next assigns neighbouring chunks to the caller, from number first to before number end; the volume is nil if there are none
// left. The caller returns the volume with done.
func (x *extraction) next(ctx context.Context) (v *volume, first, end int, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.volume == nil {
		if len(x.files) == 0 {
			return nil, 0, 0, nil
		}
		if x.volume, err = x.openVolume(ctx); err != nil {
			return nil, 0, 0, err
		}
	}
	v = x.volume
	first, end = v.run(x.Jobs)
	v.users++
	if len(v.wanted) == 0 {
		v.users--
		x.volume = nil
	}
	return v, first, end, nil
}

// run takes neighbouring chunks from those that are wanted: the fewer are left, the fewer it takes, so that no worker is busy long
// after the others.
func (v *volume) run(workers int) (first, end int) {
	chunks := v.object.Trailer.Chunks
	most := min(largestRun, v.bytes/int64(2*workers))
	first, end = v.wanted[0], v.wanted[0]
	var taken int64
	for len(v.wanted) > 0 && v.wanted[0] == end && (end == first || taken+int64(chunks[end]) <= most) {
		taken += int64(chunks[end])
		v.wanted = v.wanted[1:]
		end++
	}
	v.bytes -= taken
	return first, end
}

// done releases a volume that next returned.
func (x *extraction) done(v *volume) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if v.users--; v.users == 0 {
		v.closer.Close()
	}
}

// openVolume opens the volume of the next file, and finds which of its chunks are wanted.
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
	if v.object, v.closer, err = x.m.Open(ctx, x.a.Backend(), x.a.Keys(), stored); err != nil {
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
				v.bytes += int64(v.object.Trailer.Chunks[c])
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
		v, first, end, err := w.next(ctx)
		if v == nil || err != nil {
			return err
		}
		err = w.restoreChunks(ctx, v, first, end)
		w.done(v)
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// restoreChunks reads neighbouring chunks, and writes their needed blocks to their files.
func (w *worker) restoreChunks(ctx context.Context, v *volume, first, end int) error {
	if w.volume != v {
		var err error
		if w.reader, err = v.object.NewChunkReader(); err != nil {
			return err
		}
		w.volume = v
		if int64(cap(w.plain)) < v.size+codec.DecodeSlack {
			w.plain = make([]byte, v.size+codec.DecodeSlack)
		}
	}
	var failed error // what is wrong with the files rather than with the volume
	err := w.reader.Each(ctx, first, end, w.plain[:v.size], func(chunk int, plain []byte) error {
		if failed = ctx.Err(); failed == nil {
			failed = w.restoreChunk(v, int64(chunk), plain)
		}
		return failed
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("%s: %w", v.name, err)
	}
	return nil
}

// restoreChunk writes the needed blocks of one chunk to their files.
func (w *worker) restoreChunk(v *volume, chunk int64, plain []byte) error {
	begin := chunk * v.size
	end := begin + int64(len(plain))
	first := sort.Search(len(v.files), func(i int) bool { return v.files[i].Offset+v.files[i].Size > begin })
	for _, it := range v.files[first:] {
		if it.Offset >= end {
			break
		}
		if err := w.restorePart(v, it, begin, plain); err != nil {
			return err
		}
	}
	return nil
}

// restorePart writes the part of a file that is in the chunk at begin. It writes neighbouring blocks at once.
func (w *worker) restorePart(v *volume, it *entry, begin int64, plain []byte) error {
	end := begin + int64(len(plain))
	from := max(0, begin-it.Offset) / backup.BlockSize
	to := (min(end, it.Offset+it.Size) - it.Offset - 1) / backup.BlockSize
	var run, runEnd int64 // offsets in the file; equal: empty
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
			whole := w.join(chunkEdge{v, boundary}, part, int(a-it.Offset-blockBegin), int(blockEnd-blockBegin))
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

// blocks are buffers for blocks that span two chunks.
var blocks = sync.Pool{New: func() any { b := make([]byte, 0, backup.BlockSize); return &b }}

// join joins the two parts of a block; it returns nil if the other part has not been read yet.
func (x *extraction) join(s chunkEdge, part []byte, at, size int) []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.edges[s]
	if h == nil {
		b := *blocks.Get().(*[]byte)
		h = &splitBlock{b[:size]}
		copy(h.block[at:], part)
		x.edges[s] = h
		return nil
	}
	delete(x.edges, s)
	copy(h.block[at:], part)
	return h.block
}

func (w *worker) verify(v *volume, it *entry, block int, plain []byte) error {
	if xxh3.Hash128(plain).Bytes() != it.Hash(block) {
		return fmt.Errorf("%s: %w: %q differs from the backed up file, at byte %d", v.name, codec.ErrDamaged, it.Path, block*backup.BlockSize)
	}
	return nil
}
