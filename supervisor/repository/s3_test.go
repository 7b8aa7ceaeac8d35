package repository_test

import (
	"errors"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"walkeep/common/config"
	"walkeep/common/storage"
	"walkeep/common/storage/s3/s3test"
	"walkeep/supervisor/repository"
)

// The keys of a section reach the store.
func TestS3(t *testing.T) {
	s := s3test.Start(t, s3test.Versitygw)
	bucket := s.LockedBucket(t)
	r := config.Repository{
		Name: "offsite", URL: "s3://" + bucket + "/some/prefix", Endpoint: s.URL, Region: "us-east-1", Style: "path", Credentials: "file",
		CredentialsFile: s3test.KeyFile(t, s.AccessKey, s.SecretKey, ""), ObjectLock: "governance", ObjectLockDays: 2, Timeout: time.Minute, CacheDir: t.TempDir(),
	}
	one, err := repository.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	b := one.Stored.Backend()
	if err := storage.PutAll(t.Context(), b, "wal/x", []byte("x")); err != nil {
		t.Fatal(err)
	}
	info, err := s.Client(t).StatObject(t.Context(), bucket, "some/prefix/wal/x", minio.StatObjectOptions{})
	if err != nil || info.Metadata.Get("X-Amz-Object-Lock-Mode") != "GOVERNANCE" {
		t.Errorf("got %v, %v, want an object that is locked", info.Metadata, err)
	}
	r.URL, r.Generations = "s3://"+bucket+"/other", true
	two, err := repository.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	for _, want := range []error{nil, storage.ErrExist} {
		if err := storage.PutAll(t.Context(), two.Stored.Backend(), "wal/x", []byte("x")); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	for e := range s.Client(t).ListObjectsIter(t.Context(), bucket, minio.ListObjectsOptions{Prefix: "other/", Recursive: true}) {
		if e.Err != nil || len(e.Key) <= len("other/wal/x") {
			t.Errorf("got %q, %v, want a generation", e.Key, e.Err)
		}
	}
	for _, url := range []string{"s3://no-such-bucket-here", "s3://" + bucket} {
		r.URL, r.CredentialsFile = url, s3test.KeyFile(t, s.AccessKey, s.SecretKey, "")
		want := storage.ErrUnavailable
		if url == "s3://"+bucket {
			r.CredentialsFile, want = s3test.KeyFile(t, s.AccessKey, "wrong", ""), storage.ErrDenied
		}
		if _, err := repository.Open(t.Context(), r); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", url, err, want)
		}
	}
}
