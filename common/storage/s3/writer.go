package s3

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"walkeep/common/storage"
)

const (
	// maxSingle is up to which expected size an object is sent with one request, from memory.
	maxSingle = 64 << 20
	// smallBuffer is up to which size the memory of a part grows in steps. Beyond, it is that of the whole part.
	smallBuffer = 1 << 20
	// maxParts is how many parts S3 takes.
	maxParts = 10_000
	// growth is how large a part is, at least, in proportion to what was sent before it. 10,000 parts then hold 5 TiB, the most that
	// S3 takes, and the two parts in memory have 64 MB when the object has 40 GB.
	growth = 0.0008
)

// tokenKey names the metadata in which a Writer leaves its token.
const tokenKey = "Walkeep-Writer"

// A writer keeps one part in memory while it is filled and one while it is sent.
type writer struct {
	b     *Backend
	name  string
	token string
	read  func(io.Reader) error // that Verify was given

	ctx      context.Context // of the parts: Write has none
	end      context.CancelFunc
	buf      []byte
	partSize int   // at which buf is sent
	sent     int64 // bytes in parts

	upload  upload               // begun if its id is set
	parts   []minio.CompletePart // but the one on its way
	pending chan sentPart        // the part on its way; nil: none
	free    []byte               // a buffer for the next part
	err     error                // of a part
	done    bool                 // the object has its name
}

type sentPart struct {
	part minio.CompletePart
	buf  []byte
	err  error
}

// Create implements [storage.Backend]. Its first call asks the store whether it keeps two writers from one name.
func (b *Backend) Create(ctx context.Context, name string, o storage.CreateOptions) (storage.Writer, error) {
	if err := storage.CheckName(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := b.require(ctx, byPut); err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	w := &writer{b: b, name: name, token: rand.Text(), partSize: firstPart(o.Size, b.options.PartSize)}
	w.buf = make([]byte, 0, min(o.Size, maxSingle))
	w.ctx, w.end = context.WithCancel(context.WithoutCancel(ctx))
	return w, nil
}

// firstPart is the size of the first part of an object of an expected size.
func firstPart(expected, least int64) int {
	if expected <= maxSingle {
		return int(max(expected, least))
	}
	return int(max(expected/(maxParts*9/10)+1, least))
}

// nextPart is the size of a part after one of that size, when so many bytes were sent.
func nextPart(before int, sent int64) int { return max(before, int(float64(sent)*growth)) }

// Write implements [storage.Writer]. It ends within the time that a part may be repeated for.
func (w *writer) Write(p []byte) (n int, err error) {
	for n < len(p) && w.err == nil {
		if len(w.buf) == w.partSize {
			w.err = w.send()
			continue
		}
		some := min(len(p)-n, w.partSize-len(w.buf))
		if len(w.buf)+some > max(cap(w.buf), smallBuffer) { // or append would keep up to twice the part
			w.buf = append(make([]byte, 0, w.partSize), w.buf...)
		}
		w.buf = append(w.buf, p[n:n+some]...)
		n += some
	}
	return n, w.err
}

// send begins to send what is in memory as the next part, after the one before it was sent.
func (w *writer) send() error {
	if err := w.wait(); err != nil {
		return err
	}
	if w.upload.id == "" {
		if err := w.b.require(w.ctx, byCompletion); err != nil {
			return fmt.Errorf("put %s: %w", w.name, err)
		}
		o := w.b.objectOptions()
		o.UserMetadata = map[string]string{tokenKey: w.token}
		var err error
		if w.upload, err = w.b.begin(w.ctx, w.name, o); err != nil {
			return w.b.explain(err, "begin an upload of", w.name)
		}
	}
	number := len(w.parts) + 1
	if number > maxParts {
		return fmt.Errorf("put %s: it is too large: %d parts hold %d bytes", w.name, maxParts, w.sent)
	}
	buf := w.buf
	w.sent += int64(len(buf))
	w.buf, w.free = w.free[:0], nil
	w.partSize = nextPart(w.partSize, w.sent)
	w.pending = make(chan sentPart, 1)
	go func() {
		part, err := w.b.sendPart(w.ctx, w.upload, number, buf)
		w.pending <- sentPart{part, buf, err}
	}()
	return nil
}

// wait waits for the part on its way.
func (w *writer) wait() error {
	if w.pending == nil {
		return nil
	}
	s := <-w.pending
	w.pending, w.free = nil, s.buf
	if s.err != nil {
		return w.b.explain(s.err, fmt.Sprintf("upload part %d of", len(w.parts)+1), w.name)
	}
	w.parts = append(w.parts, s.part)
	return nil
}

// Verify implements [storage.Writer]: Commit calls read, unless the store confirms the SHA-256.
func (w *writer) Verify(ctx context.Context, read func(io.Reader) error) error {
	w.read = read
	return ctx.Err()
}

// Commit implements [storage.Writer].
func (w *writer) Commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.err != nil {
		return w.err
	}
	defer context.AfterFunc(ctx, w.end)()
	confirmed, err := w.commit(ctx)
	if err != nil {
		return err
	}
	w.done = true
	if confirmed || w.read == nil {
		return nil
	}
	o, err := w.b.Open(ctx, w.name)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	defer o.Close()
	r, err := o.Reader(ctx, 0, o.Size())
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	defer r.Close()
	return w.read(r)
}

// commit gives the name, and reports whether the store has confirmed the SHA-256 of the object.
func (w *writer) commit(ctx context.Context) (confirmed bool, err error) {
	var want string // checksum of the object, as the store gives it
	if w.upload.id == "" {
		o := w.b.named(w.b.objectOptions())
		o.UserMetadata = map[string]string{tokenKey: w.token}
		want = sum(w.buf).base64
		err = w.b.retry(ctx, func() (err error) {
			confirmed, err = w.b.put(ctx, w.name, w.buf, o)
			return err
		})
	} else {
		if len(w.buf) > 0 {
			err = w.send()
		}
		if err = errors.Join(err, w.wait()); err != nil {
			w.err = err
			return false, err
		}
		if want, err = composite(w.parts); err != nil {
			return false, err
		}
		err = w.b.retry(ctx, func() error {
			checksum, err := w.b.complete(ctx, w.upload, w.parts, w.b.named(minio.PutObjectOptions{}))
			if err == nil && checksum != "" && want != "" && checksum != want {
				return errOther
			}
			confirmed = err == nil && checksum != "" && checksum == want
			return err
		})
	}
	switch {
	case err == nil && w.upload.id != "" && !confirmed && want != "" && w.read != nil:
		// A completion that is repeated, and a store may answer without the checksum of the whole.
		return w.look(ctx, want, errors.New("the store does not confirm it"))
	case err == nil:
		return confirmed, nil
	case isTaken(err) || code(err) == "NoSuchUpload" || code(err) == conflict:
		// Either another writer was there first, or this one was, and its answer was lost.
		return w.look(ctx, want, err)
	}
	return false, w.b.explain(err, "put", w.name)
}

// look finds out whose object has the name. It returns ErrExist if it is another writer's.
func (w *writer) look(ctx context.Context, want string, cause error) (confirmed bool, err error) {
	var info minio.ObjectInfo
	for tries := range 20 {
		err = w.b.retry(ctx, func() (err error) {
			info, err = w.b.core.StatObject(ctx, w.b.options.Bucket, w.b.key(w.name), minio.StatObjectOptions{Checksum: true})
			return err
		})
		// A store can refuse a name that another writer is about to have, a moment before it shows the object.
		if err == nil || code(err) != "NoSuchKey" || tries == 19 || ctx.Err() != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		return false, fmt.Errorf("%w; then: %w", w.b.explain(cause, "put", w.name), w.b.explain(err, "look who has put", w.name))
	}
	for k, v := range info.UserMetadata {
		if !strings.EqualFold(k, tokenKey) || v != w.token {
			continue
		}
		if info.ChecksumSHA256 != "" && want != "" && info.ChecksumSHA256 != want {
			return false, w.b.explain(errOther, "put", w.name)
		}
		return info.ChecksumSHA256 != "" && want != "", nil
	}
	return false, fmt.Errorf("put %s: %w", w.name, storage.ErrExist)
}

// composite is the checksum of an object that was sent in parts: that of the checksums of its parts, if the store has confirmed
// all of these; otherwise it is empty.
func composite(parts []minio.CompletePart) (string, error) {
	h := sha256.New()
	for _, p := range parts {
		if p.ChecksumSHA256 == "" {
			return "", nil
		}
		one, err := base64.StdEncoding.DecodeString(p.ChecksumSHA256)
		if err != nil {
			return "", err
		}
		h.Write(one)
	}
	return fmt.Sprintf("%s-%d", base64.StdEncoding.EncodeToString(h.Sum(nil)), len(parts)), nil
}

// Discard implements [storage.Writer].
func (w *writer) Discard() {
	w.end()
	if w.pending != nil {
		<-w.pending
		w.pending = nil
	}
	if w.upload.id != "" && !w.done {
		w.done = true
		w.b.abort(w.upload)
	}
	w.buf, w.free = nil, nil
}
