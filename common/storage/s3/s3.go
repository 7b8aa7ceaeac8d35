// Package s3 keeps an archive in a bucket of Amazon S3 or of a store that speaks its protocol.
//
// # Requests
//
// A new object takes one PUT with If-None-Match, or, if it is larger than a part, the beginning of an upload, its parts, and a
// completion with If-None-Match. Each carries the SHA-256 of its bytes. Where the store answers with the same SHA-256, nothing is
// read back. An object is opened with a GET of its beginning, which for a small object is all of it; each [storage.Object].Reader
// beyond that is one GET. A page of a listing has 1,000 names.
//
// # Repetition
//
// What belongs to a Writer is repeated here, because only the Writer holds the bytes: parts, and the request that gives the name.
// If the answer to the latter is lost, the repeated request finds the name taken. Each Writer leaves a random token in the
// object's metadata, by which its Commit recognizes its own object. All other calls make one attempt; package retry repeats them.
//
// # Conditional creation
//
// A store that ignores If-None-Match would let two writers of one name both succeed. Before the first object is created, and before
// the first is created in parts, the backend asks the store to create a probe under a name that exists, ".conditional" below the
// prefix. Unless the store refuses it, nothing is created.
package s3

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"walkeep/common/storage"
)

// Options say where the bucket is and how it is used. Bucket is required; the zero value of all others is a default.
type Options struct {
	Endpoint  string // URL of the service, or host:port for HTTPS; empty: Amazon
	Region    string // empty: of the environment, or asked for, or us-east-1
	Bucket    string
	Prefix    string // of all names, without a slash at its end
	PathStyle string // "path" or "virtual": whether the bucket's name is in the path or in the host's name; "auto" or empty: as the host requires
	CAFile    string // certificates in PEM that the service is trusted by, instead of those of the system

	Credentials     string // one of [Sources], or "auto" or empty: the first of them that is there
	CredentialsFile string // for "file", and for "profile" instead of ~/.aws/credentials
	Profile         string // empty: of the environment, or "default"

	StorageClass   string // of new objects, but not of notes
	ObjectLock     string // "governance" or "compliance": new objects, but not notes, cannot be removed for ObjectLockDays
	ObjectLockDays int

	// Unconditional leaves out what keeps two writers from one name: whoever writes chooses names that nobody else chooses, as package
	// generation does.
	Unconditional bool

	PartSize int64         // bytes of a part as long as the object has less than 20 GB; 0: 16 MiB; at least 5 MiB
	Timeout  time.Duration // after which a request has failed of which no byte is sent or received; 0: 1 minute
	RetryFor time.Duration // during which a part or the request that gives a name is repeated; 0: 1 minute
}

// A Backend keeps an archive in a bucket. It may be used concurrently.
type Backend struct {
	options   Options
	core      minio.Core
	prefix    string // of keys: empty, or with a slash at its end
	transport *http.Transport

	sound [2]struct { // what was asked of the store
		sync.Mutex
		yes bool
	}
}

var (
	_ storage.Backend     = (*Backend)(nil)
	_ storage.Conditional = (*Backend)(nil)
	_ storage.Sweeper     = (*Backend)(nil)
)

// Open opens a bucket, which must exist, and asks it for one name. It fails with [storage.ErrUnavailable] if there is no such bucket,
// and with [storage.ErrDenied] if the store does not accept the credentials or there are none.
func Open(ctx context.Context, o Options) (*Backend, error) {
	b := &Backend{options: o}
	if err := b.configure(); err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", o.Bucket, err)
	}
	for e := range b.core.ListObjectsIter(ctx, o.Bucket, minio.ListObjectsOptions{Prefix: b.prefix, MaxKeys: 1, FetchOwner: new(bool)}) {
		if e.Err != nil {
			b.Close()
			return nil, b.explain(e.Err, "open", "")
		}
		break
	}
	if err := ctx.Err(); err != nil {
		b.Close()
		return nil, fmt.Errorf("open bucket %s: %w", o.Bucket, err)
	}
	return b, nil
}

// Close ends the idle connections.
func (b *Backend) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}

// configure checks the options and makes the client.
func (b *Backend) configure() error {
	o := &b.options
	o.Timeout = cmp.Or(o.Timeout, time.Minute)
	o.RetryFor = cmp.Or(o.RetryFor, time.Minute)
	o.PartSize = cmp.Or(o.PartSize, 16<<20)
	switch {
	case o.PartSize < 5<<20 || o.PartSize > 5<<30:
		return errors.New("a part has from 5 MiB to 5 GiB")
	case !slices.Contains([]string{"", "governance", "compliance"}, o.ObjectLock):
		return fmt.Errorf("object lock is governance or compliance, not %q", o.ObjectLock)
	case (o.ObjectLock == "") != (o.ObjectLockDays == 0) || o.ObjectLockDays < 0:
		return errors.New("object lock needs a number of days")
	}
	if b.prefix = strings.Trim(o.Prefix, "/"); b.prefix != "" {
		b.prefix += "/"
	}
	host, secure, err := endpoint(o.Endpoint)
	if err != nil {
		return err
	}
	lookup, ok := map[string]minio.BucketLookupType{
		"": minio.BucketLookupAuto, "auto": minio.BucketLookupAuto, "path": minio.BucketLookupPath, "virtual": minio.BucketLookupDNS,
	}[o.PathStyle]
	if !ok {
		return fmt.Errorf("path style is auto, path or virtual, not %q", o.PathStyle)
	}
	if b.transport, err = newTransport(o.Timeout, o.CAFile); err != nil {
		return err
	}
	from, err := newSources(*o)
	if err != nil {
		return err
	}
	core, err := minio.NewCore(host, &minio.Options{
		Creds:        credentials.New(from),
		Secure:       secure,
		Transport:    answers{b.transport},
		Region:       region(*o),
		BucketLookup: lookup,
		MaxRetries:   1,
	})
	if err != nil {
		return err
	}
	core.SetAppInfo("walkeep", "1")
	b.core = *core
	return nil
}

// endpoint splits the URL of a service into what minio-go wants.
func endpoint(service string) (host string, secure bool, err error) {
	if service == "" {
		return "s3.amazonaws.com", true, nil
	}
	if !strings.Contains(service, "://") {
		service = "https://" + service
	}
	u, err := url.Parse(service)
	switch {
	case err != nil: // the error of the parser repeats the URL, which may hold a password
		return "", false, errors.New("endpoint is no URL, such as https://s3.example.com:9000")
	case u.User != nil:
		return "", false, errors.New("endpoint holds a name or a password: keys are taken from a file or the environment")
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return "", false, fmt.Errorf("endpoint is https://host:port or http://host:port, not %q", service)
	}
	return u.Host, u.Scheme == "https", nil
}

// region is that of the options or of the environment. Amazon is asked for it where it is empty; no other store needs one.
func region(o Options) string {
	r := cmp.Or(o.Region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"))
	if r == "" && o.Endpoint != "" && !strings.Contains(o.Endpoint, ".amazonaws.com") {
		return "us-east-1"
	}
	return r
}

func (b *Backend) key(name string) string { return b.prefix + name }

// hashes are those of what one request sends.
type hashes struct{ hex, base64 string }

func sum(content []byte) hashes {
	h := sha256.Sum256(content)
	return hashes{hex.EncodeToString(h[:]), base64.StdEncoding.EncodeToString(h[:])}
}

// errOther is a store that confirms another checksum than that of what was sent. Another attempt would not help: the object is there.
var errOther = errors.New("the store has other bytes than were sent")

const checksumHeader = "x-amz-checksum-sha256"

// put sends one object with its SHA-256, which the store checks.
func (b *Backend) put(ctx context.Context, name string, content []byte, o minio.PutObjectOptions) (confirmed bool, err error) {
	h := sum(content)
	metadata := map[string]string{checksumHeader: h.base64}
	for k, v := range o.UserMetadata {
		metadata[k] = v
	}
	o.UserMetadata = metadata
	o.DisableContentSha256 = true // so that the whole is signed by its hash, instead of each chunk by its own
	info, err := b.core.PutObject(ctx, b.options.Bucket, b.key(name), bytes.NewReader(content), int64(len(content)), "", h.hex, o)
	switch {
	case err != nil:
		return false, err
	case info.ETag == "" && info.ChecksumSHA256 == "":
		return false, errForeign
	case info.ChecksumSHA256 != "" && info.ChecksumSHA256 != h.base64:
		return false, errOther
	}
	return info.ChecksumSHA256 != "", nil
}

// objectOptions are those of a new object, but not of a note.
func (b *Backend) objectOptions() minio.PutObjectOptions {
	o := minio.PutObjectOptions{StorageClass: b.options.StorageClass}
	if b.options.ObjectLock != "" {
		o.Mode = minio.RetentionMode(strings.ToUpper(b.options.ObjectLock))
		o.RetainUntilDate = time.Now().AddDate(0, 0, b.options.ObjectLockDays)
	}
	return o
}

// Replace implements [storage.Backend].
func (b *Backend) Replace(ctx context.Context, name string, content []byte) error {
	if err := storage.CheckName(name); err != nil {
		return err
	}
	_, err := b.put(ctx, name, content, minio.PutObjectOptions{})
	return b.explain(err, "put", name)
}

// List implements [storage.Backend].
func (b *Backend) List(ctx context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		if err := storage.CheckPrefix(prefix); err != nil {
			yield(storage.Entry{}, err)
			return
		}
		ctx, end := context.WithCancel(ctx)
		defer end()
		last, after := "", ""
		if o.After != "" {
			after = b.key(o.After)
		}
		order := ordered
		if o.Recursive { // there are no directories
			order = asTheyCome
		}
		for info, err := range order(b.core.ListObjectsIter(ctx, b.options.Bucket, minio.ListObjectsOptions{
			Prefix: b.key(prefix), Recursive: o.Recursive, MaxKeys: page, FetchOwner: new(bool), StartAfter: after,
		})) {
			if err != nil {
				yield(storage.Entry{}, b.explain(err, "list", prefix))
				return
			}
			if info.Key <= last && last != "" {
				yield(storage.Entry{}, fmt.Errorf("list %q in bucket %s: the store does not list names in order: %q after %q", prefix, b.options.Bucket, info.Key, last))
				return
			}
			last = info.Key
			name := strings.TrimPrefix(info.Key, b.prefix)
			dir := strings.HasSuffix(name, "/") && !o.Recursive && info.Size == 0 && info.ETag == ""
			if checked := name; storage.CheckName(strings.TrimSuffix(checked, "/")) != nil || strings.HasSuffix(name, "/") && !dir {
				continue // hidden, or made by another program
			}
			if name <= o.After { // a directory of which something comes behind it
				continue
			}
			e := storage.Entry{Name: name}
			if !dir {
				e.Size, e.Tag = info.Size, info.ETag
			}
			if !yield(e, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil { // at which minio-go ends a listing as if it were all
			yield(storage.Entry{}, fmt.Errorf("list %q in bucket %s: %w", prefix, b.options.Bucket, err))
		}
	}
}

// page is how many names a store lists with one request.
const page = 1000

// ordered merges the objects and directories of each page. minio-go gives all objects of a page, and then its directories. What
// comes before a directory and is not in its page is less than all of the page, so that only a page has to be kept.
func ordered(entries iter.Seq[minio.ObjectInfo]) iter.Seq2[minio.ObjectInfo, error] {
	return func(yield func(minio.ObjectInfo, error) bool) {
		var objects []minio.ObjectInfo // that a directory may come before
		next := func() bool {
			e := objects[0]
			objects = objects[1:]
			return yield(e, nil)
		}
		for e := range entries {
			if e.Err != nil {
				for len(objects) > 0 {
					if !next() {
						return
					}
				}
				yield(minio.ObjectInfo{}, e.Err)
				return
			}
			if dir := strings.HasSuffix(e.Key, "/") && e.ETag == ""; !dir {
				if objects = append(objects, e); len(objects) > page && !next() {
					return
				}
				continue
			}
			for len(objects) > 0 && objects[0].Key < e.Key {
				if !next() {
					return
				}
			}
			if !yield(e, nil) {
				return
			}
		}
		for len(objects) > 0 {
			if !next() {
				return
			}
		}
	}
}

// asTheyCome gives all entries.
func asTheyCome(entries iter.Seq[minio.ObjectInfo]) iter.Seq2[minio.ObjectInfo, error] {
	return func(yield func(minio.ObjectInfo, error) bool) {
		for e := range entries {
			if !yield(e, e.Err) {
				return
			}
		}
	}
}

// Remove implements [storage.Backend].
func (b *Backend) Remove(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := storage.CheckName(name); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		return ctx.Err()
	}
	if err := b.core.RemoveObject(ctx, b.options.Bucket, b.key(names[0]), minio.RemoveObjectOptions{}); err != nil {
		return b.explain(err, "delete", names[0])
	}
	for some := range slices.Chunk(names[1:], page) {
		if err := b.removeSome(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

// removeSome removes what fits into one request. Only what the store confirms is removed: minio-go gives some refusals as no result.
func (b *Backend) removeSome(ctx context.Context, names []string) error {
	results, err := b.core.RemoveObjectsWithIter(ctx, b.options.Bucket, func(yield func(minio.ObjectInfo) bool) {
		for _, name := range names {
			if !yield(minio.ObjectInfo{Key: b.key(name)}) {
				return
			}
		}
	}, minio.RemoveObjectsOptions{})
	if err != nil {
		return b.explain(err, "delete", names[0])
	}
	removed := make(map[string]bool, len(names))
	for r := range results {
		if r.Err != nil {
			return b.explain(r.Err, "delete", strings.TrimPrefix(r.ObjectName, b.prefix))
		}
		removed[r.ObjectName] = true
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete %s from bucket %s: %w", names[0], b.options.Bucket, err)
	}
	for _, name := range names {
		if !removed[b.key(name)] {
			return fmt.Errorf("delete %s from bucket %s: the store does not confirm it", name, b.options.Bucket)
		}
	}
	return nil
}

// LockedUntil implements [storage.Locker]. Amazon S3 shows a lock only to a caller who has s3:GetObjectRetention.
func (b *Backend) LockedUntil(ctx context.Context, name string) (time.Time, error) {
	if err := storage.CheckName(name); err != nil {
		return time.Time{}, err
	}
	info, err := b.core.StatObject(ctx, b.options.Bucket, b.key(name), minio.StatObjectOptions{})
	if err != nil {
		return time.Time{}, b.explain(err, "ask for the lock of", name)
	}
	text := info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date")
	if text == "" {
		return time.Time{}, nil
	}
	until, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask for the lock of %s in bucket %s: %w", name, b.options.Bucket, err)
	}
	return until, nil
}

// AbortStale implements [storage.Sweeper]: it aborts uploads in parts below the prefix. A store that lists them for one key only, as
// MinIO does, ends them by itself.
func (b *Backend) AbortStale(ctx context.Context, olderThan time.Duration) (int, error) {
	before := time.Now().Add(-olderThan)
	aborted := 0
	for key, id := "", ""; ; {
		r, err := b.core.ListMultipartUploads(ctx, b.options.Bucket, b.prefix, key, id, "", page)
		if err != nil {
			return aborted, b.explain(err, "list uploads", "")
		}
		for _, u := range r.Uploads {
			if !strings.HasPrefix(u.Key, b.prefix) || !u.Initiated.Before(before) {
				continue
			}
			err := b.core.AbortMultipartUpload(ctx, b.options.Bucket, u.Key, u.UploadID)
			if code(err) == "NoSuchUpload" {
				continue
			}
			if err != nil {
				return aborted, b.explain(err, "abort an upload", strings.TrimPrefix(u.Key, b.prefix))
			}
			aborted++
		}
		if !r.IsTruncated || r.NextKeyMarker == key && r.NextUploadIDMarker == id {
			return aborted, nil
		}
		key, id = r.NextKeyMarker, r.NextUploadIDMarker
	}
}
