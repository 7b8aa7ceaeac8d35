package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/minio/minio-go/v7"

	"walkeep/common/cli"
	"walkeep/common/storage"
)

// conflict is what a store answers while another writer of the name is about to succeed or to fail.
const conflict = "ConditionalRequestConflict"

// Codes of the store, by what the user can do.
var (
	badKeys = []string{"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired",
		"InvalidSecurity", "XAdminNoSuchAccessKey"}
	badRegion = []string{"AuthorizationHeaderMalformed", "InvalidRegion", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException"}
	// damaged are answers to what was changed or cut on its way to the store. BadRequest can be the answer to the rest of an earlier
	// request on the same connection, which the store has refused before it has read all of it.
	damaged = []string{"BadRequest", "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody", "RequestTimeout"}
)

// code is that of the store's answer; empty if there was none.
func code(err error) string {
	var r minio.ErrorResponse
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

// explain says what failed, with a sentinel of package storage where the store has given a final answer, and with a hint. Open alone
// gives ErrNotExist, and look alone gives ErrExist.
func (b *Backend) explain(err error, doing, name string) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("%s %s in bucket %s", doing, name, b.options.Bucket)
	if name == "" {
		what = fmt.Sprintf("%s bucket %s", doing, b.options.Bucket)
	}
	var passed *url.Error
	if errors.As(err, &passed) && !errors.As(err, new(minio.ErrorResponse)) {
		err = passed.Err // without the URL, which repeats the name
	}
	var r minio.ErrorResponse
	if !errors.As(err, &r) {
		return b.unanswered(err, what)
	}
	said := fmt.Errorf("%s: the store answers %s: %s", what, r.Code, r.Error())
	denied := fmt.Errorf("%s: %w: the store answers %s: %s", what, storage.ErrDenied, r.Code, r.Error())
	switch {
	case r.Code == minio.NoSuchBucket:
		return cli.Hinted(fmt.Errorf("%s: %w: there is no such bucket", what, storage.ErrUnavailable), "create the bucket, or correct its name, the endpoint or the region")
	case r.Code == "RequestTimeTooSkewed":
		return cli.Hinted(said, "set the clock of this host: the store refuses requests whose time differs from its own by more than 15 minutes")
	case r.Code == "ExpiredToken" || r.Code == "ExpiredTokenException" || r.Code == "TokenRefreshRequired":
		return cli.Hinted(denied, "the credentials have expired: renew them")
	case slices.Contains(badKeys, r.Code):
		return cli.Hinted(denied, "the store does not know these credentials: check access key and secret key")
	case slices.Contains(badRegion, r.Code):
		hint := "set the region in which the bucket is"
		if r.Region != "" {
			hint += ": " + r.Region
		}
		return cli.Hinted(said, hint)
	case r.StatusCode == http.StatusForbidden || r.StatusCode == http.StatusUnauthorized || r.Code == minio.AccessDenied:
		return cli.Hinted(denied, "let these credentials list the bucket, and get and put its objects; only cleanup needs to delete")
	}
	return said
}

// unanswered explains an error that is not the store's answer.
func (b *Backend) unanswered(err error, what string) error {
	var timeout net.Error
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%s: the store has sent nothing for %s: %w", what, b.options.Timeout, err)
	case errors.As(err, &untrusted):
		return cli.Hinted(fmt.Errorf("%s: %w", what, err), "set ca-file if the store has a certificate of your own authority")
	}
	return fmt.Errorf("%s: %w", what, err)
}

// retry repeats a request that failed for a reason that may pass.
func (b *Backend) retry(ctx context.Context, f func() error) error {
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(100*time.Millisecond), backoff.WithMaxInterval(10*time.Second),
		backoff.WithMaxElapsedTime(b.options.RetryFor))
	return backoff.Retry(func() error {
		err := f()
		if err != nil && !passes(err) {
			return backoff.Permanent(err)
		}
		return err
	}, backoff.WithContext(wait, ctx))
}

// passes reports whether another attempt may succeed.
func passes(err error) bool {
	var r minio.ErrorResponse
	if errors.As(err, &r) {
		return r.StatusCode >= 500 && r.StatusCode != http.StatusNotImplemented || r.StatusCode == http.StatusTooManyRequests ||
			r.StatusCode == http.StatusRequestTimeout || r.Code == conflict || r.Code == "SlowDown" || r.Code == "InternalError" || slices.Contains(damaged, r.Code)
	}
	return !errors.Is(err, context.Canceled) && !errors.Is(err, errOther) && !errors.Is(err, storage.ErrDenied) && !errors.As(err, new(*tls.CertificateVerificationError))
}
