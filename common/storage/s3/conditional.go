package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/minio/minio-go/v7"

	"walkeep/common/cli"
	"walkeep/common/storage"
)

// probeName is that of the probe, which [storage.CheckName] refuses and List does not show. It stays, so that a credential that
// may not remove suffices and the next probe takes one request.
const probeName = ".conditional"

// The two requests that give a name.
const (
	byPut = iota
	byCompletion
)

var probes = [...]func(*Backend, context.Context) (bool, error){byPut: (*Backend).probePut, byCompletion: (*Backend).probeCompletion}

// Conditional implements [storage.Conditional].
func (b *Backend) Conditional(ctx context.Context) (bool, error) {
	for _, probe := range probes {
		if sound, err := probe(b, ctx); err != nil || !sound {
			return false, err
		}
	}
	return true, nil
}

// require returns ErrUnconditional unless the store has proven to this Backend that one of the requests is conditional.
func (b *Backend) require(ctx context.Context, request int) error {
	if b.options.Unconditional {
		return nil
	}
	s := &b.sound[request]
	s.Lock()
	defer s.Unlock()
	if s.yes {
		return nil
	}
	sound, err := probes[request](b, ctx)
	if err != nil {
		return err
	}
	if !sound {
		what := [...]string{byPut: "a PUT", byCompletion: "the completion of an upload in parts"}[request]
		return cli.Hinted(fmt.Errorf("bucket %s: %w: it ignores If-None-Match of %s", b.options.Bucket, storage.ErrUnconditional, what),
			"use a store with conditional writes, such as Amazon S3 or MinIO, in its current version; with generations = true this one can be used, with a weaker promise that docs/repositories.md describes")
	}
	s.yes = true
	return nil
}

// unless makes a request fail if its name is taken.
func unless(o minio.PutObjectOptions) minio.PutObjectOptions {
	o.SetMatchETagExcept("*")
	return o
}

// named are the options of a request that gives a name.
func (b *Backend) named(o minio.PutObjectOptions) minio.PutObjectOptions {
	if b.options.Unconditional {
		return o
	}
	return unless(o)
}

// probePut puts the probe until it is refused, which is at once where it is there already.
func (b *Backend) probePut(ctx context.Context) (bool, error) {
	for range 2 {
		var taken bool
		err := b.retry(ctx, func() error {
			_, err := b.put(ctx, probeName, []byte("x"), unless(minio.PutObjectOptions{}))
			taken = isTaken(err)
			return err
		})
		if taken {
			return true, nil
		}
		if isUnsupported(err) {
			return false, nil
		}
		if err != nil {
			return false, b.explain(err, "put", probeName)
		}
	}
	return false, nil
}

// probeCompletion uploads the probe in one part and completes it, which must be refused because probePut has put it.
func (b *Backend) probeCompletion(ctx context.Context) (bool, error) {
	if sound, err := b.probePut(ctx); err != nil || !sound {
		return false, err
	}
	u, err := b.begin(ctx, probeName, minio.PutObjectOptions{})
	if err != nil {
		return false, b.explain(err, "begin an upload of", probeName)
	}
	defer b.abort(u)
	part, err := b.sendPart(ctx, u, 1, []byte("x"))
	if err != nil {
		return false, b.explain(err, "upload a part of", probeName)
	}
	_, err = b.complete(ctx, u, []minio.CompletePart{part}, unless(minio.PutObjectOptions{}))
	switch {
	case isTaken(err):
		return true, nil
	case err == nil || isUnsupported(err):
		return false, nil
	}
	return false, b.explain(err, "complete", probeName)
}

// isTaken reports whether the store has refused a request because there is an object of its name.
func isTaken(err error) bool {
	var r minio.ErrorResponse
	return errors.As(err, &r) && (r.Code == minio.PreconditionFailed || r.StatusCode == http.StatusPreconditionFailed)
}

// isUnsupported reports whether the store refuses the condition itself.
func isUnsupported(err error) bool {
	var r minio.ErrorResponse
	return errors.As(err, &r) && (r.StatusCode == http.StatusNotImplemented || r.Code == minio.NotImplemented)
}

// An upload is an object that is sent in parts.
type upload struct{ name, id string }

func (b *Backend) begin(ctx context.Context, name string, o minio.PutObjectOptions) (u upload, err error) {
	o.UserMetadata = withAlgorithm(o.UserMetadata)
	u.name = name
	err = b.retry(ctx, func() (err error) {
		u.id, err = b.core.NewMultipartUpload(ctx, b.options.Bucket, b.key(name), o)
		if err == nil && u.id == "" {
			err = errForeign
		}
		return err
	})
	return u, err
}

func withAlgorithm(metadata map[string]string) map[string]string {
	all := map[string]string{"x-amz-checksum-algorithm": "SHA256"}
	for k, v := range metadata {
		all[k] = v
	}
	return all
}

// sendPart uploads a part with its SHA-256 until the store has it.
func (b *Backend) sendPart(ctx context.Context, u upload, number int, content []byte) (minio.CompletePart, error) {
	h := sum(content)
	var part minio.ObjectPart
	err := b.retry(ctx, func() (err error) {
		part, err = b.core.PutObjectPart(ctx, b.options.Bucket, b.key(u.name), u.id, number, bytes.NewReader(content), int64(len(content)), minio.PutObjectPartOptions{
			Sha256Hex: h.hex, CustomHeader: http.Header{http.CanonicalHeaderKey(checksumHeader): {h.base64}}, DisableContentSha256: true,
		})
		switch {
		case err != nil:
			return err
		case part.ETag == "":
			return errForeign
		case part.ChecksumSHA256 != "" && part.ChecksumSHA256 != h.base64:
			return errOther
		}
		return nil
	})
	return minio.CompletePart{PartNumber: number, ETag: part.ETag, ChecksumSHA256: part.ChecksumSHA256}, err
}

// complete gives an upload its name, and returns the checksum that the store answers with. It makes one attempt.
func (b *Backend) complete(ctx context.Context, u upload, parts []minio.CompletePart, o minio.PutObjectOptions) (checksum string, err error) {
	info, err := b.core.CompleteMultipartUpload(ctx, b.options.Bucket, b.key(u.name), u.id, parts, o)
	return info.ChecksumSHA256, err
}

// abort gives an upload up, as far as that can be done: AbortStale finds what is left.
func (b *Backend) abort(u upload) {
	ctx, end := context.WithTimeout(context.Background(), b.options.Timeout)
	defer end()
	_ = b.core.AbortMultipartUpload(ctx, b.options.Bucket, b.key(u.name), u.id)
}
