package codec

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/zeebo/xxh3"
)

// WriterOptions say how a [Writer] compresses.
type WriterOptions struct {
	Codec     Codec
	Level     int
	ChunkSize int // plain bytes, at most 64 MB
	Workers   int // chunks that are compressed at the same time
}

// A Writer makes one stored object from a stream, compressing its chunks on several cores. It keeps about
// 3 chunks of memory for each worker. It is not safe for concurrent use.
type Writer struct {
	options WriterOptions
	dst     io.Writer
	chunk   *chunk
	spare   chan *chunk
	todo    chan *chunk // for any worker
	order   chan *chunk // the same chunks, for the one that writes them
	plain   *xxh3.Hasher
	size    uint64
	written chan error // the outcome of the one that writes
	failed  chan struct{}
	stored  hash.Hash
	sum     *xxh3.Hasher
	lengths []uint32
	ended   bool
}

// A chunk is on its way from Write to the object.
type chunk struct {
	plain  []byte
	packed []byte
	err    error
	done   chan struct{} // has one element when packed and err are set
}

// ErrAborted is the error of a Writer that was aborted or has failed.
var ErrAborted = errors.New("given up")

// NewWriter begins an object that goes to dst. Finish or Abort must be called.
func NewWriter(dst io.Writer, o WriterOptions) (*Writer, error) {
	w := &Writer{
		options: o, dst: dst,
		spare: make(chan *chunk, 3*o.Workers), todo: make(chan *chunk, o.Workers), order: make(chan *chunk, 3*o.Workers),
		plain: xxh3.New(), stored: sha256.New(), sum: xxh3.New(),
		written: make(chan error, 1), failed: make(chan struct{}),
	}
	encoders := make([]Encoder, o.Workers)
	for i := range encoders {
		var err error
		if encoders[i], err = o.Codec.NewEncoder(o.Level); err != nil {
			return nil, fmt.Errorf("prepare %s: %w", o.Codec.Name(), err)
		}
	}
	for range cap(w.spare) {
		w.spare <- &chunk{done: make(chan struct{}, 1)}
	}
	for _, e := range encoders {
		go w.work(e)
	}
	go func() { w.written <- w.collect() }()
	w.chunk = w.take()
	return w, nil
}

func (w *Writer) take() *chunk {
	c := <-w.spare
	if c.plain == nil {
		c.plain = make([]byte, 0, w.options.ChunkSize)
	}
	c.plain = c.plain[:0]
	return c
}

// Write adds the next plain bytes.
func (w *Writer) Write(p []byte) (int, error) {
	if w.ended {
		return 0, ErrAborted
	}
	n := len(p)
	for len(p) > 0 {
		select {
		case <-w.failed:
			return 0, ErrAborted // the reason is what Finish returns
		default:
		}
		c := w.chunk
		part := p[:min(len(p), w.options.ChunkSize-len(c.plain))]
		c.plain = append(c.plain, part...)
		p = p[len(part):]
		w.plain.Write(part)
		w.size += uint64(len(part))
		if len(c.plain) == w.options.ChunkSize {
			w.send()
			w.chunk = w.take()
		}
	}
	return n, nil
}

// Size is the number of plain bytes so far.
func (w *Writer) Size() int64 { return int64(w.size) }

func (w *Writer) send() {
	w.order <- w.chunk
	w.todo <- w.chunk
}

// Finish writes what is left and the trailer with this name and tool, and returns the trailer.
func (w *Writer) Finish(t Trailer) (*Trailer, error) {
	if w.ended {
		return nil, ErrAborted
	}
	if len(w.chunk.plain) > 0 {
		w.send()
	}
	if err := w.end(); err != nil {
		return nil, err
	}
	t.Codec, t.ChunkSize = w.options.Codec.Name(), uint32(w.options.ChunkSize)
	t.PlainSize, t.PlainHash = w.size, w.plain.Sum128().Bytes()
	t.Chunks = w.lengths
	w.stored.Sum(t.StoredSHA256[:0])
	t.StoredXXH3 = w.sum.Sum128().Bytes()
	encoded, err := t.Encode()
	if err != nil {
		return nil, err
	}
	_, err = w.dst.Write(encoded)
	return &t, err
}

// Abort ends the Writer without a trailer, so that dst has no complete object. It returns the error if a chunk could not be
// compressed or written, and otherwise [ErrAborted].
func (w *Writer) Abort() error {
	if err := w.end(); err != nil {
		return err
	}
	return ErrAborted
}

// end stops all workers, once, and returns what became of the chunks.
func (w *Writer) end() error {
	if w.ended {
		return ErrAborted
	}
	w.ended = true
	close(w.todo)
	close(w.order)
	return <-w.written
}

func (w *Writer) work(e Encoder) {
	for c := range w.todo {
		c.packed, c.err = e.Encode(c.packed[:0], c.plain)
		c.done <- struct{}{}
	}
}

// collect writes the chunks in the order of the stream.
func (w *Writer) collect() error {
	var first error
	for c := range w.order {
		<-c.done
		err := c.err
		if err != nil {
			err = fmt.Errorf("compress with %s: %w", w.options.Codec.Name(), err)
		}
		if first == nil && err == nil {
			w.stored.Write(c.packed)
			w.sum.Write(c.packed)
			w.lengths = append(w.lengths, uint32(len(c.packed)))
			_, err = w.dst.Write(c.packed)
		}
		if first == nil && err != nil {
			first = err
			close(w.failed)
		}
		w.spare <- c
	}
	return first
}

// CheckStored reads a stored object back from r, from its first byte to its last, and compares it with the trailer t that
// Finish returned.
func CheckStored(r io.Reader, t *Trailer) error {
	want, err := t.Encode()
	if err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.CopyN(h, r, t.stored()); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if [32]byte(h.Sum(nil)) != t.StoredSHA256 {
		return errors.New("what was read back is not what was written")
	}
	got, err := io.ReadAll(io.LimitReader(r, int64(len(want))+1))
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if !bytes.Equal(got, want) {
		return errors.New("what was read back is not what was written")
	}
	return nil
}

// CheckStream reads a stored object from r, from its first byte to its last, and compares the stored bytes with the trailer at its
// end, which it returns. Of a foreign file both results are nil. The error is [ErrDamaged] if the object is not what was stored;
// other errors are those of r.
func CheckStream(c Codec, r io.Reader) (*Trailer, error) {
	const most = maxPayload + maxWrap // bytes of the end that may be the trailer
	h := sha256.New()
	var size int64
	buf := make([]byte, 0, most+readSize)
	for {
		n, err := io.ReadFull(r, buf[len(buf):min(cap(buf), len(buf)+readSize)])
		buf = buf[:len(buf)+n]
		size += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if surplus := len(buf) - most; surplus > 0 {
			h.Write(buf[:surplus])
			buf = buf[:copy(buf, buf[surplus:])]
		}
	}
	t, err := ReadTrailer(c, &ending{size - int64(len(buf)), buf}, size)
	if t == nil || err != nil {
		return nil, err
	}
	before := t.stored() - (size - int64(len(buf)))
	if before < 0 {
		return nil, fmt.Errorf("%w: its trailer is too long", ErrDamaged)
	}
	h.Write(buf[:before])
	if [32]byte(h.Sum(nil)) != t.StoredSHA256 {
		return nil, fmt.Errorf("%w: its SHA-256 is not the one that its trailer says", ErrDamaged)
	}
	return t, nil
}

// An ending is the end of an object, from an offset on.
type ending struct {
	at int64
	b  []byte
}

func (e *ending) ReadAt(p []byte, at int64) (int, error) {
	if at < e.at || at-e.at > int64(len(e.b)) {
		return 0, io.EOF
	}
	n := copy(p, e.b[at-e.at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
