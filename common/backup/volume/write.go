// Package volume writes backups in the form that package backup describes. It is apart from that because nothing that
// archives or restores WAL needs it.
package volume

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"walkeep/common/backup"
	"walkeep/common/codec"
	"walkeep/common/sealed"
	"walkeep/common/storage"
)

const (
	maxChunks    = 4096 // of a volume that is to hold one more file; a trailer lists twice as many
	maxChunkSize = 64 << 20
)

// A Source gives the files of a data directory one after the other.
type Source interface {
	// Next gives the next file, of which Path, Dir, Mode, ModTime and Size are set, and its content, which is read before
	// the next call; io.EOF at the end.
	Next() (backup.File, io.Reader, error)
}

// Blocks may be implemented by a file's content that knows the file's blocks, see [backup.BlockSize], and their hashes.
type Blocks interface {
	// NextBlock gives the next block, which is read before the next call of any method of the source, and its XXH3-128.
	NextBlock() ([]byte, [backup.HashSize]byte, error)
}

// Options say how a backup is stored.
type Options struct {
	Codec   codec.Codec
	Level   int // 0: the codec's standard level
	Workers int // cores that compress, all volumes together
	Tool    string
	// Recipients are those for whom volumes and index are encrypted; nil: they are not.
	Recipients *sealed.Recipients
	Progress   func(bytes int64) // unless nil, called with the number of plain bytes of files that were stored since the last call
	// Held, unless nil, reports whether the lease has protected the stored objects against the removal of unfinished backups.
	Held func(context.Context) error
	// MaxIndex is the largest plain size in bytes that the index can have, at most [backup.MaxIndex]; 0: that.
	MaxIndex int64
}

// A Writer stores one backup. It is not safe for concurrent use.
type Writer struct {
	b       storage.Backend
	id      string
	options Options

	mu      sync.Mutex
	volumes []*volume
	seen    map[xxh3.Uint128]struct{} // hashes of the paths of files
	index   int64                     // bytes that the index will have at most
	bytes   int64
	count   int
}

// A volume is one that is being written, or was.
type volume struct {
	w      *Writer
	number int // from 1
	block  []byte
	lines  lines // of the index
	encode backup.LineEncoder
	stored backup.Stored
}

// lines keeps lines of the index, compressed in pieces: those of many files are most of what a backup needs of memory.
type lines struct {
	packed [][]byte
	open   []byte
}

// linePiece is the size in bytes from which on a piece is compressed.
const linePiece = 128 << 10

func (l *lines) add(line []byte) {
	l.open = append(l.open, line...)
	if len(l.open) >= linePiece {
		l.packed = append(l.packed, bytes.Clone(s2.Encode(nil, l.open)))
		l.open = l.open[:0]
	}
}

// writeTo writes all lines.
func (l *lines) writeTo(w io.Writer) error {
	for _, packed := range l.packed {
		plain, err := s2.Decode(nil, packed)
		if err != nil {
			return err
		}
		if _, err := w.Write(plain); err != nil {
			return err
		}
	}
	_, err := w.Write(l.open)
	return err
}

// NewWriter begins the backup with this id, which no other backup has.
func NewWriter(b storage.Backend, id string, o Options) *Writer {
	if o.Level == 0 {
		_, _, o.Level = o.Codec.Levels()
	}
	if o.MaxIndex == 0 {
		o.MaxIndex = backup.MaxIndex
	}
	return &Writer{b: b, id: id, options: o, seen: make(map[xxh3.Uint128]struct{})}
}

// Add stores all files of the sources, in new volumes. The sources are read at the same time, each into volumes of its own. They
// end together when one of them fails; the Writer must not be used any more then.
func (w *Writer) Add(ctx context.Context, sources ...Source) error {
	g, ctx := errgroup.WithContext(ctx)
	workers := (w.options.Workers + len(sources) - 1) / max(1, len(sources))
	for _, src := range sources {
		g.Go(func() error { return w.add(ctx, src, workers) })
	}
	return g.Wait()
}

func (w *Writer) add(ctx context.Context, src Source, workers int) error {
	next := &entry{}
	if err := next.read(src); err != nil {
		return err
	}
	block := make([]byte, backup.BlockSize)
	for next.err == nil {
		v := w.begin(block)
		name := fmt.Sprintf("data-%04d.tar", v.number)
		var err error
		v.stored, err = w.put(ctx, name, chunkSize(next.file.Size), workers, func(cw *codec.Writer) error { return v.fill(ctx, cw, src, next) })
		if err != nil {
			return err
		}
	}
	return nil
}

// begin begins the next volume.
func (w *Writer) begin(block []byte) *volume {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := &volume{w: w, number: len(w.volumes) + 1, block: block}
	w.volumes = append(w.volumes, v)
	return v
}

// chunkSize is that of a volume that begins with a file of this size.
func chunkSize(file int64) int {
	size := backup.ChunkSize
	for size < maxChunkSize && file/int64(size) > maxChunks {
		size *= 2
	}
	return size
}

// An entry is the source's next file, which may have to wait for the next volume.
type entry struct {
	file    backup.File
	content io.Reader
	err     error // io.EOF
}

func (e *entry) read(src Source) error {
	e.file, e.content, e.err = src.Next()
	if errors.Is(e.err, io.EOF) {
		return nil
	}
	return e.err
}

// fill writes the volume's tar archive.
func (v *volume) fill(ctx context.Context, cw *codec.Writer, src Source, next *entry) error {
	tw := tar.NewWriter(cw)
	for first := true; next.err == nil; first = false {
		if !first && (cw.Size() >= backup.VolumeSize || chunkSize(next.file.Size) > backup.ChunkSize) {
			break
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := v.addFile(ctx, cw, tw, next); err != nil {
			return fmt.Errorf("%s: %w", next.file.Path, err)
		}
		if err := next.read(src); err != nil {
			return err
		}
	}
	return tw.Close()
}

func (v *volume) addFile(ctx context.Context, cw *codec.Writer, tw *tar.Writer, e *entry) error {
	w, f := v.w, e.file
	if err := w.admit(&f); err != nil {
		return err
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Size: f.Size, Mode: int64(f.Mode), ModTime: f.ModTime}
	if f.Dir {
		h.Typeflag, h.Name = tar.TypeDir, f.Path+"/"
	}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if f.Size > 0 {
		f.Volume, f.Offset = v.number, cw.Size()
		f.Hashes = make([]byte, 0, f.Blocks()*backup.HashSize)
	}
	for left := f.Size; left > 0; {
		block, hash, err := v.nextBlock(e.content, int(min(left, backup.BlockSize)))
		if err != nil {
			return err
		}
		f.Hashes = append(f.Hashes, hash[:]...)
		if _, err := tw.Write(block); err != nil {
			return err
		}
		left -= int64(len(block))
		w.progress(int64(len(block)))
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	line, err := v.encode.Line(&f)
	if err != nil {
		return err
	}
	v.lines.add(line)
	return nil
}

func (w *Writer) progress(bytes int64) {
	if w.options.Progress == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.options.Progress(bytes)
}

// nextBlock reads a block of n bytes.
func (v *volume) nextBlock(content io.Reader, n int) (block []byte, hash [backup.HashSize]byte, err error) {
	if blocks, known := content.(Blocks); known {
		if block, hash, err = blocks.NextBlock(); err == nil && len(block) != n {
			err = fmt.Errorf("a block has %d bytes, not %d", len(block), n)
		}
		return block, hash, err
	}
	block = v.block[:n]
	if _, err := io.ReadFull(content, block); err != nil {
		return nil, hash, err
	}
	return block, xxh3.Hash128(block).Bytes(), nil
}

// admit counts a file before it is read, and refuses one that no index could hold.
func (w *Writer) admit(f *backup.File) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := xxh3.HashString128(f.Path)
	_, twice := w.seen[key]
	switch w.index += f.IndexSize(); {
	case f.Size > backup.MaxFile:
		return fmt.Errorf("%w: it has %d bytes, at most %d can be stored", backup.ErrTooLarge, f.Size, int64(backup.MaxFile))
	case w.index > w.options.MaxIndex:
		return fmt.Errorf("%w: the index of the %d files up to this one would have more than %d bytes", backup.ErrTooLarge, w.count+1, w.options.MaxIndex)
	case twice:
		return errors.New("the server sends it twice")
	}
	w.seen[key] = struct{}{}
	if !f.Dir {
		w.count++
		w.bytes += f.Size
	}
	return backup.CheckPath(f.Path)
}

// put stores one object, compressed by so many workers, and reads it back.
func (w *Writer) put(ctx context.Context, name string, chunk, workers int, write func(*codec.Writer) error) (backup.Stored, error) {
	o := w.options
	full := name + o.Codec.Ext()
	var trailer *codec.Trailer
	pack := func(dst io.Writer) error {
		cw, err := codec.NewWriter(dst, codec.WriterOptions{Codec: o.Codec, Level: o.Level, ChunkSize: chunk, Workers: workers})
		if err != nil {
			return err
		}
		if err := write(cw); err != nil {
			why := cw.Abort()
			if errors.Is(err, codec.ErrAborted) {
				return why
			}
			return err
		}
		trailer, err = cw.Finish(codec.Trailer{Name: name, Tool: o.Tool})
		return err
	}
	var s backup.Stored
	store := func(dst io.Writer) error {
		size := counter{w: dst}
		err := pack(&size)
		if err == nil {
			s = backup.StoredOf(trailer, size.n)
		}
		return err
	}
	check := func(r io.Reader) error { return codec.CheckStored(r, trailer) }
	if o.Recipients != nil {
		full += sealed.Ext
		var done *sealed.Sealed
		store = func(dst io.Writer) (err error) {
			if done, err = o.Recipients.SealStream(dst, o.Codec, pack); err == nil {
				s = backup.Stored{Plain: int64(trailer.PlainSize), Stored: done.Size, SHA256: hex.EncodeToString(done.SHA256[:])}
			}
			return err
		}
		check = func(r io.Reader) error { return done.Check(r) }
	}
	if err := storage.Put(ctx, w.b, backup.Dir(w.id)+full, store, check); err != nil {
		return backup.Stored{}, fmt.Errorf("store %s: %w", name, err)
	}
	s.Name = full
	return s, nil
}

// Commit stores the index, completes the manifest by what the Writer knows, reads back what was stored as a restore would,
// and stores the manifest. From then on the backup exists.
func (w *Writer) Commit(ctx context.Context, m *backup.Manifest) error {
	index, err := w.put(ctx, "files.json", backup.ChunkSize, w.options.Workers, func(cw *codec.Writer) error {
		for _, v := range w.volumes {
			if err := v.lines.writeTo(cw); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var volumes []backup.Stored
	for _, v := range w.volumes {
		volumes = append(volumes, v.stored)
	}
	w.volumes, w.seen = nil, nil // the index is read back into memory
	m.Version, m.ID, m.Tool, m.Codec = backup.Version, w.id, w.options.Tool, w.options.Codec.Name()
	m.Files, m.Bytes, m.Volumes, m.Index = w.count, w.bytes, volumes, index
	content, err := m.Encode()
	if err != nil {
		return err
	}
	if err := m.CheckStored(ctx, w.b, nil); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if err := w.held(ctx); err != nil {
		return err
	}
	write := func(dst io.Writer) error {
		_, err := dst.Write(content)
		return err
	}
	check := func(r io.Reader) error {
		back, err := io.ReadAll(r)
		if err == nil && !bytes.Equal(back, content) {
			err = errors.New("what was read back is not what was written")
		}
		return err
	}
	if err := storage.Put(ctx, w.b, backup.Dir(w.id)+backup.ManifestName, write, check); err != nil {
		return fmt.Errorf("store %s: %w", backup.ManifestName, err)
	}
	// Who saw no lease and no manifest before may be removing the volumes now.
	return w.held(ctx)
}

func (w *Writer) held(ctx context.Context) error {
	if w.options.Held == nil {
		return nil
	}
	return w.options.Held(ctx)
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
