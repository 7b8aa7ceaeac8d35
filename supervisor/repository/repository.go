// Package repository opens the archives at other places that the configuration names.
//
// A repository is an archive like the spool. Its backend is chosen by the scheme of its URL and decorated: requests are counted,
// and those that fail for a reason that may pass are repeated.
package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/storage"
	"walkeep/common/storage/cache"
	"walkeep/common/storage/count"
	"walkeep/common/storage/generation"
	"walkeep/common/storage/listing"
	"walkeep/common/storage/local"
	"walkeep/common/storage/retry"
	"walkeep/common/storage/s3"
	"walkeep/common/storage/sftp"
)

// How long a call is repeated that failed for a reason that may pass.
const (
	retryFirst = 200 * time.Millisecond
	retryMax   = 30 * time.Second
)

// A Repository is an archive at another place. It may be used concurrently.
type Repository struct {
	config.Repository
	Archive *archive.Archive
	Stored  *archive.Archive // Archive without what this host has kept of it: for those who verify what is stored, or remove it
	counted *count.Backend
	close   func() error
}

// Open opens a repository. It fails with storage.ErrUnavailable or storage.ErrDenied if the place does not answer or does not let
// this caller in. The caller closes the repository.
func Open(ctx context.Context, r config.Repository) (*Repository, error) {
	if r.Wrong != nil {
		return nil, cli.Hinted(fmt.Errorf("the section of repository %s is wrong: %w", r.Name, r.Wrong), "correct the section in the configuration file")
	}
	b, closer, err := backend(ctx, r)
	if err != nil {
		if cli.Hint(err) == "" && ctx.Err() == nil {
			hint := "check the url of the repository, and that the place can be reached from this host"
			if r.Name != config.ByURL {
				hint += "; if it is gone for good, take its section out of the configuration file"
			}
			err = cli.Hinted(err, hint)
		}
		return nil, fmt.Errorf("open repository %s: %w", r.Name, err)
	}
	counted := count.New(b)
	stored := listing.Announce(retry.New(counted, retryFirst, retryMax), listings)
	a, plain := archive.New(cached(r, stored)), archive.New(stored)
	a.AppendOnly, plain.AppendOnly = true, true
	return &Repository{r, a, plain, counted, closer}, nil
}

// Test finds out whether the archive of a cluster can be kept here. The error is [archive.ErrForeign], which is final, if it is another
// cluster's. With write it also tries to write, which leaves nothing that is listed.
func (r *Repository) Test(ctx context.Context, cluster archive.Identity, write bool) error {
	switch have, err := r.Stored.Identity(ctx); {
	case errors.Is(err, archive.ErrUnbound):
	case err != nil:
		return err
	case have.SystemID != cluster.SystemID:
		return fmt.Errorf("the archive there is %w: its system identifier is %s", archive.ErrForeign, have.SystemID)
	}
	if !write {
		return nil
	}
	b := r.Stored.Backend()
	if store, ok := storage.As[storage.Conditional](b); ok {
		sound, err := store.Conditional(ctx)
		if err == nil && !sound && !r.Generations {
			err = cli.Hinted(storage.ErrUnconditional, "with generations = true this store can be used, with a weaker promise that docs/repositories.md describes")
		}
		return err
	}
	w, err := b.Create(ctx, "test", storage.CreateOptions{})
	if err != nil {
		return err
	}
	defer w.Discard()
	if _, err := io.WriteString(w, "x"); err != nil {
		return err
	}
	return w.Verify(ctx, func(io.Reader) error { return nil })
}

// Close ends the connections to the repository.
func (r *Repository) Close() error { return r.close() }

// Requests returns how many requests were made so far, and how many bytes went either way.
func (r *Repository) Requests() count.Counts { return r.counted.Counts() }

// backend opens the place that a URL names.
func backend(ctx context.Context, r config.Repository) (storage.Backend, func() error, error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return nil, nil, err
	}
	nothing := func() error { return nil }
	switch u.Scheme {
	case "file":
		b, err := local.Open(directory(u.Path))
		return b, nothing, err
	case "s3":
		b, err := s3.Open(ctx, s3.Options{
			Endpoint: r.Endpoint, Region: r.Region, Bucket: u.Host, Prefix: u.Path, PathStyle: r.Style, CAFile: r.CAFile,
			Credentials: r.Credentials, CredentialsFile: r.CredentialsFile, Profile: r.Profile,
			StorageClass: r.StorageClass, ObjectLock: r.ObjectLock, ObjectLockDays: r.ObjectLockDays, Timeout: r.Timeout,
			Unconditional: r.Generations,
		})
		if err != nil {
			return nil, nil, err
		}
		if r.Generations {
			return generation.New(b), b.Close, nil
		}
		return b, b.Close, nil
	case "sftp":
		o, err := sftp.ParseURL(r.URL)
		if err != nil {
			return nil, nil, err
		}
		o.KeyFile, o.PassphraseFile, o.KnownHosts, o.HostKey, o.NoFsync, o.Timeout = r.KeyFile, r.KeyPassphraseFile, r.KnownHosts, r.HostKey, r.NoFsync, r.Timeout
		b, err := sftp.Open(ctx, o)
		if err != nil {
			return nil, nil, err
		}
		return b, b.Close, nil
	}
	return nil, nil, fmt.Errorf("this version has no repositories with %s://", u.Scheme)
}

// cacheLimit is how many bytes the cache holds at most.
const cacheLimit = 256 << 20

// cached keeps the manifests of backups and what is settled of listings of a distant repository on this host. A host without a place for them has no
// cache.
func cached(r config.Repository, b storage.Backend) storage.Backend {
	dir := r.CacheDir
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return b
		}
		dir = filepath.Join(user, "walkeep")
	}
	if Directory(r) != "" {
		return b // it is as near as the cache
	}
	return cache.New(b, cache.Options{
		Dir: dir, Repository: r.Endpoint + " " + r.URL, Identity: archive.IdentityName, Limit: cacheLimit, Listing: &listings,
		Keep: func(name string) bool {
			return strings.HasPrefix(name, archive.BackupsDir) && path.Base(name) == backup.ManifestName
		},
	})
}

// Directory returns the directory of a repository on this host; empty if it is elsewhere.
func Directory(r config.Repository) string {
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "file" {
		return ""
	}
	return directory(u.Path)
}

// directory is the path of file:///path, which begins with a drive or with a server on Windows: file:///C:/path,
// file:////server/share/path.
func directory(path string) string {
	if runtime.GOOS == "windows" && !strings.HasPrefix(path, "//") {
		path = strings.TrimPrefix(path, "/")
	}
	return filepath.FromSlash(path)
}

// A Set opens repositories when they are first asked for, and keeps them open. It may be used concurrently. The zero value is
// ready for use.
type Set struct {
	mutex sync.Mutex
	kept  map[config.Repository]*kept
}

// A kept repository is open, unless one is nil.
type kept struct {
	mutex sync.Mutex
	one   *Repository
}

var _ io.Closer = (*Set)(nil)

// Get returns the open repository with this configuration. A failure is not kept: the next call tries again.
func (s *Set) Get(ctx context.Context, r config.Repository) (*Repository, error) {
	k := s.keep(r)
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if k.one != nil {
		return k.one, nil
	}
	one, err := Open(ctx, r)
	if err != nil {
		return nil, err
	}
	k.one = one
	return one, nil
}

func (s *Set) keep(r config.Repository) *kept {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.kept == nil {
		s.kept = make(map[config.Repository]*kept)
	}
	if s.kept[r] == nil {
		s.kept[r] = new(kept)
	}
	return s.kept[r]
}

// Close closes all repositories that were opened.
func (s *Set) Close() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var failed error
	for _, k := range s.kept {
		k.mutex.Lock()
		if k.one != nil {
			failed = errors.Join(failed, k.one.Close())
		}
		k.mutex.Unlock()
	}
	s.kept = nil
	return failed
}
